//! Keeping contents and manifests of backups.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;

use healer_agent::tree::{Digest, StatKey, TreePath};

use super::BoxFuture;
use crate::model::backup::BackupManifest;
use crate::model::id::BackupId;
use crate::model::name::AppName;

/// Why the vault could not do it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("{operation} failed in the vault at {path}")]
    Io {
        operation: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the vault has no room: {0}")]
    NoRoom(String),
    #[error("backup {0} is not in the vault")]
    Absent(BackupId),
    #[error("damaged in the vault: {0}")]
    Damaged(String),
    /// The place does not fit, or its format is another version's; nothing was written.
    #[error("the vault at {path} is refused: {reason}")]
    Refused { path: String, reason: String },
}

/// Writes one content. Dropped before `finish`, nothing is kept.
pub trait BlobSink: Send {
    /// Appends bytes.
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), VaultError>>;

    /// Ends the content; it becomes durable with the first manifest that names it. Gives the digest of the content
    /// and the bytes added to the vault (0: it was there).
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(Digest, u64), VaultError>>;
}

/// Reads one content, checking its digest at the end.
pub trait BlobSource: Send {
    /// The next bytes, at most `budget`; empty at the end, after the digest was found right.
    fn read(&mut self, budget: usize) -> BoxFuture<'_, Result<Vec<u8>, VaultError>>;
}

/// What an earlier backup knew of a path, so that an unchanged file is not read again.
pub type WarmIndex = std::collections::BTreeMap<TreePath, (StatKey, Digest)>;

/// Kept by a running backup: while it lives, contents that were begun or found to be there are not collected.
pub type Hold = Box<dyn Any + Send + Sync>;

/// Content-addressed, compressed, durable storage on the daemon's side.
pub trait Vault: Send + Sync {
    /// Begins a content.
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn BlobSink>, VaultError>>;

    /// Stores whole contents, as [`Vault::begin`] would one by one. Digest and added bytes of each, in order.
    fn store_many(
        &self,
        contents: Vec<Vec<u8>>,
    ) -> BoxFuture<'_, Result<Vec<(Digest, u64)>, VaultError>> {
        Box::pin(async move {
            let mut stored = Vec::with_capacity(contents.len());
            for content in contents {
                let mut sink = self.begin().await?;
                sink.write(&content).await?;
                stored.push(sink.finish().await?);
            }
            Ok(stored)
        })
    }

    /// Opens a content.
    fn open(&self, digest: Digest) -> BoxFuture<'_, Result<Box<dyn BlobSource>, VaultError>>;

    /// Is this content there? (Its bytes are proven only by reading.)
    fn has(&self, digest: Digest) -> BoxFuture<'_, Result<bool, VaultError>>;

    /// Which of these contents are not there; for many at once.
    fn missing(&self, digests: Vec<Digest>) -> BoxFuture<'_, Result<HashSet<Digest>, VaultError>> {
        Box::pin(async move {
            let mut missing = HashSet::new();
            for digest in digests {
                if !self.has(digest).await? {
                    missing.insert(digest);
                }
            }
            Ok(missing)
        })
    }

    /// Keeps contents from being collected until a manifest names them.
    fn hold(&self) -> Hold {
        Box::new(())
    }

    /// Makes the manifest durable, after every content it names; only then the backup exists.
    fn commit(&self, manifest: Arc<BackupManifest>) -> BoxFuture<'_, Result<(), VaultError>>;

    /// Reads a manifest, checking its own digest.
    fn manifest(&self, id: BackupId) -> BoxFuture<'_, Result<BackupManifest, VaultError>>;

    /// Reads everything of a backup and compares.
    fn verify(&self, id: BackupId) -> BoxFuture<'_, Result<(), VaultError>>;

    /// Proves a backup that was just committed: everything is read and compared, but for contents that this process
    /// read before and that no program can have changed since. [`Vault::verify`] makes no such exception. What was
    /// looked at during the backup is not looked at again: `looked`, in order.
    fn confirm(&self, id: BackupId, looked: Vec<Digest>) -> BoxFuture<'_, Result<(), VaultError>> {
        drop(looked);
        self.verify(id)
    }

    /// Those of these contents that this process has read back before, and whose files are still the same, in order. The
    /// look begins with the call and goes on beside it.
    fn unchanged(&self, digests: Vec<Digest>) -> BoxFuture<'static, Vec<Digest>> {
        drop(digests);
        Box::pin(std::future::ready(Vec::new()))
    }

    /// Ids of all backups with a readable manifest.
    fn list(&self) -> BoxFuture<'_, Result<Vec<BackupId>, VaultError>>;

    /// Removes a manifest; contents that no manifest names any more go with it.
    fn remove(&self, id: BackupId) -> BoxFuture<'_, Result<u64, VaultError>>;

    /// What is known of an app's files from earlier backups.
    fn warm_index<'a>(&'a self, app: &'a AppName) -> BoxFuture<'a, WarmIndex>;

    /// Remembers it. Losing it costs time, never safety.
    fn keep_warm_index<'a>(&'a self, app: &'a AppName, index: &'a WarmIndex) -> BoxFuture<'a, ()>;

    /// Bytes free where the vault lies, and bytes it holds.
    fn room(&self) -> BoxFuture<'_, Result<(u64, u64), VaultError>>;
}
