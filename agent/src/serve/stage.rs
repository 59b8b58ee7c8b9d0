//! Contents that an undo or a `put` will need, sent over in parts and proved by their digest.
//!
//! A part goes to `<digest>.part`; the name `<digest>` appears only when all bytes are there, synced, and give that
//! digest. So a name that can be seen is a content that can be used.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::protocol::{Refusal, RefusalCode};
use crate::tree::Digest;
use crate::witness::{files, refuse, system};

/// Largest content that is staged.
const CONTENT_BYTES_MAX: u64 = 4 << 30;

/// Writes one part; with `last` proves the whole.
pub(super) fn write(
    directory: &Path,
    digest: Digest,
    offset: u64,
    last: bool,
    body: &[u8],
) -> Result<(), Refusal> {
    let failed = |error: &io::Error| system("stage a content", error);
    files::private_directory(directory).map_err(|error| failed(&error))?;
    let name = digest.to_string();
    let (part, whole) = (
        directory.join(format!("{name}.part")),
        directory.join(&name),
    );
    if whole.exists() {
        return Ok(()); // sent before, proved before
    }
    if offset.saturating_add(body.len() as u64) > CONTENT_BYTES_MAX {
        return Err(refuse(
            RefusalCode::Limit,
            "a content of more than 4 GiB is not staged".to_owned(),
        ));
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(offset == 0)
        .mode(0o600)
        .open(&part)
        .map_err(|error| failed(&error))?;
    let length = file.metadata().map_err(|error| failed(&error))?.len();
    if length != offset {
        return Err(refuse(
            RefusalCode::Changed,
            format!("{length} bytes are here; the next part begins there, not at {offset}"),
        ));
    }
    let written = file.write_all_at(body, offset);
    if let Err(error) = written {
        // The room is needed by others; what was sent is sent again.
        drop(fs::remove_file(&part));
        return Err(failed(&error));
    }
    if !last {
        return Ok(());
    }
    crate::crash::point("stage.written");
    let proved = file.sync_all().and_then(|()| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(&part)?)?;
        Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
    });
    match proved {
        Ok(proved) if proved == digest => fs::rename(&part, &whole)
            .and_then(|()| files::sync_directory(directory))
            .map_err(|error| failed(&error)),
        Ok(_) => {
            drop(fs::remove_file(&part));
            Err(refuse(
                RefusalCode::Changed,
                "the bytes do not give the digest that was named".to_owned(),
            ))
        }
        Err(error) => {
            drop(fs::remove_file(&part));
            Err(failed(&error))
        }
    }
}

/// Drops all that was staged for a heal.
pub(super) fn forget(directory: &Path) -> Result<(), Refusal> {
    #[expect(
        clippy::disallowed_methods,
        reason = "what was staged lies in the agent's own state, not in a tree of an application"
    )]
    let removed = fs::remove_dir_all(directory);
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(system("drop what was staged", &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_appears_whole_or_not_at_all() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("h1");
        let digest = Digest::of(b"hello world");
        let whole = directory.join(digest.to_string());
        write(&directory, digest, 0, false, b"hello ").unwrap();
        assert!(!whole.exists());
        assert_eq!(
            write(&directory, digest, 3, true, b"x").unwrap_err().code,
            RefusalCode::Changed
        );
        write(&directory, digest, 6, true, b"world").unwrap();
        assert_eq!(fs::read(&whole).unwrap(), b"hello world");
        write(&directory, digest, 0, true, b"anything").unwrap();
        assert_eq!(fs::read(&whole).unwrap(), b"hello world");
        forget(&directory).unwrap();
        forget(&directory).unwrap();
    }

    #[test]
    fn bytes_that_lie_about_their_digest_leave_nothing() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("h1");
        let digest = Digest::of(b"right");
        assert!(write(&directory, digest, 0, true, b"wrong").is_err());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }
}
