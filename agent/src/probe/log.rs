//! The `log` probe: a log file's size, and counts of literals in its tail, line by line.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::Context;
use super::deadline::wall_now_ms;
use super::file::mtime_ms;
use super::found::Found;
use super::place::{is_absent, reason, stat};
use super::spec::Fact;
use crate::tree::TreePath;
use crate::units::parse_bytes;

/// The most that is read from the end, whatever a stack file says.
const TAIL_BYTES_MAX: u64 = 4 << 20;

pub(super) fn probe(
    context: &Context,
    path: &str,
    tail: &str,
    count: &BTreeMap<String, String>,
) -> Found {
    let unknown = |why: &str| Found::unknown("log", why);
    let (path, tail) = match (TreePath::parse(path), parse_bytes(tail)) {
        (Ok(path), Ok(tail)) => (path, tail.min(TAIL_BYTES_MAX)),
        (Err(error), _) => return unknown(&error.to_string()),
        (_, Err(error)) => return unknown(&error.to_string()),
    };
    let handle = match context.place.open_at(&path, OFlags::PATH) {
        Ok(handle) => handle,
        Err(errno) if is_absent(errno) => return Found::absent("log").with("exists", false),
        Err(errno) => return unknown(&reason(errno)),
    };
    let stat = match stat(&handle) {
        Ok(stat) if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile => stat,
        Ok(_) => return unknown("no regular file").with("exists", true),
        Err(errno) => return unknown(&reason(errno)),
    };
    let found = Found::absent("log")
        .with("exists", true)
        .with("size", stat.stx_size)
        .with("age", wall_now_ms().saturating_sub(mtime_ms(&stat)).max(0));
    let opened = context
        .place
        .open_at(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
    let file = match opened {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::ACCESS | Errno::PERM) => {
            return found
                .with("readable", false)
                .with("counts", Fact::Unknown("permission denied".to_owned()));
        }
        Err(errno) => {
            let why = Fact::Unknown(reason(errno));
            return found.with("readable", why.clone()).with("counts", why);
        }
    };
    let counts = match tail_of(file, stat.stx_size, tail) {
        Ok(text) => Fact::Map(
            count
                .iter()
                .map(|(name, literal)| (name.clone(), lines_with(&text, literal).into()))
                .collect(),
        ),
        Err(error) => Fact::Unknown(error.to_string()),
    };
    found.with("readable", true).with("counts", counts)
}

/// The last bytes, from the first whole line on.
pub(super) fn tail_of(mut file: std::fs::File, size: u64, tail: u64) -> std::io::Result<Vec<u8>> {
    // One byte more than asked for tells whether the first line is whole.
    let from = size.saturating_sub(tail.saturating_add(1));
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(tail.saturating_add(1)).read_to_end(&mut bytes)?;
    if from > 0 {
        let whole = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(bytes.len(), |at| at + 1);
        bytes.drain(..whole);
    }
    Ok(bytes)
}

fn lines_with(text: &[u8], literal: &str) -> usize {
    let literal = literal.as_bytes();
    if literal.is_empty() {
        return 0;
    }
    text.split(|byte| *byte == b'\n')
        .filter(|line| contains(line, literal))
        .count()
}

/// Does a stretch of bytes hold another one?
pub(super) fn contains(text: &[u8], literal: &[u8]) -> bool {
    match literal.split_first() {
        None => true,
        Some((first, _)) => text
            .iter()
            .enumerate()
            .filter(|(_, byte)| *byte == first)
            .any(|(at, _)| text[at..].starts_with(literal)),
    }
}
