//! Carrying out an undo on a host: contents there first, then the changes, then the report.
//!
//! Every content is read from the vault to its end, and so proven, before the first path is touched; a damaged backup
//! therefore writes nothing. What to take back is decided in [`crate::undo`], and path by path once more on the host,
//! which alone sees what is there now. A call that ended without an answer may be repeated: twice is once.

use std::collections::BTreeSet;
use std::time::Duration;

use healer_agent::protocol::{
    Answer, BODY_BYTES_MAX, Request, UndoItem, UndoOutcome, UndoResult, WriteKind, WriteMember,
};
use healer_agent::tree::{Digest, Pattern, TreePath};

use super::batches;
use super::capture::{Limits, Protect, VerifiedBackup, app_login, protect};
use super::error::ProtectError;
use super::reach::Reach;
use crate::model::app::App;
use crate::model::backup::BackupKind;
use crate::model::heal::UndoReport;
use crate::model::id::{BackupId, HealId};
use crate::seam::{Login, World};
use crate::undo::{self, UndoPlan};

/// Longest time for a whole undo.
const TIME: Duration = Duration::from_mins(30);
/// Paths that were kept and are captured; of more, only the report tells.
const CAPTURED_MAX: usize = 1000;

/// What an undo did.
#[derive(Debug)]
pub struct Undone {
    pub report: UndoReport,
    /// What somebody else wrote since and was therefore left, as it is now; the engine stores its row.
    pub captured: Option<VerifiedBackup>,
}

/// Takes back on the host what the plan says.
///
/// # Errors
/// When the vault is damaged (nothing was written then), or the host did not answer (repeat it).
pub async fn undo_on_host(
    world: &World,
    app: &App,
    login: Login,
    heal: HealId,
    plan: &UndoPlan,
) -> Result<Undone, ProtectError> {
    if plan.items.is_empty() {
        return Ok(Undone {
            report: undo::report(plan, &[]),
            captured: None,
        });
    }
    let reach = Reach::new(world, app, login, TIME)?;
    stage_all(world, &reach, heal, &plan.needed).await?;
    let outcomes = undo_all(&reach, heal, &plan.items).await?;
    let kept: Vec<TreePath> = outcomes
        .iter()
        .filter(|outcome| outcome.result == UndoResult::Kept)
        .map(|outcome| outcome.path.clone())
        .collect();
    let forget = |_| Request::Forget {
        heal: heal.to_string(),
        witness: false,
    };
    if let Err(error) = reach.ask(forget, Vec::new()).await {
        tracing::warn!(heal_id = %heal, %error, "staged contents were left on the host");
    }
    let mut report = undo::report(plan, &outcomes);
    let captured = capture_kept(world, app, heal, &kept).await;
    if let Some(backup) = &captured {
        report
            .kept
            .push(format!("what was kept is in backup {}", backup.id()));
    }
    Ok(Undone { report, captured })
}

/// Brings contents from the vault to the host, for an undo or for the `put` steps of an action.
///
/// # Errors
/// When the vault lacks one or it is damaged, or the host did not take it.
pub async fn stage(
    world: &World,
    app: &App,
    login: Login,
    heal: HealId,
    contents: &BTreeSet<Digest>,
) -> Result<(), ProtectError> {
    if contents.is_empty() {
        return Ok(());
    }
    let reach = Reach::new(world, app, login, TIME)?;
    stage_all(world, &reach, heal, contents).await
}

async fn stage_all(
    world: &World,
    reach: &Reach<'_>,
    heal: HealId,
    contents: &BTreeSet<Digest>,
) -> Result<(), ProtectError> {
    for digest in contents {
        let mut source = world.vault.open(*digest).await?;
        let mut offset = 0_u64;
        let mut piece = source.read(BODY_BYTES_MAX).await?;
        loop {
            // One piece ahead: the last one is sent only when the digest was found right at the end.
            let next = if piece.is_empty() {
                Vec::new()
            } else {
                source.read(BODY_BYTES_MAX).await?
            };
            let last = next.is_empty();
            let length = piece.len() as u64;
            let request = |_| Request::Stage {
                heal: heal.to_string(),
                digest: *digest,
                offset,
                last,
            };
            if reach.ask(request, piece).await?.answer != Answer::Staged {
                return Err(reach.strange());
            }
            if last {
                break;
            }
            offset = offset.saturating_add(length);
            piece = next;
        }
    }
    Ok(())
}

async fn undo_all(
    reach: &Reach<'_>,
    heal: HealId,
    items: &[UndoItem],
) -> Result<Vec<UndoOutcome>, ProtectError> {
    let batches = batches::cut(items, batches::BYTES_WANTED, batches::BYTES_MAX);
    let mut outcomes = batches.refused;
    for batch in batches.requests {
        let request = |deadline_ms| Request::Undo {
            heal: heal.to_string(),
            target: reach.target().clone(),
            items: batch.clone(),
            deadline_ms,
        };
        let Answer::Undone { outcomes: done } = reach.ask(request, Vec::new()).await?.answer else {
            return Err(reach.strange());
        };
        outcomes.extend(done);
    }
    Ok(outcomes)
}

/// Keeps what others wrote, as well as it goes: the undo is done already, and nothing of theirs was touched.
async fn capture_kept(
    world: &World,
    app: &App,
    heal: HealId,
    kept: &[TreePath],
) -> Option<VerifiedBackup> {
    let members: Vec<WriteMember> = kept
        .iter()
        .filter_map(|path| Pattern::parse(&path.to_string()).ok())
        // A name that holds a star would take in others.
        .filter(|pattern| pattern.as_path().is_some())
        .take(CAPTURED_MAX)
        .map(|pattern| WriteMember {
            pattern,
            what: WriteKind::Content,
            shared: true,
        })
        .collect();
    if members.is_empty() {
        return None;
    }
    let request = Protect {
        id: BackupId::from_raw(world.new_id()),
        kind: BackupKind::BeforeRollback,
        app,
        login: app_login(app),
        heal: Some(heal),
        action: None,
        members,
        base: Vec::new(),
        limits: Limits::new(&app.policy.backup, 0),
    };
    match protect(world, &request).await {
        Ok(backup) => Some(backup),
        Err(error) => {
            tracing::warn!(app = %app.name, heal_id = %heal, %error, "what was kept was not captured");
            None
        }
    }
}
