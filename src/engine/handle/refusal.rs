//! Refusals for people: what, why, and what to do next.

use crate::model::approval::Approval;
use crate::model::name::AppName;
use crate::seam::StoreError;

/// Kinds of refusal; they decide the HTTP status and the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpErrorKind {
    NotFound,
    Forbidden,
    /// Busy, stale, breaker open, needs approval, held.
    Conflict,
    Invalid,
    Unavailable,
}

/// A refusal for people: a stable code, a sentence, and what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct OpError {
    pub kind: OpErrorKind,
    pub code: &'static str,
    pub message: String,
    pub hint: String,
    /// The approval that was created or is needed.
    pub approval: Option<Box<Approval>>,
}

impl OpError {
    /// A refusal.
    pub fn new(
        kind: OpErrorKind,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
            hint: hint.into(),
            approval: None,
        }
    }
}

pub(in crate::engine) fn unknown_app(app: &AppName) -> OpError {
    unknown("application", app.as_str(), "healerctl apps")
}

pub(in crate::engine) fn unknown(what: &str, name: &str, list: &str) -> OpError {
    OpError::new(
        OpErrorKind::NotFound,
        "unknown",
        format!("There is no {what} `{name}`."),
        format!("`{list}` shows what there is."),
    )
}

pub(in crate::engine) fn store_error(error: &StoreError) -> OpError {
    OpError::new(
        OpErrorKind::Unavailable,
        "store",
        format!("The store did not answer: {error}"),
        "See the journal: `journalctl -u healerd`.",
    )
}
