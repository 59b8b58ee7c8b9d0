//! Taking a backup: list, look for room, pull what is new, commit, read back.
//!
//! All of the write set, or no backup; of the base set what can be had, with its gaps. Content is pulled only where no
//! earlier backup knows the very same file (inode, length, times, mode, owner, links). It runs no action, writes
//! nothing on the host and stores no row: the engine does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use healer_agent::protocol::{WriteKind, WriteMember};
use healer_agent::tree::{Content, Digest, EntryState, Manifest, Pattern, StatKey, TreePath};

use super::error::ProtectError;
use super::reach::{Listing, PullError, Reach};
use super::retention;
use crate::model::action::Identity;
use crate::model::app::App;
use crate::model::backup::{BackupKind, BackupManifest, BackupRow};
use crate::model::id::{BackupId, HealId};
use crate::model::name::ActionName;
use crate::model::policy::BackupPolicy;
use crate::model::time::Moment;
use crate::seam::vault::WarmIndex;
use crate::seam::{Login, VaultError, World};

/// How often a file that changed while it was read is tried again.
const CHANGED_RETRIES: u32 = 3;
/// Files pulled at the same time: hides the way to a distant host, and keeps memory to a few MiB.
const PULLS: usize = 16;
/// Paths of an app that a warm index remembers.
const WARM_MAX: usize = 200_000;
/// A file changed so shortly before the backup may change again within the same tick of the host's clock, so its key
/// proves nothing; it is read again the next time. As git does for its index.
const RACY: Duration = Duration::from_secs(3);
/// Gaps of the base set that are named; of the rest only the number is told.
const GAPS_MAX: usize = 100;

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
            time: Duration::from_secs(600),
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
    pub(super) fn proven(manifest: BackupManifest, row: BackupRow, members: Vec<WriteMember>) -> Self {
        Self { id: manifest.id, manifest, row, members }
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

/// Is everything still as it was backed up? Asked just before the intent.
///
/// Contents must be the very same files. Of a member whose metadata alone will change, mode and owner must be the
/// same, and where the live site shares it, files may have come and gone.
///
/// # Errors
/// When it cannot be told.
pub async fn still_the_same(
    world: &World,
    backup: &VerifiedBackup,
    app: &App,
    login: Login,
) -> Result<bool, ProtectError> {
    let patterns: Vec<Pattern> = backup
        .members
        .iter()
        .map(|member| member.pattern.clone())
        .collect();
    if patterns.is_empty() {
        return Ok(true);
    }
    let limits = Limits::new(&app.policy.backup, 0);
    let reach = Reach::new(world, app, login, limits.time)?;
    let listing = reach.list(&patterns, limits.write_entries_max, false).await?;
    if let Some((path, reason)) = listing.unreadable.into_iter().next() {
        return Err(ProtectError::Unreadable { path, reason });
    }
    Ok(listing.roots == backup.manifest.roots
        && same(&backup.members, &backup.manifest.members, &listing.entries))
}

fn same(members: &[WriteMember], then: &Manifest, now: &Manifest) -> bool {
    let paths = then.keys().chain(now.keys());
    paths.into_iter().all(|path| {
        let (old, new) = (
            then.get(path).and_then(Option::as_ref),
            now.get(path).and_then(Option::as_ref),
        );
        let mut content = false;
        let mut shared = true;
        for member in members.iter().filter(|one| one.pattern.matches(path)) {
            content |= member.what == WriteKind::Content;
            shared &= member.shared;
        }
        match (old, new) {
            (None, None) => true,
            (Some(old), Some(new)) if content => old.key == new.key,
            (Some(old), Some(new)) => {
                (old.meta.mode, old.meta.uid, old.meta.gid)
                    == (new.meta.mode, new.meta.uid, new.meta.gid)
                    && old.meta.xattrs == new.meta.xattrs
            }
            (Some(_), None) | (None, Some(_)) => !content && shared,
        }
    })
}

/// A file whose content is wanted, under all its names.
struct Pull {
    paths: Vec<TreePath>,
    state: EntryState,
}

/// What pulling one file gave.
struct Pulled {
    paths: Vec<TreePath>,
    /// State with digest; `None`: it went away.
    state: Option<EntryState>,
    stored_bytes: u64,
}

async fn take(
    world: &World,
    request: &Protect<'_>,
    trusting: bool,
) -> Result<VerifiedBackup, ProtectError> {
    let limits = &request.limits;
    let taken = world.clock.now();
    let reach = Reach::new(world, request.app, request.login, limits.time)?;
    let warm = if trusting {
        world.vault.warm_index(&request.app.name).await
    } else {
        WarmIndex::new()
    };

    let patterns: Vec<Pattern> = request
        .members
        .iter()
        .map(|member| member.pattern.clone())
        .collect();
    let mut writes = reach.list(&patterns, limits.write_entries_max, false).await?;
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
    let write_pulls = pulls(&mut writes.entries, &known, wanted);
    let base_pulls = pulls(&mut base.listing.entries, &known, |_| true);

    room(world, &app_reach, limits, &write_pulls, &base_pulls).await?;

    let mut stored_bytes = 0_u64;
    {
        let mut results = stream::iter(write_pulls)
            .map(|pull| fetch(world, &reach, pull))
            .buffer_unordered(PULLS);
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
        let mut results = stream::iter(base_pulls)
            .map(|pull| fetch(world, &app_reach, pull))
            .buffer_unordered(PULLS);
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

    let manifest = BackupManifest {
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
    };
    world.vault.commit(&manifest).await?;
    if let Err(error) = world.vault.confirm(request.id).await {
        // It never counted as a backup; what cannot be removed is only room.
        if let Err(left) = world.vault.remove(request.id).await {
            tracing::warn!(backup = %request.id, error = %left, "an unproven backup was left");
        }
        return Err(error.into());
    }
    remember(world, request.app, warm, &manifest).await;
    Ok(proof(world, request, manifest, stored_bytes))
}

/// The application's own user.
pub(super) fn app_login(app: &App) -> Login {
    Login {
        identity: Identity::App,
        uid: app.target.uid,
        gid: app.target.gid,
    }
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

/// Size and digest of a file whose content is stored.
fn stored(entry: &EntryState) -> Option<(u64, Digest)> {
    match &entry.content {
        Content::File {
            size,
            digest: Some(digest),
        } => Some((*size, *digest)),
        Content::File { digest: None, .. }
        | Content::Directory
        | Content::Link { .. }
        | Content::Other => None,
    }
}

fn regular(entry: &EntryState) -> Option<u64> {
    match &entry.content {
        Content::File { size, .. } => Some(*size),
        Content::Directory | Content::Link { .. } | Content::Other => None,
    }
}

/// The base set as it is collected.
struct Base {
    listing: Listing,
    gaps: BTreeMap<TreePath, String>,
}

impl Base {
    /// Lists it, without what the write set holds already, as far as the limits allow.
    async fn list(
        reach: &Reach<'_>,
        request: &Protect<'_>,
        writes: &Listing,
    ) -> Result<Self, ProtectError> {
        let limits = &request.limits;
        let mut base = Self {
            listing: Listing::default(),
            gaps: BTreeMap::new(),
        };
        let mut bytes = 0_u64;
        for member in &request.base {
            // One by one, so that a member that is too large costs only itself.
            let listed = reach
                .list(std::slice::from_ref(member), limits.base_files_max, false)
                .await;
            let listing = match listed {
                Ok(listing) => listing,
                Err(ProtectError::TooLarge { limit }) => {
                    base.gap(member.fixed_prefix(), format!("it holds more than {limit}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !base.listing.roots.is_empty() && base.listing.roots != listing.roots {
                return Err(ProtectError::Moved);
            }
            base.listing.roots = listing.roots;
            base.gaps.extend(listing.unreadable);
            for (path, entry) in listing.entries {
                if writes.entries.contains_key(&path) {
                    continue;
                }
                let size = entry.as_ref().and_then(regular).unwrap_or(0);
                if entry.is_none() {
                    base.gap(path.clone(), "it is missing".to_owned());
                }
                if base.listing.entries.len() as u64 >= limits.base_files_max {
                    base.gap(path, format!("more than {} files", limits.base_files_max));
                } else if bytes.saturating_add(size) > limits.base_bytes_max {
                    base.gap(path, format!("more than {} bytes", limits.base_bytes_max));
                } else {
                    bytes = bytes.saturating_add(size);
                    base.listing.entries.insert(path, entry);
                }
            }
        }
        Ok(base)
    }

    fn gap(&mut self, path: TreePath, reason: String) {
        self.gaps.insert(path, reason);
    }

    /// A file that could not be read is a gap and no entry; otherwise a restore would bring back an empty promise.
    fn finish(mut self) -> (Manifest, Vec<(TreePath, String)>) {
        let gaps = &self.gaps;
        self.listing.entries.retain(|path, entry| {
            entry
                .as_ref()
                .is_none_or(|entry| regular(entry).is_none() || stored(entry).is_some())
                || !gaps.contains_key(path)
        });
        let more = self.gaps.len().saturating_sub(GAPS_MAX);
        let mut gaps: Vec<_> = self.gaps.into_iter().take(GAPS_MAX).collect();
        if more > 0 {
            gaps.push((TreePath::root(), format!("and {more} more were left out")));
        }
        (self.listing.entries, gaps)
    }
}

/// What the warm index knows of these entries and the vault still holds.
async fn known(
    world: &World,
    warm: &WarmIndex,
    manifests: [&Manifest; 2],
) -> Result<HashMap<TreePath, (StatKey, Digest)>, ProtectError> {
    let mut known: HashMap<TreePath, (StatKey, Digest)> = HashMap::new();
    for (path, entry) in manifests.into_iter().flatten() {
        if let (Some(entry), Some((key, digest))) = (entry, warm.get(path))
            && entry.key == *key
        {
            known.insert(path.clone(), (*key, *digest));
        }
    }
    if known.is_empty() {
        return Ok(known);
    }
    let digests: HashSet<Digest> = known.values().map(|(_, digest)| *digest).collect();
    let missing = world.vault.missing(digests.into_iter().collect()).await?;
    known.retain(|_, (_, digest)| !missing.contains(digest));
    Ok(known)
}

/// Fills in the digests that are known, and lists the files that must be read; one with several names once.
fn pulls(
    entries: &mut Manifest,
    known: &HashMap<TreePath, (StatKey, Digest)>,
    wanted: impl Fn(&TreePath) -> bool,
) -> Vec<Pull> {
    let mut pulls: Vec<Pull> = Vec::new();
    let mut linked: HashMap<StatKey, usize> = HashMap::new();
    for (path, entry) in entries {
        let Some(state) = entry else { continue };
        let Content::File { digest, .. } = &mut state.content else {
            continue;
        };
        if !wanted(path) {
            continue;
        }
        if let Some((_, found)) = known.get(path) {
            *digest = Some(*found);
            continue;
        }
        if state.key.nlink > 1
            && let Some(at) = linked.get(&state.key)
            && let Some(pull) = pulls.get_mut(*at)
        {
            pull.paths.push(path.clone());
            continue;
        }
        linked.insert(state.key, pulls.len());
        pulls.push(Pull {
            paths: vec![path.clone()],
            state: state.clone(),
        });
    }
    pulls
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

/// Pulls one file; one that changes meanwhile is looked at again.
async fn fetch(
    world: &World,
    reach: &Reach<'_>,
    pull: Pull,
) -> Result<Pulled, (TreePath, PullError)> {
    let Pull { paths, mut state } = pull;
    let Some(path) = paths.first().cloned() else {
        return Ok(Pulled {
            paths,
            state: None,
            stored_bytes: 0,
        });
    };
    let at = |error| (path.clone(), error);
    let vault = |error: VaultError| (path.clone(), PullError::Other(error.into()));
    for _ in 0..=CHANGED_RETRIES {
        let mut sink = world.vault.begin().await.map_err(vault)?;
        match reach.pull(&path, state.key, &mut sink).await {
            Ok(size) => {
                let (digest, stored_bytes) = sink.finish().await.map_err(vault)?;
                state.content = Content::File {
                    size,
                    digest: Some(digest),
                };
                return Ok(Pulled {
                    paths,
                    state: Some(state),
                    stored_bytes,
                });
            }
            Err(PullError::Changed) => {}
            Err(error) => return Err(at(error)),
        }
        drop(sink);
        match reach.look(&path).await.map_err(at)? {
            Some(now) if regular(&now).is_some() => state = now,
            other => {
                return Ok(Pulled {
                    paths,
                    state: other,
                    stored_bytes: 0,
                });
            }
        }
    }
    Err(at(PullError::Changed))
}

/// Puts what was pulled in its places. One that went away is absent where a member names that very path, and else is
/// no entry at all.
fn settle(entries: &mut Manifest, pulled: Pulled, single: impl Fn(&TreePath) -> bool) {
    for path in pulled.paths {
        match &pulled.state {
            Some(state) => {
                entries.insert(path, Some(state.clone()));
            }
            None if single(&path) => {
                entries.insert(path, None);
            }
            None => {
                entries.remove(&path);
            }
        }
    }
}

async fn remember(world: &World, app: &App, warm: WarmIndex, manifest: &BackupManifest) {
    let mut index = warm;
    let mut changed = false;
    for (path, entry) in manifest.members.iter().chain(&manifest.base) {
        let Some(entry) = entry else {
            changed |= index.remove(path).is_some();
            continue;
        };
        if let Some((_, digest)) = stored(entry)
            && !racy(&entry.key, &manifest.taken)
        {
            let value = (entry.key, digest);
            changed |= index.insert(path.clone(), value) != Some(value);
        }
    }
    while index.len() > WARM_MAX {
        changed = true;
        index.pop_first();
    }
    if changed {
        world.vault.keep_warm_index(&app.name, &index).await;
    }
}

fn racy(key: &StatKey, taken: &Moment) -> bool {
    let before_ms = taken
        .wall_ms
        .saturating_sub(i64::try_from(RACY.as_millis()).unwrap_or(i64::MAX));
    key.ctime.secs.saturating_mul(1000) >= before_ms
}
