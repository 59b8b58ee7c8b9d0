//! Reaching an agent.
