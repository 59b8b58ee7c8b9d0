//! The tables of one scope laid over a policy, and the ranges their numbers must keep.

use std::time::Duration;

use super::input::{Persons, Scope};
use crate::model::policy::Policy;

const SECOND: Duration = Duration::from_secs(1);

/// Lays what is written over the base. Names and modes are judged elsewhere.
pub(super) fn apply(scope: &Scope<'_>, base: &Policy) -> Policy {
    let mut policy = base.clone();
    macro_rules! put {
        ($($to:ident . $field:ident = $table:ident . $key:ident $(. $inner:tt)?;)+) => {$(
            if let Some(value) = scope.$table.$key {
                policy.$to.$field = value $(. $inner)?;
            }
        )+};
    }
    put! {
        timing.jitter_percent = check.jitter.0;
        timing.look = check.look.0;
        timing.dwell = dwell.time.0;
        timing.dwell_looks = dwell.looks;
        timing.dwell_critical = dwell.critical_time.0;
        timing.dwell_critical_looks = dwell.critical_looks;
        timing.grace = grace.time.0;
        timing.settle = settle.time.0;
        timing.settle_restart = settle.restart.0;
        timing.verdict_deadline = settle.verdict_deadline.0;
        timing.soak = soak.time.0;
        timing.recurrence = soak.recurrence.0;
        timing.pause = pause.app.0;
        timing.pause_action = pause.action.0;
        timing.action_timeout = timeout.action.0;
        timing.round_timeout = timeout.round.0;
        timing.known_good_age = known_good.age.0;
        timing.unknown_after = unknown.after.0;
        timing.unknown_rounds = unknown.rounds;
        breaker.max_failures = breaker.max_failures;
        breaker.max_recurrences = breaker.max_recurrences;
        breaker.recurrence_window = breaker.recurrence_window.0;
        breaker.cooldown = breaker.cooldown.0;
        breaker.cooldown_max = breaker.cooldown_max.0;
        breaker.jitter_percent = breaker.jitter.0;
        breaker.decay = breaker.decay.0;
        breaker.half_open_cures = breaker.half_open_cures;
        breaker.trial_deadline = breaker.trial_deadline.0;
        rate.per_app = rate.per_app;
        rate.per_host = rate.per_host;
        rate.per_daemon = rate.per_daemon;
        rate.window = rate.window.0;
        approval.decide_within = approval.decide_within.0;
        approval.decide_within_critical = approval.decide_within_critical.0;
        approval.execute_within = approval.execute_within.0;
        approval.remember = approval.remember.0;
        approval.reason_characters_min = approval.reason_characters_min;
        approval.pending_max = approval.pending_max;
        backup.keep_last = backup.keep_last;
        backup.keep_for = backup.keep_for.0;
        backup.base_bytes_max = backup.base_bytes_max.0;
        backup.base_files_max = backup.base_files_max;
        backup.room_bytes = backup.room.0;
        backup.vault_bytes_max = backup.vault_bytes_max.0;
    }
    if let Some(persons) = scope.approval.persons {
        policy.approval.one_person = persons == Persons::One;
    }
    if let Some(shared) = scope.policy.shared_resources {
        policy.shared_resources = shared;
    }
    if let Some(kinds) = &scope.policy.unattended_matches {
        policy.unattended_matches.clone_from(kinds);
    }
    policy
}

/// A number out of its range.
pub(super) struct OutOfRange {
    /// Keys that decide it, within the scope; the first that is written is to blame.
    pub(super) keys: &'static [&'static str],
    pub(super) reason: String,
    pub(super) remedy: &'static str,
}

/// Every range that the policy does not keep.
pub(super) fn ranges(policy: &Policy) -> Vec<OutOfRange> {
    let mut found = Vec::new();
    let timing = &policy.timing;
    let breaker = &policy.breaker;
    let approval = &policy.approval;
    let times: &[(&'static [&'static str], Duration)] = &[
        (&["check.look"], timing.look),
        (&["settle.time"], timing.settle),
        (&["settle.restart"], timing.settle_restart),
        (&["settle.verdict_deadline"], timing.verdict_deadline),
        (&["timeout.action"], timing.action_timeout),
        (&["timeout.round"], timing.round_timeout),
        (&["unknown.after"], timing.unknown_after),
        (&["breaker.recurrence_window"], breaker.recurrence_window),
        (&["breaker.cooldown"], breaker.cooldown),
        (&["breaker.decay"], breaker.decay),
        (&["breaker.trial_deadline"], breaker.trial_deadline),
        (&["rate.window"], policy.rate.window),
        (&["approval.decide_within"], approval.decide_within),
        (
            &["approval.decide_within_critical"],
            approval.decide_within_critical,
        ),
        (&["approval.execute_within"], approval.execute_within),
    ];
    for (keys, time) in times {
        if *time < SECOND {
            found.push(OutOfRange {
                keys,
                reason: "is shorter than one second".to_owned(),
                remedy: "write \"1s\" or more",
            });
        }
    }
    let counts: &[(&'static [&'static str], u32)] = &[
        (&["dwell.looks"], timing.dwell_looks),
        (&["dwell.critical_looks"], timing.dwell_critical_looks),
        (&["unknown.rounds"], timing.unknown_rounds),
        (&["breaker.max_failures"], breaker.max_failures),
        (&["breaker.max_recurrences"], breaker.max_recurrences),
        (&["breaker.half_open_cures"], breaker.half_open_cures),
        (&["approval.pending_max"], approval.pending_max),
        (&["backup.keep_last"], policy.backup.keep_last),
    ];
    for (keys, count) in counts {
        if *count == 0 {
            found.push(OutOfRange {
                keys,
                reason: "is 0".to_owned(),
                remedy: "write 1 or more",
            });
        }
    }
    let orders: &[(&'static [&'static str], bool, &str, &'static str)] = &[
        (
            &["breaker.cooldown_max", "breaker.cooldown"],
            breaker.cooldown_max >= breaker.cooldown,
            "makes the longest cooldown shorter than the first",
            "let cooldown_max be at least cooldown",
        ),
        (
            &["settle.verdict_deadline", "settle.time"],
            timing.verdict_deadline >= timing.settle,
            "ends the verdict before the cure had its time to settle",
            "let verdict_deadline be at least time",
        ),
        (
            &["approval.reason_characters_min"],
            approval.reason_characters_min <= 1000,
            "asks for reasons longer than a request may be",
            "write 1000 or less",
        ),
        (
            &["backup.vault_bytes_max", "backup.base_bytes_max"],
            policy.backup.vault_bytes_max >= policy.backup.base_bytes_max,
            "makes the vault smaller than one base set",
            "let vault_bytes_max be at least base_bytes_max",
        ),
    ];
    for (keys, fits, reason, remedy) in orders {
        if !fits {
            found.push(OutOfRange {
                keys,
                reason: (*reason).to_owned(),
                remedy,
            });
        }
    }
    found
}
