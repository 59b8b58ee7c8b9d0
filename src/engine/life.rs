//! One step of one heal: what each state does, and which event that gives.
//!
//! Every arrow is one transaction ([`step`]), with everything that follows from it ([`super::accounts`]). Between two
//! arrows there is at most one effect on the host, so a crash anywhere leaves a state that recovery can go on from.

use std::time::Duration;

use healer_agent::crash;
use healer_agent::protocol::Finished;
use healer_agent::tree::Effect;
use serde_json::json;

use super::desk::{Desk, EngineError, Look};
use super::look::Which;
use super::{accounts, gate};
use crate::act::{self, Progress, Started};
use crate::guard::freshness::FRESH;
use crate::model::check::Round;
use crate::model::heal::{
    AbortCause, Course, Event, Heal, HealState, Looks, Origin, Outcome, UndoReason, UndoReport,
    Unsettled,
};
use crate::model::id::{BackupId, HealId};
use crate::model::incident::IncidentKind;
use crate::model::reason::{Denied, GuardName};
use crate::model::time::Moment;
use crate::model::word::Status;
use crate::protect::{self, ProtectError, VerifiedBackup};
use crate::record::intent::{Protection, intend};
use crate::seam::{Changes, Login, StoreError};
use crate::telemetry::metrics::HealEnd;
use crate::telemetry::redact;
use crate::undo;
use crate::verify::{self, Verdict};

/// A backup that is found stale this often means that the site does not keep still.
const STALE_BACKUPS_MAX: u32 = 3;

/// How long one turn waits for an action to end before it looks at other requests.
const WATCH: Duration = Duration::from_millis(400);

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
    if is_frozen(desk, &heal) {
        return Ok(Wake::At(desk.now().plus(desk.app.policy.timing.look)));
    }
    match heal.state.clone() {
        HealState::Admitted => back_up(desk, heal).await,
        HealState::Protected { backup } => start(desk, heal, backup).await,
        HealState::Acting { .. } => watch(desk, heal).await,
        HealState::InDoubt { .. } => settle(desk, heal).await,
        HealState::Settling {
            course,
            since,
            looks,
        } => settling(desk, heal, course, since, looks).await,
        HealState::Verifying { since, looks, .. } => verifying(desk, heal, since, looks).await,
        HealState::Soaking { since, looks, .. } => soaking(desk, heal, since, looks).await,
        HealState::Undoing { course, reason } => take_back(desk, heal, course, reason).await,
        HealState::Rechecking { .. } => recheck(desk, heal).await,
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

/// A resume that asked for undo: what the hold froze after its action is taken back.
pub(super) async fn undo_asked(desk: &mut Desk) -> Result<(), EngineError> {
    let now = desk.now();
    if desk
        .shared
        .held(&desk.app.name, &desk.app.host, &now)
        .is_some()
    {
        return Ok(()); // another hold still covers it
    }
    let Some(asked) = desk.shared.take_undo_asked(&desk.app.name) else {
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
    Ok(())
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
fn prepare(
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
fn told(desk: &mut Desk, before: &Heal, after: &Heal) {
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

/// Admitted: a verified backup of what the action may write.
async fn back_up(desk: &mut Desk, heal: Heal) -> Result<Wake, EngineError> {
    let base_wanted = heal.action.risk >= crate::model::word::Risk::High;
    if !heal.action.writes_files() && !base_wanted {
        step(
            desk,
            &heal,
            Event::BackupVerified { backup: None },
            "the action writes no files",
        )
        .await?;
        return Ok(Wake::Now);
    }
    let request = protect::Protect {
        id: BackupId::from_raw(desk.world.new_id()),
        kind: match heal.origin {
            Origin::Rollback { .. } => crate::model::backup::BackupKind::BeforeRollback,
            Origin::Unattended | Origin::Requested(_) | Origin::Approved(_) => {
                crate::model::backup::BackupKind::Heal
            }
        },
        app: &desk.app,
        login: Login::of_action(&desk.app, heal.action.identity),
        heal: Some(heal.id),
        action: Some(heal.action.name.clone()),
        members: heal.action.writes.clone(),
        base: desk.stack.base_set.clone(),
        limits: protect::Limits::new(&desk.app.policy.backup, heal.action.estimate_bytes),
    };
    crash::point("engine.protect");
    match protect::protect(&desk.world, &request).await {
        Ok(backup) => {
            let (moved, changes) = prepare(
                desk,
                &heal,
                Event::BackupVerified {
                    backup: Some(backup.id()),
                },
                format!("backup {} is verified", backup.id()),
            )?;
            let changes = changes
                .write(crate::seam::Write::Backup(Box::new(backup.row().clone())))
                .write(crate::seam::Write::Pin {
                    backup: backup.id(),
                    by: format!("heal:{}", heal.id),
                    pinned: true,
                });
            desk.commit(changes).await?;
            crash::point("engine.after.BackupVerified");
            told(desk, &heal, &moved);
            Ok(Wake::Now)
        }
        Err(ProtectError::Host(_)) if !deadline_passed(desk, &heal) => Ok(next_look(desk)),
        Err(error) => {
            let message = error.to_string();
            step(
                desk,
                &heal,
                Event::BackupFailed {
                    message: message.clone(),
                },
                message,
            )
            .await?;
            Ok(Wake::Now)
        }
    }
}

/// Protected: look once more, ask every guard, write the intent, start.
async fn start(desk: &mut Desk, heal: Heal, backup: Option<BackupId>) -> Result<Wake, EngineError> {
    let asked: Vec<_> = heal
        .checks
        .iter()
        .chain(&heal.action.proves)
        .cloned()
        .collect();
    let round = match look(desk, Which::Proving(&asked)).await {
        Ok(round) => round,
        Err(reason) if deadline_passed(desk, &heal) => {
            let event = Event::Denied {
                guard: GuardName::Freshness,
                message: reason.clone(),
            };
            step(desk, &heal, event, reason).await?;
            return Ok(Wake::Now);
        }
        Err(_) => return Ok(next_look(desk)),
    };
    let seen = desk.now();
    if round.roots != heal.roots {
        let message =
            "the application's paths lead somewhere else now; this is a deploy".to_owned();
        step(
            desk,
            &heal,
            Event::TargetChanged {
                message: message.clone(),
            },
            message,
        )
        .await?;
        return Ok(Wake::Now);
    }
    let is_request = desk
        .incident(heal.incident)
        .is_some_and(|incident| incident.kind == IncidentKind::Request);
    if !is_request
        && heal
            .checks
            .iter()
            .all(|check| round.status(check) == Status::Pass)
    {
        step(
            desk,
            &heal,
            Event::SymptomGone,
            "the symptom was gone when looked at again",
        )
        .await?;
        return Ok(Wake::Now);
    }
    if !matches!(heal.origin, Origin::Rollback { .. })
        && !gate::still_resolves(desk, &heal, &round).await
    {
        let message = "what the action would do is no longer what was planned".to_owned();
        step(
            desk,
            &heal,
            Event::TargetChanged {
                message: message.clone(),
            },
            message,
        )
        .await?;
        return Ok(Wake::Now);
    }
    let Some(protection) = reprove(desk, &heal, backup).await? else {
        return Ok(Wake::Now);
    };
    // Reading a large backup back takes minutes: what is acted on must have been seen after it.
    let (round, seen) = if desk.now().is_past(&seen, FRESH / 2) {
        let Ok(again) = look(desk, Which::Proving(&asked)).await else {
            return Ok(next_look(desk));
        };
        let seen = desk.now();
        let rollback = matches!(heal.origin, Origin::Rollback { .. });
        let same = again.roots == heal.roots
            && (rollback || gate::still_resolves(desk, &heal, &again).await);
        if !same {
            return Ok(next_look(desk)); // the next start begins with a look, and says why it ends
        }
        (again, seen)
    } else {
        (round, seen)
    };
    let facts = gate::Facts::gather(desk, &heal, round, seen).await;
    let rows = desk.world.store.guard_rows(&heal.app, &heal.host).await?;
    let permit = match facts.ask(&rows) {
        Ok(permit) => permit,
        Err(denied) => return denied_at_start(desk, &heal, denied).await,
    };
    let login = Login::of_action(&desk.app, heal.action.identity);
    let digests: Vec<_> = heal
        .action
        .steps
        .iter()
        .filter_map(healer_agent::step::Step::staged)
        .collect();
    if let Err(error) = act::stage(&desk.world, &desk.app, login, heal.id, &digests).await {
        let message = format!("a content could not be brought to the target: {error}");
        step(
            desk,
            &heal,
            Event::TargetChanged {
                message: message.clone(),
            },
            message,
        )
        .await?;
        return Ok(Wake::Now);
    }
    let (moved, changes) = prepare(
        desk,
        &heal,
        Event::IntentWritten,
        format!("{} is running", heal.action.name),
    )?;
    let written = changes.writes.clone();
    crash::point("engine.before.intent");
    let intent = match intend(
        &desk.world,
        permit,
        protection,
        &heal,
        changes,
        facts.into_gate(),
    )
    .await
    {
        Ok(intent) => intent,
        Err(StoreError::Denied(denied)) => return denied_at_start(desk, &heal, denied).await,
        Err(error) => return Err(error.into()),
    };
    desk.remember_all(written);
    crash::point("engine.after.intent");
    told(desk, &heal, &moved);
    desk.started_here.push(heal.id);
    if let Origin::Rollback { .. } = heal.origin {
        drop(intent); // the way back is carried out by `watch`, which may repeat it: twice is once
        return Ok(Wake::Now);
    }
    let Some(acting) = desk.heal(heal.id).cloned() else {
        return Ok(Wake::Never);
    };
    match act::start(&desk.world, intent, &desk.app, &acting).await {
        Started::Running => {
            crash::point("engine.after.start");
            Ok(Wake::Now)
        }
        Started::NeverRan(message) => {
            step(
                desk,
                &acting,
                Event::NeverRan {
                    message: message.clone(),
                },
                message,
            )
            .await?;
            Ok(Wake::Now)
        }
        Started::Unknown(reason) => {
            step(desk, &acting, Event::OutcomeUnknown, reason).await?;
            Ok(Wake::Now)
        }
    }
}

/// The backup must still be one, and of what is there now. `None`: the heal has moved.
async fn reprove(
    desk: &mut Desk,
    heal: &Heal,
    backup: Option<BackupId>,
) -> Result<Option<Protection>, EngineError> {
    let Some(id) = backup else {
        return Ok(Some(Protection::NothingToCopy));
    };
    let login = Login::of_action(&desk.app, heal.action.identity);
    // After a restart the proof is earned again from the vault; a row in the store proves nothing.
    let proof: Result<VerifiedBackup, ProtectError> =
        protect::reverify(&desk.world, id, &heal.action.writes).await;
    let same = match &proof {
        Ok(proof) => protect::still_the_same(&desk.world, proof, &desk.app, login).await,
        Err(_) => Ok(false),
    };
    match (proof, same) {
        (Ok(proof), Ok(true)) => Ok(Some(Protection::Backup(Box::new(proof)))),
        (_, Err(error)) if deadline_passed(desk, heal) => {
            let message = error.to_string();
            step(
                desk,
                heal,
                Event::TargetChanged {
                    message: message.clone(),
                },
                message,
            )
            .await?;
            Ok(None)
        }
        (Ok(_) | Err(_), Ok(_) | Err(_)) => {
            let times = desk.stale_backups.entry(heal.id).or_insert(0);
            *times += 1;
            if *times >= STALE_BACKUPS_MAX {
                let message = "the files kept changing while they were backed up".to_owned();
                step(
                    desk,
                    heal,
                    Event::TargetChanged {
                        message: message.clone(),
                    },
                    message,
                )
                .await?;
            } else {
                step(
                    desk,
                    heal,
                    Event::BackupStale,
                    "the files changed since the backup",
                )
                .await?;
            }
            Ok(None)
        }
    }
}

/// A lease or a hold is waited for; any other denial ends the heal before it acted.
async fn denied_at_start(
    desk: &mut Desk,
    heal: &Heal,
    denied: Denied,
) -> Result<Wake, EngineError> {
    let only_waits = denied
        .0
        .iter()
        .all(|denial| matches!(denial.guard, GuardName::Lease | GuardName::Hold));
    if only_waits && !heal.origin.is_unattended() && !deadline_passed(desk, heal) {
        return Ok(next_look(desk));
    }
    let message = denied.shown().to_owned();
    step(
        desk,
        heal,
        Event::Denied {
            guard: denied.guard(),
            message: message.clone(),
        },
        message,
    )
    .await?;
    Ok(Wake::Now)
}

/// Acting: wait for the witness. Found in the store after a restart, the outcome is in doubt.
async fn watch(desk: &mut Desk, heal: Heal) -> Result<Wake, EngineError> {
    if let Origin::Rollback { .. } = heal.origin {
        return carry_out_rollback(desk, heal).await;
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
        return carry_out_rollback(desk, heal).await;
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
        Progress::Unseen(reason) if deadline_passed(desk, &heal) => {
            let reason = format!("the target could not be asked in time what happened: {reason}");
            step(
                desk,
                &heal,
                Event::DeadlinePassed {
                    reason: reason.clone(),
                },
                reason,
            )
            .await?;
            Ok(Wake::Now)
        }
        Progress::Unseen(_) => Ok(next_look(desk)),
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
    step(desk, heal, Event::Ended { outcome, wrote }, message).await?;
    Ok(Wake::Now)
}

/// The supervisor died before it could say what changed: whatever differs from the backup in exclusive members counts.
async fn interrupted(desk: &mut Desk, heal: &Heal) -> Result<Wake, EngineError> {
    let wrote = heal.action.writes_files() && heal.state.backup().is_some();
    let event = Event::Ended {
        outcome: Outcome::Interrupted,
        wrote,
    };
    step(
        desk,
        heal,
        event,
        "its supervisor died; nothing is run again, the checks will tell",
    )
    .await?;
    Ok(Wake::Now)
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
        match undo_plan(desk, &heal, &course).await {
            Ok(plan) if !plan.outside.is_empty() => {
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
    match verify::judge(&before, &heal.action.proves, &round) {
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
            let asked_for = desk
                .incident(heal.incident)
                .is_some_and(|incident| incident.kind == IncidentKind::Request);
            if asked_for {
                // A person's wish where there was no symptom is undone only when it made something worse.
                step(
                    desk,
                    &heal,
                    Event::DeadlinePassed {
                        reason: text.clone(),
                    },
                    text,
                )
                .await?;
                return Ok(Wake::Now);
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
                step(
                    desk,
                    &heal,
                    Event::DeadlinePassed {
                        reason: text.clone(),
                    },
                    text,
                )
                .await?;
                return Ok(Wake::Now);
            }
            Ok(next_look(desk))
        }
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
        step(
            desk,
            &heal,
            Event::DeadlinePassed {
                reason: reason.clone(),
            },
            reason,
        )
        .await?;
        return Ok(Wake::Now);
    }
    Ok(next_look(desk))
}

/// Undoing: take back what the action changed, and only that.
async fn take_back(
    desk: &mut Desk,
    heal: Heal,
    course: Course,
    reason: UndoReason,
) -> Result<Wake, EngineError> {
    let plan = match undo_plan(desk, &heal, &course).await {
        Ok(plan) => plan,
        Err(text) if deadline_passed(desk, &heal) => {
            let why = format!("it is not known what to take back: {text}");
            step(
                desk,
                &heal,
                Event::DeadlinePassed {
                    reason: why.clone(),
                },
                why,
            )
            .await?;
            return Ok(Wake::Now);
        }
        Err(_) => return Ok(next_look(desk)),
    };
    let login = Login::of_action(&desk.app, heal.action.identity);
    crash::point("engine.before.undo");
    let report = match protect::undo_on_host(&desk.world, &desk.app, login, heal.id, &plan).await {
        Ok(undone) => keep_captured(desk, undone).await?,
        // Never blind: a host that cannot be seen is waited for. Twice is once, so it may be repeated.
        Err(error) if deadline_passed(desk, &heal) => {
            let why = error.to_string();
            step(
                desk,
                &heal,
                Event::DeadlinePassed {
                    reason: why.clone(),
                },
                why,
            )
            .await?;
            return Ok(Wake::Now);
        }
        Err(_) => return Ok(next_look(desk)),
    };
    crash::point("engine.after.undo");
    let message = undo_message(&report, &reason);
    step(desk, &heal, Event::UndoEnded { report }, message).await?;
    Ok(Wake::Now)
}

fn undo_message(report: &UndoReport, reason: &UndoReason) -> String {
    let mut text = format!(
        "{}; {} paths are as before",
        reason.text(),
        report.restored + report.already
    );
    for (list, word) in [
        (&report.kept, "kept, touched by others since"),
        (&report.failed, "failed"),
        (&report.blocked, "unclear"),
    ] {
        if !list.is_empty() {
            text.extend([", ", &list.len().to_string(), " ", word]);
        }
    }
    text
}

/// What somebody else wrote since, and was therefore left, is in the vault too; its row is stored.
async fn keep_captured(
    desk: &mut Desk,
    undone: protect::Undone,
) -> Result<UndoReport, EngineError> {
    if let Some(captured) = undone.captured {
        let now = desk.now();
        let changes = desk
            .changes(&now)
            .write(crate::seam::Write::Backup(Box::new(captured.row().clone())))
            .audit(
                "kept_files_captured",
                &desk.object(),
                json!({"backup": captured.id()}),
            );
        desk.commit(changes).await?;
    }
    Ok(undone.report)
}

/// Rechecking: a full diagnosis after an undo, whatever it finds.
async fn recheck(desk: &mut Desk, heal: Heal) -> Result<Wake, EngineError> {
    if let Err(reason) = look(desk, Which::All).await {
        if !deadline_passed(desk, &heal) {
            return Ok(next_look(desk));
        }
        tracing::warn!(heal_id = %heal.id, %reason, "the host could not be seen after an undo");
    }
    let message = heal.message.clone();
    step(desk, &heal, Event::Rechecked, message).await?;
    Ok(Wake::Now)
}

/// A person's rollback: exact, three-way against the present that was just backed up; repeating it changes nothing.
async fn carry_out_rollback(desk: &mut Desk, heal: Heal) -> Result<Wake, EngineError> {
    let plan = match super::rollback::plan_of(desk, &heal).await {
        Ok(plan) => plan,
        Err(reason) if deadline_passed(desk, &heal) => {
            let heal = in_doubt(desk, heal, &reason).await?;
            step(
                desk,
                &heal,
                Event::DeadlinePassed {
                    reason: reason.clone(),
                },
                reason,
            )
            .await?;
            return Ok(Wake::Now);
        }
        Err(_) => return Ok(next_look(desk)),
    };
    let login = Login::of_action(&desk.app, heal.action.identity);
    match protect::undo_on_host(&desk.world, &desk.app, login, heal.id, &plan).await {
        Ok(undone) => {
            let report = keep_captured(desk, undone).await?;
            let outcome = if report.failed.is_empty() {
                Outcome::Done
            } else {
                Outcome::Failed(format!(
                    "{} paths could not be put back: {}",
                    report.failed.len(),
                    report.failed.join("; ")
                ))
            };
            let message = format!(
                "{} paths put back, {} kept",
                report.restored,
                report.kept.len()
            );
            step(
                desk,
                &heal,
                Event::Ended {
                    outcome,
                    wrote: true,
                },
                message,
            )
            .await?;
            Ok(Wake::Now)
        }
        Err(error) if deadline_passed(desk, &heal) => {
            let reason = error.to_string();
            let heal = in_doubt(desk, heal, &reason).await?;
            step(
                desk,
                &heal,
                Event::DeadlinePassed {
                    reason: reason.clone(),
                },
                reason,
            )
            .await?;
            Ok(Wake::Now)
        }
        Err(_) => Ok(next_look(desk)),
    }
}

async fn in_doubt(desk: &mut Desk, heal: Heal, reason: &str) -> Result<Heal, EngineError> {
    if matches!(heal.state, HealState::Acting { .. }) {
        step(desk, &heal, Event::OutcomeUnknown, reason).await?;
    }
    Ok(desk.heal(heal.id).cloned().unwrap_or(heal))
}

/// What undo would do: the way back from the recorded effects, or, when the supervisor died, from a walk.
async fn undo_plan(desk: &Desk, heal: &Heal, course: &Course) -> Result<undo::UndoPlan, String> {
    if let Origin::Rollback { .. } = heal.origin {
        return super::rollback::way_back(desk, heal).await;
    }
    let login = Login::of_action(&desk.app, heal.action.identity);
    let backup = course.backup.ok_or("there is no backup")?;
    let manifest = desk
        .world
        .vault
        .manifest(backup)
        .await
        .map_err(|error| error.to_string())?;
    let unsettled = Unsettled {
        heal: heal.id,
        fence: heal.fence,
    };
    let confined = match act::look(&desk.world, &unsettled, &desk.app, login, Duration::ZERO).await
    {
        // What the supervisor could not record whole is told by a walk, as if it had died.
        Progress::Finished(finished) if finished.effects_complete => Some(finished.confined),
        Progress::Finished(_) | Progress::Interrupted => None,
        Progress::Running { .. } => return Err("its processes are still there".to_owned()),
        Progress::NeverRan(reason) | Progress::Unreadable(reason) | Progress::Unseen(reason) => {
            return Err(reason);
        }
    };
    let effects: Vec<Effect> = if confined.is_some() {
        act::effects(&desk.world, heal.id, &desk.app, login)
            .await
            .map_err(|error| error.to_string())?
    } else {
        let recorded = act::effects_so_far(&desk.world, heal.id, &desk.app, login)
            .await
            .map_err(|error| error.to_string())?;
        let found = protect::recovery_effects(
            &desk.world,
            &desk.app,
            login,
            &manifest,
            &heal.action.writes,
        )
        .await
        .map_err(|error| error.to_string())?;
        undo::after_death(recorded, found, &heal.action.writes)
    };
    Ok(undo::plan(
        &manifest,
        &heal.action.writes,
        &effects,
        &desk.app.target.volatile,
        confined.unwrap_or(true),
    ))
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
        step(
            desk,
            &heal,
            Event::DeadlinePassed {
                reason: reason.clone(),
            },
            reason,
        )
        .await?;
        return Ok(Wake::Now);
    }
    let pace = u64::try_from(desk.app.policy.timing.look.as_millis()).unwrap_or(u64::MAX);
    looked(
        desk,
        &heal,
        Looks {
            blind_ms: looks.blind_ms.saturating_add(pace),
            ..looks
        },
    )?;
    Ok(next_look(desk))
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
async fn look(desk: &mut Desk, which: Which<'_>) -> Result<Round, String> {
    let (round, _) = super::look::round(desk, which).await?;
    desk.note_roots(&round);
    desk.look = Some(Look {
        round: merged(desk.look.take(), &round),
        at: desk.now(),
    });
    Ok(round)
}

/// A round of some checks leaves the latest results of the others.
pub(super) fn merged(last: Option<Look>, round: &Round) -> Round {
    let mut results = round.results.clone();
    if let Some(last) = last {
        results.extend(
            last.round
                .results
                .into_iter()
                .filter(|old| round.result(&old.check).is_none()),
        );
    }
    Round {
        results,
        roots: round.roots.clone(),
    }
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
fn deadline_passed(desk: &Desk, heal: &Heal) -> bool {
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

fn next_look(desk: &Desk) -> Wake {
    Wake::At(desk.now().plus(desk.app.policy.timing.look))
}
