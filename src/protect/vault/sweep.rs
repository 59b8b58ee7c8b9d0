//! Removing backups, and contents that none names any more.

use std::collections::BTreeSet;

use healer_agent::tree::Digest;

use super::by_digest::DigestMap;
use super::shelf::{Shelf, lock, manifest_name, shelf_of};
use crate::model::id::BackupId;
use crate::seam::VaultError;

/// Objects removed while the vault is locked, before others get their turn.
const SWEEP_STEP: usize = 256;

impl Shelf {
    /// Takes away what an interrupted process left.
    pub(super) fn collect(&self) -> Result<(), VaultError> {
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

    /// Leaves word that an object may be in nobody's name, so that the next open looks.
    pub(super) fn leave_word(&self) -> Result<(), VaultError> {
        self.temps.open_or_create("unsure.manifest").map(drop)
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
        let freed = if let (Some(digests), Some(_)) = (sweep, manifest) {
            let digests: Vec<Digest> = digests.into_iter().collect();
            let mut freed = 0_u64;
            for step in digests.chunks(SWEEP_STEP) {
                let _commits = lock(&self.commits);
                freed = freed.saturating_add(self.sweep(step)?);
            }
            freed
        } else {
            // What a damaged manifest named is not known: look at every object.
            let before = self.bytes()?;
            self.sweep_all()?;
            before.saturating_sub(self.bytes()?)
        };
        self.temps.remove(&temp)?;
        Ok(freed)
    }

    /// Removes those of the objects that nothing names and nobody holds. The commit lock is the caller's.
    pub(super) fn sweep(&self, digests: &[Digest]) -> Result<u64, VaultError> {
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
    pub(super) fn sweep_all(&self) -> Result<bool, VaultError> {
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
    pub(super) fn count_names(&self) -> Result<bool, VaultError> {
        if lock(&self.state).named.is_some() {
            return Ok(true);
        }
        let mut named = DigestMap::<u32>::default();
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
}
