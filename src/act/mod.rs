//! From intent to outcome.
