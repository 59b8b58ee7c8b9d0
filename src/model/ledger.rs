//! What guards look at: leases, bars, recent starts and cures, read in one transaction.

use serde::{Deserialize, Serialize};

use super::approval::Approval;
use super::breaker::Breaker;
use super::id::HealId;
use super::name::{ActionName, AppName, HostName};
use super::stop::{Hold, ModeOverride};
use super::time::Moment;

/// Who may touch what, durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// `app:NAME` or `host:NAME`.
    pub key: String,
    pub heal: HealId,
    pub since: Moment,
}

/// Negative memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    pub app: AppName,
    pub action: ActionName,
    /// Version of the action's definition; another one lifts the bar.
    pub version: String,
    /// `undone`, or `outside_write_set` which holds whatever the evidence.
    pub cause: String,
    /// The evidence it failed on, as JSON text.
    pub evidence: String,
    pub at: Moment,
}

/// An unattended start, for rates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRow {
    pub heal: HealId,
    pub app: AppName,
    pub host: HostName,
    pub action: ActionName,
    pub at: Moment,
    pub unattended: bool,
}

/// What guards look at, read in one transaction.
#[derive(Debug, Clone, Default)]
pub struct GuardRows {
    pub holds: Vec<Hold>,
    pub modes: Vec<ModeOverride>,
    pub breaker: Option<Breaker>,
    pub leases: Vec<Lease>,
    /// All starts of the last 24 hours (or the longest configured window), whole daemon.
    pub starts: Vec<StartRow>,
    /// Cured heals of this app in the last day: action and end.
    pub cures: Vec<(ActionName, Moment)>,
    pub bars: Vec<Bar>,
    /// Approvals of this app that are pending or granted.
    pub approvals: Vec<Approval>,
}
