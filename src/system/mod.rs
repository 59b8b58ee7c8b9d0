//! The real clock, randomness and signals.
