//! Looking again: proving a stored backup anew, the present with contents' digests, and what differs from a backup.

use std::collections::BTreeMap;
use std::time::Duration;

use healer_agent::probe::known::KnownSettings;
use healer_agent::protocol::WriteMember;
use healer_agent::tree::{Content, Effect, EffectSource, EntryState, Manifest, Pattern, TreePath};

use super::capture::VerifiedBackup;
use super::error::ProtectError;
use super::known_good::{Dialect, KeyChange, conflicts, difference, is_ruined};
use super::reach::{PullError, Reach};
use crate::model::action::Identity;
use crate::model::app::App;
use crate::model::backup::{BackupManifest, BackupRow};
use crate::model::id::BackupId;
use crate::model::name::StackName;
use crate::model::time::Moment;
use crate::seam::{Login, World};

/// Longest time for one look.
const TIME: Duration = Duration::from_mins(10);

/// Most entries of a write set that are looked at.
const ENTRIES_MAX: u64 = 500_000;

/// A config file larger than this is not one.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Earns the proof of a stored backup again. A row in the store proves nothing; what this process has read back before,
/// and no program can have changed since, is not read a second time ([`crate::seam::Vault::confirm`]).
///
/// # Errors
/// When it is not there, or damaged.
pub async fn reverify(
    world: &World,
    id: BackupId,
    members: &[WriteMember],
) -> Result<VerifiedBackup, ProtectError> {
    world.vault.confirm(id, Vec::new()).await?;
    let manifest = world.vault.manifest(id).await?;
    let row = row_of(&manifest, world.clock.now());
    Ok(VerifiedBackup::proven(manifest, row, members.to_vec()))
}

fn row_of(manifest: &BackupManifest, verified: Moment) -> BackupRow {
    let entries = manifest
        .members
        .values()
        .chain(manifest.base.values())
        .flatten();
    let sizes: Vec<u64> = entries
        .filter_map(|entry| match entry.content {
            Content::File { size, .. } => Some(size),
            Content::Directory | Content::Link { .. } | Content::Other => None,
        })
        .collect();
    BackupRow {
        id: manifest.id,
        kind: manifest.kind,
        app: manifest.app.clone(),
        host: manifest.host.clone(),
        heal: manifest.heal,
        action: None,
        taken: manifest.taken.clone(),
        files: sizes.len() as u64,
        bytes: sizes.iter().sum(),
        stored_bytes: 0,
        verified,
        damaged: None,
        pinned: false,
    }
}

/// Everything that the members take in now, with the digests of contents where the application's user looks: what root
/// changes is metadata, and root reads nothing else.
///
/// # Errors
/// When something cannot be read, or the host does not answer.
pub async fn present(
    world: &World,
    app: &App,
    login: Login,
    members: &[Pattern],
) -> Result<Manifest, ProtectError> {
    let reach = Reach::new(world, app, login, TIME)?;
    let digests = login.identity == Identity::App;
    let listing = reach.list_with(members, ENTRIES_MAX, digests).await?;
    match listing.unreadable.into_iter().next() {
        Some((path, reason)) => Err(ProtectError::Unreadable { path, reason }),
        None => Ok(listing.entries),
    }
}

/// What differs from the backup, when the supervisor died before it could say what the action changed.
///
/// # Errors
/// As [`present`].
pub async fn recovery_effects(
    world: &World,
    app: &App,
    login: Login,
    backup: &BackupManifest,
    members: &[WriteMember],
) -> Result<Vec<Effect>, ProtectError> {
    let patterns: Vec<Pattern> = members
        .iter()
        .map(|member| member.pattern.clone())
        .collect();
    let now = present(world, app, login, &patterns).await?;
    let mut paths: Vec<&TreePath> = backup.members.keys().chain(now.keys()).collect();
    paths.sort();
    paths.dedup();
    Ok(paths
        .into_iter()
        .filter_map(|path| {
            let before = backup.members.get(path).cloned().flatten();
            let after = now.get(path).cloned().flatten();
            (!is_same(before.as_ref(), after.as_ref())).then(|| Effect {
                path: path.clone(),
                before,
                after,
                source: EffectSource::Recovery,
            })
        })
        .collect())
}

/// Equal in everything that an undo would bring back. A content without a digest is told by its size and times.
fn is_same(one: Option<&EntryState>, other: Option<&EntryState>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            let content = match (&one.content, &other.content) {
                (
                    Content::File {
                        digest: Some(a), ..
                    },
                    Content::File {
                        digest: Some(b), ..
                    },
                ) => a == b,
                (Content::File { size: a, .. }, Content::File { size: b, .. }) => {
                    a == b && one.key.ctime == other.key.ctime
                }
                (a, b) => a == b,
            };
            content && one.meta == other.meta
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Do two snapshots hold the same contents and modes?
pub fn same_contents(one: &BackupManifest, other: &BackupManifest) -> bool {
    one.members.len() == other.members.len()
        && one
            .members
            .iter()
            .zip(&other.members)
            .all(|((path, a), (other_path, b))| {
                let essence = |entry: &Option<EntryState>| {
                    entry
                        .as_ref()
                        .map(|entry| (entry.content.clone(), entry.meta.mode))
                };
                path == other_path && essence(a) == essence(b)
            })
}

/// Is a secret or database setting of one of these files present now with another value than in the snapshot?
///
/// # Errors
/// When a file cannot be read: that is not "no".
pub async fn differs_from_known_good(
    world: &World,
    app: &App,
    login: Login,
    known: &BackupManifest,
    paths: &[TreePath],
) -> Result<bool, ProtectError> {
    let reach = Reach::new(world, app, login, TIME)?;
    for path in paths {
        let Some(Content::File {
            digest: Some(digest),
            ..
        }) = known
            .members
            .get(path)
            .and_then(Option::as_ref)
            .map(|entry| &entry.content)
        else {
            continue;
        };
        let known_text = read_whole(world, *digest).await?;
        let present = present_text(&reach, path).await?;
        let dialect = Dialect::of(&name_of(path), runs_on_php(&app.stack));
        if !conflicts(&known_text, present.as_deref(), dialect).is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One file beside what a snapshot holds of it.
#[derive(Debug, Clone)]
pub struct FileBeside {
    pub path: TreePath,
    pub known: EntryState,
    /// `None`: it is not there.
    pub present: Option<EntryState>,
    /// Keys that differ, from the present to the snapshot. Values are never told.
    pub keys: Vec<(String, KeyChange)>,
}

/// These files of a snapshot beside the present.
///
/// # Errors
/// When a file cannot be read.
pub async fn beside_known_good(
    world: &World,
    app: &App,
    login: Login,
    known: &BackupManifest,
    paths: &[TreePath],
) -> Result<Vec<FileBeside>, ProtectError> {
    let reach = Reach::new(world, app, login, TIME)?;
    let mut files = Vec::new();
    for path in paths {
        let Some(entry) = known.members.get(path).and_then(Option::as_ref) else {
            continue;
        };
        let Some(digest) = digest_of(Some(entry)) else {
            continue;
        };
        let known_text = read_whole(world, digest).await?;
        let present = match reach.look(path).await {
            Ok(present) => present,
            Err(PullError::Other(error)) => return Err(error),
            Err(PullError::Refused(reason)) => {
                return Err(ProtectError::Unreadable {
                    path: path.clone(),
                    reason,
                });
            }
            Err(PullError::Changed) => return Err(ProtectError::Changing { path: path.clone() }),
        };
        let text = present_text(&reach, path).await?.unwrap_or_default();
        let dialect = Dialect::of(&name_of(path), runs_on_php(&app.stack));
        files.push(FileBeside {
            path: path.clone(),
            known: entry.clone(),
            present,
            keys: difference(&text, &known_text, dialect),
        });
    }
    Ok(files)
}

/// What the files of a known-good snapshot said, as digests, by path. So far only of `wp-config.php`.
///
/// # Errors
/// When the vault does not give a content.
pub async fn known_settings(
    world: &World,
    id: BackupId,
) -> Result<BTreeMap<String, KnownSettings>, ProtectError> {
    let manifest = world.vault.manifest(id).await?;
    let mut known = BTreeMap::new();
    for (path, entry) in &manifest.members {
        let Some(digest) = digest_of(entry.as_ref()) else {
            continue;
        };
        if Dialect::of(&name_of(path), true) == Dialect::WpConfig {
            let text = read_whole(world, digest).await?;
            let settings = KnownSettings::of_php(&text, &id.to_string());
            known.insert(path.to_string(), settings);
        }
    }
    Ok(known)
}

/// Members of a new snapshot that are no config texts any more, judged beside the newest one that there is.
///
/// # Errors
/// When the vault does not give a content.
pub async fn ruined(
    world: &World,
    app: &App,
    known: Option<&BackupManifest>,
    new: &BackupManifest,
) -> Result<Vec<TreePath>, ProtectError> {
    let mut found = Vec::new();
    for (path, entry) in &new.members {
        let Some(digest) = digest_of(entry.as_ref()) else {
            continue;
        };
        let before = known
            .and_then(|known| known.members.get(path))
            .and_then(|entry| digest_of(entry.as_ref()));
        if before == Some(digest) {
            continue;
        }
        let text = read_whole(world, digest).await?;
        let before = match before {
            Some(before) => Some(read_whole(world, before).await?),
            None => None,
        };
        let name = name_of(path);
        let dialect = Dialect::of(&name, runs_on_php(&app.stack));
        if is_ruined(&name, &text, before.as_deref(), dialect) {
            found.push(path.clone());
        }
    }
    Ok(found)
}

fn digest_of(entry: Option<&EntryState>) -> Option<healer_agent::tree::Digest> {
    match entry?.content {
        Content::File { digest, size, .. } if size <= CONFIG_BYTES_MAX => digest,
        Content::File { .. } | Content::Directory | Content::Link { .. } | Content::Other => None,
    }
}

fn name_of(path: &TreePath) -> String {
    path.split_last()
        .map(|(_, name)| String::from_utf8_lossy(name).into_owned())
        .unwrap_or_default()
}

fn runs_on_php(stack: &StackName) -> bool {
    !["node", "nodejs", "express", "nextjs"].contains(&stack.as_str())
}

async fn read_whole(
    world: &World,
    digest: healer_agent::tree::Digest,
) -> Result<Vec<u8>, ProtectError> {
    let mut source = world.vault.open(digest).await?;
    let mut all = Vec::new();
    loop {
        let piece = source.read(1 << 16).await?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend(piece);
        if all.len() as u64 > CONFIG_BYTES_MAX {
            return Err(ProtectError::TooLarge {
                limit: format!("{CONFIG_BYTES_MAX} bytes of configuration"),
            });
        }
    }
}

/// The file as it is now; `None` when it is absent or not a file.
async fn present_text(reach: &Reach<'_>, path: &TreePath) -> Result<Option<Vec<u8>>, ProtectError> {
    let unreadable = |reason| ProtectError::Unreadable {
        path: path.clone(),
        reason,
    };
    let state = match reach.look(path).await {
        Ok(state) => state,
        Err(PullError::Refused(reason)) => return Err(unreadable(reason)),
        Err(PullError::Other(error)) => return Err(error),
        Err(PullError::Changed) => return Err(ProtectError::Changing { path: path.clone() }),
    };
    let Some(EntryState {
        content: Content::File { size, .. },
        key,
        ..
    }) = state
    else {
        return Ok(None);
    };
    if size > CONFIG_BYTES_MAX {
        return Err(ProtectError::TooLarge {
            limit: format!("{CONFIG_BYTES_MAX} bytes of configuration"),
        });
    }
    match reach.read(path, key).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(PullError::Refused(reason)) => Err(unreadable(reason)),
        Err(PullError::Other(error)) => Err(error),
        Err(PullError::Changed) => Err(ProtectError::Changing { path: path.clone() }),
    }
}
