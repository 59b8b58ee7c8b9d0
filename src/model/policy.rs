//! The numbers and rules an operator sets, for everything or for one app. Defaults: SAFETY.md section 2.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::{ActionName, CheckName};
use super::word::{HealingMode, MatchKind, Risk};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

const fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3600)
}

/// Everything that decides and guards for one app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Configured mode; a mode set at run time stands beside it.
    pub mode: HealingMode,
    /// Was it written for this very app, as opposed to taken over from everything's?
    pub mode_is_own: bool,
    /// No mode set at run time goes above this.
    pub max_mode: HealingMode,
    /// Match kinds that may run alone.
    pub unattended_matches: Vec<MatchKind>,
    /// Actions that always ask, whatever their risk.
    pub always_ask: Vec<ActionName>,
    /// Risks that the operator raised; a lower one than the catalogue's has no effect.
    pub raised_risks: Vec<(ActionName, Risk)>,
    /// Checks that are not run.
    pub disabled_checks: Vec<CheckName>,
    /// Are paths or databases of this app used by another one? Raises risk by one.
    pub shared_resources: bool,
    pub timing: Timing,
    pub breaker: BreakerPolicy,
    pub rate: RatePolicy,
    pub approval: ApprovalPolicy,
    pub backup: BackupPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: HealingMode::Manual,
            mode_is_own: false,
            max_mode: HealingMode::FullAuto,
            unattended_matches: vec![MatchKind::Declared, MatchKind::Exact],
            always_ask: Vec::new(),
            raised_risks: Vec::new(),
            disabled_checks: Vec::new(),
            shared_resources: false,
            timing: Timing::default(),
            breaker: BreakerPolicy::default(),
            rate: RatePolicy::default(),
            approval: ApprovalPolicy::default(),
            backup: BackupPolicy::default(),
        }
    }
}

/// All times of the loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Spread of the period, in percent to either side.
    pub jitter_percent: u32,
    /// A bad result is looked at again after this, until decided; also the pace of looks while a heal settles.
    pub look: Duration,
    pub dwell: Duration,
    pub dwell_looks: u32,
    /// For a CRITICAL symptom.
    pub dwell_critical: Duration,
    pub dwell_critical_looks: u32,
    /// After the start of the app's host or a deploy.
    pub grace: Duration,
    /// Longest settle time of an action that names none.
    pub settle: Duration,
    /// Settle time after a plain restart.
    pub settle_restart: Duration,
    pub verdict_deadline: Duration,
    pub soak: Duration,
    /// The symptom back within this takes the cure back.
    pub recurrence: Duration,
    /// After a good heal: per app, and per app and action.
    pub pause: Duration,
    pub pause_action: Duration,
    /// An action that names no timeout.
    pub action_timeout: Duration,
    /// Healthy for so long, a changed config member becomes known-good.
    pub known_good_age: Duration,
    /// A check in ERROR for this long is an incident of kind UNKNOWN.
    pub unknown_after: Duration,
    /// So are so many rounds that could not reach the host.
    pub unknown_rounds: u32,
    /// Longest time one round may take on its host.
    pub round_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            jitter_percent: 10,
            look: seconds(15),
            dwell: seconds(180),
            dwell_looks: 3,
            dwell_critical: seconds(60),
            dwell_critical_looks: 2,
            grace: seconds(600),
            settle: minutes(5),
            settle_restart: seconds(30),
            verdict_deadline: minutes(30),
            soak: minutes(10),
            recurrence: minutes(60),
            pause: minutes(5),
            pause_action: minutes(30),
            action_timeout: minutes(5),
            known_good_age: hours(24),
            unknown_after: minutes(15),
            unknown_rounds: 3,
            round_timeout: seconds(60),
        }
    }
}

/// Numbers of the circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerPolicy {
    /// Unanswered failures that open it.
    pub max_failures: u32,
    /// Recurrences of one symptom within `recurrence_window` that open it.
    pub max_recurrences: u32,
    pub recurrence_window: Duration,
    pub cooldown: Duration,
    pub cooldown_max: Duration,
    /// Spread of the cooldown, in percent to either side.
    pub jitter_percent: u32,
    /// One step back per so much clean time.
    pub decay: Duration,
    /// Cures needed to close from HALF_OPEN.
    pub half_open_cures: u32,
    /// Longest life of a trial's lease.
    pub trial_deadline: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            max_failures: 3,
            max_recurrences: 3,
            recurrence_window: hours(24),
            cooldown: hours(1),
            cooldown_max: hours(24),
            jitter_percent: 10,
            decay: hours(24),
            half_open_cures: 1,
            trial_deadline: hours(2),
        }
    }
}

/// Most unattended actions per day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatePolicy {
    pub per_app: u32,
    pub per_host: u32,
    pub per_daemon: u32,
    pub window: Duration,
}

impl Default for RatePolicy {
    fn default() -> Self {
        Self {
            per_app: 6,
            per_host: 20,
            per_daemon: 60,
            window: hours(24),
        }
    }
}

/// Rules of approvals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalPolicy {
    pub decide_within: Duration,
    pub decide_within_critical: Duration,
    pub execute_within: Duration,
    /// Rejected or expired is not proposed again for so long, or until the evidence changes.
    pub remember: Duration,
    /// `persons = "one"`: a sole administrator may approve what he asked for, and CRITICAL needs one.
    pub one_person: bool,
    pub reason_characters_min: u32,
    /// Most approvals pending at once.
    pub pending_max: u32,
}

impl Default for ApprovalPolicy {
    fn default() -> Self {
        Self {
            decide_within: hours(24),
            decide_within_critical: hours(4),
            execute_within: hours(1),
            remember: hours(24 * 7),
            one_person: false,
            reason_characters_min: 10,
            pending_max: 500,
        }
    }
}

/// Limits and retention of backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPolicy {
    pub keep_last: u32,
    pub keep_for: Duration,
    pub base_bytes_max: u64,
    pub base_files_max: u64,
    /// Must be free beyond the estimate, on the vault and on the target.
    pub room_bytes: u64,
    pub vault_bytes_max: u64,
}

impl Default for BackupPolicy {
    fn default() -> Self {
        Self {
            keep_last: 5,
            keep_for: hours(24 * 14),
            base_bytes_max: 256 << 20,
            base_files_max: 20_000,
            room_bytes: 256 << 20,
            vault_bytes_max: 20 << 30,
        }
    }
}
