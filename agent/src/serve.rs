//! The request loop of an agent.
