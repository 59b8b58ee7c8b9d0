//! Judging a cure.
