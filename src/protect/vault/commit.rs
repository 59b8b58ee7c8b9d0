//! Making a backup exist; the order of the steps is told in [`super::shelf`].

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;

use healer_agent::tree::Digest;

use super::record;
use super::shelf::{Shelf, Temp, Written, damaged_object, keep, lock, manifest_name, shelf_of};
use crate::model::backup::BackupManifest;
use crate::seam::VaultError;

/// From this many new contents on, one pass over the file system is cheaper than a sync for each.
const SYNC_ALL_FROM: usize = 8;

impl Shelf {
    /// Makes a backup exist.
    pub(super) fn commit(self: &Arc<Self>, manifest: &BackupManifest) -> Result<(), VaultError> {
        let whole = record::ManifestFile::of(manifest).map_err(|source| {
            self.manifests
                .error("write", &manifest_name(manifest.id), source.into())
        })?;
        let mut digests: Vec<Digest> = manifest.digests().collect();
        digests.sort_unstable();
        digests.dedup();
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
        file.write_all(whole.bytes())
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
        state.wrote(Written {
            id: manifest.id,
            line: whole.line().into(),
            json: whole.digest(),
            contents: digests.as_slice().into(),
        });
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
    fn new_contents(&self, digests: &[Digest]) -> Result<Vec<(Digest, String)>, VaultError> {
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
}
