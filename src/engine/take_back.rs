//! The way back: undoing what an action changed, carrying out a person's rollback, and looking again afterwards.
//!
//! Both may be repeated after a crash: twice is once. Neither is done blind; a host that cannot be seen is waited for.

use std::time::Duration;

use healer_agent::crash;
use healer_agent::tree::Effect;
use serde_json::json;

use super::desk::{Desk, EngineError};
use super::life::{AWAY, Wake, deadline_over, deadline_passed, look, step, wait_for};
use super::look::Which;
use crate::act::{self, Progress};
use crate::model::counted;
use crate::model::heal::{
    Course, Event, Heal, HealState, Origin, Outcome, UndoReason, UndoReport, Unsettled,
};
use crate::model::id::HealId;
use crate::protect;
use crate::seam::Login;
use crate::undo;

/// Undoing: take back what the action changed, and only that.
pub(super) async fn take_back(
    desk: &mut Desk,
    heal: Heal,
    course: Course,
    reason: UndoReason,
) -> Result<Wake, EngineError> {
    let (carrier, plan) = match undo_plan(desk, &heal, &course).await {
        Ok(found) => found,
        Err(text) if deadline_passed(desk, &heal) => {
            let why = format!("it is not known what to take back: {text}");
            return deadline_over(desk, &heal, why).await;
        }
        Err(text) => return Ok(wait_for(desk, &heal, &text)),
    };
    let login = Login::of_action(&desk.app, heal.action.identity);
    crash::point("engine.before.undo");
    let report = match protect::undo_on_host(&desk.world, &desk.app, login, carrier, &plan).await {
        Ok(undone) => keep_captured(desk, undone).await?,
        // Never blind: a host that cannot be seen is waited for. Twice is once, so it may be repeated.
        Err(error) if deadline_passed(desk, &heal) => {
            let why = error.to_string();
            return deadline_over(desk, &heal, why).await;
        }
        Err(error) => return Ok(wait_for(desk, &heal, &error.to_string())),
    };
    crash::point("engine.after.undo");
    let message = undo_message(&report, &reason);
    step(desk, &heal, Event::UndoEnded { report }, message).await?;
    Ok(Wake::Now)
}

fn undo_message(report: &UndoReport, reason: &UndoReason) -> String {
    let mut text = format!(
        "{}; {} as before",
        reason.text(),
        counted(report.restored + report.already, "path")
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
pub(super) async fn recheck(desk: &mut Desk, heal: Heal) -> Result<Wake, EngineError> {
    if let Err(reason) = look(desk, Which::All).await {
        if !deadline_passed(desk, &heal) {
            return Ok(wait_for(desk, &heal, &reason));
        }
        tracing::warn!(heal_id = %heal.id, %reason, "the host could not be seen after an undo");
    }
    let message = heal.message.clone();
    step(desk, &heal, Event::Rechecked, message).await?;
    Ok(Wake::Now)
}

/// A person's rollback: exact, three-way against the present that was just backed up; repeating it changes nothing.
pub(super) async fn carry_out_rollback(desk: &mut Desk, heal: Heal) -> Result<Wake, EngineError> {
    if desk.found_late.remove(&heal.id).is_some() {
        let heal = in_doubt(desk, heal, AWAY).await?;
        return deadline_over(desk, &heal, AWAY.to_owned()).await;
    }
    let (carrier, plan) = match super::rollback::plan_of(desk, &heal).await {
        Ok(found) => found,
        Err(reason) if deadline_passed(desk, &heal) => {
            let heal = in_doubt(desk, heal, &reason).await?;
            return deadline_over(desk, &heal, reason).await;
        }
        Err(reason) => return Ok(wait_for(desk, &heal, &reason)),
    };
    let login = Login::of_action(&desk.app, heal.action.identity);
    match protect::undo_on_host(&desk.world, &desk.app, login, carrier, &plan).await {
        Ok(undone) => {
            let report = keep_captured(desk, undone).await?;
            let outcome = if report.failed.is_empty() {
                Outcome::Done
            } else {
                Outcome::Failed(format!(
                    "{} could not be put back: {}",
                    counted(report.failed.len() as u64, "path"),
                    report.failed.join("; ")
                ))
            };
            if outcome == Outcome::Done {
                let heals = super::rollback::cures_behind(desk, &heal, &plan).await?;
                desk.disowned.insert(heal.id, heals);
            }
            let message = format!(
                "{} put back, {} kept",
                counted(report.restored, "path"),
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
            deadline_over(desk, &heal, reason).await
        }
        Err(error) => Ok(wait_for(desk, &heal, &error.to_string())),
    }
}

/// Whatever comes next, the outcome is in doubt from here on.
pub(super) async fn in_doubt(
    desk: &mut Desk,
    heal: Heal,
    reason: &str,
) -> Result<Heal, EngineError> {
    if matches!(heal.state, HealState::Acting { .. }) {
        step(desk, &heal, Event::OutcomeUnknown, reason).await?;
    }
    Ok(desk.heal(heal.id).cloned().unwrap_or(heal))
}

/// What undo would do, and in which heal's name: the way back from the recorded effects, or, when the supervisor died,
/// from a walk.
pub(super) async fn undo_plan(
    desk: &Desk,
    heal: &Heal,
    course: &Course,
) -> Result<(HealId, undo::UndoPlan), String> {
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
    let plan = undo::plan(
        &manifest,
        &heal.action.writes,
        &effects,
        &desk.app.target.volatile,
        confined.unwrap_or(true),
    );
    Ok((heal.id, plan))
}
