//! One step of one heal: what each state does, and which event that gives.
//!
//! Every arrow is one transaction ([`step`]), with everything that follows from it ([`super::accounts`]). Between two
//! arrows there is at most one effect on the host, so a crash anywhere leaves a state that recovery can go on from.

use std::time::Duration;

use healer_agent::crash;
use healer_agent::protocol::Finished;
use serde_json::json;

use super::accounts;
use super::desk::{Desk, EngineError};
use super::look::Which;
use super::shared::Shared;
use super::{gate, start, take_back};
use crate::act::{self, Progress};
use crate::model::check::Round;
use crate::model::heal::{
    AbortCause, Course, Event, Heal, HealState, Looks, Origin, Outcome, UndoReason, Unsettled,
};
use crate::model::id::HealId;
use crate::model::incident::IncidentKind;
use crate::model::time::Moment;
use crate::model::word::Status;
use crate::seam::{Changes, Login};
use crate::telemetry::metrics::HealEnd;
use crate::telemetry::redact;
use crate::verify::{self, Verdict};

/// How long one turn waits for an action to end before it looks at other requests.
const WATCH: Duration = Duration::from_millis(400);

/// Why a heal is not gone on with after a long absence.
pub(super) const AWAY: &str =
    "the daemon was away longer than a verdict may take; nothing is undone or continued alone";

/// When to take the next step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wake {
    Now,
    At(Moment),
    /// Nothing to do until something else happens.
    Never,
}

/// Takes one step of a heal.
pub(super) async fn advance(desk: &mut Desk, id: HealId) -> Result<Wake, EngineError> {
    let Some(heal) = desk.heal(id).cloned() else {
        return Ok(Wake::Never);
    };
    desk.waits.remove(&id);
    if is_frozen(desk, &heal) {
        return Ok(Wake::At(desk.now().plus(desk.app.policy.timing.look)));
    }
    let staged = heal.action.steps.iter().any(|step| step.staged().is_some());
    let login = Login::of_action(&desk.app, heal.action.identity);
    if let Some(reason) = not_there(desk, &heal).await {
        return Box::pin(unreached(desk, heal, &reason)).await;
    }
    // Boxed, so that whoever drives a desk does not carry the largest state's locals on its own stack.
    let wake = Box::pin(act_by_state(desk, heal)).await?;
    // What was brought to the target for its steps may hold secrets; it goes as soon as they are over.
    let over = desk
        .heal(id)
        .is_none_or(|heal| heal.state.is_end() || heal.state.course().is_some());
    let clears = staged && over && !desk.cleared.contains(&id);
    if clears
        && Box::pin(gate::elsewhere(desk, desk.heal(id), false))
            .await
            .is_none()
    {
        desk.cleared.insert(id);
        act::forget(&desk.world, id, &desk.app, login, false).await;
    }
    Ok(wake)
}

/// Why a heal that has begun cannot be gone on with: another machine, or nobody knows which, answers for its host. What
/// has not begun asks its guards.
async fn not_there(desk: &Desk, heal: &Heal) -> Option<String> {
    if heal.state.is_end()
        || matches!(
            heal.state,
            HealState::Admitted | HealState::Protected { .. }
        )
    {
        return None;
    }
    // A running step is only watched, and that several times a second.
    let is_watched = matches!(heal.state, HealState::Acting { .. })
        && !matches!(heal.origin, Origin::Rollback { .. })
        && !desk.found_late.contains_key(&heal.id);
    Box::pin(gate::elsewhere(desk, Some(heal), !is_watched)).await
}

/// Its machine is not there to be asked: nothing is settled, judged or undone; it is waited for as for a host that
/// cannot be seen, and then a person decides.
async fn unreached(desk: &mut Desk, heal: Heal, reason: &str) -> Result<Wake, EngineError> {
    let is_rollback = matches!(heal.origin, Origin::Rollback { .. });
    match heal.state.clone() {
        HealState::Settling { looks, .. }
        | HealState::Verifying { looks, .. }
        | HealState::Soaking { looks, .. } => blind(desk, heal, looks, reason).await,
        HealState::Acting { .. } if !is_rollback && !desk.found_late.contains_key(&heal.id) => {
            step(desk, &heal, Event::OutcomeUnknown, reason).await?;
            Ok(Wake::Now)
        }
        HealState::Acting { .. } | HealState::InDoubt { .. } if settle_is_over(desk, &heal) => {
            let reason = format!("the target could not be asked in time what happened: {reason}");
            let heal = take_back::in_doubt(desk, heal, &reason).await?;
            deadline_over(desk, &heal, reason).await
        }
        HealState::Undoing { .. } if deadline_passed(desk, &heal) => {
            deadline_over(desk, &heal, reason.to_owned()).await
        }
        HealState::Rechecking { .. } if deadline_passed(desk, &heal) => {
            tracing::warn!(heal_id = %heal.id, %reason, "the host could not be seen after an undo");
            let message = heal.message.clone();
            step(desk, &heal, Event::Rechecked, message).await?;
            Ok(Wake::Now)
        }
        HealState::Admitted
        | HealState::Protected { .. }
        | HealState::Acting { .. }
        | HealState::InDoubt { .. }
        | HealState::Undoing { .. }
        | HealState::Rechecking { .. }
        | HealState::Cured { .. }
        | HealState::NotCured { .. }
        | HealState::Kept { .. }
        | HealState::Undone { .. }
        | HealState::UndoBlocked { .. }
        | HealState::UndoFailed { .. }
        | HealState::Aborted { .. } => Ok(wait_for(desk, &heal, reason)),
    }
}

async fn act_by_state(desk: &mut Desk, heal: Heal) -> Result<Wake, EngineError> {
    match heal.state.clone() {
        HealState::Admitted => start::back_up(desk, heal).await,
        HealState::Protected { backup } => start::start(desk, heal, backup).await,
        HealState::Acting { .. } => watch(desk, heal).await,
        HealState::InDoubt { .. } => settle(desk, heal).await,
        HealState::Settling {
            course,
            since,
            looks,
        } => settling(desk, heal, course, since, looks).await,
        HealState::Verifying {
            course,
            since,
            looks,
        } => verifying(desk, heal, course, since, looks).await,
        HealState::Soaking { since, looks, .. } => soaking(desk, heal, since, looks).await,
        HealState::Undoing { course, reason } => {
            take_back::take_back(desk, heal, course, reason).await
        }
        HealState::Rechecking { .. } => take_back::recheck(desk, heal).await,
        HealState::Cured { .. }
        | HealState::NotCured { .. }
        | HealState::Kept { .. }
        | HealState::Undone { .. }
        | HealState::UndoBlocked { .. }
        | HealState::UndoFailed { .. }
        | HealState::Aborted { .. } => Ok(Wake::Never),
    }
}

/// Under a hold the running step and a running undo finish; everything else of what nobody asked for stands still.
fn is_frozen(desk: &Desk, heal: &Heal) -> bool {
    let held = desk
        .shared
        .held(&desk.app.name, &desk.app.host, &desk.now())
        .is_some();
    let by_person = matches!(heal.origin, Origin::Requested(_) | Origin::Rollback { .. });
    let finishes = matches!(
        heal.state,
        HealState::Acting { .. }
            | HealState::InDoubt { .. }
            | HealState::Undoing { .. }
            | HealState::Rechecking { .. }
    );
    held && !by_person && !finishes
}

/// A resume that asked for undo: what the hold froze after its action is taken back. The wish is forgotten only when
/// every undo has begun.
pub(super) async fn undo_asked(desk: &mut Desk) -> Result<(), EngineError> {
    let now = desk.now();
    if desk
        .shared
        .held(&desk.app.name, &desk.app.host, &now)
        .is_some()
    {
        return Ok(()); // another hold still covers it
    }
    let Some(asked) = desk.shared.undo_asked(&desk.app.name) else {
        return Ok(());
    };
    let frozen: Vec<_> = desk
        .heals
        .iter()
        .filter(|heal| {
            let by_person = matches!(heal.origin, Origin::Requested(_) | Origin::Rollback { .. });
            let acted = matches!(
                heal.state,
                HealState::Settling { .. }
                    | HealState::Verifying { .. }
                    | HealState::Soaking { .. }
            );
            acted && !by_person
        })
        .cloned()
        .collect();
    for heal in frozen {
        let reason = UndoReason::Person(asked.clone());
        step(desk, &heal, Event::FoundBad { reason }, asked.clone()).await?;
    }
    let app = desk.app.name.clone();
    desk.commit(desk.changes(&now).write(Shared::undo_begun(&app)))
        .await?;
    desk.shared.forget_undo_asked(&app);
    Ok(())
}

/// What was planned for is no longer what is there: it is given up before anything began.
pub(super) async fn target_changed(
    desk: &mut Desk,
    heal: &Heal,
    message: String,
) -> Result<Wake, EngineError> {
    let said = message.clone();
    step(desk, heal, Event::TargetChanged { message }, said).await?;
    Ok(Wake::Now)
}

/// Its time is over: a person decides.
pub(super) async fn deadline_over(
    desk: &mut Desk,
    heal: &Heal,
    reason: String,
) -> Result<Wake, EngineError> {
    let said = reason.clone();
    step(desk, heal, Event::DeadlinePassed { reason }, said).await?;
    Ok(Wake::Now)
}

/// The only way a heal's state changes: one transaction with its journal row, audit row and all that follows.
pub(super) async fn step(
    desk: &mut Desk,
    heal: &Heal,
    event: Event,
    message: impl Into<String>,
) -> Result<(), EngineError> {
    let (moved, changes) = prepare(desk, heal, event.clone(), message.into())?;
    crash::point(&format!("engine.before.{}", event.name()));
    desk.commit(changes).await?;
    crash::point(&format!("engine.after.{}", event.name()));
    told(desk, heal, &moved);
    Ok(())
}

/// The moved heal and its transaction.
pub(super) fn prepare(
    desk: &Desk,
    heal: &Heal,
    event: Event,
    message: String,
) -> Result<(Heal, Changes), EngineError> {
    let now = desk.now();
    let state = heal.state.next(event.clone(), &now)?;
    let moved = Heal {
        state,
        moved: now.clone(),
        message,
        ..heal.clone()
    };
    let detail = json!({
        "app": heal.app, "action": heal.action.name, "event": event.name(),
        "from": heal.state.name(), "to": moved.state.name(), "message": moved.message,
    });
    let changes = accounts::settle(desk, heal, &moved, desk.changes(&now), &now)
        .write(crate::seam::Write::Heal {
            heal: Box::new(moved.clone()),
            event: Some(event),
        })
        .audit("heal_moved", &format!("heal:{}", heal.id), detail);
    Ok((moved, changes))
}

/// One line for the journal, with the stable text that its message id belongs to, and one for the event stream.
pub(super) fn told(desk: &mut Desk, before: &Heal, after: &Heal) {
    macro_rules! line {
        ($level:ident, $text:literal) => {
            tracing::$level!(
                app = %after.app, host = %after.host, heal_id = %after.id, action = %after.action.name,
                risk = %after.action.risk, from = before.state.name(), state = after.state.name(),
                reason = %after.message, $text
            )
        };
    }
    match &after.state {
        HealState::Admitted
        | HealState::InDoubt { .. }
        | HealState::Verifying { .. }
        | HealState::Soaking { .. }
        | HealState::Undoing { .. }
        | HealState::Rechecking { .. } => line!(info, "heal moved"),
        HealState::Protected { .. } => line!(info, "backup verified"),
        HealState::Acting { .. } => line!(info, "action started"),
        HealState::Settling { .. } => line!(info, "action ended"),
        HealState::Cured { .. } => line!(info, "heal cured"),
        HealState::Undone { .. } => line!(warn, "heal undone"),
        HealState::UndoFailed { .. } => line!(error, "undo failed"),
        HealState::Aborted {
            cause: AbortCause::BackupFailed(_),
        } => line!(error, "backup failed"),
        HealState::NotCured { .. }
        | HealState::Kept { .. }
        | HealState::UndoBlocked { .. }
        | HealState::Aborted { .. } => line!(warn, "heal ended"),
    }
    if let Some(end) = HealEnd::of(&after.state) {
        let took = after
            .moved
            .since(&after.admitted, Duration::from_hours(168));
        desk.metrics.heal_ended(end, took);
        desk.next.remove(&after.incident);
        for linked in &after.linked {
            desk.next.remove(linked);
        }
    }
    desk.tell(
        "heal",
        format!(
            "{} {}: {}",
            after.action.name,
            after.state.name(),
            after.message
        ),
        Some(after.id),
    );
}

/// Acting: wait for the witness. Found in the store after a restart, the outcome is in doubt.
async fn watch(desk: &mut Desk, heal: Heal) -> Result<Wake, EngineError> {
    if let Origin::Rollback { .. } = heal.origin {
        return take_back::carry_out_rollback(desk, heal).await;
    }
    if desk.found_late.contains_key(&heal.id) {
        return settle(desk, heal).await;
    }
    if !desk.started_here.contains(&heal.id) {
        step(
            desk,
            &heal,
            Event::OutcomeUnknown,
            "the daemon was restarted while it ran",
        )
        .await?;
        return Ok(Wake::Now);
    }
    let login = Login::of_action(&desk.app, heal.action.identity);
    let unsettled = Unsettled {
        heal: heal.id,
        fence: heal.fence,
    };
    match act::look(&desk.world, &unsettled, &desk.app, login, WATCH).await {
        Progress::Running { .. } => Ok(Wake::Now),
        Progress::Finished(finished) => ended(desk, &heal, &finished).await,
        Progress::Interrupted => interrupted(desk, &heal).await,
        Progress::NeverRan(reason) | Progress::Unreadable(reason) | Progress::Unseen(reason) => {
            step(desk, &heal, Event::OutcomeUnknown, reason).await?;
            Ok(Wake::Now)
        }
    }
}

/// `InDoubt`: the witness settles it, and what never began never will. Nothing is run again.
async fn settle(desk: &mut Desk, heal: Heal) -> Result<Wake, EngineError> {
    if let Origin::Rollback { .. } = heal.origin {
        return take_back::carry_out_rollback(desk, heal).await;
    }
    let login = Login::of_action(&desk.app, heal.action.identity);
    let unsettled = Unsettled {
        heal: heal.id,
        fence: heal.fence,
    };
    match act::settle(&desk.world, &unsettled, &desk.app, login).await {
        Progress::Running { .. } => Ok(Wake::At(desk.now().plus(Duration::from_secs(1)))),
        Progress::Finished(finished) => ended(desk, &heal, &finished).await,
        Progress::Interrupted => interrupted(desk, &heal).await,
        Progress::NeverRan(message) => {
            step(
                desk,
                &heal,
                Event::NeverRan {
                    message: message.clone(),
                },
                message,
            )
            .await?;
            Ok(Wake::Now)
        }
        Progress::Unreadable(message) => {
            let heal = take_back::in_doubt(desk, heal, &message).await?;
            step(
                desk,
                &heal,
                Event::WitnessUnreadable {
                    message: message.clone(),
                },
                message,
            )
            .await?;
            Ok(Wake::Now)
        }
        Progress::Unseen(reason) if settle_is_over(desk, &heal) => {
            let reason = format!("the target could not be asked in time what happened: {reason}");
            let heal = take_back::in_doubt(desk, heal, &reason).await?;
            deadline_over(desk, &heal, reason).await
        }
        Progress::Unseen(reason) => Ok(wait_for(desk, &heal, &reason)),
    }
}

async fn ended(desk: &mut Desk, heal: &Heal, finished: &Finished) -> Result<Wake, EngineError> {
    // What a program said is foreign text: it goes to the database and to the audit log, which is never cleaned.
    let outcome = match act::outcome(finished) {
        Outcome::Failed(text) => Outcome::Failed(redact::hide(&text)),
        other @ (Outcome::Done | Outcome::TimedOut | Outcome::Cancelled | Outcome::Interrupted) => {
            other
        }
    };
    let message = match &outcome {
        Outcome::Done => format!(
            "{} ended after {} ms; waiting for the cure",
            heal.action.name, finished.duration_ms
        ),
        Outcome::Failed(text) => text.clone(),
        Outcome::TimedOut => format!(
            "{} was killed at its deadline, with everything it had started",
            heal.action.name
        ),
        Outcome::Cancelled => format!("{} was cancelled", heal.action.name),
        Outcome::Interrupted => format!("{} was interrupted", heal.action.name),
    };
    let changed = finished.effects > 0 || !finished.effects_complete;
    let wrote = changed && heal.action.writes_files();
    over(desk, heal, outcome, wrote, message).await
}

/// Its steps are over. What had been left alone for too long is not judged any more, and so not undone either.
async fn over(
    desk: &mut Desk,
    heal: &Heal,
    outcome: Outcome,
    wrote: bool,
    message: String,
) -> Result<Wake, EngineError> {
    if desk.found_late.remove(&heal.id).is_some() {
        let event = Event::EndedLate {
            outcome,
            wrote,
            reason: AWAY.to_owned(),
        };
        step(desk, heal, event, format!("{message}; {AWAY}")).await?;
    } else {
        step(desk, heal, Event::Ended { outcome, wrote }, message).await?;
    }
    Ok(Wake::Now)
}

/// Has the target been asked in vain for long enough? One that was found late has its time from then on.
fn settle_is_over(desk: &Desk, heal: &Heal) -> bool {
    let since = desk.found_late.get(&heal.id).unwrap_or(&heal.moved);
    desk.now().is_past(since, longest(desk, heal))
}

/// The supervisor died before it could say what changed: whatever differs from the backup in exclusive members counts.
async fn interrupted(desk: &mut Desk, heal: &Heal) -> Result<Wake, EngineError> {
    let wrote = heal.action.writes_files() && heal.state.backup().is_some();
    let message = "its supervisor died; nothing is run again".to_owned();
    over(desk, heal, Outcome::Interrupted, wrote, message).await
}

/// Settling: cheap looks, early verdicts.
async fn settling(
    desk: &mut Desk,
    heal: Heal,
    course: Course,
    since: Moment,
    looks: Looks,
) -> Result<Wake, EngineError> {
    if looks.made == 0 && course.wrote && !matches!(heal.origin, Origin::Rollback { .. }) {
        match take_back::undo_plan(desk, &heal, &course).await {
            Ok((_, plan)) if !plan.outside.is_empty() => {
                let paths: Vec<_> = plan
                    .outside
                    .iter()
                    .take(5)
                    .map(|effect| effect.path.to_string())
                    .collect();
                let text = format!(
                    "the action changed files outside its write set: {}",
                    paths.join(", ")
                );
                step(
                    desk,
                    &heal,
                    Event::FoundBad {
                        reason: UndoReason::OutsideWriteSet(text.clone()),
                    },
                    text,
                )
                .await?;
                return Ok(Wake::Now);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(heal_id = %heal.id, reason = %error, "effects could not be read yet");
            }
        }
    }
    let limit = heal.action.settle;
    let now = desk.now();
    let over = now.is_past(&since, limit + Duration::from_millis(looks.blind_ms));
    let pace = desk.app.policy.timing.look;
    match look(desk, Which::Proving(&heal.action.proves)).await {
        Err(reason) => blind(desk, heal, looks, &reason).await,
        Ok(round) if round.roots != heal.roots => keep_deployed(desk, &heal).await,
        Ok(round) => {
            let (looks, early) = verify::look(&looks, &heal.before, &heal.action.proves, &round);
            if let Some(Verdict::Worse(text)) = early {
                step(
                    desk,
                    &heal,
                    Event::FoundBad {
                        reason: UndoReason::Worse(text.clone()),
                    },
                    text,
                )
                .await?;
                return Ok(Wake::Now);
            }
            let well = looks.well >= 2;
            looked(desk, &heal, looks)?;
            if well || over {
                let Some(heal) = desk.heal(heal.id).cloned() else {
                    return Ok(Wake::Never);
                };
                let message = if well {
                    "the proving checks pass"
                } else {
                    "the settle time is over"
                };
                step(desk, &heal, Event::SettleOver, message).await?;
                return Ok(Wake::Now);
            }
            Ok(Wake::At(now.plus(pace)))
        }
    }
}

/// Verifying: a full round judges; what cannot be judged in time is kept for a person.
async fn verifying(
    desk: &mut Desk,
    heal: Heal,
    course: Course,
    since: Moment,
    looks: Looks,
) -> Result<Wake, EngineError> {
    let round = match look(desk, Which::Proving(&heal.action.proves)).await {
        Ok(round) => round,
        Err(reason) => return blind(desk, heal, looks, &reason).await,
    };
    if round.roots != heal.roots {
        return keep_deployed(desk, &heal).await;
    }
    let now = desk.now();
    let rollback = matches!(heal.origin, Origin::Rollback { .. });
    // A person who goes back wants the symptom back as well: only what a rollback proves can become worse by it.
    let before: Vec<_> = heal
        .before
        .iter()
        .filter(|(check, _)| !rollback || heal.action.proves.contains(check))
        .cloned()
        .collect();
    let asked_for = desk
        .incident(heal.incident)
        .is_some_and(|incident| incident.kind == IncidentKind::Request);
    match verify::judge(&before, &heal.action.proves, &round) {
        // Where there was no symptom, passing checks prove nothing about steps that failed.
        Verdict::Cured if asked_for && course.outcome != Outcome::Done => {
            let text = format!(
                "the checks pass, as they did before, but {}",
                failed(&course.outcome)
            );
            let event = if course.wrote {
                Event::DeadlinePassed {
                    reason: text.clone(),
                }
            } else {
                Event::FoundBad {
                    reason: UndoReason::NotCured(text.clone()),
                }
            };
            step(desk, &heal, event, text).await?;
            Ok(Wake::Now)
        }
        Verdict::Cured => {
            step(
                desk,
                &heal,
                Event::FoundWell,
                "the symptom is gone; it must stay so",
            )
            .await?;
            Ok(Wake::Now)
        }
        Verdict::NotCured(_) | Verdict::Inconclusive(_) if rollback => {
            step(
                desk,
                &heal,
                Event::FoundWell,
                "the files are as the backup says",
            )
            .await?;
            Ok(Wake::Now)
        }
        Verdict::NotCured(text) => {
            if asked_for {
                // A person's wish where there was no symptom is undone only when it made something worse.
                return deadline_over(desk, &heal, text).await;
            }
            let message = text.clone();
            step(
                desk,
                &heal,
                Event::FoundBad {
                    reason: UndoReason::NotCured(text),
                },
                message,
            )
            .await?;
            Ok(Wake::Now)
        }
        Verdict::Worse(text) => {
            let (looks, early) = verify::look(&looks, &heal.before, &heal.action.proves, &round);
            if early.is_some() || looks.down == 0 {
                let message = text.clone();
                step(
                    desk,
                    &heal,
                    Event::FoundBad {
                        reason: UndoReason::Worse(text),
                    },
                    message,
                )
                .await?;
                return Ok(Wake::Now);
            }
            looked(desk, &heal, looks)?;
            Ok(next_look(desk))
        }
        Verdict::Inconclusive(text) => {
            let deadline =
                desk.app.policy.timing.verdict_deadline + Duration::from_millis(looks.blind_ms);
            if now.is_past(&since, deadline) {
                return deadline_over(desk, &heal, text).await;
            }
            Ok(next_look(desk))
        }
    }
}

/// How steps that were not done ended.
fn failed(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Done => "nothing failed",
        Outcome::Failed(text) => text,
        Outcome::TimedOut => "its steps were killed at their deadline",
        Outcome::Cancelled => "its steps were cancelled",
        Outcome::Interrupted => "its steps were interrupted",
    }
}

/// Soaking: it must stay well.
async fn soaking(
    desk: &mut Desk,
    heal: Heal,
    since: Moment,
    looks: Looks,
) -> Result<Wake, EngineError> {
    let round = match look(desk, Which::Proving(&heal.action.proves)).await {
        Ok(round) => round,
        Err(reason) => return blind(desk, heal, looks, &reason).await,
    };
    if round.roots != heal.roots {
        return keep_deployed(desk, &heal).await;
    }
    let now = desk.now();
    let soak = desk.app.policy.timing.soak + Duration::from_millis(looks.blind_ms);
    let (looks, early) = verify::look(&looks, &heal.before, &heal.action.proves, &round);
    if let Some(Verdict::Worse(text)) = early {
        step(
            desk,
            &heal,
            Event::FoundBad {
                reason: UndoReason::Worse(text.clone()),
            },
            text,
        )
        .await?;
        return Ok(Wake::Now);
    }
    let symptom_back = heal
        .action
        .proves
        .iter()
        .filter(|check| heal.checks.contains(check))
        .find(|check| round.status(check).is_bad());
    if let (Some(check), false) = (symptom_back, matches!(heal.origin, Origin::Rollback { .. })) {
        let text = format!(
            "{check} is {} again before the soak time was over",
            round.status(check)
        );
        step(
            desk,
            &heal,
            Event::FoundBad {
                reason: UndoReason::NotLasting(text.clone()),
            },
            text,
        )
        .await?;
        return Ok(Wake::Now);
    }
    let sure = heal
        .action
        .proves
        .iter()
        .all(|check| round.status(check) != Status::Error);
    let down = looks.down;
    looked(desk, &heal, looks)?;
    if !now.is_past(&since, soak) {
        let left = now.remaining(&since, soak);
        return Ok(Wake::At(now.plus(left.min(desk.app.policy.timing.look))));
    }
    let Some(heal) = desk.heal(heal.id).cloned() else {
        return Ok(Wake::Never);
    };
    if sure && down == 0 {
        step(
            desk,
            &heal,
            Event::SoakOver,
            "cured: verified, and it stayed well",
        )
        .await?;
        return Ok(Wake::Now);
    }
    if now.is_past(&since, soak + desk.app.policy.timing.verdict_deadline) {
        let reason = "it could not be seen that it stayed well".to_owned();
        return deadline_over(desk, &heal, reason).await;
    }
    Ok(next_look(desk))
}

/// A look that could not see: its time does not count, up to the verdict deadline.
async fn blind(
    desk: &mut Desk,
    heal: Heal,
    looks: Looks,
    reason: &str,
) -> Result<Wake, EngineError> {
    if deadline_passed(desk, &heal) {
        let reason = format!("the host could not be seen in time: {reason}");
        return deadline_over(desk, &heal, reason).await;
    }
    let wake = wait_for(desk, &heal, reason);
    let pace = u64::try_from(desk.app.policy.timing.look.as_millis()).unwrap_or(u64::MAX);
    looked(
        desk,
        &heal,
        Looks {
            blind_ms: looks.blind_ms.saturating_add(pace),
            ..looks
        },
    )?;
    Ok(wake)
}

/// Looks are counted in memory only: after a restart they begin again, with a fresh round.
fn looked(desk: &mut Desk, heal: &Heal, looks: Looks) -> Result<(), EngineError> {
    let state = heal.state.next(Event::Looked { looks }, &desk.now())?;
    if let Some(known) = desk.heals.iter_mut().find(|known| known.id == heal.id) {
        known.state = state;
    }
    Ok(())
}

/// A round for this heal; what it saw also stands on the board.
pub(super) async fn look(desk: &mut Desk, which: Which<'_>) -> Result<Round, String> {
    let (round, _) = super::look::round(desk, which)
        .await
        .map_err(|why| why.reason)?;
    desk.note_roots(&round);
    desk.note_results(&round, desk.now());
    Ok(round)
}

/// The paths lead somewhere else than when it was admitted: what the checks say now is about other files, and so would
/// an undo be. It is left as it is, for a person.
async fn keep_deployed(desk: &mut Desk, heal: &Heal) -> Result<Wake, EngineError> {
    let reason =
        "the application's paths lead somewhere else now; this is a deploy, and nothing is judged or undone alone"
            .to_owned();
    let event = Event::DeadlinePassed {
        reason: reason.clone(),
    };
    step(desk, heal, event, reason).await?;
    Ok(Wake::Now)
}

/// Was the last arrow longer ago than a verdict may take?
pub(super) fn deadline_passed(desk: &Desk, heal: &Heal) -> bool {
    desk.now().is_past(&heal.moved, longest(desk, heal))
}

/// The longest time that a heal may rest in its state: the verdict deadline, beyond the time the state itself wants.
pub(super) fn longest(desk: &Desk, heal: &Heal) -> Duration {
    let timing = &desk.app.policy.timing;
    if matches!(heal.state, HealState::Soaking { .. }) {
        timing.soak + timing.verdict_deadline
    } else if matches!(heal.state, HealState::Settling { .. }) {
        heal.action.settle + timing.verdict_deadline
    } else {
        timing.verdict_deadline
    }
}

/// It could not go on, and is tried again; people are told why.
pub(super) fn wait_for(desk: &mut Desk, heal: &Heal, why: &str) -> Wake {
    let last = heal.moved.plus(longest(desk, heal)).to_text();
    desk.waits
        .insert(heal.id, format!("{why}; it is tried again until {last}"));
    next_look(desk)
}

pub(super) fn next_look(desk: &Desk) -> Wake {
    Wake::At(desk.now().plus(desk.app.policy.timing.look))
}
