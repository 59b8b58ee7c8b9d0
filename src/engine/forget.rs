//! What the targets still remember of heals that are settled for good is dropped, a few records an hour.
//!
//! A record is the only judge of what ran, so it goes late: its heal ended, nobody has to decide about it, its backup
//! went by retention (so nothing can be taken back any more), and it is older than any backup is kept for its age. A
//! late start of such a heal is refused by its fence token, as that of every heal before the newest.

use std::time::Duration;

use super::desk::{Desk, EngineError};
use super::gate;
use crate::act;
use crate::model::heal::{Heal, HealState};
use crate::model::id::BackupId;
use crate::seam::Login;
use crate::seam::store::Query;

const EVERY: Duration = Duration::from_hours(1);

/// No record younger than this goes, whatever became of its backup.
const AGE: Duration = Duration::from_hours(15 * 24);

/// Records dropped at once: each is a request to the host.
const RECORDS_MAX: usize = 20;

/// Heals looked at; with more than a hundred a day the oldest rows leave the store before their records do.
const HEALS_MAX: u32 = 10_000;

/// Drops what nothing needs any more. A host that does not answer keeps its records until the next time.
pub(super) async fn settled(desk: &mut Desk) -> Result<(), EngineError> {
    let now = desk.now();
    let due = desk
        .forgot
        .as_ref()
        .is_none_or(|last| now.is_past(last, EVERY));
    if !due || desk.active_heal().is_some() {
        return Ok(());
    }
    desk.forgot = Some(now.clone());
    let query = |limit| Query {
        app: Some(desk.app.name.clone()),
        open_only: false,
        limit,
    };
    let store = &desk.world.store;
    let kept: Vec<BackupId> = store
        .backups(query(100_000))
        .await?
        .into_iter()
        .map(|row| row.id)
        .collect();
    let gone: Vec<Heal> = store
        .heals(query(HEALS_MAX))
        .await?
        .into_iter()
        .filter(|heal| now.is_past(&heal.moved, AGE))
        .filter(|heal| is_settled(&heal.state))
        .filter(|heal| {
            heal.state
                .backup()
                .is_none_or(|backup| !kept.contains(&backup))
        })
        .filter(|heal| !desk.forgotten.contains(&heal.id))
        // What belongs to a machine before the adopted one cannot be dropped there.
        .filter(|heal| gate::adopted_anew(desk, heal).is_none())
        .take(RECORDS_MAX)
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    // Their records are on the machine that was adopted.
    if let Some(reason) = Box::pin(gate::elsewhere(desk, None, true)).await {
        tracing::debug!(app = %desk.app.name, %reason, "no record is dropped");
        return Ok(());
    }
    for heal in gone {
        let login = Login::of_action(&desk.app, heal.action.identity);
        if act::forget(&desk.world, heal.id, &desk.app, login, true).await {
            desk.forgotten.insert(heal.id);
        }
    }
    Ok(())
}

/// Did it end, with nothing left for a person to decide?
fn is_settled(state: &HealState) -> bool {
    match state {
        HealState::Cured { .. }
        | HealState::NotCured { .. }
        | HealState::Undone { .. }
        | HealState::Aborted { .. } => true,
        HealState::Kept { decided, .. } => decided.is_some(),
        HealState::Admitted
        | HealState::Protected { .. }
        | HealState::Acting { .. }
        | HealState::InDoubt { .. }
        | HealState::Settling { .. }
        | HealState::Verifying { .. }
        | HealState::Soaking { .. }
        | HealState::Undoing { .. }
        | HealState::Rechecking { .. }
        | HealState::UndoBlocked { .. }
        | HealState::UndoFailed { .. } => false,
    }
}
