//! Which backups may go, and whether a new one still fits.
//!
//! Pure. It removes nothing and never trades safety for room: at the cap a new backup is refused, and the operator is
//! told, while the old ones stay.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::backup::{BackupKind, BackupRow};
use crate::model::id::BackupId;
use crate::model::name::AppName;
use crate::model::policy::BackupPolicy;
use crate::model::time::Moment;

/// Known-good snapshots of an app that stay whatever their age.
const KNOWN_GOOD_KEPT: usize = 2;

/// Backups that may be removed, in order of id.
///
/// Of each app stay: the newest `keep_last` that are not damaged, everything younger than `keep_for`, what is pinned
/// or named in `needed` (unfinished heals, open incidents), the newest good one of any kind and the newest good one
/// that is no known-good snapshot, and the two newest good known-good snapshots.
pub fn retain(
    rows: &[BackupRow],
    now: &Moment,
    policy: &BackupPolicy,
    needed: &BTreeSet<BackupId>,
) -> Vec<BackupId> {
    let mut apps: BTreeMap<&AppName, Vec<&BackupRow>> = BTreeMap::new();
    for row in rows {
        apps.entry(&row.app).or_default().push(row);
    }
    let keep_last = usize::try_from(policy.keep_last).unwrap_or(usize::MAX);
    let mut removed = Vec::new();
    for mut rows in apps.into_values() {
        // Ids grow with time, also over clock steps; the moments may lie.
        rows.sort_by_key(|row| std::cmp::Reverse(row.id));
        let good = |row: &&&BackupRow| row.damaged.is_none();
        let known_good = |row: &&&BackupRow| row.kind == BackupKind::KnownGood;
        let mut kept: BTreeSet<BackupId> = BTreeSet::new();
        kept.extend(
            rows.iter()
                .filter(good)
                .take(keep_last.max(1))
                .map(|row| row.id),
        );
        kept.extend(
            rows.iter()
                .filter(good)
                .find(|row| !known_good(row))
                .map(|row| row.id),
        );
        kept.extend(
            rows.iter()
                .filter(good)
                .filter(known_good)
                .take(KNOWN_GOOD_KEPT)
                .map(|row| row.id),
        );
        removed.extend(
            rows.iter()
                .filter(|row| {
                    !row.pinned
                        && !needed.contains(&row.id)
                        && !kept.contains(&row.id)
                        && now.is_past(&row.taken, policy.keep_for)
                })
                .map(|row| row.id),
        );
    }
    removed.sort();
    removed
}

/// Too little room for what is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    pub free_bytes: u64,
    pub needed_bytes: u64,
}

/// Does a backup of `new` bytes fit, with `spare` left over and below the cap?
///
/// The cap counts packed bytes, `new` plain ones: it refuses early rather than late.
///
/// # Errors
/// What is free, and what would have to be.
pub fn admits(free: u64, held: u64, new: u64, spare: u64, cap: u64) -> Result<(), Short> {
    let needed_bytes = new.saturating_add(spare);
    let free_bytes = free.min(cap.saturating_sub(held).saturating_add(spare));
    if free_bytes < needed_bytes || (new > 0 && held >= cap) {
        return Err(Short {
            free_bytes,
            needed_bytes,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
