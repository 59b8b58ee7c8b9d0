//! One application, its actions and its events, as the engine shows them.

use std::collections::BTreeMap;

use crate::guard::breaker::status::BreakerStatus;
use crate::model::check::CheckResult;
use crate::model::heal::Heal;
use crate::model::id::{HealId, IncidentId};
use crate::model::incident::Incident;
use crate::model::name::{ActionName, AppName, CheckName, HostName, StackName};
use crate::model::plan::Plan;
use crate::model::policy::BackupPolicy;
use crate::model::stop::{Hold, Mute};
use crate::model::time::Moment;
use crate::model::word::{HealingMode, Risk};

/// Health of an app, from its latest round alone. Whether it is held stands beside it and hides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Healthy,
    Degraded,
    Down,
    Unknown,
    Healing,
}

impl Health {
    /// Every word, for metrics.
    pub const ALL: &[Self] = &[
        Self::Healthy,
        Self::Degraded,
        Self::Down,
        Self::Unknown,
        Self::Healing,
    ];

    /// The word people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Down => "DOWN",
            Self::Unknown => "UNKNOWN",
            Self::Healing => "HEALING",
        }
    }
}

/// One app as the engine sees it now. A copy; reading it waits for nobody.
#[derive(Debug, Clone)]
pub struct AppView {
    pub name: AppName,
    pub host: HostName,
    pub stack: StackName,
    pub path: String,
    pub url: Option<String>,
    pub user: String,
    /// What the root agent's list must hold for its actions; empty: they need no root.
    pub root_lines: String,
    pub health: Health,
    pub mode: HealingMode,
    /// `configured`, or who set it and why.
    pub mode_origin: String,
    pub breaker: BreakerStatus,
    pub results: Vec<CheckResult>,
    /// When `results` were read.
    pub looked: Option<Moment>,
    /// Why the last round could not be made.
    pub unseen: Option<String>,
    pub plan: Plan,
    /// Not closed.
    pub incidents: Vec<Incident>,
    /// What comes next for each incident: `restart_app at 03:17, dwell 2/3`.
    pub next: BTreeMap<IncidentId, String>,
    /// Unfinished.
    pub heals: Vec<Heal>,
    /// What an unfinished heal waits for, where it could not go on.
    pub waits: BTreeMap<HealId, String>,
    pub mutes: Vec<Mute>,
    /// When each approval that is pending was asked for.
    pub approvals: Vec<Moment>,
    pub backup_policy: BackupPolicy,
    pub held: Option<Hold>,
    /// Why the daemon as a whole starts nothing.
    pub observing: Option<String>,
    pub due: Moment,
}

/// One action of an app's stack, for `actions`.
#[derive(Debug, Clone)]
pub struct ActionView {
    pub name: ActionName,
    pub title: String,
    pub risk: Risk,
    pub writes: Vec<String>,
    pub proves: Vec<CheckName>,
    /// Modes in which it may run alone.
    pub alone_in: Vec<HealingMode>,
}

/// What happened, for the event stream.
#[derive(Debug, Clone)]
pub struct EventLine {
    pub at: Moment,
    /// `incident`, `heal`, `approval`, `breaker`, `hold`, `mode`, `host`.
    pub kind: &'static str,
    pub app: Option<AppName>,
    pub text: String,
    pub heal: Option<HealId>,
}
