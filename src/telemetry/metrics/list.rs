//! The one list of all metrics, and the closed label sets that are not words of the model.

use serde::{Deserialize, Serialize};

use crate::model::heal::HealState;
use crate::model::word::words;

words! {
    /// How an application is.
    Health, "health" {
        Healthy = "healthy",
        /// Something is WARN or FAIL.
        Degraded = "degraded",
        /// Something CRITICAL is FAIL.
        Down = "down",
        /// Could not be determined.
        Unknown = "unknown",
    }
}

words! {
    /// How a heal ended.
    HealEnd, "end of a heal" {
        Cured = "cured", NotCured = "not_cured", Kept = "kept", Undone = "undone", UndoBlocked = "undo_blocked",
        UndoFailed = "undo_failed", Aborted = "aborted",
    }
}

impl HealEnd {
    /// The end that a state is; `None` while the heal goes on.
    pub const fn of(state: &HealState) -> Option<Self> {
        match state {
            HealState::Cured { .. } => Some(Self::Cured),
            HealState::NotCured { .. } => Some(Self::NotCured),
            HealState::Kept { .. } => Some(Self::Kept),
            HealState::Undone { .. } => Some(Self::Undone),
            HealState::UndoBlocked { .. } => Some(Self::UndoBlocked),
            HealState::UndoFailed { .. } => Some(Self::UndoFailed),
            HealState::Aborted { .. } => Some(Self::Aborted),
            HealState::Admitted
            | HealState::Protected { .. }
            | HealState::Acting { .. }
            | HealState::InDoubt { .. }
            | HealState::Settling { .. }
            | HealState::Verifying { .. }
            | HealState::Soaking { .. }
            | HealState::Undoing { .. }
            | HealState::Rechecking { .. } => None,
        }
    }
}

words! {
    /// Who wanted a heal.
    Trigger, "trigger" { Daemon = "daemon", Person = "person" }
}

words! {
    /// Whether something worked.
    Success, "result" { Ok = "ok", Failed = "failed" }
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Seconds,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Description {
    Description {
        name,
        kind: Kind::Counter,
        labels,
        help,
    }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Description {
    Description {
        name,
        kind: Kind::Gauge,
        labels,
        help,
    }
}

const fn seconds(name: &'static str, help: &'static str) -> Description {
    Description {
        name,
        kind: Kind::Seconds,
        labels: &[],
        help,
    }
}

/// Every metric there is.
pub const METRICS: &[Description] = &[
    gauge(
        "healerd_build_info",
        &["version"],
        "Always 1; the version that runs",
    ),
    gauge(
        "healerd_start_time_seconds",
        &[],
        "When the daemon started, in seconds since the epoch",
    ),
    gauge("healerd_apps", &["health"], "Applications by health"),
    gauge(
        "healerd_apps_by_mode",
        &["mode"],
        "Applications by healing mode in force",
    ),
    gauge(
        "healerd_app_bad_checks",
        &["app"],
        "Checks of the application that are WARN or FAIL",
    ),
    gauge(
        "healerd_app_unknown_checks",
        &["app"],
        "Checks of the application that could not be determined",
    ),
    gauge(
        "healerd_app_breaker_open",
        &["app"],
        "1 while the application's breaker admits nothing",
    ),
    counter(
        "healerd_check_runs_total",
        &["status"],
        "Checks that were run, by result",
    ),
    seconds(
        "healerd_check_duration_seconds",
        "Time of one check on its host",
    ),
    seconds(
        "healerd_round_duration_seconds",
        "Time of one round of checks, as the daemon sees it",
    ),
    counter(
        "healerd_rounds_total",
        &["result"],
        "Rounds of checks; failed: the host could not be asked",
    ),
    gauge(
        "healerd_hosts_unreachable",
        &[],
        "Hosts that the last round could not reach",
    ),
    gauge(
        "healerd_incidents",
        &["state"],
        "Incidents that are not closed, by state",
    ),
    counter(
        "healerd_incidents_opened_total",
        &["kind"],
        "Incidents that were opened",
    ),
    counter(
        "healerd_heals_started_total",
        &["trigger"],
        "Heals that were admitted, by who wanted them",
    ),
    counter(
        "healerd_heals_total",
        &["outcome"],
        "Heals that ended, by outcome",
    ),
    gauge("healerd_heals_in_flight", &[], "Heals that have not ended"),
    seconds(
        "healerd_heal_duration_seconds",
        "Time of a heal from its admission to its end",
    ),
    counter(
        "healerd_guard_denials_total",
        &["guard"],
        "Heals that a guard denied, by the first guard",
    ),
    gauge("healerd_breakers", &["state"], "Circuit breakers by state"),
    counter(
        "healerd_breaker_transitions_total",
        &["from", "to"],
        "Transitions of circuit breakers",
    ),
    gauge(
        "healerd_approvals_pending",
        &[],
        "Approvals that wait for a person",
    ),
    gauge(
        "healerd_approval_oldest_age_seconds",
        &[],
        "Age of the oldest approval that waits; 0 when none does",
    ),
    gauge("healerd_holds", &[], "Holds in force"),
    gauge("healerd_backup_bytes", &[], "Bytes in the vault"),
    gauge("healerd_backups", &[], "Backups in the vault"),
    gauge(
        "healerd_backup_newest_age_seconds",
        &[],
        "Age of the newest backup",
    ),
    gauge(
        "healerd_backup_verified_age_seconds",
        &[],
        "Time since the least recently verified backup was read back",
    ),
    counter(
        "healerd_backups_total",
        &["result"],
        "Backups that were taken",
    ),
    gauge(
        "healerd_scheduler_lag_seconds",
        &[],
        "How late the round that started last was",
    ),
    seconds("healerd_scheduler_delay_seconds", "How late rounds start"),
    gauge(
        "healerd_false_fire_ratio",
        &[],
        "Share of recent unattended heals whose symptom was not theirs to heal",
    ),
    gauge(
        "healerd_recurrence_ratio",
        &[],
        "Share of recent cures that did not last",
    ),
    gauge(
        "healerd_verified_cure_ratio",
        &[],
        "Share of recent heals that ended in a verified cure",
    ),
    gauge(
        "healerd_audit_head",
        &[],
        "Sequence of the newest audit row",
    ),
    gauge(
        "healerd_audit_head_info",
        &["hash"],
        "Always 1; the hash of the newest audit row",
    ),
    seconds(
        "healerd_store_commit_duration_seconds",
        "Time of one commit of the store",
    ),
    counter(
        "healerd_notices_total",
        &["result"],
        "Notices that were delivered, or not",
    ),
    gauge(
        "healerd_notices_waiting",
        &[],
        "Notices that wait for delivery",
    ),
    counter(
        "healerd_config_reloads_total",
        &["result"],
        "Reloads of the configuration",
    ),
    counter(
        "healerd_panics_total",
        &[],
        "Jobs that panicked and were caught",
    ),
];
