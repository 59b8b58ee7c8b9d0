//! One path: looked at, decided about, and flipped.
//!
//! Every change of content is a complete, synced temporary file and one rename. What comes out of the rename is
//! compared with what was decided about; if it is something else, the rename is taken back and the decision made anew.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::meta::{self, Mark};
use super::place::{Place, holds_files};
use super::recover::left;
use super::{Spot, Step, Undo, at, in_place, vouched};
use crate::protocol::{UndoItem, UndoResult};
use crate::roots::{absent, kind, open_entry};
use crate::tree::diff::{Attribute, Merge, merge, same_content, same_kind, same_state};
use crate::tree::{Content, Digest, EntryState, Meta, Stamp, path};
use crate::walk::{digest, key_of, reopen, state_at, state_of};

/// How often a path that changes under our hands is decided about.
const ATTEMPTS_MAX: u32 = 4;

/// What we made: anything else under its name, or any write to it, is somebody's.
#[derive(PartialEq)]
pub(crate) struct Built {
    inode: (u64, u64),
    size: u64,
    mtime: Stamp,
    attributes: (u32, u32, u32),
}

impl Built {
    pub(crate) fn of(handle: BorrowedFd<'_>) -> io::Result<Self> {
        let key = key_of(handle)?;
        Ok(Self {
            inode: (key.dev, key.ino),
            size: key.size,
            mtime: key.mtime,
            attributes: (key.mode, key.uid, key.gid),
        })
    }
}

impl Undo<'_> {
    /// Takes one path back.
    pub(super) fn leaf(&mut self, item: &UndoItem) -> io::Result<(UndoResult, String)> {
        let place = match self.place(item) {
            Ok(place) => place,
            Err(error) if is_gone(&error) => {
                return Ok(if item.before.is_none() {
                    (UndoResult::Already, String::new())
                } else {
                    (
                        UndoResult::Kept,
                        "its directory is not there any more".to_owned(),
                    )
                });
            }
            Err(error) => return Err(error),
        };
        self.adopt(&place.directory(), |undo| undo.spot(&place, item))?;
        self.recover(&place, item)?;
        let mut restored = false;
        let mut note = String::new();
        self.lost_group = None;
        for _ in 0..ATTEMPTS_MAX {
            let now = match state_at(place.directory(), &place.name, needs_digest(item)) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    return Ok((UndoResult::Kept, "somebody is writing to it".to_owned()));
                }
                other => other?,
            };
            let mut merge = merge(item.before.as_ref(), item.after.as_ref(), now.as_ref());
            if let Some(now) = now.as_ref().filter(|now| now.content == Content::Directory) {
                forget_time(&mut merge, now);
                if let Ok(itself) = self.roots.at(&item.path, DIRECTORY) {
                    self.adopt(&itself, |_| Ok(Spot::Directory(item.path.clone())))?;
                }
            }
            let relink = self.relinks(item, now.as_ref());
            if relink && !merge.keep.is_empty() {
                // Somebody wrote to the file that it became a name of; which name he meant cannot be told.
                return Ok(ended(&merge, false, note));
            }
            if merge.restore.is_empty() && !relink {
                return Ok(ended(&merge, restored, note));
            }
            match self.carry_out(&place, item, now.as_ref(), &merge, relink)? {
                Step::Done => restored = true,
                Step::Raced => {}
                Step::Blocked(why) => return Ok((UndoResult::Kept, why)),
            }
            if let (true, Some(group)) = (restored, self.lost_group) {
                let why = format!("it is back, but not its group {group}: its user is not in it");
                return Ok((UndoResult::Failed, why));
            }
            if restored {
                note = listed(&merge.restore);
                if merge.keep.is_empty() {
                    return Ok((UndoResult::Restored, String::new()));
                }
                return Ok(ended(&merge, true, note));
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "somebody keeps changing it",
        ))
    }

    /// The place of an item: through the named hop where the item is about the file that it leads to.
    pub(super) fn place(&self, item: &UndoItem) -> io::Result<Place> {
        let (directory, name) = if sees_through(item) {
            self.roots.place(&item.path)?
        } else {
            self.roots.parent(&item.path)?
        };
        Ok(Place::new(directory, name, &self.label, &item.path))
    }

    fn carry_out(
        &mut self,
        place: &Place,
        item: &UndoItem,
        now: Option<&EntryState>,
        merge: &Merge,
        relink: bool,
    ) -> io::Result<Step> {
        let whole = relink
            || merge.restore.contains(&Attribute::Entry)
            || merge.restore.contains(&Attribute::Content);
        match (now, merge.target.as_ref()) {
            (None, None) => Ok(Step::Done),
            (Some(now), Some((_, to))) if !whole => attributes(place, item, now, to, &self.label),
            (Some(now), None) => {
                self.hold(item)?;
                remove(place, now)
            }
            (None, Some((content, to))) => {
                self.hold(item)?;
                self.create(place, item, content, to)
            }
            (Some(now), Some((content, to))) => {
                self.hold(item)?;
                self.replace(place, item, now, content, to)
            }
        }
    }

    /// Where nothing is: a complete entry is renamed to the name, which fails if somebody was faster.
    fn create(
        &mut self,
        place: &Place,
        item: &UndoItem,
        content: &Content,
        to: &Meta,
    ) -> io::Result<Step> {
        let linked = self.link_anchor(item, place, &place.name, to)?;
        if !linked {
            self.build(place, item, content, to)?;
            at("undo.ready");
            match place.rename_new(&place.making, &place.name) {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    place.discard(&place.making)?;
                    return Ok(Step::Raced);
                }
                Err(error) => return Err(error.into()),
            }
        }
        at("undo.created");
        place.sync()?;
        Ok(Step::Done)
    }

    fn replace(
        &mut self,
        place: &Place,
        item: &UndoItem,
        now: &EntryState,
        content: &Content,
        to: &Meta,
    ) -> io::Result<Step> {
        if stays_in_inode(item, now, content) {
            return in_place::rewrite(place, now, &self.content(item)?, to);
        }
        if !self.link_anchor(item, place, &place.ready, to)? {
            self.build(place, item, content, to)?;
            at("undo.made");
            place.rename_new(&place.making, &place.ready)?;
        }
        let ready = open_entry(place.directory(), &place.ready)?;
        let built = Built::of(ready.as_fd())?;
        at("undo.ready");
        match place.exchange(&place.ready, &place.name) {
            Ok(()) => {}
            Err(Errno::NOENT) => {
                place.discard(&place.ready)?;
                return Ok(Step::Raced);
            }
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::XDEV | Errno::BUSY)
                if same_kind(&now.content, content) && matches!(content, Content::File { .. }) =>
            {
                // A mount, or a file system that cannot exchange.
                place.discard(&place.ready)?;
                return in_place::rewrite(place, now, &self.content(item)?, to);
            }
            Err(error) => {
                place.discard(&place.ready)?;
                return Err(error.into());
            }
        }
        at("undo.exchanged");
        if !came_out(place, now)? {
            take_back(place, &built)?;
            return Ok(Step::Raced);
        }
        match place.discard(&place.ready) {
            Ok(()) => {}
            Err(error) if holds_files(error) => {
                take_back(place, &built)?;
                return Ok(Step::Blocked("it holds files of somebody else".to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        at("undo.discarded");
        place.sync()?;
        Ok(Step::Done)
    }

    /// Makes the entry under the name for what is being made: complete, with its attributes, synced.
    fn build(
        &mut self,
        place: &Place,
        item: &UndoItem,
        content: &Content,
        to: &Meta,
    ) -> io::Result<()> {
        let here = place.directory();
        match content {
            Content::File { .. } => {
                let mut staged = self.source(place, item, content)?;
                let file = place.create()?;
                at("undo.making");
                io::copy(&mut staged, &mut &file)?;
            }
            Content::Directory => {
                rustix::fs::mkdirat(here, &*place.making, Mode::from_raw_mode(0o700))?;
            }
            Content::Link { target } => {
                let text = path::unescape(target)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                rustix::fs::symlinkat(text, here, &*place.making)?;
            }
            Content::Other => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "a socket, pipe or device cannot be restored",
                ));
            }
        }
        let made = open_entry(here, &place.making)?;
        let state = state_of(made.as_fd(), false)?;
        let directory = *content == Content::Directory;
        let mut to = to.clone();
        if !meta::may_give(to.gid) && to.gid != state.meta.gid {
            // A content in another group is a loss that can be mended; no content is none.
            self.lost_group = Some(to.gid);
            to.gid = state.meta.gid;
            to.mode &= !0o2000;
        }
        let to = &to;
        meta::apply(made.as_fd(), &state.meta, to, !directory)?;
        if directory {
            Mark::Mtime(to.mtime).write(made.as_fd(), &self.label);
            let inode = meta::inode(made.as_fd())?;
            self.hold_for(inode, Spot::Directory(item.path.clone()), to.mtime);
        }
        meta::sync(made.as_fd(), &state)
    }

    /// The staged content of an item's state before, at its start.
    pub(super) fn content(&self, item: &UndoItem) -> io::Result<File> {
        match item.before.as_ref().map(|before| &before.content) {
            Some(Content::File {
                digest: Some(wanted),
                ..
            }) => checked((self.stage)(wanted)?, *wanted),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its content before is not known",
            )),
        }
    }

    /// The content that a path is to have: from the path itself where it has it, because only what differs was
    /// staged.
    fn source(&self, place: &Place, item: &UndoItem, content: &Content) -> io::Result<File> {
        let Content::File {
            digest: Some(wanted),
            ..
        } = content
        else {
            return self.content(item);
        };
        match (self.stage)(wanted) {
            Ok(file) => checked(file, *wanted),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let present = open_entry(place.directory(), &place.name)?;
                if kind(present.as_fd())? != FileType::RegularFile {
                    return Err(error);
                }
                checked(
                    File::from(reopen(present.as_fd(), OFlags::RDONLY)?),
                    *wanted,
                )
            }
            Err(error) => Err(error),
        }
    }
}

/// Attributes only: set where they are, through a handle that is still what was decided about.
///
/// What lets somebody else's content act in another name (an owner, setuid, setgid, a capability) is given only to a
/// content that is surely the one it was taken from.
pub(super) fn attributes(
    place: &Place,
    item: &UndoItem,
    now: &EntryState,
    to: &Meta,
    label: &str,
) -> io::Result<Step> {
    at("undo.attributes");
    let Some(handle) = absent(open_entry(place.directory(), &place.name))? else {
        return Ok(Step::Raced);
    };
    let seen = state_of(handle.as_fd(), false)?;
    let same_inode = (seen.key.dev, seen.key.ino) == (now.key.dev, now.key.ino);
    let directory = now.content == Content::Directory;
    if !same_inode || seen.meta.mode != now.meta.mode || seen.meta.xattrs != now.meta.xattrs {
        return Ok(Step::Raced);
    }
    if !vouched::may_bear(handle.as_fd(), item, &seen, to)? {
        return Ok(Step::Blocked(vouched::REASON.to_owned()));
    }
    let owner = (now.meta.uid, now.meta.gid) != (to.uid, to.gid);
    let marked = owner
        && to.mode & 0o6000 != 0
        && !directory
        && Mark::Mode(to.mode).write(handle.as_fd(), label);
    meta::apply(
        handle.as_fd(),
        &now.meta,
        to,
        !directory && now.meta.mtime != to.mtime,
    )?;
    at("undo.attributes-set");
    if marked {
        Mark::clear(handle.as_fd())?;
    }
    meta::sync(handle.as_fd(), &seen)?;
    Ok(Step::Done)
}

/// What the action created goes away, if what is taken out of the name is what was decided about.
fn remove(place: &Place, now: &EntryState) -> io::Result<Step> {
    let here = place.directory();
    if now.content == Content::Directory {
        at("undo.remove");
        return match rustix::fs::unlinkat(here, &*place.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {
                at("undo.removed");
                place.sync()?;
                Ok(Step::Done)
            }
            Err(Errno::NOTDIR) => Ok(Step::Raced),
            Err(error) if holds_files(error) => {
                Ok(Step::Blocked("it holds files of somebody else".to_owned()))
            }
            Err(error) => Err(error.into()),
        };
    }
    at("undo.remove");
    match place.rename_new(&place.name, &place.ready) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(Step::Raced),
        Err(error) => return Err(error.into()),
    }
    at("undo.taken");
    if came_out(place, now)? {
        place.discard(&place.ready)?;
        at("undo.removed");
        place.sync()?;
        return Ok(Step::Done);
    }
    put_back(place)?;
    Ok(Step::Raced)
}

/// Is what lies under the temporary name now what was decided about?
fn came_out(place: &Place, now: &EntryState) -> io::Result<bool> {
    let digest = matches!(
        now.content,
        Content::File {
            digest: Some(_),
            ..
        }
    );
    let out = match state_at(place.directory(), &place.ready, digest) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(false),
        other => other?,
    };
    Ok(out.is_some_and(|out| {
        same_state(&out, now) && (out.key.dev, out.key.ino) == (now.key.dev, now.key.ino)
    }))
}

/// Exchanges back. If what comes out then is not ours, somebody replaced it meanwhile: the newer content gets the
/// name, and the older one is left beside it rather than lost.
pub(crate) fn take_back(place: &Place, built: &Built) -> io::Result<()> {
    match place.exchange(&place.ready, &place.name) {
        Ok(()) => {}
        Err(Errno::NOENT) => return put_back(place),
        Err(error) => return Err(error.into()),
    }
    at("undo.taken-back");
    let Some(out) = left(place, &place.ready)? else {
        return Ok(());
    };
    let now = key_of(out.as_fd())?;
    // A link to a file that has other names loses nothing, whoever wrote to it.
    let linked = (now.dev, now.ino) == built.inode && now.nlink > 1;
    if linked || Built::of(out.as_fd())? == *built {
        place.discard(&place.ready)?;
        return place.sync();
    }
    place.exchange(&place.ready, &place.name)?;
    Err(beside(place))
}

/// Gives somebody's content its name again.
pub(super) fn put_back(place: &Place) -> io::Result<()> {
    match place.rename_new(&place.ready, &place.name) {
        Ok(()) => place.sync(),
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::EXIST) => Err(beside(place)),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn beside(place: &Place) -> io::Error {
    io::Error::other(format!(
        "two others wrote it meanwhile; the older content was kept as `{}`",
        path::escape(&place.ready)
    ))
}

/// Is the item about a file, seen through the named hop wherever a link stands at its path?
fn sees_through(item: &UndoItem) -> bool {
    let link = |state: &Option<EntryState>| {
        state
            .as_ref()
            .is_some_and(|state| matches!(state.content, Content::Link { .. }))
    };
    !link(&item.before) && !link(&item.after)
}

/// Where the action changed attributes only, nobody's content has to be read.
fn needs_digest(item: &UndoItem) -> bool {
    match (&item.before, &item.after) {
        (Some(before), Some(after)) => {
            !same_content(before, after) || before.key.nlink > 1 || after.key.nlink > 1
        }
        _ => true,
    }
}

/// Has the file to keep its inode? Asked for by name; and a hard link that the action wrote through, whose other
/// names must see the restored content too.
fn stays_in_inode(item: &UndoItem, now: &EntryState, content: &Content) -> bool {
    let Some(before) = &item.before else {
        return false;
    };
    if !matches!(content, Content::File { .. }) || !same_kind(content, &now.content) {
        return false;
    }
    let same_inode = (before.key.dev, before.key.ino) == (now.key.dev, now.key.ino);
    let group = before.key.nlink > 1 && same_inode && now.key.nlink <= before.key.nlink;
    group || (item.in_place && (same_inode || (now.key.nlink == 1 && before.key.nlink == 1)))
}

/// A directory's time says only that its entries changed; it is settled when all of them are.
pub(super) fn forget_time(merge: &mut Merge, now: &EntryState) {
    merge.keep.remove(&Attribute::Mtime);
    if merge.restore.remove(&Attribute::Mtime)
        && let Some((_, to)) = &mut merge.target
    {
        to.mtime = now.meta.mtime;
    }
}

/// How a path ended, by what its last decision left.
pub(super) fn ended(merge: &Merge, restored: bool, note: String) -> (UndoResult, String) {
    match (merge.keep.is_empty(), restored) {
        (true, true) => (UndoResult::Restored, note),
        (true, false) => (UndoResult::Already, note),
        (false, true) => (
            UndoResult::Kept,
            format!("kept: {}; restored: {note}", listed(&merge.keep)),
        ),
        (false, false) => (
            UndoResult::Kept,
            format!("somebody else changed it since: {}", listed(&merge.keep)),
        ),
    }
}

pub(super) fn listed(attributes: &std::collections::BTreeSet<Attribute>) -> String {
    let names: Vec<&str> = attributes
        .iter()
        .map(|attribute| attribute.name())
        .collect();
    names.join(", ")
}

/// Nothing can be at the path any more: a parent is not there, or is something else.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    ) || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// A file at its start, if its content is what it is called.
fn checked(mut file: File, wanted: Digest) -> io::Result<File> {
    file.rewind()?;
    if digest(&mut file)? != wanted {
        let text = "its staged content is damaged";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    file.rewind()?;
    Ok(file)
}

/// Opens a directory for the settling of its own attributes.
pub(super) fn open_directory(handle: OwnedFd) -> io::Result<Option<OwnedFd>> {
    let directory = kind(handle.as_fd())? == FileType::Directory;
    Ok(directory.then_some(handle))
}

/// Flags for a handle that only stands for a directory.
pub(super) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
