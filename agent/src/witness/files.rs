//! Small durable files: written whole, synced with their directory, and never seen half.
//!
//! Knows nothing of heals. Every file holds `{"version": 1, "record": …}`; a version that is not ours is an error and
//! never a guess, so that a later release can tell an old record from a torn one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of every record written here.
pub(crate) const RECORD_VERSION: u32 = 1;

/// No record is longer: a start request fits one frame.
const RECORD_BYTES_MAX: u64 = 2 << 20;

#[derive(Serialize)]
struct Written<'a, T> {
    version: u32,
    record: &'a T,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

#[derive(Deserialize)]
struct Stored<T> {
    record: T,
}

/// The bytes of a record.
pub(crate) fn encode<T: Serialize>(record: &T) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Written {
        version: RECORD_VERSION,
        record,
    })?)
}

/// Reads a record; `None` when the file is not there.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(bytes) = read_bytes(path, RECORD_BYTES_MAX)? else {
        return Ok(None);
    };
    decode(&bytes).map(Some)
}

/// Takes a record's bytes apart, version first.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let VersionOnly { version } = serde_json::from_slice(bytes)?;
    if version != RECORD_VERSION {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("version {version} is not the {RECORD_VERSION} that this agent reads"),
        ));
    }
    let Stored { record } = serde_json::from_slice(bytes)?;
    Ok(record)
}

/// A file's bytes; `None` when it is not there, an error when it is longer than `bytes_max`.
pub(crate) fn read_bytes(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "longer than any record",
        ));
    }
    Ok(Some(bytes))
}

/// Creates a record under a name that was free; `false` when somebody else had the name first.
///
/// The bytes are complete and synced before the name exists, so a name that can be seen holds a whole record.
pub(crate) fn create<T: Serialize>(
    directory: &Path,
    name: &str,
    record: &T,
    point: &str,
) -> io::Result<bool> {
    let temporary = write_temporary(directory, name, &encode(record)?)?;
    crate::crash::point(point);
    let linked = fs::hard_link(&temporary, directory.join(name));
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => {
            sync_directory(directory)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Replaces a record, or creates it.
pub(crate) fn replace<T: Serialize>(directory: &Path, name: &str, record: &T) -> io::Result<()> {
    replace_bytes(directory, name, &encode(record)?)
}

/// Replaces a file's bytes, or creates it.
pub(crate) fn replace_bytes(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(directory, name, bytes)?;
    if let Err(error) = fs::rename(&temporary, directory.join(name)) {
        // The first error is the one to tell; a left temporary file harms nothing.
        drop(fs::remove_file(&temporary));
        return Err(error);
    }
    sync_directory(directory)
}

fn write_temporary(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let path = directory.join(format!(
        ".{name}.{}.{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
    if let Err(error) = written {
        // As above: a full disk must not be hidden behind a failed clean-up.
        drop(fs::remove_file(&path));
        return Err(error);
    }
    Ok(path)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Creates a private directory, or checks that an existing one is private and ours.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            if let Some(parent) = path.parent() {
                sync_directory(parent)?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{} is not a directory", path.display()),
        ));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} must belong to uid {} with mode 0700",
                path.display(),
                rustix::process::geteuid()
            ),
        ));
    }
    Ok(())
}

/// Opens a lock file, creating it where it is absent.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Takes a lock for as long as the file stays open; `false` when somebody else has it.
pub(crate) fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    loop {
        return match rustix::fs::flock(file, operation) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_created_once() {
        let directory = tempfile::tempdir().unwrap();
        assert!(create(directory.path(), "decided", &1, "test").unwrap());
        assert!(!create(directory.path(), "decided", &2, "test").unwrap());
        let record: Option<i32> = read(&directory.path().join("decided")).unwrap();
        assert_eq!(record, Some(1));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_version_is_an_error_not_a_guess() {
        assert!(decode::<i32>(br#"{"version":2,"record":1}"#).is_err());
        assert!(decode::<i32>(br#"{"version":1,"rec"#).is_err());
        assert_eq!(decode::<i32>(br#"{"version":1,"record":1}"#).unwrap(), 1);
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        private_directory(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(private_directory(&path).is_err());
    }
}
