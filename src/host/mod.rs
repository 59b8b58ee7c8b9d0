//! Reaching an agent: a framed connection over any stream, the child process that serves this machine, and SSH.

pub mod connection;
pub mod local;
pub mod ssh;

pub use local::LocalHost;
pub use ssh::{SshHost, SshLaunch, SshRemotes};
