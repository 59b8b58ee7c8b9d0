//! From Admitted to Acting: the backup, the last look, every guard, the intent, the start.
//!
//! The order is the promise: what is acted on was seen after the backup was proven, and the guards are asked on that
//! look, once here and once inside the transaction that writes the intent.

use std::collections::BTreeSet;

use healer_agent::crash;

use super::desk::{Desk, EngineError};
use super::gate;
use super::life::{
    Wake, deadline_passed, look, next_look, prepare, step, target_changed, told, wait_for,
};
use super::look::Which;
use crate::act::{self, Started};
use crate::guard::freshness::FRESH;
use crate::model::check::Round;
use crate::model::heal::{Event, Heal, Origin};
use crate::model::id::BackupId;
use crate::model::incident::IncidentKind;
use crate::model::reason::{Denied, GuardName};
use crate::model::time::Moment;
use crate::model::word::Status;
use crate::protect::{self, ProtectError, VerifiedBackup};
use crate::record::intent::{Protection, intend};
use crate::seam::{Login, StoreError};

/// A backup that is found stale this often means that the site does not keep still.
const STALE_BACKUPS_MAX: u32 = 3;

/// Admitted: a verified backup of what the action may write.
pub(super) async fn back_up(desk: &mut Desk, heal: Heal) -> Result<Wake, EngineError> {
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
        Err(error @ ProtectError::Host(_)) if !deadline_passed(desk, &heal) => {
            Ok(wait_for(desk, &heal, &in_full(&error)))
        }
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

/// An error with its causes, in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = inner.source();
    }
    text
}

/// Protected: look once more, ask every guard, write the intent, start.
pub(super) async fn start(
    desk: &mut Desk,
    heal: Heal,
    backup: Option<BackupId>,
) -> Result<Wake, EngineError> {
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
        Err(reason) => return Ok(wait_for(desk, &heal, &reason)),
    };
    let seen = desk.now();
    if let Some(message) = gate::adopted_anew(desk, &heal) {
        return target_changed(desk, &heal, message).await;
    }
    if round.roots != heal.roots {
        let message =
            "the application's paths lead somewhere else now; this is a deploy".to_owned();
        return target_changed(desk, &heal, message).await;
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
        return target_changed(desk, &heal, message).await;
    }
    if let Some(message) = moved_since_preview(desk, &heal).await {
        return target_changed(desk, &heal, message).await;
    }
    if let Some(reason) = gate::root_is_away(desk, &heal).await {
        if !deadline_passed(desk, &heal) {
            return Ok(wait_for(desk, &heal, &reason));
        }
        let event = Event::Denied {
            guard: GuardName::HostIdentity,
            message: reason.clone(),
        };
        step(desk, &heal, event, reason).await?;
        return Ok(Wake::Now);
    }
    // Before the proofs and the guards, so that neither is old when the intent is written.
    let contents: BTreeSet<_> = heal
        .action
        .steps
        .iter()
        .filter_map(healer_agent::step::Step::staged)
        .collect();
    let login = Login::of_action(&desk.app, heal.action.identity);
    // Even to bring a content there is to write: that other machine's guards say no before it, and not after.
    if !contents.is_empty()
        && let Some(reason) = Box::pin(gate::elsewhere(desk, Some(&heal), true)).await
    {
        return denied_there(desk, &heal, round, seen, &reason).await;
    }
    if let Err(error) = protect::stage(&desk.world, &desk.app, login, heal.id, &contents).await {
        let message = format!("a content could not be brought to the target: {error}");
        return target_changed(desk, &heal, message).await;
    }
    let Some(protection) = reprove(desk, &heal, backup).await? else {
        return Ok(Wake::Now);
    };
    // Reading a large backup back takes minutes: what is acted on must have been seen after it.
    let (round, seen) = if desk.now().is_past(&seen, FRESH / 2) {
        let again = match look(desk, Which::Proving(&asked)).await {
            Ok(again) => again,
            Err(reason) => return Ok(wait_for(desk, &heal, &reason)),
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

/// The guards say why nothing starts there; should they not, the next start looks again.
async fn denied_there(
    desk: &mut Desk,
    heal: &Heal,
    round: Round,
    seen: Moment,
    reason: &str,
) -> Result<Wake, EngineError> {
    let facts = gate::Facts::gather(desk, heal, round, seen).await;
    let rows = desk.world.store.guard_rows(&heal.app, &heal.host).await?;
    match facts.ask(&rows) {
        Err(denied) => denied_at_start(desk, heal, denied).await,
        Ok(_) => Ok(wait_for(desk, heal, reason)),
    }
}

/// A person's rollback does what its preview showed or nothing: what somebody wrote since the preview was confirmed, and
/// before the present was backed up, would otherwise count as confirmed. `None`: it still shows the same.
async fn moved_since_preview(desk: &Desk, heal: &Heal) -> Option<String> {
    let Origin::Rollback {
        backup,
        exact,
        only,
        digest,
        ..
    } = &heal.origin
    else {
        return None;
    };
    match super::rollback::preview(desk, *backup, *exact, only).await {
        Ok((now, ..)) if Some(now.preview.digest) == *digest => None,
        Ok(_) => Some("the files are no longer as the confirmed preview showed them".to_owned()),
        Err(refusal) => Some(refusal.message),
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
            target_changed(desk, heal, message).await?;
            Ok(None)
        }
        (Ok(_) | Err(_), Ok(_) | Err(_)) => {
            let times = desk.stale_backups.entry(heal.id).or_insert(0);
            *times += 1;
            if *times >= STALE_BACKUPS_MAX {
                let message = "the files kept changing while they were backed up".to_owned();
                target_changed(desk, heal, message).await?;
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
        return Ok(wait_for(desk, heal, denied.shown()));
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
