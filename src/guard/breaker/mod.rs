//! The circuit breaker: rules over [`Breaker`] as pure steps.
//!
//! CLOSED passes. OPEN blocks until its cooldown is over. HALF_OPEN lets one trial through. Only a cured trial and a
//! reset clear it. Every step gives the new record and the transitions that happened; who calls stores both together.

pub mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::breaker::{
    Breaker, BreakerState, BreakerTransition, Cure, Failure, Forced, ForcedState, Recurrence, Trial,
};
use crate::model::id::{HealId, IncidentId};
use crate::model::name::ActionName;
use crate::model::policy::BreakerPolicy;
use crate::model::reason::{Denial, GuardName};
use crate::model::time::Moment;

use super::{GuardInput, deny};

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let Some(breaker) = &input.rows.breaker else {
        let message = "The circuit breaker's state is not known.".to_owned();
        return Err(deny(GuardName::Breaker, message, &[], None));
    };
    let status = status::status(breaker, &input.app.policy.breaker, input.now);
    let own_trial = breaker
        .trial
        .as_ref()
        .is_some_and(|trial| trial.heal == input.heal);
    let forced = forced(breaker, input.now);
    let watch_only = forced == Some(ForcedState::ObserveOnly) && !input.origin.is_unattended();
    if status.can_heal || watch_only || own_trial && input.trial && forced.is_none() {
        return Ok(());
    }
    let facts = [
        ("state", status.circuit_breaker_state.to_string()),
        ("failures", status.consecutive_failures.to_string()),
    ];
    let again = breaker.opened.as_ref().map(|opened| {
        input.now.plus(
            input
                .now
                .remaining(opened, Duration::from_millis(breaker.cooldown_ms)),
        )
    });
    Err(deny(GuardName::Breaker, status.reason, &facts, again))
}

/// A breaker after a step, and what it went through.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub breaker: Breaker,
    pub transitions: Vec<BreakerTransition>,
}

/// Who and when, for the history.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    pub actor: &'a str,
    pub heal: Option<HealId>,
    pub now: &'a Moment,
    /// 0..=1000, drawn by the caller: where in the jitter's range the next cooldown lies.
    pub draw: u16,
}

impl Step {
    fn of(breaker: &Breaker) -> Self {
        Self {
            breaker: breaker.clone(),
            transitions: Vec::new(),
        }
    }

    fn go(&mut self, to: BreakerState, cause: &str, by: By<'_>) {
        let from = self.breaker.state;
        if from == to {
            return;
        }
        self.breaker.state = to;
        self.transitions.push(BreakerTransition {
            app: self.breaker.app.clone(),
            at: by.now.clone(),
            from,
            to,
            cause: cause.to_owned(),
            heal: by.heal,
            actor: by.actor.to_owned(),
        });
    }

    /// The clean time ends; what it was good for is taken into account now, before it is forgotten.
    fn stain(&mut self, policy: &BreakerPolicy, now: &Moment) {
        if let Some(clean) = self.breaker.clean_since.take() {
            let length = now.since(&clean, policy.decay.saturating_mul(1000));
            self.breaker.level = decayed(self.breaker.level, length, policy.decay);
        }
    }

    fn open(&mut self, cause: &str, policy: &BreakerPolicy, by: By<'_>) {
        self.stain(policy, by.now);
        let breaker = &mut self.breaker;
        let length = open_time(policy.cooldown, policy.cooldown_max, breaker.level);
        breaker.cooldown_ms = jittered(length, policy.jitter_percent, by.draw)
            .as_millis()
            .try_into()
            .unwrap_or(u64::MAX);
        breaker.level = breaker.level.saturating_add(1);
        breaker.opened = Some(by.now.clone());
        breaker.trial = None;
        breaker.half_open_cures = 0;
        self.go(BreakerState::Open, cause, by);
    }
}

/// Time the breaker stays OPEN after its `level`-th trip in a row (0 = first).
///
/// `base * 2^level`, at most `cap`, on the boot clock. Jitter is added apart, so replays are exact.
/// Source: capped exponential backoff, as in linkerd2-proxy's `exp-backoff`.
pub fn open_time(base: Duration, cap: Duration, level: u32) -> Duration {
    let factor = 1_u32.checked_shl(level).unwrap_or(u32::MAX);
    base.checked_mul(factor).unwrap_or(cap).min(cap)
}

/// `length` moved by `draw` (0..=1000) within ± `percent`.
pub fn jittered(length: Duration, percent: u32, draw: u16) -> Duration {
    let per_mille =
        1000 - i64::from(percent) * 10 + i64::from(percent) * 20 * i64::from(draw.min(1000)) / 1000;
    let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(
        ms / 1000 * per_mille.unsigned_abs() + ms % 1000 * per_mille.unsigned_abs() / 1000,
    )
}

/// One step back per clean `period`.
fn decayed(level: u32, clean: Duration, period: Duration) -> u32 {
    if period.is_zero() {
        return level;
    }
    let steps = clean.as_millis() / period.as_millis().max(1);
    level.saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX))
}

/// The forced state, while it holds.
pub fn forced(breaker: &Breaker, now: &Moment) -> Option<ForcedState> {
    let forced = breaker.forced.as_ref()?;
    let over = forced
        .for_ms
        .is_some_and(|ms| now.is_past(&forced.since, Duration::from_millis(ms)));
    (!over).then_some(forced.how)
}

/// What time alone does: the end of a cooldown, a lost trial, the end of a forced state. `None`: nothing.
pub fn advance(breaker: &Breaker, policy: &BreakerPolicy, by: By<'_>) -> Option<Step> {
    let mut step = Step::of(breaker);
    if breaker.forced.is_some() && forced(breaker, by.now).is_none() {
        step.breaker.forced = None;
    }
    match breaker.state {
        BreakerState::Closed => {}
        BreakerState::Open => {
            let over = breaker.opened.as_ref().is_some_and(|opened| {
                by.now
                    .is_past(opened, Duration::from_millis(breaker.cooldown_ms))
            });
            if over {
                step.breaker.half_open_cures = 0;
                step.go(BreakerState::HalfOpen, "cooldown is over", by);
            }
        }
        BreakerState::HalfOpen => {
            let lost = breaker.trial.as_ref().is_some_and(|trial| {
                by.now
                    .is_past(&trial.since, Duration::from_millis(trial.deadline_ms))
            });
            if lost {
                step.open("the trial was lost", policy, by);
            }
        }
    }
    (step.breaker != *breaker).then_some(step)
}

/// Reserves the one trial. `None`: not HALF_OPEN, or one is in flight.
pub fn reserve_trial(
    breaker: &Breaker,
    heal: HealId,
    policy: &BreakerPolicy,
    now: &Moment,
) -> Option<Breaker> {
    (breaker.state == BreakerState::HalfOpen && breaker.trial.is_none()).then(|| Breaker {
        trial: Some(Trial {
            heal,
            since: now.clone(),
            deadline_ms: policy
                .trial_deadline
                .as_millis()
                .try_into()
                .unwrap_or(u64::MAX),
            confirmed: false,
        }),
        ..breaker.clone()
    })
}

/// Confirms it, in the intent's transaction.
pub fn confirm_trial(breaker: &Breaker, heal: HealId) -> Option<Breaker> {
    let trial = breaker.trial.as_ref().filter(|trial| trial.heal == heal)?;
    Some(Breaker {
        trial: Some(Trial {
            confirmed: true,
            ..trial.clone()
        }),
        ..breaker.clone()
    })
}

/// Gives an unconfirmed trial back: the symptom went away, or a guard denied.
pub fn give_back_trial(breaker: &Breaker, heal: HealId) -> Option<Breaker> {
    let own = breaker
        .trial
        .as_ref()
        .is_some_and(|trial| trial.heal == heal);
    own.then(|| Breaker {
        trial: None,
        ..breaker.clone()
    })
}

/// A heal failed. Forced to observe only, nothing is counted.
pub fn fail(breaker: &Breaker, failure: Failure, policy: &BreakerPolicy, by: By<'_>) -> Step {
    let mut step = Step::of(breaker);
    step.stain(policy, by.now);
    if step
        .breaker
        .failures
        .iter()
        .any(|known| known.heal == failure.heal)
    {
        return Step::of(breaker); // told twice; one heal is one failure
    }
    step.breaker.failures.push(failure);
    bound(&mut step.breaker);
    match breaker.state {
        BreakerState::Closed => {
            if step.breaker.failures.len() >= policy.max_failures.max(1) as usize {
                step.open(&counted(&step.breaker.failures), policy, by);
            }
        }
        BreakerState::HalfOpen => step.open("the trial failed", policy, by),
        BreakerState::Open => {}
    }
    step
}

/// A heal was verified and stayed well. It answers the failures of its own action; a cured trial clears the breaker.
pub fn cure(
    breaker: &Breaker,
    heal: HealId,
    action: &ActionName,
    incident: IncidentId,
    policy: &BreakerPolicy,
    by: By<'_>,
) -> Step {
    let mut step = Step::of(breaker);
    let trial = breaker
        .trial
        .as_ref()
        .is_some_and(|trial| trial.heal == heal);
    let mut closed_from_level = None;
    let clears = if trial && breaker.state == BreakerState::HalfOpen {
        step.breaker.trial = None;
        step.breaker.half_open_cures = breaker.half_open_cures.saturating_add(1);
        step.breaker.half_open_cures >= policy.half_open_cures.max(1)
    } else {
        false
    };
    let (answered, left) = step
        .breaker
        .failures
        .drain(..)
        .partition(|failure| clears || failure.action == *action);
    step.breaker.failures = left;
    if clears {
        closed_from_level = Some(breaker.level);
        step.breaker.opened = None;
        step.breaker.cooldown_ms = 0;
        step.go(BreakerState::Closed, "the trial cured", by);
    }
    if step.breaker.failures.is_empty() && step.breaker.state == BreakerState::Closed {
        step.breaker.clean_since = Some(by.now.clone());
    }
    step.breaker.cures.push(Cure {
        heal,
        action: action.clone(),
        incident,
        at: by.now.clone(),
        answered,
        closed_from_level,
    });
    bound(&mut step.breaker);
    step
}

/// The symptom is back inside the recurrence window: the cure is taken back.
pub fn recur(
    breaker: &Breaker,
    incident: IncidentId,
    heal: HealId,
    policy: &BreakerPolicy,
    by: By<'_>,
) -> Step {
    let mut step = Step::of(breaker);
    step.stain(policy, by.now);
    let Some(at) = step.breaker.cures.iter().position(|cure| cure.heal == heal) else {
        return step; // a reset forgot the cure, and with it what it answered
    };
    let cure = step.breaker.cures.remove(at);
    let mut failures = cure.answered;
    failures.append(&mut step.breaker.failures);
    failures.push(Failure {
        heal,
        action: cure.action,
        at: by.now.clone(),
        recurred: true,
    });
    step.breaker.failures = failures;
    step.breaker
        .recurrences
        .retain(|past| !by.now.is_past(&past.at, policy.recurrence_window));
    step.breaker.recurrences.push(Recurrence {
        incident,
        at: by.now.clone(),
    });
    bound(&mut step.breaker);
    let recurrences = step
        .breaker
        .recurrences
        .iter()
        .filter(|past| past.incident == incident)
        .count();
    if step.breaker.state == BreakerState::Open {
        return step;
    }
    if let Some(level) = cure.closed_from_level {
        step.breaker.level = step.breaker.level.max(level);
        step.open("the cure that closed it did not last", policy, by);
    } else if recurrences >= policy.max_recurrences.max(1) as usize {
        step.open(
            &format!("the same symptom came back {recurrences} times"),
            policy,
            by,
        );
    } else if step.breaker.failures.len() >= policy.max_failures.max(1) as usize {
        step.open(&counted(&step.breaker.failures), policy, by);
    }
    step
}

/// A person went back to what was there before these cures: they are not taken back by it, and a symptom that returns
/// with it is nobody's failure. `None`: there were none.
pub fn disown(breaker: &Breaker, heals: &BTreeSet<HealId>) -> Option<Breaker> {
    let is_theirs = |cure: &Cure| heals.contains(&cure.heal);
    breaker.cures.iter().any(is_theirs).then(|| Breaker {
        cures: breaker
            .cures
            .iter()
            .filter(|cure| !is_theirs(cure))
            .cloned()
            .collect(),
        ..breaker.clone()
    })
}

/// `2 failed heals and 1 cure that did not last`.
pub(crate) fn counted(failures: &[Failure]) -> String {
    let recurred = failures.iter().filter(|failure| failure.recurred).count();
    let failed = failures.len() - recurred;
    let heals = format!("{failed} failed heal{}", if failed == 1 { "" } else { "s" });
    let cures = match recurred {
        1 => "1 cure that did not last".to_owned(),
        count => format!("{count} cures that did not last"),
    };
    match (failed, recurred) {
        (_, 0) => heals,
        (0, _) => cures,
        (_, _) => format!("{heals} and {cures}"),
    }
}

/// A person clears it: CLOSED, no failures, nothing remembered.
pub fn reset(breaker: &Breaker, reason: &str, by: By<'_>) -> Step {
    let mut step = Step::of(breaker);
    step.breaker.failures.clear();
    step.breaker.cures.clear();
    step.breaker.recurrences.clear();
    step.breaker.level = 0;
    step.breaker.opened = None;
    step.breaker.cooldown_ms = 0;
    step.breaker.trial = None;
    step.breaker.half_open_cures = 0;
    step.breaker.forced = None;
    step.breaker.clean_since = Some(by.now.clone());
    step.go(BreakerState::Closed, &format!("reset: {reason}"), by);
    step
}

/// A person forces it, or lifts the force.
pub fn force(breaker: &Breaker, how: Option<Forced>) -> Breaker {
    Breaker {
        forced: how,
        ..breaker.clone()
    }
}

/// Most entries of each list that are kept; older ones cannot matter any more.
const REMEMBERED_MAX: usize = 64;

fn bound(breaker: &mut Breaker) {
    fn keep_newest<T>(list: &mut Vec<T>) {
        if list.len() > REMEMBERED_MAX {
            list.drain(..list.len() - REMEMBERED_MAX);
        }
    }
    keep_newest(&mut breaker.failures);
    keep_newest(&mut breaker.cures);
    keep_newest(&mut breaker.recurrences);
}
