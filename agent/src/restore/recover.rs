//! Settling what a crashed run of the same heal left beside a path, before the path is decided about again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::entry::{beside, put_back};
use super::meta::{self, Mark};
use super::place::{Place, holds_files};
use super::{Undo, in_place, vouched};
use crate::protocol::UndoItem;
use crate::roots::{absent, open_entry};
use crate::tree::diff::same_content;
use crate::tree::{EntryState, Meta};
use crate::walk::{state_at, state_of};

impl Undo<'_> {
    /// Settles what a crashed run of the same heal left beside a path.
    pub(super) fn recover(&mut self, place: &Place, item: &UndoItem) -> io::Result<()> {
        if let Some(handle) = left(place, &place.making)? {
            self.hold(item)?;
            drop(handle);
            place.discard(&place.making)?;
        }
        if left(place, &place.copy)?.is_some() {
            self.hold(item)?;
            let (before, after) = (item.before.as_ref(), item.after.as_ref());
            in_place::resume(place, before, after, || self.content(item))?;
        }
        if left(place, &place.ready)?.is_some() {
            self.hold(item)?;
            recover_displaced(place, item)?;
        }
        if item
            .before
            .as_ref()
            .is_some_and(|before| before.meta.mode & 0o6000 != 0)
            && let Some(handle) = left(place, &place.name)?
            && let Some(Mark::Mode(mode)) = Mark::read(handle.as_fd(), &self.label)
        {
            // Whoever owns the file can write such a mark: it says no more than that we were here.
            let now = state_of(handle.as_fd(), false)?;
            let to = Meta {
                mode,
                ..now.meta.clone()
            };
            let ours = item.before.as_ref().is_some_and(|before| {
                let owner = (before.meta.uid, before.meta.gid) == (now.meta.uid, now.meta.gid);
                owner && before.meta.mode == mode && before.key.ino == now.key.ino
            });
            if ours && vouched::may_bear(handle.as_fd(), item, &now, &to)? {
                meta::apply(handle.as_fd(), &now.meta, &to, false)?;
            }
            Mark::clear(handle.as_fd())?;
        }
        Ok(())
    }
}

/// A crashed run left something under the temporary name that may be somebody's.
fn recover_displaced(place: &Place, item: &UndoItem) -> io::Result<()> {
    let Some(out) = state_at(place.directory(), &place.ready, true)? else {
        return Ok(());
    };
    let is = |state: Option<&EntryState>| state.is_some_and(|state| same_content(&out, state));
    // A link to the group of hard links that the path belongs to, whose content has its turn elsewhere.
    let linked = |state: &EntryState| {
        let before = item.before.as_ref().filter(|before| before.key.nlink > 1);
        state.key.nlink > 1
            && before.is_some_and(|before| {
                (before.key.dev, before.key.ino) == (state.key.dev, state.key.ino)
            })
    };
    if is(item.before.as_ref()) || is(item.after.as_ref()) || linked(&out) {
        match place.discard(&place.ready) {
            Ok(()) => return place.sync(),
            Err(error) if holds_files(error) => {} // a directory that came out with somebody's files
            Err(error) => return Err(error.into()),
        }
    }
    let Some(present) = state_at(place.directory(), &place.name, true)? else {
        return put_back(place);
    };
    let ours = item
        .before
        .as_ref()
        .is_some_and(|before| same_content(&present, before));
    if !ours {
        return Err(beside(place));
    }
    place.exchange(&place.ready, &place.name)?;
    place.discard(&place.ready)?;
    place.sync()
}

/// What a temporary name holds, if anything.
pub(super) fn left(place: &Place, name: &[u8]) -> io::Result<Option<OwnedFd>> {
    absent(open_entry(place.directory(), name))
}
