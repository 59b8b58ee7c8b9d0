//! What callers may ask for. An unknown field is refused: a misspelt `dryRun` must not become a heal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::model::word::HealingMode;

/// Only a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    pub reason: String,
}

/// A reason that may be left away, as may the body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhyRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Stop automation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// `all`, `host:NAME` or `app:NAME`.
    pub scope: String,
    pub reason: String,
    /// `20m`, `2h`; absent: until a resume.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub length: Option<String>,
}

/// Let automation go on. Exactly one of `keep` and `undo` is true: what becomes of heals that the hold froze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    pub scope: String,
    #[serde(default)]
    pub keep: bool,
    #[serde(default)]
    pub undo: bool,
    pub reason: String,
}

/// Set the healing mode, of one application or of everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModeRequest {
    pub healing_mode: HealingMode,
    pub reason: String,
}

/// Let a check's bad results lead to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MuteRequest {
    pub reason: String,
    /// A time as RFC 3339 has it, or a length of time from now: `2h`.
    pub until: String,
}

/// Run an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealRequest {
    pub action_name: String,
    /// Texts, whole numbers, or lists of texts; absent: as the plan has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub params: BTreeMap<String, Value>,
    /// An application that has this one as its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdomain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only say what would run.
    #[serde(default)]
    pub dry_run: bool,
}

/// How to force a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForceState {
    /// Admits nothing.
    Open,
    /// Admits nothing unattended and counts nothing.
    ObserveOnly,
    /// Lifts the force: the breaker's own state counts again.
    None,
}

/// Force a circuit breaker, or lift the force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForceRequest {
    pub state: ForceState,
    pub reason: String,
    /// `20m`, `2h`; absent: until it is lifted.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub length: Option<String>,
}

/// Take a backup now. The body may be left away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Go back to a backup, as its preview said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The preview's.
    pub digest: String,
    /// Also shared files that are newer than the backup.
    #[serde(default)]
    pub exact: bool,
    /// Only these paths; empty: the whole write set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    pub reason: String,
}

/// Approve exactly what has this digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    pub digest: String,
    pub reason: String,
}

/// What to do with a heal that was left for persons. Exactly one of `keep` and `undo` is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideRequest {
    #[serde(default)]
    pub keep: bool,
    #[serde(default)]
    pub undo: bool,
    pub reason: String,
}

/// How long `heal` waits for the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Seconds, at most 300; absent: answer at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u64>,
}

/// Which rows a list shows, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only of this application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// Only what is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// At most 1000; absent: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Which rows of the audit log, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only rows after this number; absent: from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// At most 1000; absent: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Which rollback to show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewQuery {
    /// Also shared files that are newer than the backup.
    #[serde(default)]
    pub exact: bool,
    /// Only this path; may be given more than once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
}
