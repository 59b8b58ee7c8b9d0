//! The only conductor.
