//! Taking a backup: list, look for room, pull what is new, commit, read back.
//!
//! All of the write set, or no backup; of the base set what can be had, with its gaps. Content is pulled only where no
//! earlier backup knows the very same file (inode, length, times, mode, owner, links). It runs no action, writes
//! nothing on the host and stores no row: the engine does.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use healer_agent::protocol::{WriteKind, WriteMember};
use healer_agent::tree::{Pattern, TreePath};

use super::base::Base;
use super::contents::{Pull, fetch_group, groups, known, pulls, regular, remember, settle, stored};
use super::error::ProtectError;
use super::reach::{PullError, Reach};
use super::retention;
use crate::model::app::App;
use crate::model::backup::{BackupKind, BackupManifest, BackupRow};
use crate::model::id::{BackupId, HealId};
use crate::model::name::ActionName;
use crate::model::policy::BackupPolicy;
use crate::seam::vault::WarmIndex;
use crate::seam::{Login, VaultError, World};

/// Requests for contents under way at the same time: hides the way to a distant host, and keeps memory to a few MiB.
const PULLS: usize = 16;

/// What a backup may take and needs.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Contents of the base set.
    pub base_bytes_max: u64,
    pub base_files_max: u64,
    /// Entries and contents of the write set; more is refused.
    pub write_entries_max: u64,
    pub write_bytes_max: u64,
    /// Must stay free beyond what is needed, on the vault and on the target.
    pub room_bytes: u64,
    /// The most that the vault may hold.
    pub vault_bytes_max: u64,
    /// New bytes that the action is expected to write on the target.
    pub action_bytes: u64,
    /// For the whole backup.
    pub time: Duration,
}

impl Limits {
    /// The operator's limits, for an action that writes about so many bytes.
    pub fn new(policy: &BackupPolicy, action_bytes: u64) -> Self {
        Self {
            base_bytes_max: policy.base_bytes_max,
            base_files_max: policy.base_files_max,
            write_entries_max: 500_000,
            write_bytes_max: policy.vault_bytes_max,
            room_bytes: policy.room_bytes,
            vault_bytes_max: policy.vault_bytes_max,
            action_bytes,
            time: Duration::from_mins(10),
        }
    }
}

/// What to back up, and through whom.
#[derive(Debug, Clone)]
pub struct Protect<'a> {
    pub id: BackupId,
    pub kind: BackupKind,
    pub app: &'a App,
    /// The identity that will change it: what it cannot read, it could not bring back.
    pub login: Login,
    pub heal: Option<HealId>,
    pub action: Option<ActionName>,
    /// The write set.
    pub members: Vec<WriteMember>,
    /// The stack's base set, read as the application's user.
    pub base: Vec<Pattern>,
    pub limits: Limits,
}

/// Proof that a backup was stored, made durable, read back and found equal.
#[must_use = "a verified backup is what an intent needs"]
#[derive(Debug, Clone)]
pub struct VerifiedBackup {
    id: BackupId,
    manifest: BackupManifest,
    row: BackupRow,
    members: Vec<WriteMember>,
}

impl VerifiedBackup {
    /// Only for who has just read everything back.
    pub(super) fn proven(
        manifest: BackupManifest,
        row: BackupRow,
        members: Vec<WriteMember>,
    ) -> Self {
        Self {
            id: manifest.id,
            manifest,
            row,
            members,
        }
    }

    /// Its id.
    pub fn id(&self) -> BackupId {
        self.id
    }

    /// What it holds.
    pub fn manifest(&self) -> &BackupManifest {
        &self.manifest
    }

    /// The row that the store is to keep.
    pub fn row(&self) -> &BackupRow {
        &self.row
    }

    /// The write set it was taken of.
    pub fn members(&self) -> &[WriteMember] {
        &self.members
    }
}

/// Takes a backup and proves it.
///
/// # Errors
/// [`ProtectError`]; then nothing counts as a backup, and nothing was changed on the host.
pub async fn protect(world: &World, request: &Protect<'_>) -> Result<VerifiedBackup, ProtectError> {
    if request.members.is_empty() && request.base.is_empty() {
        return Err(ProtectError::Nothing);
    }
    let _hold = world.vault.hold();
    let mut trusting = true;
    loop {
        match take(world, request, trusting).await {
            // What the vault held of an earlier backup was bad: read everything from the host, once.
            Err(ProtectError::Vault(VaultError::Damaged(reason))) if trusting => {
                tracing::warn!(app = %request.app.name, reason, "the vault was found damaged");
                trusting = false;
            }
            other => return other,
        }
    }
}

async fn take(
    world: &World,
    request: &Protect<'_>,
    trusting: bool,
) -> Result<VerifiedBackup, ProtectError> {
    let limits = &request.limits;
    let taken = world.clock.now();
    let reach = Reach::new(world, request.app, request.login, limits.time)?;
    let warm = async {
        if trusting {
            world.vault.warm_index(&request.app.name).await
        } else {
            WarmIndex::new()
        }
    };
    let patterns: Vec<Pattern> = request
        .members
        .iter()
        .map(|member| member.pattern.clone())
        .collect();
    // The vault is read while the host walks.
    let listing = reach.list(&patterns, limits.write_entries_max);
    let (warm, writes) = futures_util::future::join(warm, listing).await;
    let mut writes = writes?;
    if let Some((path, reason)) = std::mem::take(&mut writes.unreadable).into_iter().next() {
        return Err(ProtectError::Unreadable { path, reason });
    }
    // Root's agent reads no contents; the base set is the application's own.
    let app_reach = Reach::new(world, request.app, app_login(request.app), limits.time)?;
    let mut base = Base::list(&app_reach, request, &writes).await?;
    if !request.members.is_empty() && !request.base.is_empty() && base.listing.roots != writes.roots
    {
        return Err(ProtectError::Moved);
    }
    let roots = if request.members.is_empty() {
        base.listing.roots.clone()
    } else {
        writes.roots.clone()
    };

    let wanted = |path: &TreePath| {
        request
            .members
            .iter()
            .any(|member| member.what == WriteKind::Content && member.pattern.matches(path))
    };
    let known = known(world, &warm, [&writes.entries, &base.listing.entries]).await?;
    // What is known is looked at beside all that follows.
    let looks = world.vault.unchanged(known.there());
    let write_pulls = pulls(&mut writes.entries, &known, wanted);
    let base_pulls = pulls(&mut base.listing.entries, &known, |_| true);

    room(world, &app_reach, limits, &write_pulls, &base_pulls).await?;

    let mut stored_bytes = 0_u64;
    {
        let mut results = stream::iter(groups(write_pulls))
            .map(|group| fetch_group(world, &reach, group))
            .buffer_unordered(PULLS)
            .flat_map(stream::iter);
        while let Some(pulled) = results
            .try_next()
            .await
            .map_err(|(path, error)| match error {
                PullError::Changed => ProtectError::Changing { path },
                PullError::Refused(reason) => ProtectError::Unreadable { path, reason },
                PullError::Other(error) => error,
            })?
        {
            stored_bytes = stored_bytes.saturating_add(pulled.stored_bytes);
            let single = |path: &TreePath| patterns.iter().any(|one| one.as_path() == Some(path));
            settle(&mut writes.entries, pulled, single);
        }
    }
    {
        let mut results = stream::iter(groups(base_pulls))
            .map(|group| fetch_group(world, &app_reach, group))
            .buffer_unordered(PULLS)
            .flat_map(stream::iter);
        while let Some(result) = results.next().await {
            match result {
                Ok(pulled) => {
                    stored_bytes = stored_bytes.saturating_add(pulled.stored_bytes);
                    settle(&mut base.listing.entries, pulled, |_| true);
                }
                Err((path, PullError::Changed)) => {
                    base.gap(path, "it keeps changing while it is read".to_owned());
                }
                Err((path, PullError::Refused(reason))) => base.gap(path, reason),
                Err((_, PullError::Other(error))) => return Err(error),
            }
        }
    }
    let (base, base_gaps) = base.finish();

    let manifest = Arc::new(BackupManifest {
        id: request.id,
        kind: request.kind,
        app: request.app.name.clone(),
        host: request.app.host.clone(),
        roots,
        heal: request.heal,
        taken,
        members: writes.entries,
        base,
        base_gaps,
    });
    world.vault.commit(Arc::clone(&manifest)).await?;
    if let Err(error) = world.vault.confirm(request.id, looks.await).await {
        // It never counted as a backup; what cannot be removed is only room.
        if let Err(left) = world.vault.remove(request.id).await {
            tracing::warn!(backup = %request.id, error = %left, "an unproven backup was left");
        }
        return Err(error.into());
    }
    remember(world, request.app, warm, &manifest).await;
    let manifest = Arc::unwrap_or_clone(manifest);
    Ok(proof(world, request, manifest, stored_bytes))
}

/// The application's own user.
pub(super) fn app_login(app: &App) -> Login {
    Login::of_app(app)
}

fn proof(
    world: &World,
    request: &Protect<'_>,
    manifest: BackupManifest,
    stored_bytes: u64,
) -> VerifiedBackup {
    let (files, bytes) = manifest
        .members
        .values()
        .chain(manifest.base.values())
        .flatten()
        .filter_map(stored)
        .fold((0_u64, 0_u64), |(files, bytes), (size, _)| {
            (files + 1, bytes.saturating_add(size))
        });
    VerifiedBackup {
        id: request.id,
        row: BackupRow {
            id: request.id,
            kind: request.kind,
            app: request.app.name.clone(),
            host: request.app.host.clone(),
            heal: request.heal,
            action: request.action.as_ref().map(ToString::to_string),
            taken: manifest.taken.clone(),
            files,
            bytes,
            stored_bytes,
            verified: world.clock.now(),
            damaged: None,
            pinned: false,
        },
        manifest,
        members: request.members.clone(),
    }
}

/// Refuses before the first byte is pulled what would not fit.
async fn room(
    world: &World,
    reach: &Reach<'_>,
    limits: &Limits,
    writes: &[Pull],
    base: &[Pull],
) -> Result<(), ProtectError> {
    let bytes = |pulls: &[Pull]| {
        pulls
            .iter()
            .filter_map(|pull| regular(&pull.state))
            .fold(0_u64, u64::saturating_add)
    };
    let write_bytes = bytes(writes);
    if write_bytes > limits.write_bytes_max {
        return Err(ProtectError::TooLarge {
            limit: format!("{} bytes", limits.write_bytes_max),
        });
    }
    let new = write_bytes.saturating_add(bytes(base));
    let (free, held) = world.vault.room().await?;
    retention::admits(free, held, new, limits.room_bytes, limits.vault_bytes_max).map_err(
        |short| ProtectError::NoRoom {
            place: "vault",
            free_bytes: short.free_bytes,
            needed_bytes: short.needed_bytes,
        },
    )?;
    if limits.action_bytes > 0 || !writes.is_empty() {
        let needed = limits.action_bytes.saturating_add(limits.room_bytes);
        let free = reach.room().await?;
        if free < needed {
            return Err(ProtectError::NoRoom {
                place: "target",
                free_bytes: free,
                needed_bytes: needed,
            });
        }
    }
    Ok(())
}
