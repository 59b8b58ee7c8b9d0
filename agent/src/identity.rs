//! Which user an agent is, and what a root agent may do.
