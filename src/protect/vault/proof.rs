//! Reading back: manifests, and the contents that they name.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use healer_agent::tree::Digest;
use healer_agent::walk;

use super::shelf::{
    PROVEN_MAX, Shelf, Stamp, damaged_object, folder_of, lock, manifest_name, shelf_of,
};
use super::{files, record};
use crate::model::backup::BackupManifest;
use crate::model::id::BackupId;
use crate::seam::VaultError;

impl Shelf {
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
    /// same file: its inode, length and change time, which no program can set. A manifest that this process wrote is
    /// read back and compared with what was written, and not taken apart.
    /// Those in `looked`, which is sorted, were asked already, during this backup.
    pub(super) fn confirm(&self, id: BackupId, looked: &[Digest]) -> Result<(), VaultError> {
        let mut digests: Arc<[Digest]> = if let Some(digests) = self.reread_written(id)? {
            digests
        } else {
            let manifest = self.reread_manifest(id)?;
            let digests: BTreeSet<Digest> = manifest.digests().collect();
            digests.into_iter().collect()
        };
        if !looked.is_empty() {
            // What was set aside meanwhile is met again.
            let state = lock(&self.state);
            let mut looked = looked.iter().peekable();
            let mut is_looked = |digest: &Digest| {
                while looked.next_if(|one| *one < digest).is_some() {}
                looked.peek() == Some(&digest)
            };
            let left = digests
                .iter()
                .filter(|digest| !is_looked(digest) || !state.proven.contains_key(digest))
                .copied()
                .collect();
            drop(state);
            digests = left;
        }
        let unproven = Mutex::new(Vec::new());
        in_shares(&digests, 1024, |share| {
            let found = self.unproven(share)?;
            lock(&unproven).extend(found);
            Ok(())
        })?;
        self.read_back(
            &unproven
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Those of these that were read back before and are the same files since. An error is no answer: whoever needs
    /// the content meets it again.
    pub(super) fn unchanged(&self, mut digests: Vec<Digest>) -> Vec<Digest> {
        let Ok(unproven) = self.unproven(&digests) else {
            return Vec::new();
        };
        let mut unproven = unproven.iter().peekable();
        digests.retain(|digest| unproven.next_if_eq(&digest).is_none());
        digests
    }

    /// What a manifest names, if its file reads as this process wrote it; `None`: it must be asked itself.
    fn reread_written(&self, id: BackupId) -> Result<Option<Arc<[Digest]>>, VaultError> {
        let Some((line, json, contents)) = lock(&self.state)
            .written
            .iter()
            .find(|written| written.id == id)
            .map(|written| {
                let contents = Arc::clone(&written.contents);
                (written.line.clone(), written.json, contents)
            })
        else {
            return Ok(None);
        };
        let name = manifest_name(id);
        let mut file = self.manifests.read(&name)?.ok_or(VaultError::Absent(id))?;
        files::forget_pages(&file);
        // Piece by piece: a buffer for all of it would cost more than reading it.
        let fail = |source| self.manifests.error("read", &name, source);
        let mut head = Vec::with_capacity(line.len());
        (&mut file)
            .take(line.len() as u64)
            .read_to_end(&mut head)
            .map_err(fail)?;
        let same = head[..] == line[..] && walk::digest(&mut file).map_err(fail)? == json;
        Ok(same.then_some(contents))
    }

    /// Objects of these that were never read back, or are another file since.
    fn unproven(&self, digests: &[Digest]) -> Result<Vec<Digest>, VaultError> {
        let proven: Vec<Option<Stamp>> = {
            let state = lock(&self.state);
            digests
                .iter()
                .map(|digest| state.proven.get(digest).copied())
                .collect()
        };
        let mut unproven = Vec::new();
        for (digest, stamp) in digests.iter().zip(proven) {
            let (folder, name) = (folder_of(*digest), digest.to_hex());
            let now = match stamp {
                Some(_) => self.objects[folder]
                    .stat(&name.as_ref()[2..])?
                    .map(|stat| stamp_of(&stat)),
                None => None,
            };
            if now.is_none() || now != stamp {
                unproven.push(*digest);
            }
        }
        Ok(unproven)
    }

    pub(super) fn reread_manifest(&self, id: BackupId) -> Result<BackupManifest, VaultError> {
        if let Some(file) = self.manifests.read(&manifest_name(id))? {
            files::forget_pages(&file);
        }
        self.manifest(id)
    }

    /// Reads objects whole and compares.
    pub(super) fn read_back(&self, digests: &[Digest]) -> Result<(), VaultError> {
        in_shares(digests, 64, |share| {
            share.iter().try_for_each(|digest| self.prove(*digest))
        })
    }

    pub(super) fn prove(&self, digest: Digest) -> Result<(), VaultError> {
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
    pub(super) fn set_aside(&self, digest: Digest) {
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

    pub(super) fn manifest_names(&self) -> Result<Vec<(String, BackupId)>, VaultError> {
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
}

/// Works on as many threads as there are processors, four at most, each with a share that is worth a thread.
fn in_shares(
    digests: &[Digest],
    share_min: usize,
    work: impl Fn(&[Digest]) -> Result<(), VaultError> + Sync,
) -> Result<(), VaultError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = digests.len().div_ceil(threads.clamp(1, 4)).max(share_min);
    if digests.len() <= share {
        return work(digests);
    }
    let work = &work;
    std::thread::scope(|scope| {
        let tasks: Vec<_> = digests
            .chunks(share)
            .map(|chunk| scope.spawn(move || work(chunk)))
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

fn stamp_of(stat: &rustix::fs::Stat) -> Stamp {
    Stamp {
        inode: stat.st_ino,
        bytes: stat.st_size,
        changed: (stat.st_ctime, stat.st_ctime_nsec),
    }
}
