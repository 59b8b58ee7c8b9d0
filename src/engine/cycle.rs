//! The loop on one screen: observe → decide → guard → (the heal's own life) → record.
//!
//! One turn of one app. All time lies in the state and in `now`: nothing here sleeps, so a simulated clock drives the
//! same code. Whoever calls it waits until the moment that it gives back, or until something is put on the desk.

use serde_json::json;

use super::desk::{Desk, EngineError};
use super::life::{self, Wake};
use super::look::{self, Unseen, Which};
use super::shared::Shared;
use super::who::{self, WhoError};
use super::{admit, forget, gate, known_good, proposals, recover, schedule};
use crate::catalogue::Check;
use crate::decide;
use crate::decide::incident::{self, Machine, Seen};
use crate::model::check::Round;
use crate::model::id::IncidentId;
use crate::model::incident::IncidentState;
use crate::model::name::{CheckName, HostName};
use crate::model::time::Moment;
use crate::seam::{StoreError, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// One turn. Gives the moment of the next one.
///
/// # Errors
/// When the store refuses or fails; the desk is then made anew from what is stored, or the daemon ends.
pub async fn turn(desk: &mut Desk) -> Result<Moment, EngineError> {
    // A machine that slept is as much of an absence as a daemon that was not there.
    let stood_still = desk.last_turn.as_ref().is_some_and(|last| {
        desk.now()
            .is_past(last, desk.app.policy.timing.verdict_deadline)
    });
    if stood_still {
        recover::unfinished(desk).await?;
    }
    // What has begun goes on first; nothing new is decided before it rests.
    let mut wakes = Vec::new();
    let may = is_due(desk) || desk.heals.iter().any(|heal| !heal.state.is_end());
    let unknown = match who::learn(desk, may).await {
        Ok(()) => None,
        Err(WhoError::Host(error)) => Some(error),
        Err(WhoError::Store(error)) => return Err(error.into()),
    };
    if unknown.is_none() {
        life::undo_asked(desk).await?;
    }
    // Without a user nobody can be asked what became of them; they stand still, as on a host that cannot be reached.
    if let Some(error) = &unknown {
        for heal in desk.heals.iter().filter(|heal| !heal.state.is_end()) {
            desk.waits.insert(heal.id, error.to_string());
        }
    }
    let moving = desk
        .heals
        .iter()
        .filter(|heal| !heal.state.is_end() && unknown.is_none())
        .map(|heal| heal.id)
        .collect::<Vec<_>>();
    for id in moving {
        match life::advance(desk, id).await {
            Ok(wake) => wakes.push(wake),
            // Another app of this host holds its lease: nothing was written, and the step is taken again.
            Err(EngineError::Store(StoreError::Conflict { what })) if what.contains("lease") => {
                desk.waits.insert(id, what);
                wakes.push(Wake::At(desk.now().plus(desk.app.policy.timing.look)));
            }
            Err(error @ EngineError::Illegal(_)) => desk.audit_illegal(id, &error).await?,
            Err(error) => return Err(error),
        }
    }
    desk.forget_ended();
    advance_breaker(desk).await?;
    proposals::expire(desk).await?;

    if is_due(desk) {
        // observe → decide → record
        let round = match unknown {
            None => look::round(desk, Which::Due).await,
            Some(error) => Err(error.into()),
        };
        match round {
            Ok((round, asked)) => seen(desk, round, &asked).await?,
            Err(why) => unseen(desk, &why).await?,
        }
        // guard → admit at most one; the others wait their turn and are decided again
        let observes = desk.shared.observes_first(&desk.app.name);
        if desk.blind.rounds == 0 && observes {
            let (app, now) = (desk.app.name.clone(), desk.now());
            desk.commit(desk.changes(&now).write(Shared::observed(&app)))
                .await?;
            desk.shared.forget_observe_first(&app);
        } else if desk.blind.rounds == 0 {
            admit::escalate(desk).await?;
            proposals::propose(desk).await?;
            if let Some(wake) = admit::next(desk).await? {
                wakes.push(wake);
            }
        }
        known_good::keep(desk).await?;
        forget::settled(desk).await?;
    } else if unknown.is_none()
        && !desk.shared.observes_first(&desk.app.name)
        && let Some(wake) = admit::granted(desk).await?
    {
        wakes.push(wake);
    }
    let (due, now) = (desk.due.clone(), desk.now());
    let moments = wakes.into_iter().filter_map(|wake| match wake {
        Wake::Now => Some(now.clone()),
        Wake::At(moment) => Some(moment),
        Wake::Never => None,
    });
    let next = moments
        .chain(desk.ask_again.clone())
        .chain([due.clone()])
        .min_by_key(|moment| moment.boot_ms);
    Ok(next.unwrap_or(due))
}

/// A round is due by its time, or because a guard named one.
fn is_due(desk: &Desk) -> bool {
    let now = desk.now();
    desk.due.boot_ms <= now.boot_ms
        || desk
            .ask_again
            .as_ref()
            .is_some_and(|again| again.boot_ms <= now.boot_ms)
}

/// A round came: results, incidents, plan; all of it stored at once.
pub(super) async fn seen(
    desk: &mut Desk,
    round: Round,
    asked: &BTreeSet<CheckName>,
) -> Result<(), EngineError> {
    let now = desk.now();
    let timing = desk.app.policy.timing.clone();
    desk.note_roots(&round);
    // The machine that is there at the first look is the one that is adopted, long before anything may run on it. That a
    // later one is another is noticed by looking, not only when something is to be done.
    let is_far = desk.app.host != HostName::local();
    let other_known = desk.incidents.iter().any(|incident| {
        incident.state != IncidentState::Closed && incident::is_other_machine(incident)
    });
    let asks = is_far || other_known || !desk.shared.is_adopted(&desk.app.host);
    let facts = if asks {
        desk.shared
            .host_facts(&desk.world, &desk.app.host, desk.login())
            .await
    } else {
        None
    };
    for result in &round.results {
        desk.metrics
            .check_ran(result.status, Duration::from_millis(result.execution_ms));
    }
    desk.note_results(&round, now.clone());
    let other_machine = desk.shared.other_machine(&desk.app.host);
    let machine = match (&facts, &other_machine) {
        (Some(facts), _) if gate::is_the_adopted(facts) => Machine::Adopted,
        // What was learned before, and could not be learned again, is no longer known.
        (None, _) if asks => Machine::Unknown,
        (_, Some(message)) => Machine::Other(message),
        (_, None) => Machine::Unknown,
    };
    let is_other = match machine {
        Machine::Adopted => false,
        Machine::Other(_) => true,
        Machine::Unknown => other_known,
    };
    if !is_other {
        desk.shared.outage_over(&desk.app.host);
    }
    let updated = looked_at(
        desk,
        Seen::Round {
            round: &round,
            asked,
            machine,
        },
        &now,
    );
    let compares = |check: &CheckName| {
        let check = desk.stack.check(check);
        check.is_some_and(Check::compares_with_known_good)
    };
    let healthy = desk.look.iter().all(|look| {
        let mut results = look.round.results.iter();
        results.all(|result| !result.status.is_bad() || compares(&result.check))
    });
    desk.healthy_since = if healthy {
        desk.healthy_since.take().or_else(|| Some(now.clone()))
    } else {
        None
    };
    if desk.unseen_reason.take().is_some() {
        let text = format!("{} can be seen", desk.app.host);
        desk.tell("host", text, None);
    }

    let due = if updated
        .incidents
        .iter()
        .any(|incident| incident.state == IncidentState::Open)
    {
        let look = now.plus(timing.look);
        let regular = schedule::next_due(&desk.app, &now, desk.world.random.next());
        if look.boot_ms < regular.boot_ms {
            look
        } else {
            regular
        }
    } else {
        schedule::next_due(&desk.app, &now, desk.world.random.next())
    };
    desk.ask_again = None;
    let mut changes = desk.changes(&now).write(Write::Due {
        app: desk.app.name.clone(),
        due,
    });
    changes = desk.store_roots(changes);
    changes = desk.store_results(changes);
    changes = admit::incident_writes(desk, &updated, changes, &now);
    desk.commit(changes).await?;
    decided(desk);
    Ok(())
}

/// Decides from what stands on the desk; pure, so it may be asked as often as one likes.
pub(super) fn decided(desk: &mut Desk) {
    let Some(look) = &desk.look else {
        return;
    };
    let now = desk.now();
    let muted: Vec<CheckName> = desk
        .mutes
        .iter()
        .filter(|mute| !now.is_past(&mute.since, Duration::from_millis(mute.for_ms)))
        .map(|mute| mute.check.clone())
        .collect();
    // A half-open breaker's trial begins with the first remedy again.
    let trial = desk.breaker.state == crate::model::breaker::BreakerState::HalfOpen;
    let tried: BTreeMap<CheckName, Vec<_>> = desk
        .incidents
        .iter()
        .filter(|_| !trial)
        .filter_map(|incident| Some((incident.check.clone()?, incident.tried.clone())))
        .collect();
    let bars: Vec<_> = desk
        .bars
        .iter()
        .filter(|bar| bar.cause == crate::guard::bar::OUTSIDE)
        .map(|bar| decide::Bar {
            action: bar.action.clone(),
            version: bar.version.clone(),
            reason: "it changed files outside its write set here".to_owned(),
        })
        .collect();
    let decision = decide::decide(&decide::DecisionInput {
        stack: &desk.stack,
        mode: desk.mode(),
        policy: &desk.app.policy,
        results: &look.round.results,
        tried: &tried,
        bars: &bars,
        muted: &muted,
        app: Some(&desk.app),
    });
    if desk.plan != decision.plan {
        tracing::info!(app = %desk.app.name, plan = decision.plan.summary(), "plan changed");
    }
    desk.plan = decision.plan;
}

/// What a look does to incidents.
fn looked_at(desk: &mut Desk, seen: Seen<'_>, now: &Moment) -> incident::Update {
    let world = Arc::clone(&desk.world);
    let mut new_id = || IncidentId::from_raw(world.new_id());
    let (incidents, blind) = (desk.incidents.clone(), std::mem::take(&mut desk.blind));
    let update = incident::update(
        &desk.app.name,
        incidents,
        blind,
        seen,
        now,
        &desk.app.policy.timing,
        &mut new_id,
    );
    desk.blind = update.blind.clone();
    update
}

/// The host could not be seen: told after three rounds, and never a reason to act.
async fn unseen(desk: &mut Desk, why: &Unseen) -> Result<(), EngineError> {
    let now = desk.now();
    let reason = &why.reason;
    tracing::warn!(app = %desk.app.name, host = %desk.app.host, %reason, "round failed");
    if desk.unseen_reason.as_ref() != Some(reason) {
        let text = format!("{} cannot be seen: {reason}", desk.app.host);
        desk.tell("host", text, None);
    }
    desk.unseen_reason = Some(reason.clone());
    desk.shared.forget_facts(&desk.app.host);
    let seen = Seen::Unseen {
        reason,
        at_once: why.at_once,
    };
    let updated = looked_at(desk, seen, &now);
    let due = schedule::next_due(&desk.app, &now, desk.world.random.next());
    desk.ask_again = None;
    let changes = desk.changes(&now).write(Write::Due {
        app: desk.app.name.clone(),
        due,
    });
    let changes = admit::incident_writes(desk, &updated, changes, &now);
    desk.commit(changes).await
}

/// The end of a cooldown, and a lost trial, are transitions of their own.
async fn advance_breaker(desk: &mut Desk) -> Result<(), EngineError> {
    let now = desk.now();
    let step = crate::guard::breaker::advance(
        &desk.breaker,
        &desk.app.policy.breaker,
        desk.by(None, &now),
    );
    let Some(step) = step else {
        return Ok(());
    };
    let detail = json!({"state": step.breaker.state.as_str()});
    let changes = desk
        .changes(&now)
        .write(Write::Breaker {
            breaker: Box::new(step.breaker),
            transitions: step.transitions,
        })
        .audit("breaker_moved", &desk.object(), detail);
    desk.commit(changes).await
}
