//! The file steps that an action may take without a program: each reports every path that it touched, before and
//! after, through the handle it worked on, and syncs it.
//!
//! Nothing here follows a link but the one named hop of [`crate::roots`], widens what it was asked for, or touches
//! what is right already. Whether a step may run at all is decided before; what it did is taken back by
//! [`crate::restore`].

mod content;
mod env;
mod leftover;
mod names;
mod permissions;
mod trim;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::fs::{Dir, FileType, OFlags};

pub use content::{Like, edit_key, put};
pub use leftover::clear;
pub use names::{remove, swap_directory};
pub use permissions::{chown, set_bits};
pub use trim::trim_log;

use crate::restore::meta;
use crate::restore::place::Place;
use crate::roots::Roots;
use crate::tree::diff::differs;
use crate::tree::{Effect, EffectSource, EntryState, TreePath};
use crate::walk::{key_of, state_of};

/// Stands in temporary names where an undo has its heal.
const LABEL: &str = "step";

/// More paths than this in one step are a mistake in the step, not a site.
const ENTRIES_MAX: usize = 500_000;

/// Why a step ended early. What it did until then is in its effects.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} `{path}`: {source}")]
pub struct StepError {
    pub what: &'static str,
    pub path: TreePath,
    #[source]
    pub source: io::Error,
}

/// What a step changed, in path order, and the error that ended it early.
pub type Done = (Vec<Effect>, Option<StepError>);

/// What a step has done so far.
struct Record<'a> {
    roots: &'a Roots,
    what: &'static str,
    deadline: Instant,
    effects: Vec<Effect>,
    /// Directories whose entries changed, as they were before.
    parents: BTreeMap<TreePath, EntryState>,
}

impl<'a> Record<'a> {
    fn new(roots: &'a Roots, what: &'static str, deadline: Instant) -> Self {
        Self {
            roots,
            what,
            deadline,
            effects: Vec::new(),
            parents: BTreeMap::new(),
        }
    }

    /// Does the work on each path in turn, and ends with the first error.
    fn each(
        mut self,
        paths: &[TreePath],
        mut work: impl FnMut(&mut Self, &TreePath) -> io::Result<()>,
    ) -> Done {
        let mut error = None;
        for path in paths {
            let done = if Instant::now() > self.deadline {
                Err(io::ErrorKind::TimedOut.into())
            } else {
                work(&mut self, path)
            };
            if let Err(source) = done {
                error = Some(StepError {
                    what: self.what,
                    path: path.clone(),
                    source,
                });
                break;
            }
        }
        self.settle_parents();
        self.effects.sort_by(|one, other| one.path.cmp(&other.path));
        (self.effects, error)
    }

    /// As the work goes down a directory: is there still time and room?
    fn may_go_on(&self, met: usize) -> io::Result<()> {
        if Instant::now() > self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if met > ENTRIES_MAX {
            return Err(io::Error::other("there are too many entries below it"));
        }
        Ok(())
    }

    /// Notes what became of a path, if anything did.
    fn note(&mut self, path: &TreePath, before: Option<EntryState>, after: Option<EntryState>) {
        if differs(before.as_ref(), after.as_ref()) {
            self.effects.push(Effect {
                path: path.clone(),
                before,
                after,
                source: EffectSource::Native,
            });
        }
    }

    /// The place of a path, itself or behind the named hop.
    fn place(&self, path: &TreePath, through: bool) -> io::Result<Place> {
        let (directory, name) = if through {
            self.roots.place(path)?
        } else {
            self.roots.parent(path)?
        };
        Ok(Place::new(directory, name, LABEL, path))
    }

    /// Notes how the directory of a path is before an entry of it changes: its time will tell of it.
    fn will_change(&mut self, path: &TreePath, place: &Place) -> io::Result<()> {
        let Some((parent, _)) = path.split_last() else {
            return Ok(());
        };
        if self.parents.contains_key(&parent) {
            return Ok(());
        }
        let state = state_of(place.directory(), false)?;
        let direct = self.roots.at(&parent, OFlags::PATH | OFlags::DIRECTORY)?;
        let key = key_of(direct.as_fd())?;
        // Behind the named hop the directory has no path of its own below the root.
        if (key.dev, key.ino) == (state.key.dev, state.key.ino) {
            self.parents.insert(parent, state);
        }
        Ok(())
    }

    fn settle_parents(&mut self) {
        for (path, before) in std::mem::take(&mut self.parents) {
            if self.effects.iter().any(|effect| effect.path == path) {
                continue;
            }
            let after = self
                .roots
                .at(&path, OFlags::PATH | OFlags::DIRECTORY)
                .and_then(|handle| state_of(handle.as_fd(), false));
            if let Ok(after) = after {
                self.note(&path, Some(before), Some(after));
            }
        }
    }

    /// The names in a directory, with what the directory says of their kind.
    fn names(&self, path: &TreePath) -> io::Result<Vec<(Vec<u8>, FileType)>> {
        let handle = self.roots.at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&handle)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push((name.to_vec(), entry.file_type()));
            }
            self.may_go_on(names.len())?;
        }
        Ok(names)
    }

    /// A path and, if it is a directory, everything below it, parents first. Links are met and not followed; the
    /// path itself may be the named hop.
    fn below(&self, path: &TreePath) -> io::Result<Vec<TreePath>> {
        let mut found = vec![path.clone()];
        let mut todo = vec![path.clone()];
        while let Some(directory) = todo.pop() {
            let names = match self.names(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
                other => other?,
            };
            for (name, kind) in names {
                let path = directory
                    .join(&name)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                self.may_go_on(found.len())?;
                found.push(path.clone());
                if matches!(kind, FileType::Directory | FileType::Unknown) {
                    todo.push(path);
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Is there nothing at this path, or nothing that could hold it?
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Syncs what is behind a handle and gives its state.
fn settled(handle: BorrowedFd<'_>, digest: bool) -> io::Result<EntryState> {
    let state = state_of(handle, digest)?;
    meta::sync(handle, &state)?;
    Ok(state)
}

#[cfg(test)]
mod tests;
