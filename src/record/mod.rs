//! Journal, audit chain and history.
