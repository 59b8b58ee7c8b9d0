//! The short bytes of a list on the wire: paths without what they share, numbers as differences.
//!
//! Pure. A list of thousands of files is most of what an unchanged backup asks of a host, and most of each entry is that
//! of the entry before. The form is part of the protocol's version. Bytes of a foreign host are never trusted: every
//! length is compared with what is there, and there are never more entries than a page has.
//!
//! Each entry is
//!
//! ```text
//! flags, bytes shared with the path before, bytes that follow, those bytes
//! link:        length and bytes of its target
//! file:        its length where the key has another one; the digest where there is one
//! but absent:  dev, ino, size, mode, uid, gid, nlink, seconds and nanoseconds of mtime, then of ctime unless it equals mtime
//! more:        length and JSON of the attributes where they say more than the key
//! ```
//!
//! Numbers are base 128, the least first; signed ones and differences to the entry before are zigzag.

use crate::protocol::FRAME_BYTES_MAX;

use super::{Content, Digest, EntryState, Meta, Stamp, StatKey, TreePath};

/// Entries of one list at most; a page of an agent holds fewer.
pub const ENTRIES_MAX: usize = 4096;

/// Bytes of all paths of one list at most. What they share is sent once, so that few bytes could stand for many; the page
/// of an agent is cut long before.
const PATH_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// A path with its state; `None`: absent.
pub type Listed = (TreePath, Option<EntryState>);

const KIND: u8 = 0b111;
const ABSENT: u8 = 0;
const FILE: u8 = 1;
const DIRECTORY: u8 = 2;
const LINK: u8 = 3;
const OTHER: u8 = 4;
/// The file has a digest.
const DIGEST: u8 = 1 << 3;
/// The file's length is not the key's.
const LENGTH: u8 = 1 << 4;
/// `ctime` equals `mtime`.
const SAME_TIME: u8 = 1 << 5;
/// The attributes say more than the key.
const MORE: u8 = 1 << 6;

/// Why bytes are not a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the list cannot be read: {0}")]
pub struct PackedError(&'static str);

/// The bytes of these entries. `None` only for what JSON cannot write.
pub fn pack(entries: &[Listed]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(entries.len() * 48);
    let mut path: &[u8] = &[];
    let mut key = zero();
    for (next, state) in entries {
        let next = next.as_bytes();
        let shared = path.iter().zip(next).take_while(|(a, b)| a == b).count();
        out.push(state.as_ref().map_or(ABSENT, flags));
        put(&mut out, shared as u64);
        put_bytes(&mut out, next.get(shared..)?);
        path = next;
        if let Some(state) = state {
            put_state(&mut out, state, &key)?;
            key = state.key;
        }
    }
    Some(out)
}

/// The entries of these bytes.
///
/// # Errors
/// When they are not what [`pack`] makes.
pub fn unpack(bytes: &[u8]) -> Result<Vec<Listed>, PackedError> {
    let mut rest = bytes;
    let mut entries: Vec<Listed> = Vec::new();
    let mut path: Vec<u8> = Vec::new();
    let mut key = zero();
    let mut left = PATH_BYTES_MAX;
    while let Some((flags, tail)) = rest.split_first() {
        rest = tail;
        if entries.len() == ENTRIES_MAX {
            return Err(PackedError("it has more entries than a page may have"));
        }
        let shared = length(&mut rest)?;
        if shared > path.len() {
            return Err(PackedError("a path shares more than there is"));
        }
        path.truncate(shared);
        path.extend_from_slice(take_bytes(&mut rest)?);
        left = left
            .checked_sub(path.len())
            .ok_or(PackedError("its paths are longer than a page may have"))?;
        let at = TreePath::from_bytes(&path).map_err(|_| PackedError("a path is none"))?;
        let state = if flags & KIND == ABSENT {
            None
        } else {
            let state = take_state(&mut rest, *flags, &key)?;
            key = state.key;
            Some(state)
        };
        entries.push((at, state));
    }
    Ok(entries)
}

const fn zero() -> StatKey {
    let never = Stamp { secs: 0, nanos: 0 };
    StatKey {
        dev: 0,
        ino: 0,
        nlink: 0,
        size: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: never,
        ctime: never,
    }
}

fn flags(state: &EntryState) -> u8 {
    let kind = match &state.content {
        Content::File { size, digest } => {
            FILE | if digest.is_some() { DIGEST } else { 0 }
                | if *size == state.key.size { 0 } else { LENGTH }
        }
        Content::Directory => DIRECTORY,
        Content::Link { .. } => LINK,
        Content::Other => OTHER,
    };
    let same = state.key.mtime == state.key.ctime;
    let more = !state.meta.says_no_more_than(&state.key);
    kind | if same { SAME_TIME } else { 0 } | if more { MORE } else { 0 }
}

fn put_state(out: &mut Vec<u8>, state: &EntryState, before: &StatKey) -> Option<()> {
    match &state.content {
        Content::File { size, digest } => {
            if *size != state.key.size {
                put(out, *size);
            }
            if let Some(digest) = digest {
                out.extend_from_slice(digest.as_bytes());
            }
        }
        Content::Link { target } => put_bytes(out, target.as_bytes()),
        Content::Directory | Content::Other => {}
    }
    let key = &state.key;
    for (now, before) in [
        (key.dev, before.dev),
        (key.ino, before.ino),
        (key.size, before.size),
        (u64::from(key.mode), u64::from(before.mode)),
        (u64::from(key.uid), u64::from(before.uid)),
        (u64::from(key.gid), u64::from(before.gid)),
    ] {
        put_signed(out, now.wrapping_sub(before).cast_signed());
    }
    put(out, u64::from(key.nlink));
    put_signed(out, key.mtime.secs.wrapping_sub(before.mtime.secs));
    put(out, u64::from(key.mtime.nanos));
    if key.ctime != key.mtime {
        put_signed(out, key.ctime.secs.wrapping_sub(key.mtime.secs));
        put(out, u64::from(key.ctime.nanos));
    }
    if !state.meta.says_no_more_than(key) {
        put_bytes(out, &serde_json::to_vec(&state.meta).ok()?);
    }
    Some(())
}

fn take_state(rest: &mut &[u8], flags: u8, before: &StatKey) -> Result<EntryState, PackedError> {
    let mut longer = None;
    let content = match flags & KIND {
        FILE => {
            if flags & LENGTH != 0 {
                longer = Some(number(rest)?);
            }
            let digest = if flags & DIGEST == 0 {
                None
            } else {
                let (digest, tail) = rest.split_first_chunk::<32>().ok_or(CUT_OFF)?;
                *rest = tail;
                Some(Digest::from_bytes(*digest))
            };
            Content::File { size: 0, digest }
        }
        DIRECTORY => Content::Directory,
        LINK => {
            let target = std::str::from_utf8(take_bytes(rest)?);
            Content::Link {
                target: target
                    .map_err(|_| PackedError("the target of a link is no text"))?
                    .to_owned(),
            }
        }
        OTHER => Content::Other,
        _ => return Err(PackedError("an entry of an unknown kind")),
    };
    let mut wide = |before: u64| Ok(before.wrapping_add(signed(rest)?.cast_unsigned()));
    let (dev, ino, size) = (wide(before.dev)?, wide(before.ino)?, wide(before.size)?);
    let mut narrow = |before: u32| small(wide(u64::from(before))?);
    let (mode, uid, gid) = (
        narrow(before.mode)?,
        narrow(before.uid)?,
        narrow(before.gid)?,
    );
    let nlink = small(number(rest)?)?;
    let mtime = Stamp {
        secs: before.mtime.secs.wrapping_add(signed(rest)?),
        nanos: small(number(rest)?)?,
    };
    let ctime = if flags & SAME_TIME == 0 {
        Stamp {
            secs: mtime.secs.wrapping_add(signed(rest)?),
            nanos: small(number(rest)?)?,
        }
    } else {
        mtime
    };
    let key = StatKey {
        dev,
        ino,
        nlink,
        size,
        mode,
        uid,
        gid,
        mtime,
        ctime,
    };
    let meta = if flags & MORE == 0 {
        Meta::of(&key, std::collections::BTreeMap::new())
    } else {
        serde_json::from_slice(take_bytes(rest)?)
            .map_err(|_| PackedError("attributes that cannot be read"))?
    };
    let content = match content {
        Content::File { digest, .. } => Content::File {
            size: longer.unwrap_or(size),
            digest,
        },
        other @ (Content::Directory | Content::Link { .. } | Content::Other) => other,
    };
    Ok(EntryState { content, meta, key })
}

const CUT_OFF: PackedError = PackedError("it is cut off");

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn number(rest: &mut &[u8]) -> Result<u64, PackedError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(CUT_OFF)?;
        *rest = tail;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            break;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(PackedError("a number is too large"))
}

fn signed(rest: &mut &[u8]) -> Result<i64, PackedError> {
    let value = number(rest)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

fn small(value: u64) -> Result<u32, PackedError> {
    u32::try_from(value).map_err(|_| PackedError("a number is too large"))
}

fn length(rest: &mut &[u8]) -> Result<usize, PackedError> {
    usize::try_from(number(rest)?).map_err(|_| PackedError("a number is too large"))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], PackedError> {
    let length = length(rest)?;
    let (bytes, tail) = rest.split_at_checked(length).ok_or(CUT_OFF)?;
    *rest = tail;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
