//! May a file bear an owner, setuid, setgid or a capability again? Only if nobody can have changed what it holds.
//!
//! Who owns a file, or may write to it, can change its content and then set size and modification time back. What he
//! cannot set is the change time, and he cannot guess a content of the same digest.

use std::io;
use std::os::fd::BorrowedFd;

use super::meta::CAPABILITY;
use crate::protocol::UndoItem;
use crate::tree::{Content, Digest, EntryState, Meta};
use crate::walk::state_of;

/// What people read where the answer is no.
pub(super) const REASON: &str =
    "it may hold something else since, so neither owner nor special permissions are given back";

/// Asks about the file behind a handle, `seen` just now through it, that is to get the attributes `to`.
pub(super) fn may_bear(
    handle: BorrowedFd<'_>,
    item: &UndoItem,
    seen: &EntryState,
    to: &Meta,
) -> io::Result<bool> {
    if !matches!(seen.content, Content::File { .. }) || !grants(&seen.meta, to) {
        return Ok(true);
    }
    let us = rustix::process::geteuid().as_raw();
    let only_us = seen.meta.uid == us && seen.meta.mode & 0o022 == 0;
    let untouched = item
        .after
        .as_ref()
        .is_some_and(|after| after.key == seen.key);
    if only_us || untouched {
        return Ok(true);
    }
    let known = [&item.before, &item.after]
        .into_iter()
        .flatten()
        .find_map(|state| digest(&state.content));
    let Some(known) = known else {
        return Ok(false);
    };
    let read = state_of(handle, true)?;
    Ok(read.key == seen.key && digest(&read.content) == Some(known))
}

/// Would its content act in another name than it does now?
fn grants(now: &Meta, to: &Meta) -> bool {
    let owner = (now.uid, now.gid) != (to.uid, to.gid);
    let bits = to.mode & !now.mode & 0o6000 != 0;
    let capability = to.xattrs.contains_key(CAPABILITY)
        && now.xattrs.get(CAPABILITY) != to.xattrs.get(CAPABILITY);
    owner || bits || capability
}

fn digest(content: &Content) -> Option<Digest> {
    match content {
        Content::File { digest, .. } => *digest,
        Content::Directory | Content::Link { .. } | Content::Other => None,
    }
}
