//! Cutting an open log down to its last lines, in its inode.
//!
//! Where the file system can take whole blocks out of a file's beginning, that is one step inside the kernel which no
//! writer can come between; what remains of the cut line in the first block is blanked. Elsewhere the last bytes are
//! copied down and the file is cut when nothing was appended since the last look: a line that a writer appends between
//! that look and the cut, some microseconds, would be lost there.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::{Done, Record, settled};
use crate::roots::{Roots, open_entry};
use crate::tree::{Content, EntryState, TreePath};
use crate::walk::{key_of, reopen, state_of};

const CHUNK_BYTES: usize = 64 << 10;

/// How far a line's end is looked for.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Keeps the last `keep_bytes` of a log from the first whole line on. Descriptors that writers hold open for appending
/// stay valid. A log that is short enough is left alone.
///
/// The states bear a digest unless the log is written to without pause.
pub fn trim_log(roots: &Roots, path: &TreePath, keep_bytes: u64, deadline: Instant) -> Done {
    let record = Record::new(roots, "trim", deadline);
    record.each(std::slice::from_ref(path), |record, path| {
        let place = record.place(path, true)?;
        let handle = open_entry(place.directory(), &place.name)?;
        let before = look(handle.as_fd())?;
        let Content::File { size, .. } = before.content else {
            return Err(io::Error::other("it is not a regular file"));
        };
        if size <= keep_bytes {
            return Ok(());
        }
        let file = File::from(reopen(handle.as_fd(), OFlags::RDWR)?);
        let size = key_of(file.as_fd())?.size;
        let begin = first_line(&file, size.saturating_sub(keep_bytes), size)?;
        let cut = if collapse(&file, begin)? {
            Ok(())
        } else {
            copy_down(record, &file, begin)
        };
        rustix::fs::fsync(&file)?;
        let after = look(handle.as_fd())?;
        record.note(path, Some(before), Some(after));
        cut
    })
}

/// A state with digest, or without where somebody keeps writing.
fn look(handle: std::os::fd::BorrowedFd<'_>) -> io::Result<EntryState> {
    match state_of(handle, true) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => settled(handle, false),
        other => other,
    }
}

/// Where the first line begins that starts at or after an offset; the offset itself if no line ends near it.
fn first_line(file: &File, from: u64, size: u64) -> io::Result<u64> {
    let Some(mut at) = from.checked_sub(1) else {
        return Ok(0);
    };
    let mut buffer = vec![0; CHUNK_BYTES];
    let end = size.min(from.saturating_add(LINE_BYTES_MAX as u64));
    while at < end {
        let count = file.read_at(&mut buffer, at)?;
        if count == 0 {
            break;
        }
        if let Some(line) = buffer[..count].iter().position(|byte| *byte == b'\n') {
            return Ok(at + line as u64 + 1);
        }
        at += count as u64;
    }
    Ok(from)
}

/// Takes whole blocks out of the beginning. False where that cannot be done.
fn collapse(file: &File, begin: u64) -> io::Result<bool> {
    let block = u64::try_from(rustix::fs::fstat(file)?.st_blksize).unwrap_or(0);
    let whole = begin.checked_div(block).unwrap_or(0) * block;
    if whole == 0 {
        return Ok(false);
    }
    match rustix::fs::fallocate(file, FallocateFlags::COLLAPSE_RANGE, 0, whole) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOSYS | Errno::PERM | Errno::TXTBSY) => {
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    }
    crate::crash::point("trim.collapsed");
    let rest = usize::try_from(begin - whole).unwrap_or(0);
    if rest > 0 {
        let mut blank = vec![b' '; rest];
        blank[rest - 1] = b'\n';
        file.write_all_at(&blank, 0)?;
    }
    Ok(true)
}

/// Copies everything from an offset on to the beginning, until nothing more was appended, and cuts.
fn copy_down(record: &Record<'_>, file: &File, begin: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut from, mut to) = (begin, 0_u64);
    let end = key_of(file.as_fd())?.size;
    loop {
        let count = file.read_at(&mut buffer, from)?;
        if count > 0 {
            file.write_all_at(&buffer[..count], to)?;
            from += count as u64;
            to += count as u64;
            // Stopping early would tear the log: only a writer faster than the copy is given up on.
            if from > end {
                record.may_go_on(0)?;
            }
        } else if key_of(file.as_fd())?.size <= from {
            file.set_len(to)?;
            return Ok(());
        }
    }
}
