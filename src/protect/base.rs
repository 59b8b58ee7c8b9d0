//! The base set beside a write set: what can be had of it within its limits, and what could not, with reasons.

use std::collections::BTreeMap;

use healer_agent::tree::{Manifest, TreePath};

use super::capture::Protect;
use super::contents::{regular, stored};
use super::error::ProtectError;
use super::reach::{Listing, Reach};

/// Gaps of the base set that are named; of the rest only the number is told.
const GAPS_MAX: usize = 100;

/// The base set as it is collected.
pub(super) struct Base {
    pub(super) listing: Listing,
    gaps: BTreeMap<TreePath, String>,
}

impl Base {
    /// Lists it, without what the write set holds already, as far as the limits allow.
    pub(super) async fn list(
        reach: &Reach<'_>,
        request: &Protect<'_>,
        writes: &Listing,
    ) -> Result<Self, ProtectError> {
        let limits = &request.limits;
        let mut base = Self {
            listing: Listing::default(),
            gaps: BTreeMap::new(),
        };
        let mut bytes = 0_u64;
        for member in &request.base {
            // One by one, so that a member that is too large costs only itself.
            let listed = reach
                .list(std::slice::from_ref(member), limits.base_files_max)
                .await;
            let listing = match listed {
                Ok(listing) => listing,
                Err(ProtectError::TooLarge { limit }) => {
                    base.gap(member.fixed_prefix(), format!("it holds more than {limit}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !base.listing.roots.is_empty() && base.listing.roots != listing.roots {
                return Err(ProtectError::Moved);
            }
            base.listing.roots = listing.roots;
            base.gaps.extend(listing.unreadable);
            for (path, entry) in listing.entries {
                if writes.entries.contains_key(&path) {
                    continue;
                }
                let size = entry.as_ref().and_then(regular).unwrap_or(0);
                if entry.is_none() {
                    base.gap(path.clone(), "it is missing".to_owned());
                }
                if base.listing.entries.len() as u64 >= limits.base_files_max {
                    base.gap(path, format!("more than {} files", limits.base_files_max));
                } else if bytes.saturating_add(size) > limits.base_bytes_max {
                    base.gap(path, format!("more than {} bytes", limits.base_bytes_max));
                } else {
                    bytes = bytes.saturating_add(size);
                    base.listing.entries.insert(path, entry);
                }
            }
        }
        Ok(base)
    }

    pub(super) fn gap(&mut self, path: TreePath, reason: String) {
        self.gaps.insert(path, reason);
    }

    /// A file that could not be read is a gap and no entry; otherwise a restore would bring back an empty promise.
    pub(super) fn finish(mut self) -> (Manifest, Vec<(TreePath, String)>) {
        let gaps = &self.gaps;
        self.listing.entries.retain(|path, entry| {
            entry
                .as_ref()
                .is_none_or(|entry| regular(entry).is_none() || stored(entry).is_some())
                || !gaps.contains_key(path)
        });
        let more = self.gaps.len().saturating_sub(GAPS_MAX);
        let mut gaps: Vec<_> = self.gaps.into_iter().take(GAPS_MAX).collect();
        if more > 0 {
            gaps.push((TreePath::root(), format!("and {more} more were left out")));
        }
        (self.listing.entries, gaps)
    }
}
