//! Known-good snapshots as the engine uses them: taken while an app is healthy, and put back by `put` steps.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use healer_agent::protocol::{WriteKind, WriteMember};
use healer_agent::tree::{Content, EntryState, Meta};
use serde_json::json;

use super::desk::{Desk, EngineError};
use super::gate;
use crate::catalogue::Check;
use crate::model::action::{RaiseHook, ResolvedAction};
use crate::model::backup::{BackupKind, BackupManifest};
use crate::model::id::BackupId;
use crate::model::{Digest, Pattern, TreePath};
use crate::observe::Known;
use crate::protect::known_good::KeyChange;
use crate::protect::{self, FileBeside, ProtectError, VerifiedBackup};
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
    let files: Vec<(TreePath, Digest, Meta)> = action
        .known_good
        .iter()
        .filter_map(|path| {
            let entry = manifest.members.get(path)?.as_ref()?;
            match entry.content {
                Content::File {
                    digest: Some(digest),
                    ..
                } => Some((path.clone(), digest, entry.meta.clone())),
                Content::File { digest: None, .. }
                | Content::Directory
                | Content::Link { .. }
                | Content::Other => None,
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

/// What an action would put back, for whoever is to approve it: from which snapshot, and file by file what would be
/// another one.
pub(super) async fn shows(desk: &Desk, action: &ResolvedAction) -> Vec<String> {
    let (Some(id), false) = (desk.known_good, action.known_good.is_empty()) else {
        return Vec::new();
    };
    let login = Login::of_app(&desk.app);
    let beside = async {
        let known = desk.world.vault.manifest(id).await?;
        let paths = &action.known_good;
        let files =
            protect::beside_known_good(&desk.world, &desk.app, login, &known, paths).await?;
        Ok::<_, ProtectError>((known.taken.to_text(), files))
    };
    match Box::pin(beside).await {
        Ok((taken, files)) => {
            let first = format!("from the known-good snapshot {id} of {taken}");
            std::iter::once(first)
                .chain(files.iter().map(beside_text))
                .collect()
        }
        Err(error) => vec![format!("from the known-good snapshot {id}; {error}")],
    }
}

/// The most keys that are named.
const KEYS_MAX: usize = 40;

fn beside_text(file: &FileBeside) -> String {
    let size = |entry: &EntryState| match entry.content {
        Content::File { size, .. } => format!("{size} bytes"),
        Content::Directory | Content::Link { .. } | Content::Other => "no file".to_owned(),
    };
    let known = &file.known;
    let mut text = format!("{}: {}", file.path, size(known));
    match &file.present {
        None => {
            write!(
                text,
                ", mode {:04o}, owner {}:{}; it is missing now",
                known.meta.mode, known.meta.uid, known.meta.gid
            )
            .ok();
        }
        Some(now) => {
            write!(text, " in place of {}", size(now)).ok();
            let owner = |entry: &EntryState| (entry.meta.uid, entry.meta.gid);
            if now.meta.mode != known.meta.mode {
                let (from, to) = (now.meta.mode, known.meta.mode);
                write!(text, ", mode {from:04o} → {to:04o}").ok();
            }
            if owner(now) != owner(known) {
                let ids = |(uid, gid): (u32, u32)| format!("{uid}:{gid}");
                let (from, to) = (ids(owner(now)), ids(owner(known)));
                write!(text, ", owner {from} → {to}").ok();
            }
        }
    }
    for (change, words) in [
        (KeyChange::Added, "comes back"),
        (KeyChange::Changed, "gets another value"),
        (KeyChange::Removed, "goes"),
    ] {
        let keys = file.keys.iter().filter(|(_, is)| *is == change);
        let names: Vec<&str> = keys.map(|(key, _)| key.as_str()).collect();
        if !names.is_empty() {
            let more = names.len().saturating_sub(KEYS_MAX);
            let shown = names[..names.len() - more].join(" ");
            write!(text, "; {words}: {shown}").ok();
            if more > 0 {
                write!(text, " and {more} more").ok();
            }
        }
    }
    text
}

const NOT_TAKEN: &str = "no known-good snapshot could be taken";
const NOT_GOOD: &str = "a file does not become known-good";

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
            let reason = error.to_string();
            if desk.says_anew(NOT_TAKEN, &reason) {
                tracing::warn!(app = %desk.app.name, %reason, "{NOT_TAKEN}");
            }
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
    desk.said.remove(NOT_TAKEN);
    tracing::info!(app = %desk.app.name, backup = %id, "known-good snapshot taken");
    Ok(())
}

/// A snapshot in which every file is one. A ruined file leaves the one before in its place; where there is none before,
/// it is left out, so that the others can be put back at least.
async fn sound_snapshot(
    desk: &mut Desk,
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
        let reason = format!("emptied or damaged: {}", names.join(", "));
        if desk.says_anew(NOT_GOOD, &reason) {
            tracing::warn!(app = %desk.app.name, %reason, "{NOT_GOOD}");
        }
        if known.is_some() {
            return Ok(None);
        }
        members.retain(|member| !names.contains(&member.pattern.to_string()));
    }
    Ok(None)
}

/// What the snapshot holds, and what its files said where a check compares the present with it. Read once per snapshot.
/// What cannot be read is not compared, and tried again with the next look.
pub(super) async fn settings(desk: &mut Desk) {
    let Some(id) = desk.known_good else {
        return;
    };
    let is_known = desk
        .known
        .as_ref()
        .is_some_and(|(known, is)| *known == id && !matches!(is.files, Some(Err(_))));
    if is_known {
        return;
    }
    let compares = desk
        .stack
        .checks
        .iter()
        .any(Check::compares_with_known_good);
    let known = match read(desk, id, compares).await {
        Ok(known) => {
            desk.said.remove(UNREADABLE);
            known
        }
        Err(error) => {
            let reason = error.to_string();
            if desk.says_anew(UNREADABLE, &reason) {
                tracing::warn!(app = %desk.app.name, %reason, "{UNREADABLE}");
            }
            Known {
                files: Some(Err(format!("{UNREADABLE}: {reason}"))),
                ..Known::default()
            }
        }
    };
    desk.known = Some((id, known));
}

const UNREADABLE: &str = "the known-good snapshot could not be read";

async fn read(desk: &Desk, id: BackupId, compares: bool) -> Result<Known, ProtectError> {
    let manifest = desk.world.vault.manifest(id).await?;
    let is_file = |entry: &Option<EntryState>| {
        let content = entry.as_ref().map(|entry| &entry.content);
        matches!(content, Some(Content::File { .. }))
    };
    let files = manifest
        .members
        .iter()
        .filter(|(_, entry)| is_file(entry))
        .map(|(path, _)| path.to_string())
        .collect();
    let settings = if compares {
        protect::known_settings(&desk.world, id).await?
    } else {
        BTreeMap::new()
    };
    Ok(Known {
        files: Some(Ok((manifest.taken.to_text(), files))),
        settings,
    })
}

/// A snapshot that nobody needs.
async fn discard(desk: &Desk, id: BackupId) {
    if let Err(error) = desk.world.vault.remove(id).await {
        tracing::warn!(app = %desk.app.name, reason = %error, "a snapshot that is not needed stays in the vault");
    }
}
