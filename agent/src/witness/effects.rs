//! The effects of a heal as a file: a head line, then one effect a line, in path order.
//!
//! Written whole and synced before the action says that it finished, and after each native step, so that less is lost
//! with a supervisor that dies; read a page at a time, so that neither side ever
//! holds more than a frame of it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use super::files;
use crate::tree::{Effect, TreePath};

pub(super) const NAME: &str = "effects";

/// No effect is longer: two states with their extended attributes.
const LINE_BYTES_MAX: u64 = 512 << 10;

/// Writes all effects; gives their number.
pub(super) fn write<'a>(
    directory: &Path,
    effects: impl Iterator<Item = &'a Effect>,
) -> io::Result<u64> {
    let mut count = 0;
    let mut lines = Vec::new();
    for effect in effects {
        serde_json::to_writer(&mut lines, effect)?;
        lines.push(b'\n');
        count += 1;
    }
    let mut bytes = files::encode(&count)?;
    bytes.push(b'\n');
    bytes.append(&mut lines);
    files::replace_bytes(directory, NAME, &bytes)?;
    Ok(count)
}

/// The effects after `after` that fit into `bytes_max` bytes of JSON (at least one); `None` when there is no file.
pub(super) fn page(
    path: &Path,
    after: Option<&TreePath>,
    bytes_max: usize,
) -> io::Result<Option<(Vec<Effect>, bool)>> {
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let _count: u64 = match line(&mut file)? {
        Some(head) => files::decode(&head)?,
        None => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    let (mut effects, mut bytes) = (Vec::new(), 0);
    while let Some(text) = line(&mut file)? {
        let effect: Effect = serde_json::from_slice(&text)?;
        if after.is_some_and(|after| effect.path <= *after) {
            continue;
        }
        bytes += text.len() + 1;
        if bytes > bytes_max && !effects.is_empty() {
            return Ok(Some((effects, true)));
        }
        effects.push(effect);
    }
    Ok(Some((effects, false)))
}

fn line(file: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    file.by_ref()
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut text)?;
    match text.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(text)),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a line of the effects is cut off",
        )),
    }
}
