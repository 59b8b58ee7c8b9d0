//! What goes over the control socket, as JSON: the one vocabulary of the daemon and of every client.
//!
//! These types are not the model's: a change inside the daemon must not change what programs were written against. Names
//! are camelCase; words (status, risk, mode …) are the model's closed sets; times are RFC 3339 in UTC; lengths of time
//! end in their unit. Answers may gain fields, so clients pass over what they do not know; requests may not hold any.

mod host;
mod list;
mod request;

pub use host::{EnrolRequest, Host, HostFinding, HostKeyOffer};
pub use list::{
    Action, Approval, AuditRow, Backup, BreakerTransition, EventLine, EvidenceLine, Incident, Mute,
    Vote,
};
pub use request::{
    ApproveRequest, AuditQuery, BackupRequest, DecideRequest, ForceRequest, ForceState,
    HealRequest, HoldRequest, ListQuery, ModeRequest, MuteRequest, PreviewQuery, ReasonRequest,
    ResumeRequest, RollbackRequest, WaitQuery, WhyRequest,
};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::model::breaker::BreakerState;
use crate::model::word::{
    About, Category, HealingMode, MatchKind, Risk, Severity, Status as CheckStatus,
};

/// Where all routes but the document's begin.
pub const BASE: &str = "/api/v1/healer";

/// Where the OpenAPI document lies.
pub const OPENAPI: &str = "/api/v1/openapi.json";

/// Media type of every error.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// Longest body of a request, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest `?wait=` of a heal, in seconds.
pub const WAIT_SECONDS_MAX: u64 = 300;

/// The daemon as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub version: String,
    pub uptime_seconds: u64,
    /// Why nothing starts by itself, when the daemon only observes.
    pub observing: Option<String>,
    pub applications: u64,
    /// Number of applications by health, every word of it.
    pub health: BTreeMap<String, u64>,
    /// Number of applications under a hold, whatever their health.
    pub applications_held: u64,
    pub incidents_open: u64,
    pub heals_running: u64,
    /// Applications whose breaker is not CLOSED.
    pub breakers_open: Vec<String>,
    pub approvals_pending: u64,
    pub holds: Vec<Hold>,
    /// Set at run time.
    pub modes: Vec<ModeOverride>,
    pub audit_head: Option<AuditHead>,
    /// Whom the daemon takes the caller for.
    pub caller: Caller,
}

/// Newest row of the audit chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditHead {
    pub seq: i64,
    /// Hex.
    pub hash: String,
}

/// Who asks, by what the kernel says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Caller {
    pub uid: u32,
    pub name: String,
    /// `viewer`, `operator`, `approver` or `admin`.
    pub role: Option<String>,
}

/// A durable stop of automation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    pub id: String,
    /// `all`, `host:NAME` or `app:NAME`.
    pub scope: String,
    pub owner: String,
    pub reason: String,
    pub since: String,
    /// Absent: until a resume.
    pub until: Option<String>,
}

/// A healing mode set at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModeOverride {
    /// Absent: for everything.
    pub application_id: Option<String>,
    pub healing_mode: HealingMode,
    pub owner: String,
    pub reason: String,
    pub since: String,
}

/// One application in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationSummary {
    pub application_id: String,
    pub host: String,
    pub stack: String,
    /// `HEALTHY`, `DEGRADED`, `DOWN`, `UNKNOWN` or `HEALING`; whether it is held stands in `held`.
    pub health: String,
    /// The hold that covers it.
    pub held: Option<Hold>,
    pub healing_mode: HealingMode,
    /// `configured`, `configured for everything`, or who set the mode at run time, when, and why.
    pub mode_origin: String,
    pub circuit_breaker_state: BreakerState,
    /// Whose word stands over the breaker's own state, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker_forced: Option<String>,
    /// Checks of the latest round that are WARN or FAIL.
    pub bad: Vec<String>,
    pub incidents_open: u64,
    /// Ids of unfinished heals.
    pub heals: Vec<String>,
    /// When it was looked at last.
    pub looked: Option<String>,
    /// Why it could not be looked at.
    pub unseen: Option<String>,
}

/// One application, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    #[serde(flatten)]
    pub summary: ApplicationSummary,
    pub path: String,
    pub url: Option<String>,
    pub user: String,
    /// The application it is a subdomain of.
    pub parent: Option<String>,
    pub circuit_breaker: BreakerStatus,
    pub checks: Vec<CheckResult>,
    pub plan: Plan,
    pub incidents: Vec<Incident>,
    pub mutes: Vec<Mute>,
    /// When the next round is due.
    pub due: String,
}

/// What a check said in the latest round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    pub check_name: String,
    pub category: Category,
    pub status: CheckStatus,
    pub severity: Severity,
    pub message: String,
    /// The facts it was decided from: by probe, then by name. What could not be determined is `{"unknown": reason}`, what
    /// is surely not there is null, and a secret only tells its length.
    #[schema(value_type = Object)]
    pub details: Value,
    pub suggested_fix: Option<String>,
    /// Milliseconds.
    pub execution_time: u64,
    pub about: About,
    /// Does a FAIL mean that the application is unavailable?
    pub availability: bool,
}

/// Results of a round and what follows from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    pub application_id: String,
    pub health: String,
    pub looked: Option<String>,
    pub unseen: Option<String>,
    pub results: Vec<CheckResult>,
    pub plan: Plan,
}

/// What would run alone, what must be asked, what nothing can heal; in the order in which it would run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub auto_heal: Vec<PlanItem>,
    pub require_approval: Vec<PlanItem>,
    pub cannot_heal: Vec<CannotHeal>,
    /// `Auto-heal (n): a, b | Require approval (n): c | Cannot heal (n): d`
    pub summary: String,
    /// Why it is empty: nothing was looked at yet, and when it will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_looked: Option<String>,
    /// What keeps all of it from starting now, whatever the plan says; empty: nothing of this kind.
    #[serde(default)]
    pub stops: Vec<Stop>,
}

/// Why nothing starts on an application now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// `breaker`, `hold` or `daemon`.
    pub by: String,
    /// Whether it also refuses what a person asks for.
    pub refuses_persons: bool,
    /// Why, as a sentence.
    pub reason: String,
    /// What to do about it.
    pub next: String,
}

/// One action of a plan, for all its checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanItem {
    pub action_name: String,
    /// A value that is not known yet is null.
    #[schema(value_type = Object)]
    pub params: BTreeMap<String, Value>,
    pub risk_level: Risk,
    /// How the action came to the checks.
    #[serde(rename = "match")]
    pub matched: MatchKind,
    pub checks: Vec<String>,
    /// Worst among the checks.
    pub status: CheckStatus,
    pub severity: Severity,
    /// Is the application unavailable because of them?
    pub unavailable: bool,
    pub reason: String,
    /// Later remedies of the same checks.
    pub alternatives: Vec<String>,
    pub write_set: Vec<String>,
    pub estimated_seconds: u64,
}

/// A bad result that no action answers: the result as it came, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CannotHeal {
    pub check_name: String,
    pub category: Option<Category>,
    pub status: CheckStatus,
    pub severity: Option<Severity>,
    pub message: Option<String>,
    pub suggested_fix: Option<String>,
    pub reason: String,
}

/// What a circuit breaker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    pub circuit_breaker_state: BreakerState,
    pub consecutive_failures: u32,
    pub max_retries: u32,
    pub last_circuit_breaker_open: Option<String>,
    pub circuit_breaker_reset_at: Option<String>,
    /// Rounded up.
    pub remaining_minutes: u64,
    pub can_heal: bool,
    pub reason: String,
}

/// One heal: what `heal` answers, and what `heals` lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Heal {
    pub application_id: String,
    pub action_name: String,
    pub subdomain: Option<String>,
    /// Null until the end; true only for a verified, soaked cure.
    pub success: Option<bool>,
    /// What happened, as one sentence.
    pub message: String,
    pub details: HealDetails,
    pub risk_level: Risk,
    /// The mode that counted when it was admitted.
    pub healing_mode: HealingMode,
    pub backup_id: Option<String>,
    /// The application's present state.
    pub circuit_breaker_state: BreakerState,
    pub heal_id: String,
    /// `Admitted`, `Protected`, `Acting`, `InDoubt`, `Settling`, `Verifying`, `Soaking`, `Undoing`, `Rechecking`; ends:
    /// `Cured`, `NotCured`, `Kept`, `Undone`, `UndoBlocked`, `UndoFailed`, `Aborted`.
    pub state: String,
}

/// What stands behind a heal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealDetails {
    pub host: String,
    /// `unattended`, `requested`, `approved` or `rollback`.
    pub origin: String,
    /// The person who asked, as `name(uid)`.
    pub person: Option<String>,
    pub approval_id: Option<String>,
    pub incident_id: String,
    pub checks: Vec<String>,
    /// The breaker's trial?
    pub trial: bool,
    pub admitted: String,
    /// When its state changed last.
    pub moved: String,
    /// Is it over?
    pub ended: bool,
    /// Does it wait for `decide`?
    pub waits_for_person: bool,
    /// The hold that covers its application while it is not over. What a person asked for runs under it.
    pub held: Option<Hold>,
    /// Why it does not go on now: a host that cannot be reached, another application's lease.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// How the action's steps ended: `done`, `failed`, `timed_out`, `cancelled` or `interrupted`.
    pub outcome: Option<String>,
    /// Why it was undone, kept, or not a cure.
    pub reason: Option<String>,
    pub undo: Option<UndoReport>,
    /// Only where one heal is asked for: its journal, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<JournalLine>,
}

/// What an undo did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UndoReport {
    pub restored: u64,
    /// Were as before already.
    pub already: u64,
    /// Touched by somebody else since, and left.
    pub kept: Vec<String>,
    pub failed: Vec<String>,
    /// For a person to decide.
    pub blocked: Vec<String>,
}

/// One event of a heal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalLine {
    pub at: String,
    pub event: String,
    pub detail: Option<String>,
}

/// What would run, and what would forbid it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    pub application_id: String,
    pub action_name: String,
    pub subdomain: Option<String>,
    pub risk_level: Risk,
    pub healing_mode: HealingMode,
    /// `app` or `root`.
    pub identity: String,
    /// One line each.
    pub steps: Vec<String>,
    pub write_set: Vec<String>,
    /// Every guard that would deny; empty: it would start.
    pub denials: Vec<String>,
    /// Whether a person would be asked first.
    pub requires_approval: bool,
    /// The hold that covers the application; what a person asks for runs under it.
    pub held: Option<Hold>,
}

/// What a rollback would do; confirmed by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackPreview {
    pub application_id: String,
    pub backup_id: String,
    pub changes: Vec<PreviewChange>,
    /// Paths whose present content would be gone from the site; the present is backed up first.
    pub overwrites: Vec<String>,
    /// Shared files that are newer than the backup and stay, unless `exact` is asked for.
    pub kept_newer_shared: Vec<String>,
    /// Cannot be brought back.
    pub blocked: Vec<BlockedPath>,
    pub digest: String,
}

/// One line of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewChange {
    pub path: String,
    /// `recreate`, `remove`, `rewrite` or `attributes`.
    pub kind: String,
    /// Mode bits in octal, where they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FromTo>,
    /// `UID:GID`, where it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<FromTo>,
}

/// What something is now, and what it becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FromTo {
    pub from: String,
    pub to: String,
}

/// A path that cannot be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockedPath {
    pub path: String,
    pub reason: String,
}

/// It was done, and there is nothing more to say than a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    pub message: String,
}

/// An error, as RFC 9457 has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:healerd:problem:CODE`
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable, for programs.
    pub code: String,
    /// What happened, as a sentence.
    pub detail: String,
    /// What to do next.
    pub hint: String,
    /// The approval that was created or is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Box<Approval>>,
}
