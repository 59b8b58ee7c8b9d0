//! Rows of lists: actions, approvals, incidents, backups, transitions, audit, events.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::model::approval::ApprovalState;
use crate::model::backup::BackupKind;
use crate::model::breaker::BreakerState;
use crate::model::incident::{IncidentKind, IncidentState};
use crate::model::word::{HealingMode, MatchKind, Risk, Severity, Status};

/// One action of an application's stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    pub action_name: String,
    pub title: String,
    pub risk_level: Risk,
    pub write_set: Vec<String>,
    /// Checks that it answers.
    pub checks: Vec<String>,
    /// Modes in which it may run alone.
    pub runs_alone_in: Vec<HealingMode>,
    /// May it run alone in the application's present mode?
    pub runs_alone: bool,
    /// What keeps it from starting now: `breaker`, `hold`, `daemon`; the plan says more of each.
    #[serde(default)]
    pub stopped_by: Vec<String>,
}

/// One proposal that waits for persons, or did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    pub approval_id: String,
    pub application_id: String,
    pub host: String,
    pub action_name: String,
    pub risk_level: Risk,
    pub healing_mode: HealingMode,
    #[schema(value_type = Object)]
    pub params: BTreeMap<String, Value>,
    /// To be repeated when approving; anything that changes makes it stale.
    pub digest: String,
    pub state: ApprovalState,
    /// `healerd`, or a person as `name(uid)`.
    pub requester: String,
    /// Why it is proposed.
    pub reason: String,
    #[serde(rename = "match")]
    pub matched: MatchKind,
    pub checks: Vec<String>,
    pub evidence: Vec<EvidenceLine>,
    /// The policy's rules that touched it.
    pub rules: Vec<String>,
    /// What would run, one line each.
    pub steps: Vec<String>,
    pub write_set: Vec<String>,
    pub roots: Vec<String>,
    /// What it would put back: from which snapshot, and file by file what would be another one, keys by name.
    #[serde(default)]
    pub puts_back: Vec<String>,
    pub created: String,
    /// When deciding ends.
    pub expires: String,
    pub granted: Option<String>,
    pub votes: Vec<Vote>,
    pub votes_needed: u32,
    /// What it waits for, since it was granted.
    pub waits_for: Option<String>,
    pub incident_id: Option<String>,
    pub heal_id: Option<String>,
    pub ended: Option<String>,
}

/// One bad result that a proposal rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceLine {
    pub check_name: String,
    pub status: Status,
    /// Which of the check's rules decided, from 0.
    pub rule: Option<u32>,
}

/// One person's vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Vote {
    pub person: String,
    pub approve: bool,
    pub reason: String,
    pub at: String,
}

/// One incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Incident {
    pub incident_id: String,
    pub application_id: String,
    /// Absent: about the whole application.
    pub check_name: Option<String>,
    pub kind: IncidentKind,
    pub state: IncidentState,
    pub status: Status,
    pub severity: Severity,
    pub message: String,
    pub opened: String,
    /// How long the symptom surely persisted.
    pub persisted_seconds: u64,
    /// Actions that had their try.
    pub tried: Vec<String>,
    pub heals: Vec<String>,
    /// What comes next: `restart_app at 03:17, dwell 2/3`.
    pub next: Option<String>,
    pub well_since: Option<String>,
    pub closed_by: Option<String>,
}

/// A check whose bad results lead to nothing for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mute {
    pub check_name: String,
    pub owner: String,
    pub reason: String,
    pub since: String,
    pub until: String,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    pub backup_id: String,
    pub application_id: String,
    pub host: String,
    pub kind: BackupKind,
    pub heal_id: Option<String>,
    pub action_name: Option<String>,
    pub taken: String,
    pub files: u64,
    pub bytes: u64,
    /// Bytes it added to the vault.
    pub stored_bytes: u64,
    /// When it was read back and compared last.
    pub verified: String,
    /// Why it is never used again.
    pub damaged: Option<String>,
    /// Kept whatever its age.
    pub pinned: bool,
}

/// One transition of a circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerTransition {
    pub at: String,
    pub from: BreakerState,
    pub to: BreakerState,
    pub cause: String,
    pub heal_id: Option<String>,
    pub actor: String,
}

/// One row of the audit log. Texts are shown as they may be shown; the chain is proved on the stored ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditRow {
    pub seq: i64,
    pub at: String,
    pub actor: String,
    pub verb: String,
    pub object: String,
    #[schema(value_type = Object)]
    pub detail: Value,
    /// Hex.
    pub hash: String,
}

/// One line of the event stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventLine {
    pub at: String,
    /// `round`, `incident`, `heal`, `approval`, `breaker`, `hold`; or `lost`, when the reader was too slow for some.
    pub kind: String,
    pub application_id: Option<String>,
    pub text: String,
    pub heal_id: Option<String>,
}
