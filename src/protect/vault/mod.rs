//! The vault: contents and manifests of backups in one directory of the daemon's.
//!
//! ```text
//! format          one line that names the version
//! lock            held while a process uses the vault
//! objects/ab/…    contents, by the BLAKE3 digest of what they hold   (object.rs)
//! manifests/ID.json   what a backup holds, durable last              (record.rs)
//! indexes/APP.index   what is known of an app's files; may be lost
//! damaged/        objects that no longer held what their name says
//! tmp/            what has no name yet; emptied when the vault is opened
//! ```
//!
//! It reads nothing from hosts and decides nothing about age: [`super::capture`] fills it, [`super::retention`] says
//! what may go. Contents are packed and proven by digest; they are not sealed yet, the container has the place for it.

mod by_digest;
mod commit;
mod files;
mod object;
mod place;
mod proof;
mod record;
mod shelf;
mod sweep;
#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make and break files, start programs and read the real clock"
)]
mod tests;

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use healer_agent::tree::Digest;

use self::object::Unpacking;
pub use self::place::Place;
use self::shelf::{MEMORY_BYTES_MAX, Shelf, Spill};
use crate::model::backup::BackupManifest;
use crate::model::id::BackupId;
use crate::model::name::AppName;
use crate::seam::vault::{BlobSink, BlobSource, Hold, WarmIndex};
use crate::seam::{BoxFuture, Vault, VaultError};

/// A vault in a directory of this machine.
#[derive(Debug, Clone)]
pub struct DirVault {
    shelf: Arc<Shelf>,
}

impl DirVault {
    /// Opens the vault, making it where it is absent, and collects what an interrupted process left. Blocks.
    ///
    /// # Errors
    /// `Refused` for a place that does not fit (see [`Place`]) or a format of another version; `Io` when it is in use
    /// by another process, or as the system says.
    pub fn open(path: &Path, place: &Place) -> Result<Self, VaultError> {
        Shelf::open(path, place).map(|shelf| Self { shelf })
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Shelf>) -> Result<T, VaultError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, VaultError>> {
        let owner = Arc::clone(&self.shelf);
        Box::pin(blocking(move || work(&owner)))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VaultError> + Send + 'static,
) -> Result<T, VaultError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(VaultError::Io {
            operation: "finish the work",
            path: "a thread of its own".to_owned(),
            source: std::io::Error::other(error),
        }),
    }
}

/// A content that comes in: small ones stay in memory until it is known whether they are new.
struct Sink {
    shelf: Arc<Shelf>,
    buffer: Vec<u8>,
    spill: Option<Spill>,
}

impl BlobSink for Sink {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), VaultError>> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < MEMORY_BYTES_MAX {
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(async move {
            let owner = Arc::clone(&self.shelf);
            let (spill, buffer) = (self.spill.take(), std::mem::take(&mut self.buffer));
            self.spill = Some(blocking(move || owner.spill(spill, &buffer)).await?);
            Ok(())
        })
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(Digest, u64), VaultError>> {
        Box::pin(blocking(move || {
            self.shelf.finish(self.spill, &self.buffer)
        }))
    }
}

/// A content that is read; the digest is compared at its end.
struct Source {
    digest: Digest,
    reader: Option<Unpacking<File>>,
}

impl BlobSource for Source {
    fn read(&mut self, budget: usize) -> BoxFuture<'_, Result<Vec<u8>, VaultError>> {
        let Some(mut reader) = self.reader.take() else {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        };
        let digest = self.digest;
        Box::pin(async move {
            let damaged =
                move |reason: &str| VaultError::Damaged(format!("object {digest}: {reason}"));
            let (bytes, reader) = blocking(move || {
                let mut bytes = vec![0; budget.max(1)];
                let count = reader
                    .next(&mut bytes)
                    .map_err(|source| files::error("read", digest.to_string(), source))?
                    .map_err(damaged)?;
                if count == 0 && reader.digest() != digest {
                    return Err(damaged("its content is another one"));
                }
                bytes.truncate(count);
                Ok((bytes, (count > 0).then_some(reader)))
            })
            .await?;
            self.reader = reader;
            Ok(bytes)
        })
    }
}

impl Vault for DirVault {
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn BlobSink>, VaultError>> {
        let sink: Box<dyn BlobSink> = Box::new(Sink {
            shelf: Arc::clone(&self.shelf),
            buffer: Vec::new(),
            spill: None,
        });
        Box::pin(std::future::ready(Ok(sink)))
    }

    fn store_many(
        &self,
        contents: Vec<Vec<u8>>,
    ) -> BoxFuture<'_, Result<Vec<(Digest, u64)>, VaultError>> {
        self.blocking(move |shelf| {
            contents
                .iter()
                .map(|content| shelf.finish(None, content))
                .collect()
        })
    }

    fn open(&self, digest: Digest) -> BoxFuture<'_, Result<Box<dyn BlobSource>, VaultError>> {
        self.blocking(move |shelf| {
            let source: Box<dyn BlobSource> = Box::new(Source {
                digest,
                reader: Some(shelf.reader(digest)?),
            });
            Ok(source)
        })
    }

    fn has(&self, digest: Digest) -> BoxFuture<'_, Result<bool, VaultError>> {
        self.blocking(move |shelf| Ok(shelf.missing(&[digest])?.is_empty()))
    }

    fn missing(&self, digests: Vec<Digest>) -> BoxFuture<'_, Result<HashSet<Digest>, VaultError>> {
        self.blocking(move |shelf| shelf.missing(&digests))
    }

    fn hold(&self) -> Hold {
        Box::new(self.shelf.hold())
    }

    fn commit(&self, manifest: Arc<BackupManifest>) -> BoxFuture<'_, Result<(), VaultError>> {
        self.blocking(move |shelf| shelf.commit(&manifest))
    }

    fn manifest(&self, id: BackupId) -> BoxFuture<'_, Result<BackupManifest, VaultError>> {
        self.blocking(move |shelf| shelf.manifest(id))
    }

    fn verify(&self, id: BackupId) -> BoxFuture<'_, Result<(), VaultError>> {
        self.blocking(move |shelf| shelf.verify(id))
    }

    fn confirm(&self, id: BackupId, looked: Vec<Digest>) -> BoxFuture<'_, Result<(), VaultError>> {
        self.blocking(move |shelf| shelf.confirm(id, &looked))
    }

    fn unchanged(&self, digests: Vec<Digest>) -> BoxFuture<'static, Vec<Digest>> {
        let owner = Arc::clone(&self.shelf);
        let look = tokio::task::spawn_blocking(move || owner.unchanged(digests));
        // Without an answer everything is looked at when the backup is confirmed.
        Box::pin(async move { look.await.unwrap_or_default() })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BackupId>, VaultError>> {
        self.blocking(|shelf| shelf.list())
    }

    fn remove(&self, id: BackupId) -> BoxFuture<'_, Result<u64, VaultError>> {
        self.blocking(move |shelf| shelf.remove(id))
    }

    fn warm_index<'a>(&'a self, app: &'a AppName) -> BoxFuture<'a, WarmIndex> {
        let app = app.clone();
        let read = self.blocking(move |shelf| Ok(shelf.warm_index(&app)));
        Box::pin(async move { read.await.unwrap_or_default() })
    }

    fn keep_warm_index<'a>(&'a self, app: &'a AppName, index: &'a WarmIndex) -> BoxFuture<'a, ()> {
        let (name, index) = (app.clone(), index.clone());
        let written = self.blocking(move |shelf| shelf.keep_warm_index(&name, &index));
        Box::pin(async move {
            if let Err(error) = written.await {
                tracing::warn!(%app, %error, "the warm index was not kept");
            }
        })
    }

    fn room(&self) -> BoxFuture<'_, Result<(u64, u64), VaultError>> {
        self.blocking(|shelf| shelf.room())
    }
}
