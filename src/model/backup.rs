//! Backups as the vault and the store know them.

use healer_agent::tree::{Digest, Manifest, TreePath};
use serde::{Deserialize, Serialize};

use super::id::{BackupId, HealId};
use super::name::{AppName, HostName};
use super::time::Moment;
use super::word::words;

words! {
    /// Why a backup was taken.
    BackupKind, "kind of backup" {
        /// Of a write set, for a heal.
        Heal = "heal",
        /// Of the config members, while the app was healthy; pinned while among the two newest.
        KnownGood = "known_good",
        /// A person asked.
        Manual = "manual",
        /// Of the present, before a rollback that a person asked for.
        BeforeRollback = "before_rollback",
    }
}

/// Everything a restore needs to know, stored in the vault, durable last, with its own digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupManifest {
    pub id: BackupId,
    pub kind: BackupKind,
    pub app: AppName,
    pub host: HostName,
    /// The real directories that paths were resolved to; part of the target's identity.
    pub roots: Vec<String>,
    pub heal: Option<HealId>,
    pub taken: Moment,
    /// The write set (or, for known-good, the config members): all of it, or the backup would not exist.
    pub members: Manifest,
    /// The stack's base set beside it: what could be had.
    pub base: Manifest,
    /// Base members that were missing, torn or unreadable, with the reason.
    pub base_gaps: Vec<(TreePath, String)>,
}

impl BackupManifest {
    /// Digests of all contents it needs.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.members
            .values()
            .chain(self.base.values())
            .flatten()
            .filter_map(|entry| match &entry.content {
                healer_agent::tree::Content::File { digest, .. } => *digest,
                healer_agent::tree::Content::Directory
                | healer_agent::tree::Content::Link { .. }
                | healer_agent::tree::Content::Other => None,
            })
    }
}

/// The store's row about a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupRow {
    pub id: BackupId,
    pub kind: BackupKind,
    pub app: AppName,
    pub host: HostName,
    pub heal: Option<HealId>,
    pub action: Option<String>,
    pub taken: Moment,
    pub files: u64,
    pub bytes: u64,
    /// Bytes this backup added to the vault, compressed.
    pub stored_bytes: u64,
    /// Read back and compared at this moment, last.
    pub verified: Moment,
    /// Found damaged since; never used again.
    pub damaged: Option<String>,
    /// Kept whatever its age.
    pub pinned: bool,
}
