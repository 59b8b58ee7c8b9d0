//! Logs, metrics, notices, and the talk with the service manager.
//!
//! Every text that leaves passes [`redact`] first. Nothing here decides; what cannot be told is lost or waits in the
//! outbox, and never stops a heal.

pub mod heartbeat;
pub mod http;
pub mod journal;
pub mod logging;
pub mod message_id;
pub mod metrics;
pub mod outbox;
pub mod redact;
pub mod redact_facts;
pub mod sd;
pub mod webhook;

#[cfg(test)]
mod tests;
