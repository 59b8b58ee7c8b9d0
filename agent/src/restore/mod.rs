//! Taking changes back exactly.
//!
//! [`undo`] brings every path that an action changed, and nobody touched since, back to its state before: content,
//! kind, permission bits, owner, ACL and extended attributes, time, link text, hard-link groups. What somebody else
//! changed after the action stays, attribute by attribute ([`crate::tree::diff::merge`]); what the action did not
//! change is not touched. It decides nothing else: whether to undo at all is the daemon's business.
//!
//! Order: created paths go, deepest first; removed directories and files come back, parents first; attributes of
//! directories follow, deepest first, their times last of all. Each path is one atomic step, so stopping anywhere
//! (an error, the deadline, `kill -9`, power loss) leaves every path either as it was found or restored, and a second
//! call with the same items finishes the work. What a second call cannot see any more, it finds noted on the entry
//! itself ([`meta::Mark`]) or in a temporary name beside it ([`place::Place`]).
//!
//! A directory's time is settled by the state in which the directory was found: as the action left it → as before;
//! else as found. Our own changes of its entries never show.

pub(crate) mod entry;
mod in_place;
mod links;
pub(crate) mod meta;
pub(crate) mod place;
mod recover;
mod vouched;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use entry::{DIRECTORY, attributes, ended, forget_time, is_gone, listed, open_directory};
use meta::Mark;
use place::Place;

use crate::protocol::{UndoItem, UndoOutcome, UndoResult};
use crate::roots::Roots;
use crate::tree::diff::{merge, same_content};
use crate::tree::{Content, Digest, EntryState, Stamp, TreePath};
use crate::walk::{digest, key_of, state_at};

/// Where staged content is found, by its digest.
pub type Stage<'a> = &'a dyn Fn(&Digest) -> io::Result<File>;

/// Takes changes back; one outcome per item, in the items' order. May be repeated; twice is once.
///
/// Staged content is checked before the first write: if any of it is damaged, nothing is written. After the deadline
/// no further path is begun. Removing a created directory needs its content gone: items of one heal belong in one
/// call, or in calls that end with what lies deepest first.
pub fn undo(
    roots: &Roots,
    stage: Stage<'_>,
    heal: &str,
    items: &[UndoItem],
    deadline: Instant,
) -> Vec<UndoOutcome> {
    let mut outcomes: Vec<Option<(UndoResult, String)>> = vec![None; items.len()];
    if let Some(damaged) = damaged(stage, items) {
        let detail = format!("nothing was written: {damaged}");
        outcomes.fill(Some((UndoResult::Failed, detail)));
    } else {
        let mut undo = Undo::new(roots, stage, heal, items);
        undo.run(deadline, &mut outcomes);
        undo.release(&mut outcomes);
    }
    items
        .iter()
        .zip(outcomes)
        .map(|(item, outcome)| {
            let unreached = || {
                (
                    UndoResult::Failed,
                    "the time for the undo was over".to_owned(),
                )
            };
            let (result, detail) = outcome.unwrap_or_else(unreached);
            UndoOutcome {
                path: item.path.clone(),
                result,
                detail,
            }
        })
        .collect()
}

/// What a step on one path came to.
#[derive(Debug)]
enum Step {
    Done,
    /// The path was changed under our hands and is as it was; decide anew.
    Raced,
    /// It must stay, for the reason given.
    Blocked(String),
}

struct Undo<'a> {
    roots: &'a Roots,
    stage: Stage<'a>,
    /// The heal's id, as it stands in temporary names and marks.
    label: String,
    items: &'a [UndoItem],
    by_path: BTreeMap<&'a TreePath, usize>,
    /// Items that were one file before, by device and inode.
    groups: BTreeMap<(u64, u64), Vec<usize>>,
    /// Directories whose time is to be settled in the end, by device and inode.
    held: BTreeMap<(u64, u64), (Spot, Stamp)>,
    /// Directories that were looked at for a mark.
    asked: BTreeSet<(u64, u64)>,
    /// The group that what was built last should have, and that this user may not give away.
    lost_group: Option<u32>,
}

/// Order among the paths that come back; see [`Undo::turn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Bears the name of a file that does not belong here.
    Foreign,
    /// Is its own file still, under several names.
    Own,
    /// Was linked to its file again by a crashed run.
    Linked,
    /// All others, parents first.
    Rest,
}

/// How a held directory is found again without keeping it open.
#[derive(Debug, Clone)]
enum Spot {
    Directory(TreePath),
    /// The directory in which the file of this path lies, behind the named hop.
    Of(TreePath),
}

impl<'a> Undo<'a> {
    fn new(roots: &'a Roots, stage: Stage<'a>, heal: &str, items: &'a [UndoItem]) -> Self {
        let mut groups: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            if let Some(before) = item.before.as_ref().filter(|before| before.key.nlink > 1)
                && matches!(before.content, Content::File { .. })
            {
                let inode = (before.key.dev, before.key.ino);
                groups.entry(inode).or_default().push(index);
            }
        }
        Self {
            roots,
            stage,
            label: place::label(heal),
            items,
            by_path: items
                .iter()
                .enumerate()
                .map(|(index, item)| (&item.path, index))
                .collect(),
            groups,
            held: BTreeMap::new(),
            asked: BTreeSet::new(),
            lost_group: None,
        }
    }

    fn run(&mut self, deadline: Instant, outcomes: &mut [Option<(UndoResult, String)>]) {
        let items = self.items;
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by(|one, other| items[*one].path.cmp(&items[*other].path));
        let mut opened = BTreeSet::new();
        let late = || Instant::now() > deadline;

        // A directory that the action closed to its own user is opened again before anything in it is changed.
        for index in &order {
            let item = &items[*index];
            let opens = item
                .before
                .as_ref()
                .is_some_and(|before| before.meta.mode & 0o300 == 0o300);
            if is_directory_throughout(item) && opens && !late() {
                // A failure shows again, and is reported, when the directory's own turn comes.
                if let Ok((UndoResult::Restored, _)) = self.directory(item) {
                    opened.insert(*index);
                }
            }
        }
        let goes = |item: &UndoItem| {
            let directory = |state: &Option<EntryState>| {
                state
                    .as_ref()
                    .is_some_and(|state| state.content == Content::Directory)
            };
            item.before.is_none() || (directory(&item.after) && !directory(&item.before))
        };
        let going = order.iter().rev().filter(|index| goes(&items[**index]));
        let mut coming: Vec<&usize> = order
            .iter()
            .filter(|index| !goes(&items[**index]) && !is_directory_throughout(&items[**index]))
            .collect();
        coming.sort_by_key(|index| self.turn(&items[**index]));
        let leaves: Vec<usize> = going.chain(coming).copied().collect();
        for index in leaves {
            if late() {
                return;
            }
            outcomes[index] = Some(self.leaf(&items[index]).unwrap_or_else(failed));
        }
        for index in order.iter().rev() {
            let item = &items[*index];
            if is_directory_throughout(item) {
                if late() {
                    return;
                }
                let (result, detail) = self.directory(item).unwrap_or_else(failed);
                let earlier = opened.contains(index) && result == UndoResult::Already;
                let result = if earlier {
                    UndoResult::Restored
                } else {
                    result
                };
                outcomes[*index] = Some((result, detail));
            }
        }
    }

    /// When a path has its turn among those that come back.
    ///
    /// A file with several names is one state under all of them, so changing it under one name would make it look
    /// touched under another. First go names that the action gave to a file that did not have them; then files are
    /// changed in their inodes; names that they lost come last.
    fn turn(&self, item: &UndoItem) -> Turn {
        let inode = |state: &EntryState| (state.key.dev, state.key.ino);
        let look = || -> io::Result<Option<EntryState>> {
            let place = self.place(item)?;
            state_at(place.directory(), &place.name, false)
        };
        let shares = |state: &Option<EntryState>| {
            state.as_ref().is_some_and(|state| {
                state.key.nlink > 1 && matches!(state.content, Content::File { .. })
            })
        };
        if !shares(&item.before) && !shares(&item.after) {
            return Turn::Rest;
        }
        let now = look().ok().flatten().map(|now| inode(&now));
        let (before, after) = (
            item.before.as_ref().map(inode),
            item.after.as_ref().map(inode),
        );
        if shares(&item.after) && after != before && now == after {
            Turn::Foreign
        } else if shares(&item.before) && now == before {
            if after == before {
                Turn::Own
            } else {
                Turn::Linked
            }
        } else {
            Turn::Rest
        }
    }

    /// Brings back what belongs to a directory itself; its time is only noted here.
    fn directory(&mut self, item: &UndoItem) -> io::Result<(UndoResult, String)> {
        let place = self.place(item)?;
        let now = state_at(place.directory(), &place.name, false)?;
        let mut merge = merge(item.before.as_ref(), item.after.as_ref(), now.as_ref());
        let Some(now) = now.filter(|now| now.content == Content::Directory) else {
            return Ok(ended(&merge, false, String::new()));
        };
        forget_time(&mut merge, &now);
        let itself = self.roots.at(&item.path, DIRECTORY)?;
        self.adopt(&itself, |_| Ok(Spot::Directory(item.path.clone())))?;
        let timed = item.before.as_ref().is_some_and(|before| {
            let after = item.after.as_ref();
            after.is_some_and(|after| before.meta.mtime != after.meta.mtime)
        });
        let mut restored = false;
        if timed {
            restored = self.hold_directory(&itself, Spot::Directory(item.path.clone()))?;
        }
        let mut note = String::new();
        if !merge.restore.is_empty()
            && let Some((_, to)) = &merge.target
        {
            match attributes(&place, item, &now, to, &self.label)? {
                Step::Done => {}
                Step::Raced | Step::Blocked(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ResourceBusy,
                        "somebody keeps changing it",
                    ));
                }
            }
            restored = true;
            note = listed(&merge.restore);
        }
        Ok(ended(&merge, restored, note))
    }

    /// Notes the time that the directory of an item's entry is to have, before an entry of it is changed.
    fn hold(&mut self, item: &UndoItem) -> io::Result<()> {
        let place = self.place(item)?;
        let spot = self.spot(&place, item)?;
        self.hold_directory(&place.directory(), spot).map(drop)
    }

    fn spot(&self, place: &Place, item: &UndoItem) -> io::Result<Spot> {
        let parent = item
            .path
            .split_last()
            .map(|(parent, _)| parent)
            .unwrap_or_default();
        if let Ok(direct) = self.roots.at(&parent, DIRECTORY)
            && meta::inode(direct.as_fd())? == meta::inode(place.directory())?
        {
            return Ok(Spot::Directory(parent));
        }
        Ok(Spot::Of(item.path.clone())) // behind the named hop
    }

    /// Goes on holding a directory that a crashed run of this heal held, even if nothing in it is left to do.
    fn adopt(
        &mut self,
        handle: &impl AsFd,
        spot: impl FnOnce(&Self) -> io::Result<Spot>,
    ) -> io::Result<()> {
        let inode = meta::inode(handle.as_fd())?;
        if self.asked.insert(inode) && Mark::read(handle.as_fd(), &self.label).is_some() {
            let spot = spot(self)?;
            self.hold_directory(handle, spot)?;
        }
        Ok(())
    }

    /// Notes the time that a directory is to have in the end. True if it is another one than it has.
    fn hold_directory(&mut self, handle: &impl AsFd, spot: Spot) -> io::Result<bool> {
        let handle = handle.as_fd();
        let key = key_of(handle)?;
        let inode = (key.dev, key.ino);
        if let Some((_, stamp)) = self.held.get(&inode) {
            return Ok(*stamp != key.mtime);
        }
        let wanted = match Mark::read(handle, &self.label) {
            Some(Mark::Mtime(stamp)) => stamp,
            Some(Mark::Mode(_)) | None => self.time_for(&spot, key.mtime),
        };
        Mark::Mtime(wanted).write(handle, &self.label);
        at("undo.held");
        self.hold_for(inode, spot, wanted);
        Ok(wanted != key.mtime)
    }

    fn hold_for(&mut self, inode: (u64, u64), spot: Spot, wanted: Stamp) {
        self.held.insert(inode, (spot, wanted));
    }

    /// As before, if the directory is as the action left it; else as found.
    fn time_for(&self, spot: &Spot, found: Stamp) -> Stamp {
        let Spot::Directory(path) = spot else {
            return found;
        };
        let item = self.by_path.get(path).map(|index| &self.items[*index]);
        match item.map(|item| (&item.before, &item.after)) {
            Some((Some(before), Some(after)))
                if after.meta.mtime == found && before.content == Content::Directory =>
            {
                before.meta.mtime
            }
            _ => found,
        }
    }

    /// Settles the times of all directories that were held.
    fn release(&mut self, outcomes: &mut [Option<(UndoResult, String)>]) {
        for (inode, (spot, stamp)) in std::mem::take(&mut self.held) {
            let settled = self.find(&spot, inode).and_then(|handle| match handle {
                Some(handle) => settle(handle.as_fd(), stamp),
                None => Ok(()), // removed since, or moved by somebody
            });
            if let Err(error) = settled
                && let Spot::Directory(path) = &spot
                && let Some(index) = self.by_path.get(path)
            {
                let detail = format!("its time could not be set: {error}");
                outcomes[*index] = Some((UndoResult::Failed, detail));
            }
        }
    }

    fn find(&self, spot: &Spot, inode: (u64, u64)) -> io::Result<Option<OwnedFd>> {
        let handle = match spot {
            Spot::Directory(path) => self.roots.at(path, DIRECTORY),
            Spot::Of(path) => match self.roots.place(path) {
                Ok((handle, _)) => Ok(handle),
                Err(error) => Err(error),
            },
        };
        match handle {
            Ok(handle) if meta::inode(handle.as_fd())? == inode => open_directory(handle),
            Ok(_) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn settle(handle: BorrowedFd<'_>, stamp: Stamp) -> io::Result<()> {
    at("undo.settle");
    if key_of(handle)?.mtime != stamp {
        meta::set_mtime(handle, stamp)?;
    }
    at("undo.settled");
    Mark::clear(handle)?;
    meta::sync_directory(handle)
}

fn is_directory_throughout(item: &UndoItem) -> bool {
    [&item.before, &item.after].into_iter().all(|state| {
        state
            .as_ref()
            .is_some_and(|state| state.content == Content::Directory)
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that unwrap_or_else wants"
)]
fn failed(error: io::Error) -> (UndoResult, String) {
    (UndoResult::Failed, error.to_string())
}

/// Reads all staged content that could be needed. What is not there is left to the path that needs it: it may be
/// restored already.
fn damaged(stage: Stage<'_>, items: &[UndoItem]) -> Option<String> {
    let mut wanted: BTreeMap<Digest, &TreePath> = BTreeMap::new();
    for item in items {
        if let Some(before) = &item.before
            && let Content::File {
                digest: Some(digest),
                ..
            } = before.content
            && item
                .after
                .as_ref()
                .is_none_or(|after| !same_content(before, after))
        {
            wanted.insert(digest, &item.path);
        }
    }
    wanted
        .into_iter()
        .find_map(|(want, path)| match stage(&want) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(format!(
                "the staged content of `{path}` cannot be read: {error}"
            )),
            Ok(mut file) => match digest(&mut file) {
                Ok(found) if found == want => None,
                Ok(_) => Some(format!("the staged content of `{path}` is damaged")),
                Err(error) => Some(format!(
                    "the staged content of `{path}` cannot be read: {error}"
                )),
            },
        })
}

/// A point between two effects.
fn at(point: &str) {
    crate::crash::point(point);
    #[cfg(test)]
    tests::hook(point);
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests clear away trees of their own"
)]
mod tests;
