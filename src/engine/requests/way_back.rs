//! A person's rollback, and what becomes of a heal that waits for a person.

use super::super::admit::{self, Ask};
use super::super::desk::{Desk, EngineError};
use super::super::handle::RollbackRequest;
use super::super::{life, rollback};
use super::heal::{close_request, incident_for};
use super::{Done, code_of, conflict, diagnose};
use crate::model::approval::Person;
use crate::model::heal::{Event, Heal, Origin};
use crate::model::id::HealId;
use crate::model::word::MatchKind;

pub(super) async fn roll_back(
    desk: &mut Desk,
    request: RollbackRequest,
    person: Person,
) -> Done<Heal> {
    if admit::is_busy(desk) {
        return Err(conflict(
            "busy",
            format!("Another heal is working on {}.", desk.app.name),
            admit::busy_until(desk),
        ));
    }
    diagnose(desk).await?;
    let (plan, writes, identity) =
        rollback::preview(desk, request.backup, request.exact, &request.only).await?;
    if plan.preview.digest != request.digest {
        return Err(conflict(
            "stale",
            "The files are no longer as the preview showed them.",
            format!(
                "Look again: `healerctl backups {} rollback {}`.",
                desk.app.name, request.backup
            ),
        ));
    }
    if plan.plan.items.is_empty() {
        return Err(if plan.preview.blocked.is_empty() {
            conflict(
                "nothing_differs",
                format!(
                    "Nothing differs from backup {}, so nothing was done.",
                    request.backup
                ),
                "There is nothing to do.",
            )
        } else {
            conflict(
                "nothing_restorable",
                format!(
                    "What differs from backup {} cannot be brought back.",
                    request.backup
                ),
                format!(
                    "`healerctl backups {} rollback {}` shows each path and why.",
                    desk.app.name, request.backup
                ),
            )
        });
    }
    let action = rollback::action(desk, &request, writes, identity);
    let checks = action.proves.clone();
    let incident = incident_for(desk, &[], &request.reason, &person).await?;
    let origin = Origin::Rollback {
        person,
        backup: request.backup,
        exact: request.exact,
        only: request.only,
        digest: Some(request.digest),
    };
    let ask = Ask {
        origin,
        action,
        matched: MatchKind::Declared,
        checks,
    };
    match admit::admit(desk, ask, &incident).await? {
        Ok(heal) => Ok(heal),
        Err(denied) => {
            close_request(desk, &incident).await?;
            Err(conflict(
                code_of(denied.guard()),
                denied.shown().to_owned(),
                "`healerctl status` shows what is in the way.",
            ))
        }
    }
}

pub(super) async fn decide(
    desk: &mut Desk,
    id: HealId,
    undo: bool,
    reason: String,
    person: Person,
) -> Done<Heal> {
    let Some(heal) = desk.heal(id).cloned() else {
        return Err(conflict(
            "not_waiting",
            format!("Heal {id} does not wait for a decision."),
            "`healerctl heals` shows those that do.",
        ));
    };
    let event = Event::Decided {
        undo,
        person: person.clone(),
        reason: reason.clone(),
    };
    let word = if undo { "undo" } else { "keep" };
    match life::step(
        desk,
        &heal,
        event,
        format!("{} decided to {word}: {reason}", person.to_text()),
    )
    .await
    {
        Ok(()) => Ok(desk.heal(id).cloned().unwrap_or(heal)),
        Err(EngineError::Illegal(illegal)) => Err(conflict(
            "not_waiting",
            format!("{illegal}."),
            "`healerctl heals` shows those that wait for a decision.",
        )),
        Err(error) => Err(error.into()),
    }
}
