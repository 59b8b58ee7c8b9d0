//! Removing and exchanging names.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::{Done, Record, is_absence};
use crate::restore::place::Place;
use crate::roots::{Roots, absent, open_entry};
use crate::tree::diff::same_state;
use crate::tree::{Content, EntryState, TreePath};
use crate::walk::{state_at, state_of};

/// Removes files, links and empty directories, and with `recursive` whole directories. What is absent is fine; a link
/// goes itself. Every path below is reported, contents with their digests.
pub fn remove(roots: &Roots, paths: &[TreePath], recursive: bool, deadline: Instant) -> Done {
    Record::new(roots, "remove", deadline).each(paths, |record, path| {
        if path.is_root() {
            return Err(io::Error::other("it is the application's root"));
        }
        let place = match record.place(path, false) {
            Err(error) if is_absence(&error) => return Ok(()),
            other => other?,
        };
        match state_at(place.directory(), &place.name, false)? {
            None => Ok(()),
            Some(state) if state.content == Content::Directory && recursive => {
                for path in record.below(path)?.into_iter().rev() {
                    record.may_go_on(0)?;
                    one(record, &path)?;
                }
                Ok(())
            }
            Some(_) => one(record, path),
        }
    })
}

/// One entry. A file is taken out of its name and looked at before it goes: what somebody wrote since the look before
/// gets its name back.
fn one(record: &mut Record<'_>, path: &TreePath) -> io::Result<()> {
    let place = match record.place(path, false) {
        Err(error) if is_absence(&error) => return Ok(()),
        other => other?,
    };
    let here = place.directory();
    let Some(before) = state_at(here, &place.name, true)? else {
        return Ok(());
    };
    record.will_change(path, &place)?;
    if before.content == Content::Directory {
        rustix::fs::unlinkat(here, &*place.name, AtFlags::REMOVEDIR)?;
        // Its entries may have gone before it: it counts as it was then.
        let before = record.parents.remove(path).unwrap_or(before);
        place.sync()?;
        record.note(path, Some(before), None);
        return Ok(());
    }
    // Absent, or a crashed step's own; anything else of that name ends the step here.
    place.rename_new(&place.name, &place.ready)?;
    crate::crash::point("remove.taken");
    let out = state_at(here, &place.ready, true)?;
    let same = |out: &EntryState| same_state(out, &before) && out.key.ino == before.key.ino;
    if !out.as_ref().is_some_and(same) {
        place.rename_new(&place.ready, &place.name)?;
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    place.discard(&place.ready)?;
    crate::crash::point("remove.done");
    place.sync()?;
    record.note(path, Some(before), None);
    Ok(())
}

/// Exchanges two directories by name in one atomic step. Every path below either is reported.
pub fn swap_directory(roots: &Roots, path: &TreePath, with: &TreePath, deadline: Instant) -> Done {
    let record = Record::new(roots, "exchange", deadline);
    record.each(std::slice::from_ref(path), |record, path| {
        if path.is_below(with) || with.is_below(path) {
            return Err(io::Error::other("one lies in the other"));
        }
        let (one, other) = (record.place(path, false)?, record.place(with, false)?);
        let (first, second) = (states(record, path)?, states(record, with)?);
        record.will_change(path, &one)?;
        record.will_change(with, &other)?;
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(
            one.directory(),
            &*one.name,
            other.directory(),
            &*other.name,
            flags,
        )
        .map_err(unsupported)?;
        crate::crash::point("swap.done");
        one.sync()?;
        other.sync()?;
        note_moved(record, path, &one, &first, &second)?;
        note_moved(record, with, &other, &second, &first)
    })
}

fn unsupported(error: Errno) -> io::Error {
    match error {
        Errno::INVAL | Errno::NOSYS | Errno::NOTSUP => io::Error::new(
            io::ErrorKind::Unsupported,
            "this file system cannot exchange two names",
        ),
        other => other.into(),
    }
}

/// States by what follows the directory's own path.
type States = std::collections::BTreeMap<Vec<u8>, EntryState>;

fn states(record: &Record<'_>, path: &TreePath) -> io::Result<States> {
    let mut states = States::new();
    for below in record.below(path)? {
        record.may_go_on(states.len())?;
        let place = record.place(&below, false)?;
        let state = state_at(place.directory(), &place.name, true)?;
        let Some(state) = state else { continue };
        if below == *path && state.content != Content::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        states.insert(below.as_bytes()[path.as_bytes().len()..].to_vec(), state);
    }
    if states.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(states)
}

/// What was below one directory, and what came there from the other. Moving changes nothing of an entry but the
/// directory's own change time.
fn note_moved(
    record: &mut Record<'_>,
    path: &TreePath,
    place: &Place,
    before: &States,
    after: &States,
) -> io::Result<()> {
    let names: std::collections::BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
    for name in names {
        let mut bytes = path.as_bytes().to_vec();
        bytes.extend_from_slice(name);
        let at = TreePath::from_bytes(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let now = if name.is_empty() {
            let handle = absent(open_entry(place.directory(), &place.name))?;
            handle
                .map(|handle| state_of(handle.as_fd(), false))
                .transpose()?
        } else {
            after.get(name).cloned()
        };
        record.note(&at, before.get(name).cloned(), now);
    }
    Ok(())
}
