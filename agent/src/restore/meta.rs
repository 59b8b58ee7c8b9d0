//! Bringing the attributes of one entry to a wanted state, and the mark that makes it repeatable after a crash.
//!
//! Everything goes through a handle opened without following links, so a name that changes hands meanwhile cannot
//! direct a change at another file.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::roots::by_handle;
use crate::tree::diff::ACL;
use crate::tree::{Content, EntryState, Meta, Stamp, path};
use crate::walk::{MARK, reopen, state_of, value};

/// What a program may do beyond its user; cleared by the kernel like setuid.
pub(crate) const CAPABILITY: &str = "security.capability";

/// Brings what is behind a handle from attributes `from` to `to`; its time only if `mtime`. Not synced.
///
/// Only what differs between the two is set, so what somebody else changed since `from` was seen stays.
///
/// # Errors
/// The first thing that the system refuses; what came before it is done.
pub(crate) fn apply(handle: BorrowedFd<'_>, from: &Meta, to: &Meta, mtime: bool) -> io::Result<()> {
    let at = by_handle(handle);
    let first = state_of(handle, false)?;
    let (from, to) = (&first.meta, &without_theirs(from, &first.meta, to));
    let owner = (from.uid, from.gid) != (to.uid, to.gid);
    if owner {
        // An equal half is left out: an ordinary user may give a file to one of his groups, but never name an owner.
        let uid = (first.meta.uid != to.uid).then(|| Uid::from_raw(to.uid));
        let gid = (first.meta.gid != to.gid).then(|| Gid::from_raw(to.gid));
        if uid.is_some() || gid.is_some() {
            rustix::fs::chownat(handle, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        }
    }
    let names: BTreeSet<&String> = from.xattrs.keys().chain(to.xattrs.keys()).collect();
    for name in names {
        // The kernel takes file capabilities away with the owner.
        let lost = owner && name == CAPABILITY;
        if from.xattrs.get(name) == to.xattrs.get(name) && !lost {
            continue;
        }
        match to.xattrs.get(name) {
            Some(hex) => {
                rustix::fs::setxattr(&*at, bytes(name)?, &unhex(hex)?, XattrFlags::empty())?;
            }
            None if may_remove(name) => match rustix::fs::removexattr(&*at, bytes(name)?) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => return Err(error.into()),
            },
            None => {}
        }
    }
    if !matches!(first.content, Content::Link { .. }) {
        let wanted = from.mode != to.mode || from.xattrs.get(ACL) != to.xattrs.get(ACL);
        // A new owner cleared setuid and setgid, an ACL rewrote the group bits.
        if (wanted || owner) && state_of(handle, false)?.meta.mode != to.mode {
            rustix::fs::chmodat(CWD, &*at, Mode::from_raw_mode(to.mode), AtFlags::empty())?;
        }
    }
    if mtime {
        set_mtime(handle, to.mtime)?;
    }
    Ok(())
}

/// What is to be set if an entry is `now` and not `from`: what somebody else changed meanwhile stays. That setuid and
/// setgid went is the kernel's doing, after a write or a change of owner.
fn without_theirs(from: &Meta, now: &Meta, to: &Meta) -> Meta {
    let mut set = to.clone();
    let cleared = now.mode & !0o6000 == from.mode & !0o6000 && from.mode & now.mode == now.mode;
    let acl = |meta: &Meta| meta.xattrs.get(ACL).cloned();
    let mode = (now.mode != from.mode && !cleared) || acl(now) != acl(from);
    if mode {
        set.mode = now.mode;
    }
    if (now.uid, now.gid) != (from.uid, from.gid) {
        (set.uid, set.gid) = (now.uid, now.gid);
    }
    let names: BTreeSet<&String> = from.xattrs.keys().chain(now.xattrs.keys()).collect();
    for name in names {
        let theirs = if name == ACL {
            mode
        } else {
            now.xattrs.get(name) != from.xattrs.get(name)
        };
        if theirs {
            match now.xattrs.get(name) {
                Some(value) => set.xattrs.insert(name.clone(), value.clone()),
                None => set.xattrs.remove(name),
            };
        }
    }
    if mode && !now.xattrs.contains_key(ACL) {
        set.xattrs.remove(ACL);
    }
    set
}

/// May this user give his files to that group?
pub(crate) fn may_give(gid: u32) -> bool {
    let gid = Gid::from_raw(gid);
    rustix::process::geteuid().is_root()
        || rustix::process::getegid() == gid
        || rustix::process::getgroups().is_ok_and(|groups| groups.contains(&gid))
}

/// Sets the modification time and leaves the access time.
pub(crate) fn set_mtime(handle: BorrowedFd<'_>, stamp: Stamp) -> io::Result<()> {
    let omit = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    let times = Timestamps {
        last_access: omit,
        last_modification: Timespec {
            tv_sec: stamp.secs,
            tv_nsec: stamp.nanos.into(),
        },
    };
    Ok(rustix::fs::utimensat(
        CWD,
        by_handle(handle),
        &times,
        AtFlags::empty(),
    )?)
}

/// Makes an entry's content and attributes durable. What we may not open (an unreadable file of our own user's) is
/// left to the sync of its directory.
pub(crate) fn sync(handle: BorrowedFd<'_>, state: &EntryState) -> io::Result<()> {
    match state.content {
        Content::File { .. } | Content::Directory => match reopen(handle, OFlags::RDONLY) {
            Ok(file) => Ok(rustix::fs::fsync(file)?),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(error) => Err(error),
        },
        Content::Link { .. } | Content::Other => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: BorrowedFd<'_>) -> io::Result<()> {
    match reopen(directory, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(directory) => Ok(rustix::fs::fsync(directory)?),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Labels of security modules are set where they differ, but what a module adds by itself is not taken away.
fn may_remove(name: &str) -> bool {
    name == ACL || name == CAPABILITY || !name.starts_with("security.")
}

fn bytes(name: &str) -> io::Result<Vec<u8>> {
    path::unescape(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn unhex(text: &str) -> io::Result<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    };
    text.as_bytes()
        .chunks(2)
        .map(pair)
        .collect::<Option<_>>()
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "an attribute's value is not hexadecimal",
            )
        })
}

/// What an undo noted on an entry before it began to change it: an extended attribute, because that changes neither
/// the modification time nor what the entry holds.
///
/// For a directory it holds the time that the directory is to have in the end, which can no longer be seen once an
/// entry was changed; for a file whose owner goes back, the mode that the kernel clears with the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Mtime(Stamp),
    Mode(u32),
}

impl Mark {
    /// The mark that a crashed run of the same heal left.
    pub(super) fn read(handle: BorrowedFd<'_>, heal: &str) -> Option<Self> {
        let value = value(by_handle(handle).as_bytes(), MARK.as_bytes()).ok()??;
        let text = String::from_utf8(value).ok()?;
        let mut words = text.strip_prefix(heal)?.strip_prefix(' ')?.split(' ');
        let mark = match words.next()? {
            "mtime" => Self::Mtime(Stamp {
                secs: words.next()?.parse().ok()?,
                nanos: words.next()?.parse().ok()?,
            }),
            "mode" => Self::Mode(words.next()?.parse().ok()?),
            _ => return None,
        };
        words.next().is_none().then_some(mark)
    }

    /// Notes it. False where the file system keeps no such attributes: then only the repetition after a crash is
    /// less exact.
    pub(super) fn write(self, handle: BorrowedFd<'_>, heal: &str) -> bool {
        let text = match self {
            Self::Mtime(stamp) => format!("{heal} mtime {} {}", stamp.secs, stamp.nanos),
            Self::Mode(mode) => format!("{heal} mode {mode}"),
        };
        let at = by_handle(handle);
        rustix::fs::setxattr(&*at, MARK, text.as_bytes(), XattrFlags::empty()).is_ok()
    }

    /// Takes a mark away, if there is one.
    pub(super) fn clear(handle: BorrowedFd<'_>) -> io::Result<()> {
        match rustix::fs::removexattr(by_handle(handle), MARK) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The device and inode behind a handle.
pub(crate) fn inode(handle: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let key = crate::walk::key_of(handle.as_fd())?;
    Ok((key.dev, key.ino))
}
