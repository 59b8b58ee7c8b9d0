//! Rewriting a file in its own inode: an open log, a hard-linked file, a mount.
//!
//! That cannot be atomic, so it is made repeatable: a synced copy of the content that is overwritten, bearing the
//! attributes that the file is to have, lies beside it while it lasts. After a crash each byte is either the old or
//! the new one, which the two sources show; anything else is somebody else's and ends the work. What a writer appends
//! meanwhile is kept behind the restored content.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::OFlags;

use super::meta;
use super::place::Place;
use super::{Step, at};
use crate::roots::open_entry;
use crate::tree::diff::same_content;
use crate::tree::{Content, Digest, EntryState, Meta};
use crate::walk::{digest, key_of, reopen, state_at, state_of};

const CHUNK_BYTES: usize = 64 << 10;

/// What others may append while a file is rewritten, held in memory until it is written behind the content.
const APPENDED_BYTES_MAX: usize = 16 << 20;

/// How often growth behind the content is looked for again before the file is cut.
const GROWTHS_MAX: u32 = 8;

/// Brings the file at a place from state `now` to `content` and `to`, keeping its inode.
pub(super) fn rewrite(
    place: &Place,
    now: &EntryState,
    content: &File,
    to: &Meta,
) -> io::Result<Step> {
    let handle = open_entry(place.directory(), &place.name)?;
    let Content::File {
        digest: Some(old), ..
    } = now.content
    else {
        return Err(io::Error::other("its present content is not known"));
    };
    if !keep_copy(place, handle.as_fd(), old, to)? {
        return Ok(Step::Raced);
    }
    at("undo.copied");
    finish(place, handle.as_fd(), now, now.key.size, content, to)
}

/// Goes on with what a crashed run left: `None` if there is nothing.
pub(super) fn resume(
    place: &Place,
    before: Option<&EntryState>,
    after: Option<&EntryState>,
    content: impl FnOnce() -> io::Result<File>,
) -> io::Result<Option<Step>> {
    let Some(copy) = state_at(place.directory(), &place.copy, true)? else {
        return Ok(None);
    };
    let done = || -> io::Result<()> {
        place.discard(&place.copy)?;
        place.sync()
    };
    let handle = match crate::roots::absent(open_entry(place.directory(), &place.name))? {
        Some(handle) if after.is_some_and(|after| same_content(&copy, after)) => handle,
        _ => {
            done()?;
            return Ok(None);
        }
    };
    let now = state_of(handle.as_fd(), true)?;
    if !matches!(now.content, Content::File { .. }) || same_content(&now, &copy) {
        done()?; // not begun
        return Ok(None);
    }
    let complete = before.is_some_and(|before| same_content(&now, before));
    let content = content()?;
    if complete {
        meta::apply(handle.as_fd(), &now.meta, &copy.meta, true)?;
        meta::sync(handle.as_fd(), &now)?;
        done()?;
        return Ok(Some(Step::Done));
    }
    let old = File::from(reopen(
        open_entry(place.directory(), &place.copy)?.as_fd(),
        OFlags::RDONLY,
    )?);
    let file = File::from(reopen(handle.as_fd(), OFlags::RDONLY)?);
    if !is_between(&file, &old, &content)? {
        done()?;
        return Ok(None); // somebody else's content; the merge keeps it
    }
    let longest = copy.key.size.max(content.metadata()?.len());
    finish(place, handle.as_fd(), &now, longest, &content, &copy.meta).map(Some)
}

/// A copy of the present content, synced, with the attributes to come. False if the content is another one by now.
fn keep_copy(place: &Place, handle: BorrowedFd<'_>, old: Digest, to: &Meta) -> io::Result<bool> {
    let mut source = File::from(reopen(handle, OFlags::RDONLY)?);
    let copy = place.create()?;
    io::copy(&mut source, &mut &copy)?;
    let mut written = File::from(reopen(copy.as_fd(), OFlags::RDONLY)?);
    if digest(&mut written)? != old {
        place.discard(&place.making)?;
        return Ok(false);
    }
    let made = state_of(copy.as_fd(), false)?;
    meta::apply(copy.as_fd(), &made.meta, to, true)?;
    rustix::fs::fsync(&copy)?;
    place.rename_new(&place.making, &place.copy)?;
    place.sync()?;
    Ok(true)
}

/// Writes the content over a file whose own bytes end at `end` (what lies behind was appended by others), cuts it,
/// and settles attributes.
fn finish(
    place: &Place,
    handle: BorrowedFd<'_>,
    from: &EntryState,
    end: u64,
    content: &File,
    to: &Meta,
) -> io::Result<Step> {
    let file = File::from(reopen(handle, OFlags::RDWR)?);
    let length = content.metadata()?.len();
    let mut source = content;
    source.seek(SeekFrom::Start(0))?;
    let mut growth = Growth {
        file: &file,
        seen: end,
        appended: Vec::new(),
    };
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = 0_u64;
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        growth.write(&buffer[..count], offset)?;
        offset += count as u64;
        at("undo.rewriting");
    }
    let mut written = 0;
    for _ in 0..GROWTHS_MAX {
        growth.look()?;
        if growth.appended.len() == written {
            break;
        }
        let more = growth.appended[written..].to_vec();
        growth.write(&more, length + written as u64)?;
        written += more.len();
    }
    let appended = growth.appended;
    let size = length + written as u64;
    if size < growth.seen {
        file.set_len(size)?;
    }
    at("undo.rewritten");
    // Lines that somebody appended have their own time.
    meta::apply(file.as_fd(), &from.meta, to, appended.is_empty())?;
    rustix::fs::fsync(&file)?;
    at("undo.rewritten-synced");
    place.discard(&place.copy)?;
    place.sync()?;
    Ok(if appended.is_empty() {
        Step::Done
    } else {
        Step::Blocked(
            "what somebody appended meanwhile was kept behind the restored content".into(),
        )
    })
}

/// Tells apart what we wrote at a file's end and what others appended there.
struct Growth<'a> {
    file: &'a File,
    /// Size up to which everything is ours or was taken along.
    seen: u64,
    appended: Vec<u8>,
}

impl Growth<'_> {
    /// Takes along what others appended since the last look.
    fn look(&mut self) -> io::Result<()> {
        let size = key_of(self.file.as_fd())?.size;
        if size > self.seen {
            let more = usize::try_from(size - self.seen).unwrap_or(usize::MAX);
            if self.appended.len().saturating_add(more) > APPENDED_BYTES_MAX {
                return Err(io::Error::other(
                    "others append faster than it can be rewritten",
                ));
            }
            let mut bytes = vec![0; more];
            self.file.read_exact_at(&mut bytes, self.seen)?;
            self.appended.append(&mut bytes);
            self.seen = size;
        }
        Ok(())
    }

    /// Writes bytes of ours; where they reach beyond the known end, what lies there is taken along first.
    fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        if end > self.seen {
            self.look()?;
        }
        self.file.write_all_at(bytes, offset)?;
        self.seen = self.seen.max(end);
        Ok(())
    }
}

/// Could a file have become what it is by writing `new` over `old`?
fn is_between(file: &File, old: &File, new: &File) -> io::Result<bool> {
    let size = |file: &File| key_of(file.as_fd()).map(|key| key.size);
    let (old_size, new_size) = (size(old)?, size(new)?);
    let end = size(file)?.min(old_size.max(new_size));
    if size(file)? < old_size.min(new_size) {
        return Ok(false);
    }
    let mut buffers = [
        vec![0; CHUNK_BYTES],
        vec![0; CHUNK_BYTES],
        vec![0; CHUNK_BYTES],
    ];
    let mut offset = 0;
    while offset < end {
        let count = usize::try_from(end - offset)
            .unwrap_or(CHUNK_BYTES)
            .min(CHUNK_BYTES);
        let mut counts = [0; 3];
        for (index, source) in [file, old, new].into_iter().enumerate() {
            counts[index] = read_at(source, &mut buffers[index][..count], offset)?;
        }
        let [now, old, new] = &buffers;
        let fits = |index: usize| {
            (index < counts[1] && now[index] == old[index])
                || (index < counts[2] && now[index] == new[index])
        };
        if counts[0] < count || !(0..count).all(fits) {
            return Ok(false);
        }
        offset += count as u64;
    }
    Ok(true)
}

/// As many bytes as there are at an offset, up to the buffer's length.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
