//! Owners and permission bits.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use super::{Done, Record, settled};
use crate::restore::meta;
use crate::roots::{Roots, open_entry};
use crate::step::Bits;
use crate::tree::{Content, EntryState, Meta, TreePath};
use crate::walk::state_of;

/// Gives paths to a user and group; links themselves, never what they lead to. ACL stay as they are; setuid and setgid
/// too, unless a user other than root set them for himself, or setgid would run it as another group: they are not to be
/// passed on, and no more are a file's capabilities with its owner.
///
/// Contents are not read: the states of regular files bear no digest, and say by inode and time that they are the same.
pub fn chown(
    roots: &Roots,
    paths: &[TreePath],
    uid: u32,
    gid: u32,
    recursive: bool,
    deadline: Instant,
) -> Done {
    change(
        roots,
        "change the owner of",
        paths,
        recursive,
        deadline,
        |now| {
            let mut to = Meta {
                uid,
                gid,
                ..now.meta.clone()
            };
            if matches!(now.content, Content::File { .. }) {
                if now.meta.uid != 0 && now.meta.uid != uid {
                    to.mode &= !0o6000;
                } else if now.meta.gid != gid {
                    to.mode &= !0o2000;
                }
                if now.meta.uid != uid {
                    to.xattrs.remove(meta::CAPABILITY);
                }
            }
            to
        },
    )
}

/// Adds and removes the named permission bits, and no others. Links are left alone.
///
/// As [`chown`], the states bear no digest.
pub fn set_bits(
    roots: &Roots,
    paths: &[TreePath],
    add: Bits,
    remove: Bits,
    recursive: bool,
    deadline: Instant,
) -> Done {
    change(
        roots,
        "set the permissions of",
        paths,
        recursive,
        deadline,
        |now| {
            let mode = match now.content {
                Content::Link { .. } => now.meta.mode,
                Content::File { .. } | Content::Directory | Content::Other => {
                    with_bits(now, add, remove)
                }
            };
            Meta {
                mode,
                ..now.meta.clone()
            }
        },
    )
}

/// Could a user have linked a file that is not his below his root, for root to change it there?
fn anybody_may_link() -> bool {
    rustix::process::geteuid().is_root()
        && std::fs::read_to_string("/proc/sys/fs/protected_hardlinks")
            .is_ok_and(|text| text.trim() == "0")
}

fn with_bits(now: &EntryState, add: Bits, remove: Bits) -> u32 {
    let search = now.content == Content::Directory || now.meta.mode & 0o111 != 0;
    let bits = |bits: Bits| bits.plain | if search { bits.search } else { 0 };
    (now.meta.mode | bits(add)) & !bits(remove) & 0o7777
}

fn change(
    roots: &Roots,
    what: &'static str,
    paths: &[TreePath],
    recursive: bool,
    deadline: Instant,
    wanted: impl Fn(&EntryState) -> Meta,
) -> Done {
    let one = |record: &mut Record<'_>, path: &TreePath, through: bool| -> io::Result<()> {
        let place = record.place(path, through)?;
        let handle = open_entry(place.directory(), &place.name)?;
        let now = state_of(handle.as_fd(), false)?;
        if now.key.nlink > 1 && matches!(now.content, Content::File { .. }) && anybody_may_link() {
            return Err(io::Error::other(
                "it has several names, and on this host anybody may give a file of root's another one (fs.protected_hardlinks)",
            ));
        }
        let to = wanted(&now);
        if to == now.meta {
            return Ok(());
        }
        let changed = meta::apply(handle.as_fd(), &now.meta, &to, false);
        // Also after an error: the owner may have changed and the mode not.
        let after = settled(handle.as_fd(), false)?;
        record.note(path, Some(now), Some(after));
        changed
    };
    Record::new(roots, what, deadline).each(paths, |record, path| {
        one(record, path, true)?;
        if recursive {
            // Listed after the path itself was opened to us.
            for path in record.below(path)?.into_iter().skip(1) {
                record.may_go_on(0)?;
                match one(record, &path, false) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        Ok(())
    })
}
