//! Names of one file: groups of hard links that an action broke, and names that it gave to other files.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use super::Undo;
use super::place::Place;
use crate::protocol::UndoItem;
use crate::roots::{absent, by_handle, open_entry};
use crate::tree::diff::{same_content, same_state};
use crate::tree::{Content, EntryState, Meta};
use crate::walk::state_of;

impl Undo<'_> {
    /// Has this path, by the action, become a name of another file, so that nothing may be set in its inode, or lost
    /// its place in a group of hard links that still exists?
    pub(super) fn relinks(&self, item: &UndoItem, now: Option<&EntryState>) -> bool {
        let (Some(before), Some(after), Some(now)) = (&item.before, &item.after, now) else {
            return false;
        };
        let inode = |state: &EntryState| (state.key.dev, state.key.ino);
        let file = |state: &EntryState| matches!(state.content, Content::File { .. });
        if !file(before) || !file(now) || inode(now) != inode(after) || inode(now) == inode(before)
        {
            return false;
        }
        let foreign = after.key.nlink > 1 && now.key.nlink > 1;
        let lost = before.key.nlink > 1 && same_content(now, before) && self.anchor(item).is_some();
        foreign || lost
    }

    /// A path of the same group of hard links that has its content from before: alive all along, or restored already.
    pub(super) fn anchor(&self, item: &UndoItem) -> Option<OwnedFd> {
        let before = item.before.as_ref().filter(|before| before.key.nlink > 1)?;
        let inode = (before.key.dev, before.key.ino);
        let mut found = None;
        for index in self.groups.get(&inode)? {
            let other = &self.items[*index];
            if other.path == item.path {
                continue;
            }
            let look = || -> io::Result<Option<(OwnedFd, EntryState)>> {
                let place = self.place(other)?;
                let Some(handle) = absent(open_entry(place.directory(), &place.name))? else {
                    return Ok(None);
                };
                let state = state_of(handle.as_fd(), true)?;
                Ok(Some((handle, state)))
            };
            let Ok(Some((handle, state))) = look() else {
                continue;
            };
            let now = (state.key.dev, state.key.ino);
            // Its own turn, in its inode, may still come.
            let untouched = other
                .after
                .as_ref()
                .is_some_and(|after| same_state(&state, after));
            if now == inode && (untouched || same_state(&state, before)) {
                return Some(handle);
            }
            let left_by_action = other
                .after
                .as_ref()
                .is_some_and(|after| (after.key.dev, after.key.ino) == now);
            if !left_by_action && same_state(&state, before) {
                found = found.or(Some(handle));
            }
        }
        found
    }

    /// Links the rest of the group of hard links to a name beside the path, if there is one and the path is to have
    /// the group's attributes.
    pub(super) fn link_anchor(
        &self,
        item: &UndoItem,
        place: &Place,
        name: &[u8],
        to: &Meta,
    ) -> io::Result<bool> {
        let Some(anchor) = self.anchor(item) else {
            return Ok(false);
        };
        if item.before.as_ref().is_none_or(|before| before.meta != *to) {
            return Ok(false);
        }
        let from = by_handle(anchor.as_fd());
        match rustix::fs::linkat(CWD, from, place.directory(), name, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(true),
            // Somebody was faster, or the group lies on another mount: a file of its own, or the next attempt, settles it.
            Err(Errno::EXIST | Errno::XDEV | Errno::NOENT | Errno::PERM | Errno::MLINK) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}
