//! The intent: durable before the first byte leaves for the host.

use crate::guard::Permit;
use crate::model::heal::Heal;
use crate::model::id::{FenceToken, HealId};
use crate::protect::VerifiedBackup;
use crate::seam::store::Gate;
use crate::seam::{Changes, StoreError, World};

/// `Acting` is on disk. Only [`intend`] makes one, and `act::start` takes it.
#[must_use = "an intent that is never started must be settled by the witness"]
#[derive(Debug)]
pub struct Intent {
    heal: HealId,
    fence: FenceToken,
}

impl Intent {
    /// The heal it is for.
    pub fn heal(&self) -> HealId {
        self.heal
    }

    /// The token that the target will compare.
    pub fn fence(&self) -> FenceToken {
        self.fence
    }
}

/// Everything an action's start rests on.
#[derive(Debug)]
pub enum Protection {
    /// A verified backup of the write set.
    Backup(Box<VerifiedBackup>),
    /// The action writes no files; there is nothing to copy.
    NothingToCopy,
}

/// Writes `Acting`. The guards are asked again inside the transaction, by `gate`, on the rows just read.
///
/// # Errors
/// When a guard denies, something changed meanwhile, or the store failed: then nothing may start. A commit whose
/// outcome is unknown is settled after the restart, by the witness.
pub async fn intend(
    world: &World,
    permit: Permit,
    protection: Protection,
    heal: &Heal,
    mut changes: Changes,
    gate: Gate,
) -> Result<Intent, StoreError> {
    let protected = match &protection {
        Protection::Backup(backup) => heal.state.backup() == Some(backup.id()),
        Protection::NothingToCopy => !heal.action.writes_files(),
    };
    if permit.heal() != heal.id || !protected {
        return Err(StoreError::Conflict {
            what: "the proof of guards or backup for this heal".to_owned(),
        });
    }
    changes.gate = Some((heal.app.clone(), heal.host.clone(), gate));
    world.store.apply(changes).await?;
    Ok(Intent {
        heal: heal.id,
        fence: heal.fence,
    })
}
