//! Telling people.

use serde::{Deserialize, Serialize};

use super::BoxFuture;
use crate::model::time::Moment;

/// One message for people about one change of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// Stable word: `incident_opened`, `host_seen`, `approval_needed`, `heal_ended`, `breaker_opened`, `held` …
    pub event: String,
    pub app: Option<String>,
    pub host: Option<String>,
    /// One line.
    pub title: String,
    /// A few sentences: what happened, what happens next, what to do.
    pub text: String,
    /// Notices with one key are one matter: a repeat within four hours is left away.
    pub key: String,
    pub at: Moment,
}

/// Why a notice did not arrive.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the notice could not be delivered: {0}")]
pub struct NotifyError(pub String);

/// A way to tell people. Delivery is retried from the outbox.
pub trait Notifier: Send + Sync {
    /// Sends one notice.
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<(), NotifyError>>;
}
