//! The vault's files and what is known of them. Everything here blocks.
//!
//! The order of a commit is what makes it safe. Contents wait in `tmp/` until a manifest names them; then they and
//! the manifest's own temporary file are made durable, the contents get their names, those names are made durable,
//! and last of all the manifest gets its name. A crash in between leaves contents without a manifest, and a temporary
//! manifest that says so: the next open then marks and sweeps. Removing goes the same way back.
//!
//! One process holds a vault at a time (an advisory lock), so what this process knows to be there is there, unless a
//! person removed it by hand; [`Shelf::confirm`] notices that.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use healer_agent::tree::Digest;
use rustix::fs::FlockOperation;

use super::files::{self, Folder};
use super::object::{Header, Packers, Packing, Unpacking, WHOLE_BYTES_MAX};
use super::place::{self, Place};
use super::record;
use crate::model::backup::BackupManifest;
use crate::model::id::BackupId;
use crate::model::name::AppName;
use crate::seam::VaultError;
use crate::seam::vault::WarmIndex;

/// Written once; another version is refused instead of guessed at.
const FORMAT: &[u8] = b"healerd-vault 1\n";
/// From this many new contents on, one pass over the file system is cheaper than a sync for each.
const SYNC_ALL_FROM: usize = 8;
/// Objects removed while the vault is locked, before others get their turn.
const SWEEP_STEP: usize = 256;
/// What is remembered of objects that were read back; more are forgotten, and read again when needed.
const PROVEN_MAX: usize = 1 << 16;

/// An object file as it was when its content was read back and found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: i64,
    changed: (i64, u64),
}

/// A content that is written and waits for a manifest.
#[derive(Debug)]
struct Pending {
    temp: String,
    bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    pending: HashMap<Digest, Pending>,
    /// Objects seen whole in `objects/` by this process.
    known: HashSet<Digest>,
    /// Objects read back by this process, with their stamp from then.
    proven: HashMap<Digest, Stamp>,
    /// Objects that a running backup counts on; not swept whatever the manifests say.
    held: HashSet<Digest>,
    holders: usize,
    /// How many manifests name each content; made when first needed.
    named: Option<HashMap<Digest, u32>>,
    /// Bytes of all objects; made when first needed.
    bytes: Option<u64>,
}

/// Folders, lock and knowledge.
#[derive(Debug)]
pub(super) struct Shelf {
    root: Folder,
    objects: Vec<Folder>,
    manifests: Folder,
    indexes: Folder,
    temps: Folder,
    damaged: Folder,
    _lock: File,
    packers: Packers,
    state: Mutex<State>,
    /// Serialises commits and sweeps.
    commits: Mutex<()>,
    temp_number: AtomicU64,
    #[cfg(test)]
    pub(super) stop: super::tests::Stop,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of the 256 folders, and the name in it.
fn shelf_of(digest: Digest) -> (usize, String) {
    let text = digest.to_string();
    (usize::from(digest.as_bytes()[0]), text[2..].to_owned())
}

/// A file in `tmp/` that goes away with this value, unless it was given another name.
#[derive(Debug)]
pub(super) struct Temp {
    shelf: Arc<Shelf>,
    name: String,
    kept: bool,
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.kept && self.shelf.point("vault.temp.dropped").is_ok() {
            // What stays is collected at the next open.
            if let Err(error) = self.shelf.temps.remove(&self.name) {
                tracing::warn!(%error, "a temporary file of the vault was left");
            }
        }
    }
}

/// A content too large to be kept in memory while it comes in.
pub(super) struct Spill {
    packing: Packing,
    temp: Temp,
}

/// While it lives, nothing that [`Shelf::finish`] or [`Shelf::missing`] saw is swept.
#[derive(Debug)]
pub(super) struct Held(Arc<Shelf>);

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.holders = state.holders.saturating_sub(1);
        if state.holders > 0 {
            return;
        }
        state.held.clear();
        // Nobody is left who could commit them.
        let left: Vec<Pending> = state.pending.drain().map(|(_, left)| left).collect();
        drop(state);
        if left.is_empty() {
            return;
        }
        let shelf = Arc::clone(&self.0);
        let clean = move || shelf.drop_pending(&left);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(clean)),
            Err(_) => clean(),
        }
    }
}

impl Shelf {
    pub(super) fn open(path: &Path, place: &Place) -> Result<Arc<Self>, VaultError> {
        let root = place::open(path, place)?;
        let lock = root.open_or_create("lock")?;
        rustix::fs::flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| root.error("lock", "lock", errno.into()))?;
        match root.read_all("format", 4096)? {
            Some(format) if format == FORMAT => {}
            Some(format) if !format.is_empty() => {
                return Err(VaultError::Refused {
                    path: path.display().to_string(),
                    reason: "its format is not one that this version knows".to_owned(),
                });
            }
            Some(_) | None => {
                let mut file = root.open_or_create("format")?;
                file.write_all(FORMAT)
                    .and_then(|()| file.sync_all())
                    .map_err(|source| root.error("write", "format", source))?;
            }
        }
        let objects = root.sub("objects")?;
        let shelf = Self {
            objects: (0..256)
                .map(|byte| objects.sub(&format!("{byte:02x}")))
                .collect::<Result<_, _>>()?,
            manifests: root.sub("manifests")?,
            indexes: root.sub("indexes")?,
            temps: root.sub("tmp")?,
            damaged: root.sub("damaged")?,
            root,
            _lock: lock,
            packers: Packers::default(),
            state: Mutex::default(),
            commits: Mutex::new(()),
            temp_number: AtomicU64::new(0),
            #[cfg(test)]
            stop: super::tests::Stop::default(),
        };
        objects.sync()?;
        shelf.root.sync()?;
        shelf.collect()?;
        Ok(Arc::new(shelf))
    }

    /// A place between two effects, where a crash is tried.
    pub(super) fn point(&self, name: &'static str) -> Result<(), VaultError> {
        healer_agent::crash::point(name);
        #[cfg(test)]
        if self.stop.here(name) {
            return Err(self
                .root
                .error("stop", name, std::io::ErrorKind::Other.into()));
        }
        Ok(())
    }

    /// Takes away what an interrupted process left.
    fn collect(&self) -> Result<(), VaultError> {
        let left = self.temps.names()?;
        // An interrupted commit or removal; contents may have lost, or not yet got, the manifest that names them.
        let unsure = left.iter().any(|name| name.ends_with(".manifest"));
        let swept = !unsure || self.sweep_all()?;
        for name in left {
            if swept || !name.ends_with(".manifest") {
                self.temps.remove(&name)?;
            }
        }
        Ok(())
    }

    fn temp_name(&self, ending: &str) -> String {
        // Never one that an earlier process left for the sweep.
        loop {
            let number = self.temp_number.fetch_add(1, Ordering::Relaxed);
            let name = format!("{number}.{ending}");
            if !matches!(self.temps.stat(&name), Ok(Some(_))) {
                return name;
            }
        }
    }

    fn drop_pending(&self, left: &[Pending]) {
        for pending in left {
            let removed = self
                .point("vault.pending.dropped")
                .and_then(|()| self.temps.remove(&pending.temp));
            if let Err(error) = removed {
                tracing::warn!(%error, "a temporary file of the vault was left");
            }
        }
    }

    /// Leaves word that an object may be in nobody's name, so that the next open looks.
    fn leave_word(&self) -> Result<(), VaultError> {
        self.temps.open_or_create("unsure.manifest").map(drop)
    }

    /// Until it is dropped, objects that are seen or written stay.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        lock(&self.state).holders += 1;
        Held(Arc::clone(self))
    }

    /// Appends to a content that does not fit into memory, beginning its file at the first call.
    pub(super) fn spill(
        self: &Arc<Self>,
        spill: Option<Spill>,
        bytes: &[u8],
    ) -> Result<Spill, VaultError> {
        let mut spill = match spill {
            Some(spill) => spill,
            None => {
                let name = self.temp_name("object");
                let file = self.temps.create(&name)?;
                let temp = Temp {
                    shelf: Arc::clone(self),
                    name,
                    kept: false,
                };
                let packing = Packing::new(file)
                    .map_err(|source| self.temps.error("write", &temp.name, source))?;
                Spill { packing, temp }
            }
        };
        spill
            .packing
            .write(bytes)
            .map_err(|source| self.temps.error("write", &spill.temp.name, source))?;
        Ok(spill)
    }

    /// Ends a content: the digest, and the bytes it added.
    pub(super) fn finish(
        self: &Arc<Self>,
        spill: Option<Spill>,
        rest: &[u8],
    ) -> Result<(Digest, u64), VaultError> {
        let spilled = match spill {
            Some(mut spill) => {
                let fail = |source| self.temps.error("write", &spill.temp.name, source);
                spill.packing.write(rest).map_err(fail)?;
                let (digest, bytes) = spill.packing.finish().map_err(fail)?;
                Some((digest, bytes, spill.temp))
            }
            None => None,
        };
        let digest = spilled
            .as_ref()
            .map_or_else(|| Digest::of(rest), |(digest, _, _)| *digest);
        if self.is_there(digest)? {
            return Ok((digest, 0));
        }
        let (bytes, temp) = match spilled {
            Some((_, bytes, temp)) => (bytes, temp),
            None => self.write_whole(rest)?,
        };
        self.point("vault.object.written")?;
        let mut state = lock(&self.state);
        if state.pending.contains_key(&digest) || state.known.contains(&digest) {
            return Ok((digest, 0)); // a second writer of the same content was faster
        }
        state.held.insert(digest);
        let name = keep(temp);
        state.pending.insert(digest, Pending { temp: name, bytes });
        Ok((digest, bytes))
    }

    fn write_whole(self: &Arc<Self>, plain: &[u8]) -> Result<(u64, Temp), VaultError> {
        let name = self.temp_name("object");
        let fail = |source| self.temps.error("write", &name, source);
        let bytes = self.packers.pack(plain).map_err(fail)?;
        let mut file = self.temps.create(&name)?;
        let temp = Temp {
            shelf: Arc::clone(self),
            name: name.clone(),
            kept: false,
        };
        file.write_all(&bytes).map_err(fail)?;
        Ok((bytes.len() as u64, temp))
    }

    /// Is the content there, as far as its header and length tell? If so it is held.
    fn is_there(&self, digest: Digest) -> Result<bool, VaultError> {
        {
            let mut state = lock(&self.state);
            if state.pending.contains_key(&digest) || state.known.contains(&digest) {
                state.held.insert(digest);
                return Ok(true);
            }
        }
        // Not with a sweep between the look and the hold.
        let _commits = lock(&self.commits);
        self.look(digest)
    }

    /// As [`Shelf::is_there`], for whoever already holds the commit lock.
    fn look(&self, digest: Digest) -> Result<bool, VaultError> {
        let (folder, name) = shelf_of(digest);
        let Some(mut file) = self.objects[folder].read(&name)? else {
            return Ok(false);
        };
        let whole = Header::of(&mut file)
            .map_err(|source| self.objects[folder].error("read", &name, source))?;
        if whole.is_err() {
            return Ok(false);
        }
        let mut state = lock(&self.state);
        state.known.insert(digest);
        state.held.insert(digest);
        Ok(true)
    }

    /// Which of these are not there. The others are held.
    pub(super) fn missing(&self, digests: &[Digest]) -> Result<HashSet<Digest>, VaultError> {
        let unsure: Vec<Digest> = {
            let mut state = lock(&self.state);
            digests
                .iter()
                .copied()
                .filter(|digest| {
                    let there = state.known.contains(digest) || state.pending.contains_key(digest);
                    if there {
                        state.held.insert(*digest);
                    }
                    !there
                })
                .collect()
        };
        let mut missing = HashSet::new();
        for digest in unsure {
            if !self.is_there(digest)? {
                missing.insert(digest);
            }
        }
        Ok(missing)
    }

    /// Opens a content for reading from its start.
    pub(super) fn reader(&self, digest: Digest) -> Result<Unpacking<File>, VaultError> {
        let (mut file, folder, name) = self.content(digest)?;
        let fail = |source| folder.error("read", &name, source);
        let header = Header::of(&mut file)
            .map_err(fail)?
            .map_err(|reason| damaged_object(digest, reason))?;
        Unpacking::new(file, header).map_err(fail)
    }

    fn content(&self, digest: Digest) -> Result<(File, &Folder, String), VaultError> {
        let temp = lock(&self.state)
            .pending
            .get(&digest)
            .map(|pending| pending.temp.clone());
        if let Some(temp) = temp
            && let Some(file) = self.temps.read(&temp)?
        {
            return Ok((file, &self.temps, temp));
        }
        let (folder, name) = shelf_of(digest);
        match self.objects[folder].read(&name)? {
            Some(file) => Ok((file, &self.objects[folder], name)),
            None => Err(damaged_object(digest, "it is missing")),
        }
    }

    /// Makes a backup exist.
    pub(super) fn commit(self: &Arc<Self>, manifest: &BackupManifest) -> Result<(), VaultError> {
        let bytes = record::manifest_bytes(manifest).map_err(|source| {
            self.manifests
                .error("write", &manifest_name(manifest.id), source.into())
        })?;
        let digests: BTreeSet<Digest> = manifest.digests().collect();
        let _commits = lock(&self.commits);
        let name = manifest_name(manifest.id);
        if self.manifests.stat(&name)?.is_some() {
            return Err(self.manifests.error(
                "create",
                &name,
                std::io::ErrorKind::AlreadyExists.into(),
            ));
        }
        let new = self.new_contents(&digests)?;
        let temp = Temp {
            shelf: Arc::clone(self),
            name: self.temp_name("manifest"),
            kept: false,
        };
        let mut file = self.temps.create(&temp.name)?;
        file.write_all(&bytes)
            .map_err(|source| self.temps.error("write", &temp.name, source))?;
        self.point("vault.manifest.written")?;
        if new.len() >= SYNC_ALL_FROM {
            self.root.sync_all()?;
        } else {
            for (_, content) in &new {
                self.temps.sync_file(content)?;
            }
            file.sync_all()
                .map_err(|source| self.temps.error("sync", &temp.name, source))?;
            self.temps.sync()?;
        }
        self.point("vault.objects.synced")?;
        // From here on a failure must leave the temporary manifest, which tells the next open to sweep.
        let temp = keep(temp);
        self.name_contents(&new)?;
        self.point("vault.objects.named")?;
        self.temps.rename(&temp, &self.manifests, &name)?;
        self.point("vault.manifest.named")?;
        self.manifests.sync()?;
        self.point("vault.manifest.durable")?;
        let mut state = lock(&self.state);
        if let Some(named) = &mut state.named {
            for digest in &digests {
                *named.entry(*digest).or_default() += 1;
            }
        }
        if state.holders == 0 {
            for digest in &digests {
                state.held.remove(digest);
            }
        }
        Ok(())
    }

    /// Contents of these that have no name yet, with their temporary one.
    fn new_contents(
        &self,
        digests: &BTreeSet<Digest>,
    ) -> Result<Vec<(Digest, String)>, VaultError> {
        let mut new = Vec::new();
        let mut unsure = Vec::new();
        {
            let state = lock(&self.state);
            for digest in digests {
                match state.pending.get(digest) {
                    Some(pending) => new.push((*digest, pending.temp.clone())),
                    None if state.known.contains(digest) => {}
                    None => unsure.push(*digest),
                }
            }
        }
        for digest in unsure {
            if !self.look(digest)? {
                return Err(damaged_object(digest, "it is missing"));
            }
        }
        Ok(new)
    }

    fn name_contents(&self, new: &[(Digest, String)]) -> Result<(), VaultError> {
        let mut touched = BTreeSet::new();
        for (digest, temp) in new {
            let (folder, name) = shelf_of(*digest);
            self.temps.rename(temp, &self.objects[folder], &name)?;
            touched.insert(folder);
            let mut state = lock(&self.state);
            let bytes = state.pending.remove(digest).map_or(0, |gone| gone.bytes);
            state.known.insert(*digest);
            if let Some(total) = &mut state.bytes {
                *total = total.saturating_add(bytes);
            }
            drop(state);
            self.point("vault.object.named")?;
        }
        if touched.len() >= SYNC_ALL_FROM {
            self.root.sync_all()
        } else {
            touched
                .into_iter()
                .try_for_each(|folder| self.objects[folder].sync())
        }
    }

    /// Reads a manifest and proves it by its digest.
    pub(super) fn manifest(&self, id: BackupId) -> Result<BackupManifest, VaultError> {
        let name = manifest_name(id);
        let bytes = self
            .manifests
            .read_all(&name, record::MANIFEST_BYTES_MAX)?
            .ok_or(VaultError::Absent(id))?;
        record::manifest_of(&bytes, id)
            .map_err(|reason| VaultError::Damaged(format!("manifest of backup {id}: {reason}")))
    }

    /// Reads everything of a backup back from the disk.
    pub(super) fn verify(&self, id: BackupId) -> Result<(), VaultError> {
        let manifest = self.reread_manifest(id)?;
        let digests: BTreeSet<Digest> = manifest.digests().collect();
        self.read_back(&digests.into_iter().collect::<Vec<_>>())
    }

    /// As [`Shelf::verify`], but an object that this process already read back is only asked whether it is still the
    /// same file: its inode, length and change time, which no program can set.
    pub(super) fn confirm(&self, id: BackupId) -> Result<(), VaultError> {
        let manifest = self.reread_manifest(id)?;
        let digests: BTreeSet<Digest> = manifest.digests().collect();
        let proven: Vec<(Digest, Option<Stamp>)> = {
            let state = lock(&self.state);
            digests
                .into_iter()
                .map(|digest| (digest, state.proven.get(&digest).copied()))
                .collect()
        };
        let mut unproven = Vec::new();
        for (digest, stamp) in proven {
            let (folder, name) = shelf_of(digest);
            let now = match stamp {
                Some(_) => self.objects[folder]
                    .stat(&name)?
                    .map(|stat| stamp_of(&stat)),
                None => None,
            };
            if now.is_none() || now != stamp {
                unproven.push(digest);
            }
        }
        self.read_back(&unproven)
    }

    fn reread_manifest(&self, id: BackupId) -> Result<BackupManifest, VaultError> {
        if let Some(file) = self.manifests.read(&manifest_name(id))? {
            files::forget_pages(&file);
        }
        self.manifest(id)
    }

    /// Reads objects whole and compares, on as many threads as there are processors, four at most.
    fn read_back(&self, digests: &[Digest]) -> Result<(), VaultError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = digests.len().div_ceil(threads.clamp(1, 4)).max(64);
        std::thread::scope(|scope| {
            let tasks: Vec<_> = digests
                .chunks(share)
                .map(|chunk| {
                    scope.spawn(move || chunk.iter().try_for_each(|digest| self.prove(*digest)))
                })
                .collect();
            tasks.into_iter().try_for_each(|task| {
                task.join().unwrap_or_else(|_| {
                    Err(VaultError::Damaged(
                        "reading back ended in a fault of the program".to_owned(),
                    ))
                })
            })
        })
    }

    fn prove(&self, digest: Digest) -> Result<(), VaultError> {
        let (folder, name) = shelf_of(digest);
        let Some(mut file) = self.objects[folder].read(&name)? else {
            lock(&self.state).known.remove(&digest);
            return Err(damaged_object(digest, "it is missing"));
        };
        files::forget_pages(&file);
        let fail = |source| self.objects[folder].error("read back", &name, source);
        let stat = rustix::fs::fstat(&file).map_err(|errno| fail(errno.into()))?;
        let found = self.packers.digest(&mut file).map_err(fail)?;
        let reason = match found {
            Ok(found) if found == digest => {
                let mut state = lock(&self.state);
                if state.proven.len() >= PROVEN_MAX {
                    state.proven.clear();
                }
                state.proven.insert(digest, stamp_of(&stat));
                return Ok(());
            }
            Ok(_) => "its content is another one",
            Err(reason) => reason,
        };
        self.set_aside(digest);
        Err(damaged_object(digest, reason))
    }

    /// Takes a damaged object away from its name, so that the next backup of the same content stores it anew. It is
    /// kept apart for whoever looks into the cause.
    fn set_aside(&self, digest: Digest) {
        let _commits = lock(&self.commits);
        let (folder, name) = shelf_of(digest);
        let mut state = lock(&self.state);
        state.known.remove(&digest);
        state.proven.remove(&digest);
        drop(state);
        if let Err(error) = self.objects[folder].rename(&name, &self.damaged, &digest.to_string()) {
            tracing::warn!(%error, "a damaged object of the vault could not be set aside");
        }
    }

    /// Ids of the manifests that look whole, in order.
    pub(super) fn list(&self) -> Result<Vec<BackupId>, VaultError> {
        use std::os::unix::fs::FileExt as _;
        let mut ids = Vec::new();
        for (name, id) in self.manifest_names()? {
            let Some(file) = self.manifests.read(&name)? else {
                continue;
            };
            let fail = |source| self.manifests.error("read", &name, source);
            let mut head = vec![0; record::LINE_BYTES_MAX];
            let count = file.read_at(&mut head, 0).map_err(fail)?;
            let length = file.metadata().map_err(fail)?.len();
            if record::manifest_looks_whole(&head[..count], length) {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    fn manifest_names(&self) -> Result<Vec<(String, BackupId)>, VaultError> {
        Ok(self
            .manifests
            .names()?
            .into_iter()
            .filter_map(|name| {
                let id = name.strip_suffix(".json")?.parse().ok()?;
                Some((name, id))
            })
            .collect())
    }

    /// Removes a manifest and what only it named. Gives the bytes that became free.
    pub(super) fn remove(&self, id: BackupId) -> Result<u64, VaultError> {
        let manifest = match self.manifest(id) {
            Ok(manifest) => Some(manifest),
            Err(VaultError::Damaged(_)) => None,
            Err(
                error @ (VaultError::Io { .. }
                | VaultError::NoRoom(_)
                | VaultError::Absent(_)
                | VaultError::Refused { .. }),
            ) => {
                return Err(error);
            }
        };
        let temp = self.temp_name("manifest");
        let sweep = {
            let _commits = lock(&self.commits);
            // Before the manifest goes, so that it is counted as well.
            let counted = self.count_names()?;
            self.manifests
                .rename(&manifest_name(id), &self.temps, &temp)?;
            self.point("vault.manifest.withdrawn")?;
            self.manifests.sync()?;
            self.temps.sync()?;
            self.point("vault.manifest.gone")?;
            let digests: BTreeSet<Digest> = match &manifest {
                Some(manifest) => manifest.digests().collect(),
                None => BTreeSet::new(),
            };
            if let Some(named) = &mut lock(&self.state).named {
                for digest in &digests {
                    if let Some(count) = named.get_mut(digest) {
                        *count = count.saturating_sub(1);
                    }
                }
            }
            counted.then_some(digests)
        };
        let freed = match (sweep, manifest) {
            (Some(digests), Some(_)) => {
                let digests: Vec<Digest> = digests.into_iter().collect();
                let mut freed = 0_u64;
                for step in digests.chunks(SWEEP_STEP) {
                    let _commits = lock(&self.commits);
                    freed = freed.saturating_add(self.sweep(step)?);
                }
                freed
            }
            // What a damaged manifest named is not known: look at every object.
            (_, None) | (None, _) => {
                let before = self.bytes()?;
                self.sweep_all()?;
                before.saturating_sub(self.bytes()?)
            }
        };
        self.temps.remove(&temp)?;
        Ok(freed)
    }

    /// Removes those of the objects that nothing names and nobody holds. The commit lock is the caller's.
    fn sweep(&self, digests: &[Digest]) -> Result<u64, VaultError> {
        let mut freed = 0_u64;
        for digest in digests {
            {
                let mut state = lock(&self.state);
                let named = state
                    .named
                    .as_ref()
                    .is_none_or(|named| named.get(digest).is_some_and(|count| *count > 0));
                if named {
                    continue;
                }
                if state.held.contains(digest) || state.pending.contains_key(digest) {
                    drop(state);
                    self.leave_word()?;
                    continue;
                }
                state.known.remove(digest);
                state.proven.remove(digest);
                if let Some(named) = &mut state.named {
                    named.remove(digest);
                }
            }
            let (folder, name) = shelf_of(*digest);
            let bytes = self.objects[folder]
                .stat(&name)?
                .and_then(|stat| u64::try_from(stat.st_size).ok());
            if self.objects[folder].remove(&name)? {
                let bytes = bytes.unwrap_or(0);
                freed = freed.saturating_add(bytes);
                if let Some(total) = &mut lock(&self.state).bytes {
                    *total = total.saturating_sub(bytes);
                }
            }
            self.point("vault.object.swept")?;
        }
        Ok(freed)
    }

    /// Marks what the manifests name and sweeps the rest. False when a manifest cannot be read: what it names is then
    /// not known, and nothing is swept.
    fn sweep_all(&self) -> Result<bool, VaultError> {
        {
            let _commits = lock(&self.commits);
            lock(&self.state).named = None;
            if !self.count_names()? {
                return Ok(false);
            }
        }
        for (byte, folder) in self.objects.iter().enumerate() {
            let digests: Vec<Digest> = folder
                .names()?
                .iter()
                .filter_map(|name| Digest::parse(&format!("{byte:02x}{name}")))
                .collect();
            for step in digests.chunks(SWEEP_STEP) {
                let _commits = lock(&self.commits);
                self.sweep(step)?;
            }
        }
        Ok(true)
    }

    /// Counts, once, which manifests name what. False when one is damaged.
    fn count_names(&self) -> Result<bool, VaultError> {
        if lock(&self.state).named.is_some() {
            return Ok(true);
        }
        let mut named: HashMap<Digest, u32> = HashMap::new();
        for (name, id) in self.manifest_names()? {
            match self.manifest(id) {
                Ok(manifest) => {
                    for digest in manifest.digests().collect::<BTreeSet<_>>() {
                        *named.entry(digest).or_default() += 1;
                    }
                }
                Err(VaultError::Damaged(reason)) => {
                    tracing::warn!(
                        manifest = name,
                        reason,
                        "nothing can be swept from the vault"
                    );
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        lock(&self.state).named = Some(named);
        Ok(true)
    }

    pub(super) fn warm_index(&self, app: &AppName) -> WarmIndex {
        let read = self
            .indexes
            .read_all(&index_name(app), record::INDEX_BYTES_MAX);
        match read {
            Ok(bytes) => bytes
                .and_then(|bytes| record::index_of(&bytes))
                .unwrap_or_default(),
            Err(error) => {
                tracing::debug!(%app, %error, "the warm index is not used");
                WarmIndex::new()
            }
        }
    }

    /// Not synced: a lost index costs one slow backup, and a torn one is noticed.
    pub(super) fn keep_warm_index(
        self: &Arc<Self>,
        app: &AppName,
        index: &WarmIndex,
    ) -> Result<(), VaultError> {
        let temp = Temp {
            shelf: Arc::clone(self),
            name: self.temp_name("index"),
            kept: false,
        };
        let mut file = self.temps.create(&temp.name)?;
        file.write_all(&record::index_bytes(index))
            .map_err(|source| self.temps.error("write", &temp.name, source))?;
        self.temps
            .rename(&temp.name, &self.indexes, &index_name(app))?;
        keep(temp);
        Ok(())
    }

    pub(super) fn room(&self) -> Result<(u64, u64), VaultError> {
        Ok((self.root.free_bytes()?, self.bytes()?))
    }

    fn bytes(&self) -> Result<u64, VaultError> {
        if let Some(bytes) = lock(&self.state).bytes {
            return Ok(bytes);
        }
        let _commits = lock(&self.commits);
        let mut total = 0_u64;
        for folder in &self.objects {
            for name in folder.names()? {
                let size = folder.stat(&name)?.map_or(0, |stat| stat.st_size);
                total = total.saturating_add(u64::try_from(size).unwrap_or(0));
            }
        }
        lock(&self.state).bytes = Some(total);
        Ok(total)
    }
}

fn keep(mut temp: Temp) -> String {
    temp.kept = true;
    std::mem::take(&mut temp.name)
}

fn manifest_name(id: BackupId) -> String {
    format!("{id}.json")
}

fn index_name(app: &AppName) -> String {
    format!("{app}.index")
}

fn damaged_object(digest: Digest, reason: &str) -> VaultError {
    VaultError::Damaged(format!("object {digest}: {reason}"))
}

#[expect(
    clippy::useless_conversion,
    clippy::unnecessary_cast,
    reason = "the widths of these words differ between architectures"
)]
fn stamp_of(stat: &rustix::fs::Stat) -> Stamp {
    Stamp {
        inode: stat.st_ino as u64,
        bytes: i64::from(stat.st_size),
        changed: (i64::from(stat.st_ctime), stat.st_ctime_nsec as u64),
    }
}

/// Contents up to this size wait in memory until it is known whether they are new.
pub(super) const MEMORY_BYTES_MAX: usize = WHOLE_BYTES_MAX / 4;
