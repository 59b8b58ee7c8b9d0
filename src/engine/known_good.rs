//! Known-good snapshots as the engine uses them: taken while an app is healthy, and put back by `put` steps.

use healer_agent::protocol::{WriteKind, WriteMember};
use serde_json::json;

use super::desk::{Desk, EngineError};
use super::gate;
use crate::catalogue::Check;
use crate::model::action::{RaiseHook, ResolvedAction};
use crate::model::backup::{BackupKind, BackupManifest};
use crate::model::id::BackupId;
use crate::model::{Digest, Pattern, TreePath};
use crate::protect::{self, ProtectError, VerifiedBackup};
use crate::seam::{Login, Write};

/// Names the contents of an action's `put` steps from the newest known-good snapshot, and raises its risk where a
/// secret or database setting that is there now would become another one.
///
/// # Errors
/// A sentence, when no snapshot holds a file that is needed.
pub(super) async fn fill(desk: &Desk, action: ResolvedAction) -> Result<ResolvedAction, String> {
    if action.known_good.is_empty() {
        return Ok(action);
    }
    let id = desk
        .known_good
        .ok_or("no known-good snapshot was taken while the application was healthy")?;
    let manifest = desk
        .world
        .vault
        .manifest(id)
        .await
        .map_err(|error| error.to_string())?;
    let files: Vec<(TreePath, Digest, u32)> = action
        .known_good
        .iter()
        .filter_map(|path| {
            let entry = manifest.members.get(path)?.as_ref()?;
            match entry.content {
                healer_agent::tree::Content::File {
                    digest: Some(digest),
                    ..
                } => Some((path.clone(), digest, entry.meta.mode)),
                healer_agent::tree::Content::File { digest: None, .. }
                | healer_agent::tree::Content::Directory
                | healer_agent::tree::Content::Link { .. }
                | healer_agent::tree::Content::Other => None,
            }
        })
        .collect();
    let action = action
        .with_known_good(&files)
        .map_err(|path| format!("the known-good snapshot does not hold `{path}`"))?;
    let differs = protect::differs_from_known_good(
        &desk.world,
        &desk.app,
        Login::of_app(&desk.app),
        &manifest,
        &action.known_good,
    )
    .await
    .map_err(|error| error.to_string())?;
    let hooks: &[RaiseHook] = if differs {
        &[RaiseHook::KnownGoodDiffers]
    } else {
        &[]
    };
    let risk = action.risk_after(hooks);
    Ok(ResolvedAction { risk, ..action })
}

/// Takes a snapshot when the app is adopted healthy, and after a change once it has been healthy for long enough.
pub(super) async fn keep(desk: &mut Desk) -> Result<(), EngineError> {
    let member = |path: &TreePath| {
        let pattern = Pattern::parse(&path.to_string()).ok()?;
        Some(WriteMember {
            pattern,
            what: WriteKind::Content,
            shared: false,
        })
    };
    let members: Vec<_> = desk.stack.known_good.iter().filter_map(member).collect();
    let now = desk.now();
    let Some(healthy_since) = desk.healthy_since.clone() else {
        return Ok(());
    };
    let wait = if desk.known_good.is_none() {
        std::time::Duration::ZERO
    } else {
        desk.app.policy.timing.known_good_age
    };
    let due = desk
        .known_good_checked
        .as_ref()
        .is_none_or(|checked| now.is_past(checked, wait));
    if members.is_empty()
        || desk.active_heal().is_some()
        || !now.is_past(&healthy_since, wait)
        || !due
    {
        return Ok(());
    }
    if let Some(reason) = Box::pin(gate::elsewhere(desk, None, true)).await {
        tracing::debug!(app = %desk.app.name, %reason, "no known-good snapshot is taken");
        return Ok(());
    }
    desk.known_good_checked = Some(now.clone());
    let known = match desk.known_good {
        Some(last) => desk.world.vault.manifest(last).await.ok(),
        None => None,
    };
    let backup = match sound_snapshot(desk, known.as_ref(), members).await {
        Ok(Some(backup)) => backup,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::warn!(app = %desk.app.name, reason = %error, "no known-good snapshot could be taken");
            return Ok(());
        }
    };
    if let Some(known) = known {
        let is = |other: &BackupManifest| protect::same_contents(other, backup.manifest());
        if is(&known) {
            desk.known_good_seen = None;
            discard(desk, backup.id()).await;
            return Ok(());
        }
        // Well for long enough is not enough: it must have been well for so long with what is there now.
        let seen = desk.known_good_seen.take().filter(|(seen, _)| is(seen));
        let has_lasted = seen.as_ref().is_some_and(|(_, at)| now.is_past(at, wait));
        if !has_lasted {
            let first = || (backup.manifest().clone(), now.clone());
            desk.known_good_seen = Some(seen.unwrap_or_else(first));
            discard(desk, backup.id()).await;
            return Ok(());
        }
    }
    let id = backup.id();
    let changes = desk
        .changes(&now)
        .write(Write::Backup(Box::new(backup.row().clone())))
        .audit(
            "known_good_taken",
            &desk.object(),
            json!({"backup": id, "files": backup.row().files}),
        );
    desk.commit(changes).await?;
    desk.known_good = Some(id);
    tracing::info!(app = %desk.app.name, backup = %id, "known-good snapshot taken");
    Ok(())
}

/// A snapshot in which every file is one. A ruined file leaves the one before in its place; where there is none before,
/// it is left out, so that the others can be put back at least.
async fn sound_snapshot(
    desk: &Desk,
    known: Option<&BackupManifest>,
    mut members: Vec<WriteMember>,
) -> Result<Option<VerifiedBackup>, ProtectError> {
    // Once with everything, once without what is ruined.
    for _ in 0..2 {
        if members.is_empty() {
            return Ok(None);
        }
        let request = protect::Protect {
            id: BackupId::from_raw(desk.world.new_id()),
            kind: BackupKind::KnownGood,
            app: &desk.app,
            login: Login::of_app(&desk.app),
            heal: None,
            action: None,
            members: members.clone(),
            base: Vec::new(),
            limits: protect::Limits::new(&desk.app.policy.backup, 0),
        };
        let backup = protect::protect(&desk.world, &request).await?;
        let ruined = protect::ruined(&desk.world, &desk.app, known, backup.manifest()).await?;
        if ruined.is_empty() {
            return Ok(Some(backup));
        }
        discard(desk, backup.id()).await;
        let names: Vec<String> = ruined.iter().map(ToString::to_string).collect();
        tracing::warn!(
            app = %desk.app.name, reason = %format!("emptied or damaged: {}", names.join(", ")),
            "a file does not become known-good"
        );
        if known.is_some() {
            return Ok(None);
        }
        members.retain(|member| !names.contains(&member.pattern.to_string()));
    }
    Ok(None)
}

/// What the snapshot's files said, as digests, where a check compares the present with it. Read once per snapshot. What
/// cannot be read is not compared, and tried again with the next look.
pub(super) async fn settings(desk: &mut Desk) {
    let Some(id) = desk.known_good else {
        return;
    };
    let is_known = desk
        .known_settings
        .as_ref()
        .is_some_and(|(known, _)| *known == id);
    let compares = desk
        .stack
        .checks
        .iter()
        .any(Check::compares_with_known_good);
    if is_known || !compares {
        return;
    }
    match protect::known_settings(&desk.world, id).await {
        Ok(known) => desk.known_settings = Some((id, known)),
        Err(error) => {
            desk.known_settings = None;
            tracing::warn!(app = %desk.app.name, reason = %error, "the known-good snapshot could not be read");
        }
    }
}

/// A snapshot that nobody needs.
async fn discard(desk: &Desk, id: BackupId) {
    if let Err(error) = desk.world.vault.remove(id).await {
        tracing::warn!(app = %desk.app.name, reason = %error, "a snapshot that is not needed stays in the vault");
    }
}
