//! Cuts an undo into requests that fit into a frame, without changing what comes of it.
//!
//! Each request is carried out for itself, so what the host can only judge together must travel together, and what
//! one path needs of another must come before it:
//!
//! | turn | what | why then |
//! |---|---|---|
//! | 1 | directories whose attributes the action changed, parents first | it may have closed them, and what lies in them could not be reached |
//! | 2 | what the action created, deepest first | directories are empty when their turn comes |
//! | 3 | directories that come back, parents first | what lies in them needs them |
//! | 4 | everything else, files that share an inode together | a name alone does not tell which file it belongs to |
//! | 5 | directories that were there all along, deepest first | work below them moves their times |
//!
//! Files of one inode that do not fit into one request are refused and not torn apart: their links would come back as
//! copies, and nobody would be told.

use std::collections::BTreeMap;

use healer_agent::protocol::{FRAME_BYTES_MAX, UndoItem, UndoOutcome, UndoResult};
use healer_agent::tree::{Content, EntryState};

/// JSON of the items of one request; the rest of the frame is left to the request around them.
pub(super) const BYTES_WANTED: usize = FRAME_BYTES_MAX / 2;
/// The same for files that must stay together.
pub(super) const BYTES_MAX: usize = FRAME_BYTES_MAX - (128 << 10);

/// An undo, cut.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Batches {
    /// In the order in which they are sent.
    pub(super) requests: Vec<Vec<UndoItem>>,
    /// What cannot be sent.
    pub(super) refused: Vec<UndoOutcome>,
}

/// Cuts the items: at most `wanted` bytes a request, and `max` for what must stay together.
pub(super) fn cut(items: &[UndoItem], wanted: usize, max: usize) -> Batches {
    let mut batches = Batches::default();
    let mut bytes = 0;
    for unit in units(items) {
        let size = unit
            .iter()
            .map(|item| json_bytes(item))
            .fold(0, usize::saturating_add);
        if size > max {
            batches.refused.extend(unit.iter().map(|item| UndoOutcome {
                path: item.path.clone(),
                result: UndoResult::Failed,
                detail: format!(
                    "its file has {} names, too many to be taken back at once",
                    unit.len()
                ),
            }));
            continue;
        }
        match batches.requests.last_mut() {
            Some(batch) if size.saturating_add(bytes) <= wanted => {
                batch.extend(unit.into_iter().cloned());
            }
            _ => {
                batches.requests.push(unit.into_iter().cloned().collect());
                bytes = 0;
            }
        }
        bytes = size.saturating_add(bytes);
    }
    batches
}

/// What cannot be measured cannot be sent either.
fn json_bytes(item: &UndoItem) -> usize {
    serde_json::to_vec(item).map_or(usize::MAX, |json| json.len())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Reopened,
    Created,
    DirectoryBack,
    Leaf,
    Directory,
}

fn turn(item: &UndoItem) -> Turn {
    let is_directory = |state: &EntryState| state.content == Content::Directory;
    match (&item.before, &item.after) {
        (None, _) => Turn::Created,
        (Some(before), Some(after)) if is_directory(before) && is_directory(after) => {
            let times_aside = |state: &EntryState| {
                let meta = &state.meta;
                (meta.mode, meta.uid, meta.gid, meta.xattrs.clone())
            };
            let opens = before.meta.mode & 0o300 == 0o300;
            if opens && times_aside(before) != times_aside(after) {
                Turn::Reopened
            } else {
                Turn::Directory
            }
        }
        (Some(before), _) if is_directory(before) => Turn::DirectoryBack,
        (Some(_), _) => Turn::Leaf,
    }
}

/// What must travel together, in the order in which it must come.
fn units(items: &[UndoItem]) -> Vec<Vec<&UndoItem>> {
    let mut sorted: Vec<(Turn, &UndoItem)> = items.iter().map(|item| (turn(item), item)).collect();
    sorted.sort_by(|(one_turn, one), (other_turn, other)| {
        one_turn.cmp(other_turn).then_with(|| match one_turn {
            Turn::Reopened | Turn::DirectoryBack | Turn::Leaf => one.path.cmp(&other.path),
            Turn::Created | Turn::Directory => other.path.cmp(&one.path),
        })
    });
    let mut units: Vec<Vec<&UndoItem>> = Vec::new();
    // Unit of each inode that has several names; joined units leave an empty one behind.
    let mut of_inode: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for (turn, item) in sorted {
        let inodes: Vec<_> = [&item.before, &item.after]
            .into_iter()
            .flatten()
            .filter(|_| turn == Turn::Leaf)
            .filter_map(shared_inode)
            .collect();
        let mut places: Vec<usize> = inodes
            .iter()
            .filter_map(|inode| of_inode.get(inode).copied())
            .collect();
        places.sort_unstable();
        places.dedup();
        let Some((place, others)) = places.split_first() else {
            of_inode.extend(inodes.into_iter().map(|inode| (inode, units.len())));
            units.push(vec![item]);
            continue;
        };
        for other in others {
            let joined = std::mem::take(&mut units[*other]);
            units[*place].extend(joined);
            for known in of_inode.values_mut().filter(|known| *known == other) {
                *known = *place;
            }
        }
        units[*place].push(item);
        of_inode.extend(inodes.into_iter().map(|inode| (inode, *place)));
    }
    units.retain(|unit| !unit.is_empty());
    units
}

fn shared_inode(state: &EntryState) -> Option<(u64, u64)> {
    let shared = state.key.nlink > 1 && matches!(state.content, Content::File { .. });
    shared.then_some((state.key.dev, state.key.ino))
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests stand where applications and their hosts stand"
)]
mod tests;
