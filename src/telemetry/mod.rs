//! Logs, metrics and notices.
