//! One setter per fact. Every label is a type with a closed set of words, but the application's name, which is counted.

use std::time::Duration;

use super::{HealEnd, Health, Metrics, Success, Trigger, number};
use crate::model::breaker::BreakerState;
use crate::model::incident::{IncidentKind, IncidentState};
use crate::model::name::AppName;
use crate::model::reason::GuardName;
use crate::model::word::{HealingMode, Status};

impl Metrics {
    /// Wall milliseconds of the start.
    pub fn set_start(&self, wall_ms: i64) {
        let ms = u64::try_from(wall_ms).unwrap_or(0);
        self.set("healerd_start_time_seconds", &[], number(ms) / 1000.0);
    }

    /// Applications of this health.
    pub fn set_apps(&self, health: Health, count: u64) {
        self.set("healerd_apps", &[health.as_str()], number(count));
    }

    /// Applications in this mode, as it is in force.
    pub fn set_apps_in_mode(&self, mode: HealingMode, count: u64) {
        self.set("healerd_apps_by_mode", &[mode.as_str()], number(count));
    }

    /// One application after a round.
    pub fn set_app_checks(&self, app: &AppName, bad: u64, unknown: u64) {
        self.set_app("healerd_app_bad_checks", app, bad);
        self.set_app("healerd_app_unknown_checks", app, unknown);
    }

    /// Does the application's breaker admit nothing?
    pub fn set_app_breaker_open(&self, app: &AppName, open: bool) {
        self.set_app("healerd_app_breaker_open", app, u64::from(open));
    }

    /// One check was run.
    pub fn check_ran(&self, status: Status, duration: Duration) {
        self.add("healerd_check_runs_total", &[status.as_str()], 1);
        self.time("healerd_check_duration_seconds", duration);
    }

    /// One round ended; failed: the host could not be asked.
    pub fn round_ended(&self, result: Success, duration: Duration) {
        self.add("healerd_rounds_total", &[result.as_str()], 1);
        self.time("healerd_round_duration_seconds", duration);
    }

    /// A round started so late.
    pub fn round_started(&self, late: Duration) {
        self.set("healerd_scheduler_lag_seconds", &[], late.as_secs_f64());
        self.time("healerd_scheduler_delay_seconds", late);
    }

    /// Hosts out of reach.
    pub fn set_hosts_unreachable(&self, count: u64) {
        self.set("healerd_hosts_unreachable", &[], number(count));
    }

    /// Incidents in this state. CLOSED ones are not counted.
    pub fn set_incidents(&self, state: IncidentState, count: u64) {
        if state != IncidentState::Closed {
            self.set("healerd_incidents", &[state.as_str()], number(count));
        }
    }

    /// An incident was opened.
    pub fn incident_opened(&self, kind: IncidentKind) {
        self.add("healerd_incidents_opened_total", &[kind.as_str()], 1);
    }

    /// A heal was admitted.
    pub fn heal_started(&self, trigger: Trigger) {
        self.add("healerd_heals_started_total", &[trigger.as_str()], 1);
    }

    /// A heal ended.
    pub fn heal_ended(&self, end: HealEnd, duration: Duration) {
        self.add("healerd_heals_total", &[end.as_str()], 1);
        self.time("healerd_heal_duration_seconds", duration);
    }

    /// Heals that have not ended.
    pub fn set_heals_in_flight(&self, count: u64) {
        self.set("healerd_heals_in_flight", &[], number(count));
    }

    /// A guard denied a heal.
    pub fn denied(&self, guard: GuardName) {
        self.add("healerd_guard_denials_total", &[guard.as_str()], 1);
    }

    /// Breakers in this state.
    pub fn set_breakers(&self, state: BreakerState, count: u64) {
        self.set("healerd_breakers", &[state.as_str()], number(count));
    }

    /// A breaker moved. A transition to the same state is none.
    pub fn breaker_moved(&self, from: BreakerState, to: BreakerState) {
        if from != to {
            self.add(
                "healerd_breaker_transitions_total",
                &[from.as_str(), to.as_str()],
                1,
            );
        }
    }

    /// Approvals that wait, and the age of the oldest.
    pub fn set_approvals(&self, pending: u64, oldest: Duration) {
        self.set("healerd_approvals_pending", &[], number(pending));
        self.set(
            "healerd_approval_oldest_age_seconds",
            &[],
            oldest.as_secs_f64(),
        );
    }

    /// Holds in force.
    pub fn set_holds(&self, count: u64) {
        self.set("healerd_holds", &[], number(count));
    }

    /// The vault: bytes, backups, age of the newest, and time since the least recently verified one was read back.
    pub fn set_backups(
        &self,
        bytes: u64,
        count: u64,
        newest_age: Duration,
        verified_age: Duration,
    ) {
        self.set("healerd_backup_bytes", &[], number(bytes));
        self.set("healerd_backups", &[], number(count));
        self.set(
            "healerd_backup_newest_age_seconds",
            &[],
            newest_age.as_secs_f64(),
        );
        self.set(
            "healerd_backup_verified_age_seconds",
            &[],
            verified_age.as_secs_f64(),
        );
    }

    /// A backup was taken and verified, or failed.
    pub fn backup_taken(&self, result: Success) {
        self.add("healerd_backups_total", &[result.as_str()], 1);
    }

    /// The daemon's own record: shares from 0 to 1.
    pub fn set_ratios(&self, false_fire: f64, recurrence: f64, verified_cure: f64) {
        self.set("healerd_false_fire_ratio", &[], false_fire.clamp(0.0, 1.0));
        self.set("healerd_recurrence_ratio", &[], recurrence.clamp(0.0, 1.0));
        self.set(
            "healerd_verified_cure_ratio",
            &[],
            verified_cure.clamp(0.0, 1.0),
        );
    }

    /// The newest audit row, published here so that a cut tail is noticed elsewhere. The series of the hash before it
    /// goes, so that there is one at any time.
    pub fn set_audit_head(&self, seq: i64, hash: &str) {
        self.set(
            "healerd_audit_head",
            &[],
            number(u64::try_from(seq).unwrap_or(0)),
        );
        let hexadecimal = hash.len() <= 128 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.reset("healerd_audit_head_info");
        if hexadecimal {
            self.set("healerd_audit_head_info", &[hash], 1.0);
        }
    }

    /// One commit of the store.
    pub fn committed(&self, duration: Duration) {
        self.time("healerd_store_commit_duration_seconds", duration);
    }

    /// A notice was delivered, or not.
    pub fn notice(&self, result: Success) {
        self.add("healerd_notices_total", &[result.as_str()], 1);
    }

    /// Notices that wait.
    pub fn set_notices_waiting(&self, count: u64) {
        self.set("healerd_notices_waiting", &[], number(count));
    }

    /// The configuration was read again.
    pub fn reloaded(&self, result: Success) {
        self.add("healerd_config_reloads_total", &[result.as_str()], 1);
    }

    /// A job panicked and was caught.
    pub fn panicked(&self) {
        self.add("healerd_panics_total", &[], 1);
    }
}
