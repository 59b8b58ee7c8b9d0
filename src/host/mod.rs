//! Reaching an agent: a framed connection over any stream, and the child process that serves this machine.

pub mod connection;
pub mod local;

pub use local::LocalHost;
