//! The vault's files and what is known of them. Everything here blocks.
//!
//! The order of a commit is what makes it safe. Contents wait in `tmp/` until a manifest names them; then they and
//! the manifest's own temporary file are made durable, the contents get their names, those names are made durable,
//! and last of all the manifest gets its name. A crash in between leaves contents without a manifest, and a temporary
//! manifest that says so: the next open then marks and sweeps. Removing goes the same way back.
//!
//! One process holds a vault at a time (an advisory lock), so what this process knows to be there is there, unless a
//! person removed it by hand; [`Shelf::confirm`] notices what was gone when the backup looked at it, and the proof before an
//! intent looks at all of it anew.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use healer_agent::tree::Digest;
use rustix::fs::FlockOperation;

use super::by_digest::{DigestMap, DigestSet};
use super::files::Folder;
use super::object::{Header, Packers, Packing, Unpacking, WHOLE_BYTES_MAX};
use super::place::{self, Place};
use super::record;
use crate::model::id::BackupId;
use crate::model::name::AppName;
use crate::seam::VaultError;
use crate::seam::vault::WarmIndex;

/// Written once; another version is refused instead of guessed at.
const FORMAT: &[u8] = b"healerd-vault 1\n";
/// What is remembered of objects that were read back; more are forgotten, and read again when needed.
pub(super) const PROVEN_MAX: usize = 1 << 16;

/// Manifests of which this process remembers what it wrote; together they name at most [`PROVEN_MAX`] contents.
const WRITTEN_MAX: usize = 16;

/// An object file as it was when its content was read back and found right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) bytes: i64,
    pub(super) changed: (i64, u64),
}

/// A manifest that this process wrote: what its file must read as, so that it need not be taken apart again.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) id: BackupId,
    /// The first line of the file.
    pub(super) line: Box<[u8]>,
    /// Digest of all that follows it.
    pub(super) json: Digest,
    /// All that it names, each once.
    pub(super) contents: Arc<[Digest]>,
}

/// A content that is written and waits for a manifest.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) temp: String,
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) pending: DigestMap<Pending>,
    /// Objects seen whole in `objects/` by this process.
    pub(super) known: DigestSet,
    /// Objects read back by this process, with their stamp from then.
    pub(super) proven: DigestMap<Stamp>,
    /// The manifests written last, as far as they are few and small.
    pub(super) written: VecDeque<Written>,
    /// Objects that a running backup counts on; not swept whatever the manifests say.
    pub(super) held: DigestSet,
    pub(super) holders: usize,
    /// How many manifests name each content; made when first needed.
    pub(super) named: Option<DigestMap<u32>>,
    /// Bytes of all objects; made when first needed.
    pub(super) bytes: Option<u64>,
}

/// Folders, lock and knowledge.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) root: Folder,
    pub(super) objects: Vec<Folder>,
    pub(super) manifests: Folder,
    indexes: Folder,
    pub(super) temps: Folder,
    pub(super) damaged: Folder,
    _lock: File,
    pub(super) packers: Packers,
    pub(super) state: Mutex<State>,
    /// Serialises commits and sweeps.
    pub(super) commits: Mutex<()>,
    temp_number: AtomicU64,
    #[cfg(test)]
    pub(super) stop: super::tests::Stop,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of the 256 folders, and the name in it.
pub(super) fn shelf_of(digest: Digest) -> (usize, String) {
    let text = digest.to_hex();
    (folder_of(digest), text.as_ref()[2..].to_owned())
}

pub(super) fn folder_of(digest: Digest) -> usize {
    usize::from(digest.as_bytes()[0])
}

/// A file in `tmp/` that goes away with this value, unless it was given another name.
#[derive(Debug)]
pub(super) struct Temp {
    pub(super) shelf: Arc<Shelf>,
    pub(super) name: String,
    pub(super) kept: bool,
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
        let owner = Arc::clone(&self.0);
        let clean = move || owner.drop_pending(&left);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(clean)),
            Err(_) => clean(),
        }
    }
}

/// A program that was just being started may hold a copy of a closed lock for an instant, until it is the program.
fn take(lock: &impl AsFd) -> rustix::io::Result<()> {
    const TRIES: u32 = 20;
    for _ in 1..TRIES {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(100)),
            done => return done,
        }
    }
    rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive)
}

impl State {
    /// Remembers a manifest and forgets the oldest ones.
    pub(super) fn wrote(&mut self, written: Written) {
        self.written.push_back(written);
        let contents = |all: &VecDeque<Written>| {
            all.iter()
                .map(|written| written.contents.len())
                .sum::<usize>()
        };
        while self.written.len() > WRITTEN_MAX || contents(&self.written) > PROVEN_MAX {
            self.written.pop_front();
        }
    }
}

impl Shelf {
    pub(super) fn open(path: &Path, place: &Place) -> Result<Arc<Self>, VaultError> {
        let root = place::open(path, place)?;
        let lock = root.open_or_create("lock")?;
        take(&lock).map_err(|errno| root.error("lock", "lock", errno.into()))?;
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
    #[cfg_attr(
        not(test),
        expect(
            clippy::unused_self,
            clippy::unnecessary_wraps,
            reason = "under test every point may stop the vault"
        )
    )]
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

    pub(super) fn temp_name(&self, ending: &str) -> String {
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
        let mut spill = if let Some(spill) = spill {
            spill
        } else {
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
    pub(super) fn look(&self, digest: Digest) -> Result<bool, VaultError> {
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

    pub(super) fn bytes(&self) -> Result<u64, VaultError> {
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

pub(super) fn keep(mut temp: Temp) -> String {
    temp.kept = true;
    std::mem::take(&mut temp.name)
}

pub(super) fn manifest_name(id: BackupId) -> String {
    format!("{id}.json")
}

fn index_name(app: &AppName) -> String {
    format!("{app}.index")
}

pub(super) fn damaged_object(digest: Digest, reason: &str) -> VaultError {
    VaultError::Damaged(format!("object {digest}: {reason}"))
}

/// Contents up to this size wait in memory until it is known whether they are new.
pub(super) const MEMORY_BYTES_MAX: usize = WHOLE_BYTES_MAX / 4;
