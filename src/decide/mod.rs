//! The strategy engine.
