//! Clears what a step left under its temporary names when its supervisor died in it.
//!
//! Only paths that the steps name are looked at. What a recursive `remove` had just taken out below them stays under
//! its temporary name: the way back to its own name is not in it.

use std::io;

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

use super::is_absence;
use crate::restore::entry::beside;
use crate::restore::place::Place;
use crate::roots::Roots;
use crate::step::Step;
use crate::tree::{Content, Digest, Stamp, TreePath};
use crate::walk::state_at;

/// Removes unfinished and replaced files of these steps, and gives a file that was taken out to be removed its name
/// back, if nobody has it. Twice is once; nobody else may be acting on the roots meanwhile. `began` is when the action
/// was admitted: what is older is in its backup.
///
/// # Errors
/// The first one; the other paths are cleared all the same.
pub fn clear<'a>(
    roots: &Roots,
    steps: impl Iterator<Item = &'a Step>,
    began: Stamp,
) -> io::Result<()> {
    let mut first = Ok(());
    for step in steps {
        let done = match step {
            Step::Put { path, digest, .. } => put(roots, path, Some(*digest), began),
            Step::EditKey { path, .. } => put(roots, path, None, began),
            Step::Remove { paths, .. } => paths.iter().try_for_each(|path| taken(roots, path)),
            Step::Run { .. }
            | Step::Chown { .. }
            | Step::SetBits { .. }
            | Step::SwapDirectory { .. }
            | Step::TrimLog { .. }
            | Step::RestartUnit { .. }
            | Step::RestartPm2 { .. } => Ok(()),
        };
        first = first.and(done);
    }
    first
}

/// Half made goes. What is complete goes if it is ours, or in the backup; else somebody wrote it while the names were
/// exchanged, and it stays beside the path. A modification time alone proves nothing: who copies a file may bring it along.
fn put(roots: &Roots, path: &TreePath, digest: Option<Digest>, began: Stamp) -> io::Result<()> {
    let Some(place) = found(roots.place(path), path)? else {
        return Ok(());
    };
    place.discard(&place.making)?;
    if let Some(left) = state_at(place.directory(), &place.ready, true)? {
        let present = state_at(place.directory(), &place.name, false)?;
        let in_backup = left.meta.mtime < began && born_before(&place, &place.ready, began)?;
        let not_exchanged = present.is_some_and(|present| present.meta.mtime < began)
            && born_before(&place, &place.name, began)?;
        let as_wanted = digest.is_some_and(
            |digest| matches!(left.content, Content::File { digest: Some(found), .. } if found == digest),
        );
        if !(in_backup || not_exchanged || as_wanted) {
            return Err(beside(&place));
        }
        place.discard(&place.ready)?;
    }
    place.sync()
}

/// Is this very file older? Nobody can set when it was made; where the file system does not keep it, nobody knows.
fn born_before(place: &Place, name: &[u8], moment: Stamp) -> io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(place.directory(), name, flags, StatxFlags::BTIME)?;
    let known = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    let born = Stamp {
        secs: stat.stx_btime.tv_sec,
        nanos: stat.stx_btime.tv_nsec,
    };
    Ok(known && born < moment)
}

fn taken(roots: &Roots, path: &TreePath) -> io::Result<()> {
    if path.is_root() {
        return Ok(());
    }
    let Some(place) = found(roots.parent(path), path)? else {
        return Ok(());
    };
    match place.rename_new(&place.ready, &place.name) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(()),
        // Somebody made it anew; what was taken out is in the backup.
        Err(Errno::EXIST) => place.discard(&place.ready)?,
        Err(error) => return Err(error.into()),
    }
    place.sync()
}

/// The place of a path; none where its directory is gone.
fn found(
    place: io::Result<(std::os::fd::OwnedFd, Vec<u8>)>,
    path: &TreePath,
) -> io::Result<Option<Place>> {
    match place {
        Ok((directory, name)) => Ok(Some(Place::new(directory, name, super::LABEL, path))),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
