//! Whole files, put in place atomically.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::io::Errno;

use super::{Done, Record, env, settled};
use crate::restore::entry::{Built, take_back};
use crate::restore::meta;
use crate::restore::place::Place;
use crate::roots::{Roots, absent, open_entry};
use crate::step::Owner;
use crate::tree::diff::{ACL, same_state};
use crate::tree::{Content, Digest, EntryState, Meta, TreePath};
use crate::walk::{reopen, state_at, state_of};

/// Files with keys that are longer are no such files.
const ENV_BYTES_MAX: u64 = 1 << 20;

/// What a file that is put is to be like.
#[derive(Debug, Clone, Copy)]
pub struct Like<'a> {
    pub mode: u32,
    /// Whose it was. An ordinary user can neither name an owner nor give a group that is not his.
    pub owner: Option<&'a Owner>,
}

/// Puts a file in place by one rename, with the permissions that it is to have, whatever those of an existing one are:
/// a ruin may have been written anew, open to everybody, where passwords stood. Further attributes of an existing file
/// stay. What somebody writes to the path meanwhile wins: the step then fails and leaves it.
///
/// A link to a file in a declared root is seen through. Any other link, and anything but a file, is an error.
pub fn put(
    roots: &Roots,
    path: &TreePath,
    content: &File,
    digest: Digest,
    like: Like<'_>,
    deadline: Instant,
) -> Done {
    let record = Record::new(roots, "put", deadline);
    record.each(std::slice::from_ref(path), |record, path| {
        let mut content = content.try_clone()?;
        content.rewind()?;
        let place = record.place(path, true)?;
        let before = state_at(place.directory(), &place.name, true)?;
        replace(
            record,
            path,
            &place,
            before,
            &mut content,
            digest,
            Some(like),
        )
    })
}

/// Sets one key of an env file, keeping every other byte: each active definition gets the value, because readers
/// differ in which one they take; without one a line is appended.
pub fn edit_key(roots: &Roots, path: &TreePath, key: &str, value: &str, deadline: Instant) -> Done {
    let record = Record::new(roots, "edit", deadline);
    record.each(std::slice::from_ref(path), |record, path| {
        let place = record.place(path, true)?;
        let handle = open_entry(place.directory(), &place.name)?;
        let before = state_of(handle.as_fd(), true)?;
        let Content::File {
            size,
            digest: Some(digest),
        } = before.content
        else {
            return Err(io::Error::other("it is not a regular file"));
        };
        if size > ENV_BYTES_MAX {
            return Err(io::Error::other("it is too long for an env file"));
        }
        let mut old = Vec::new();
        let file = File::from(reopen(handle.as_fd(), rustix::fs::OFlags::RDONLY)?);
        file.take(ENV_BYTES_MAX + 1).read_to_end(&mut old)?;
        if Digest::of(&old) != digest {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let new = env::edited(&old, key, value)
            .map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        let digest = Digest::of(&new);
        replace(record, path, &place, Some(before), &mut &*new, digest, None)
    })
}

fn replace(
    record: &mut Record<'_>,
    path: &TreePath,
    place: &Place,
    before: Option<EntryState>,
    content: &mut dyn Read,
    digest: Digest,
    like: Option<Like<'_>>,
) -> io::Result<()> {
    let unchanged =
        |found| matches!(found, Content::File { digest: Some(found), .. } if found == digest);
    match before.as_ref().map(|before| &before.content) {
        Some(Content::File { .. }) | None => {}
        Some(Content::Link { .. }) => {
            return Err(io::Error::other(
                "it is a link that leads into no declared root",
            ));
        }
        Some(Content::Directory | Content::Other) => {
            return Err(io::Error::other("it is not a regular file"));
        }
    }
    if before
        .as_ref()
        .is_some_and(|before| unchanged(before.content.clone()))
    {
        return Ok(());
    }
    record.will_change(path, place)?;
    place.discard(&place.making)?; // a crashed step's own, never somebody's
    let built = build(place, before.as_ref(), content, digest, like);
    if let Err(error) = built {
        place.discard(&place.making)?;
        return Err(error);
    }
    crate::crash::point("put.made");
    let put = match before.as_ref() {
        None => Ok(place.rename_new(&place.making, &place.name)?),
        Some(before) => flip(place, before),
    };
    crate::crash::point("put.flipped");
    place.discard(&place.making)?;
    put?;
    place.sync()?;
    let after = absent(open_entry(place.directory(), &place.name))?;
    let after = after
        .map(|after| settled(after.as_fd(), true))
        .transpose()?;
    record.note(path, before, after);
    Ok(())
}

/// The new file, complete and synced, beside the path.
fn build(
    place: &Place,
    before: Option<&EntryState>,
    content: &mut dyn Read,
    digest: Digest,
    like: Option<Like<'_>>,
) -> io::Result<()> {
    let mut file = place.create()?;
    io::copy(content, &mut file)?;
    file.rewind()?;
    if crate::walk::digest(&mut file)? != digest {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the content to put is damaged",
        ));
    }
    let own = state_of(file.as_fd(), false)?.meta;
    let present = before.map_or(&own, |before| &before.meta);
    let to = like.map_or_else(|| present.clone(), |like| wanted(like, present, &own));
    meta::apply(file.as_fd(), &own, &to, false)?;
    Ok(rustix::fs::fsync(&file)?)
}

/// What a file that is put gets: never more than it is to have, and of that what its user can give.
pub(super) fn wanted(like: Like<'_>, present: &Meta, own: &Meta) -> Meta {
    let mut to = Meta {
        mode: like.mode & 0o7777,
        ..present.clone()
    };
    if let Some(owner) = like.owner {
        if owner.uid == own.uid {
            to.uid = own.uid;
        }
        match &owner.acl {
            Some(acl) => to.xattrs.insert(ACL.to_owned(), acl.clone()),
            None => to.xattrs.remove(ACL),
        };
        if meta::may_give(owner.gid) {
            to.gid = owner.gid;
        } else {
            // Another group is not the one that the bits were meant for.
            to.gid = own.gid;
            if own.gid != owner.gid {
                to.mode &= !0o2070;
            }
        }
    }
    to
}

/// Gives the new file its name. What comes out must be what was looked at; else it goes back.
///
/// From here on the new file bears the name under which somebody's content may lie, should we die: only that one is
/// looked into before it is cleared away.
fn flip(place: &Place, before: &EntryState) -> io::Result<()> {
    place.rename_new(&place.making, &place.ready)?;
    let built = Built::of(open_entry(place.directory(), &place.ready)?.as_fd())?;
    match place.exchange(&place.ready, &place.name) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            // Without an exchange the look is only just before.
            let now = state_at(place.directory(), &place.name, true)?;
            if now.is_none_or(|now| !same_state(&now, before)) {
                place.discard(&place.ready)?;
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            let here = place.directory();
            rustix::fs::renameat(here, &*place.ready, here, &*place.name)?;
            return Ok(());
        }
        Err(error) => {
            place.discard(&place.ready)?;
            return Err(error.into());
        }
    }
    crate::crash::point("put.exchanged");
    let out = state_at(place.directory(), &place.ready, true);
    match out {
        Ok(Some(out)) if same_state(&out, before) && out.key.ino == before.key.ino => {
            Ok(place.discard(&place.ready)?)
        }
        Ok(_) | Err(_) => {
            take_back(place, &built)?;
            Err(io::ErrorKind::ResourceBusy.into())
        }
    }
}
