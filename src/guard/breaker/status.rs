//! What a breaker says of itself. Reading changes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{counted, forced};
use crate::model::breaker::{Breaker, BreakerState, Forced, ForcedState};
use crate::model::policy::BreakerPolicy;
use crate::model::time::Moment;

/// The status that people and programs read; field names are part of the control interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    pub circuit_breaker_state: BreakerState,
    pub consecutive_failures: u32,
    pub max_retries: u32,
    /// RFC 3339.
    pub last_circuit_breaker_open: Option<String>,
    pub circuit_breaker_reset_at: Option<String>,
    /// Rounded up.
    pub remaining_minutes: u64,
    pub can_heal: bool,
    pub reason: String,
    /// Whose word stands over its own state, and until when. Not part of the control interface: it stands in `reason`.
    #[serde(skip)]
    pub forced: Option<String>,
    /// May a person's heal start although `can_heal` is false? Not part of the control interface.
    #[serde(skip)]
    pub admits_persons: bool,
}

/// Reads it.
pub fn status(breaker: &Breaker, policy: &BreakerPolicy, now: &Moment) -> BreakerStatus {
    let held = forced(breaker, now);
    // What a person forced open is shown as what it is; what a cooldown does beneath it counts again afterwards.
    let state = match held {
        Some(ForcedState::Open) => BreakerState::Open,
        Some(ForcedState::ObserveOnly) | None => breaker.state,
    };
    let failures = u32::try_from(breaker.failures.len()).unwrap_or(u32::MAX);
    let cooldown = Duration::from_millis(breaker.cooldown_ms);
    let own = match (breaker.state, &breaker.opened) {
        (BreakerState::Open, Some(opened)) => Some(now.remaining(opened, cooldown)),
        // OPEN without a time it opened is a damaged record: it stays shut for the longest time.
        (BreakerState::Open, None) => Some(policy.cooldown_max),
        (BreakerState::Closed | BreakerState::HalfOpen, _) => None,
    };
    // Forced without an end: nobody can say when.
    let left = match (held, &breaker.forced) {
        (Some(ForcedState::Open), Some(by)) => by.for_ms.map(|ms| {
            let length = Duration::from_millis(ms);
            now.remaining(&by.since, length)
                .max(own.unwrap_or_default())
        }),
        _ => own,
    };
    let remaining = left.unwrap_or_default();
    let remaining_minutes = remaining
        .as_millis()
        .div_ceil(60_000)
        .try_into()
        .unwrap_or(u64::MAX);
    let (can_heal, reason) = match (held, breaker.state) {
        (Some(ForcedState::Open), _) => (false, forced_text(breaker, "forced open", now)),
        (Some(ForcedState::ObserveOnly), _) => {
            (false, forced_text(breaker, "set to observe only", now))
        }
        (None, BreakerState::Closed) if failures == 0 => {
            (true, "Circuit breaker is closed.".to_owned())
        }
        (None, BreakerState::Closed) => (
            true,
            format!(
                "Circuit breaker is closed. It counts {}; {} open it.",
                counted(&breaker.failures),
                policy.max_failures
            ),
        ),
        (None, BreakerState::Open) => (
            false,
            format!(
                "Circuit breaker is open. {}. Healing will be available in {remaining_minutes} minutes.",
                why_open(breaker)
            ),
        ),
        (None, BreakerState::HalfOpen) if breaker.trial.is_none() => (
            true,
            "Circuit breaker is half-open: one trial may run.".to_owned(),
        ),
        (None, BreakerState::HalfOpen) => (
            false,
            "Circuit breaker is half-open and its one trial is running.".to_owned(),
        ),
    };
    BreakerStatus {
        circuit_breaker_state: state,
        consecutive_failures: failures,
        max_retries: policy.max_failures,
        last_circuit_breaker_open: breaker.opened.as_ref().map(Moment::to_text),
        circuit_breaker_reset_at: left.map(|left| now.plus(left).to_text()),
        remaining_minutes,
        can_heal,
        reason,
        forced: match (held, &breaker.forced) {
            (Some(how), Some(by)) => {
                let word = match how {
                    ForcedState::Open => "forced",
                    ForcedState::ObserveOnly => "observe only",
                };
                Some(format!("{word} by {} {}", by.owner, until(by, now)))
            }
            _ => None,
        },
        admits_persons: can_heal || held == Some(ForcedState::ObserveOnly),
    }
}

/// What it counts. A cure that did not last is told as one.
fn why_open(breaker: &Breaker) -> String {
    let count = breaker.failures.len();
    match breaker.failures.iter().filter(|one| one.recurred).count() {
        0 => format!("Too many consecutive failures ({count})"),
        all if all == count => format!("Too many cures that did not last ({count})"),
        _ => format!(
            "Too many consecutive failures ({count}: {})",
            counted(&breaker.failures)
        ),
    }
}

fn forced_text(breaker: &Breaker, how: &str, now: &Moment) -> String {
    breaker.forced.as_ref().map_or_else(String::new, |forced| {
        format!(
            "Circuit breaker was {how} by {} {}: {}",
            forced.owner,
            until(forced, now),
            forced.reason
        )
    })
}

/// How long a person's word holds.
fn until(forced: &Forced, now: &Moment) -> String {
    match forced.for_ms {
        Some(ms) => {
            let left = now.remaining(&forced.since, Duration::from_millis(ms));
            format!("until {}", now.plus(left).to_text())
        }
        None => "until it is lifted".to_owned(),
    }
}
