//! A vault in memory that outlives the process, and the doors through which a process that may die reaches it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use healer_agent::tree::Digest;
use healerd::model::backup::BackupManifest;
use healerd::model::id::BackupId;
use healerd::model::name::AppName;
use healerd::seam::vault::{BlobSink, BlobSource, WarmIndex};
use healerd::seam::{BoxFuture, Vault, VaultError};

use super::crash::Fuse;

/// What the vault's disk holds.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) contents: BTreeMap<Digest, Vec<u8>>,
    pub(crate) manifests: BTreeMap<BackupId, BackupManifest>,
    pub(crate) free_bytes: u64,
}

/// One process's way to it.
#[derive(Debug, Clone)]
pub(crate) struct SimVault {
    pub(crate) disk: Arc<Mutex<Disk>>,
    pub(crate) fuse: Arc<Fuse>,
}

fn dead() -> VaultError {
    VaultError::Damaged("the process died".to_owned())
}

impl SimVault {
    /// An empty vault with room.
    pub(crate) fn new(fuse: Arc<Fuse>) -> Self {
        let disk = Disk {
            free_bytes: 64 << 30,
            ..Disk::default()
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
            fuse,
        }
    }

    fn change<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Disk) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let dies = self.fuse.enter(name).ok_or_else(dead)?;
        let done = work(&mut self.disk.lock().unwrap());
        if dies { Err(dead()) } else { done }
    }

    fn read<T>(&self, work: impl FnOnce(&Disk) -> Result<T, VaultError>) -> Result<T, VaultError> {
        if self.fuse.is_dead() {
            return Err(dead());
        }
        work(&self.disk.lock().unwrap())
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

struct Sink {
    vault: SimVault,
    bytes: Vec<u8>,
}

impl BlobSink for Sink {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), VaultError>> {
        self.bytes.extend_from_slice(bytes);
        ready(Ok(()))
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(Digest, u64), VaultError>> {
        let Self { vault, bytes } = *self;
        ready(vault.change("vault.finish", |disk| {
            let digest = Digest::of(&bytes);
            let added = if disk.contents.contains_key(&digest) {
                0
            } else {
                bytes.len() as u64
            };
            disk.contents.insert(digest, bytes);
            Ok((digest, added))
        }))
    }
}

struct Source {
    bytes: Vec<u8>,
    offset: usize,
}

impl BlobSource for Source {
    fn read(&mut self, budget: usize) -> BoxFuture<'_, Result<Vec<u8>, VaultError>> {
        let end = self.bytes.len().min(self.offset.saturating_add(budget));
        let piece = self.bytes[self.offset..end].to_vec();
        self.offset = end;
        ready(Ok(piece))
    }
}

impl Vault for SimVault {
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn BlobSink>, VaultError>> {
        ready(Ok(Box::new(Sink {
            vault: self.clone(),
            bytes: Vec::new(),
        })))
    }

    fn open(&self, digest: Digest) -> BoxFuture<'_, Result<Box<dyn BlobSource>, VaultError>> {
        ready(self.read(|disk| {
            let bytes = disk.contents.get(&digest).cloned();
            let bytes = bytes
                .ok_or_else(|| VaultError::Damaged(format!("content {digest} is not there")))?;
            if Digest::of(&bytes) != digest {
                return Err(VaultError::Damaged(format!(
                    "content {digest} is another one"
                )));
            }
            Ok(Box::new(Source { bytes, offset: 0 }) as Box<dyn BlobSource>)
        }))
    }

    fn has(&self, digest: Digest) -> BoxFuture<'_, Result<bool, VaultError>> {
        ready(self.read(|disk| Ok(disk.contents.contains_key(&digest))))
    }

    fn commit(&self, manifest: Arc<BackupManifest>) -> BoxFuture<'_, Result<(), VaultError>> {
        ready(self.change("vault.commit", |disk| {
            disk.manifests
                .insert(manifest.id, Arc::unwrap_or_clone(manifest));
            Ok(())
        }))
    }

    fn manifest(&self, id: BackupId) -> BoxFuture<'_, Result<BackupManifest, VaultError>> {
        ready(self.read(|disk| {
            disk.manifests
                .get(&id)
                .cloned()
                .ok_or(VaultError::Absent(id))
        }))
    }

    fn verify(&self, id: BackupId) -> BoxFuture<'_, Result<(), VaultError>> {
        ready(self.read(|disk| {
            let manifest = disk.manifests.get(&id).ok_or(VaultError::Absent(id))?;
            let sound = |digest: &Digest| {
                disk.contents
                    .get(digest)
                    .is_some_and(|bytes| Digest::of(bytes) == *digest)
            };
            match manifest.digests().find(|digest| !sound(digest)) {
                None => Ok(()),
                Some(digest) => Err(VaultError::Damaged(format!("content {digest}"))),
            }
        }))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BackupId>, VaultError>> {
        ready(self.read(|disk| Ok(disk.manifests.keys().copied().collect())))
    }

    fn remove(&self, id: BackupId) -> BoxFuture<'_, Result<u64, VaultError>> {
        ready(self.change("vault.remove", |disk| {
            disk.manifests.remove(&id).ok_or(VaultError::Absent(id))?;
            let used: Vec<Digest> = disk
                .manifests
                .values()
                .flat_map(BackupManifest::digests)
                .collect();
            let before: usize = disk.contents.values().map(Vec::len).sum();
            disk.contents.retain(|digest, _| used.contains(digest));
            let after: usize = disk.contents.values().map(Vec::len).sum();
            Ok((before - after) as u64)
        }))
    }

    fn warm_index<'a>(&'a self, _app: &'a AppName) -> BoxFuture<'a, WarmIndex> {
        ready(WarmIndex::new())
    }

    fn keep_warm_index<'a>(
        &'a self,
        _app: &'a AppName,
        _index: &'a WarmIndex,
    ) -> BoxFuture<'a, ()> {
        ready(())
    }

    fn room(&self) -> BoxFuture<'_, Result<(u64, u64), VaultError>> {
        ready(self.read(|disk| {
            Ok((
                disk.free_bytes,
                disk.contents.values().map(|bytes| bytes.len() as u64).sum(),
            ))
        }))
    }
}
