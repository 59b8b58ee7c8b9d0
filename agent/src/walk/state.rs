//! The state of one entry, taken through one handle.
//!
//! A handle is opened without following links and everything is asked of it, so a name that changes hands meanwhile
//! cannot mix two files into one state.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::roots::{absent, by_handle, open_entry};
use crate::tree::{Content, Digest, EntryState, Meta, Stamp, StatKey, path};

/// Our own mark on an entry that an undo is at work on. Never part of a state.
pub(crate) const MARK: &str = "user.healerd.undo";

/// How often a file that changes while it is read is read again.
const READS_MAX: u32 = 3;

/// More names or a longer value than the kernel keeps.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// The state of what is at a name, itself and not where it leads. `None`: absent.
///
/// With `digest` a regular file's content is read; one that changes while it is read is read three times.
///
/// # Errors
/// What the system says; `ResourceBusy` for a file that changed each time.
pub fn state_at(
    directory: BorrowedFd<'_>,
    name: &[u8],
    digest: bool,
) -> io::Result<Option<EntryState>> {
    match absent(open_entry(directory, name))? {
        Some(handle) => state_of(handle.as_fd(), digest).map(Some),
        None => Ok(None),
    }
}

/// As [`state_at`], of what is behind a handle that may have been opened with `O_PATH`.
///
/// # Errors
/// As [`state_at`].
pub fn state_of(handle: BorrowedFd<'_>, digest: bool) -> io::Result<EntryState> {
    for _ in 0..READS_MAX {
        let stat = stat_of(handle)?;
        let key = key(&stat);
        let content = match kind(&stat) {
            FileType::RegularFile => Content::File {
                size: key.size,
                digest: if digest {
                    Some(digest_of(handle)?)
                } else {
                    None
                },
            },
            FileType::Directory => Content::Directory,
            FileType::Symlink => link(handle)?,
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Content::Other,
        };
        let xattrs = xattrs(by_handle(handle))?;
        if !digest || self::key(&stat_of(handle)?) == key {
            return Ok(EntryState {
                content,
                meta: Meta::of(&key, xattrs),
                key,
            });
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "it changes while it is read",
    ))
}

pub(super) fn link(handle: BorrowedFd<'_>) -> io::Result<Content> {
    let text = rustix::fs::readlinkat(handle, c"", Vec::new())?;
    Ok(Content::Link {
        target: path::escape(text.as_bytes()),
    })
}

fn stat_of(handle: BorrowedFd<'_>) -> io::Result<Statx> {
    Ok(rustix::fs::statx(
        handle,
        c"",
        AtFlags::EMPTY_PATH,
        StatxFlags::BASIC_STATS,
    )?)
}

/// The cheap look at what is behind a handle.
pub(crate) fn key_of(handle: BorrowedFd<'_>) -> io::Result<StatKey> {
    stat_of(handle).map(|stat| key(&stat))
}

pub(super) fn kind(stat: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}

pub(super) fn key(stat: &Statx) -> StatKey {
    let stamp = |time: rustix::fs::StatxTimestamp| Stamp {
        secs: time.tv_sec,
        nanos: time.tv_nsec,
    };
    StatKey {
        dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
        nlink: stat.stx_nlink,
        size: stat.stx_size,
        mode: u32::from(stat.stx_mode),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: stamp(stat.stx_mtime),
        ctime: stamp(stat.stx_ctime),
    }
}

/// Opens what an `O_PATH` handle stands for, and nothing else.
pub(crate) fn reopen(handle: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(rustix::fs::open(by_handle(handle), flags, Mode::empty())?)
}

fn digest_of(handle: BorrowedFd<'_>) -> io::Result<Digest> {
    digest(&mut File::from(reopen(handle, OFlags::RDONLY)?))
}

/// The digest of everything from a file's position to its end.
///
/// # Errors
/// What the system says.
pub fn digest(file: &mut File) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_bytes(*hasher.finalize().as_bytes())),
            Ok(count) => {
                hasher.update(&buffer[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// All extended attributes that we may see, by the path of a handle.
pub(super) fn xattrs(path: impl AsRef<[u8]>) -> io::Result<BTreeMap<String, String>> {
    let path = path.as_ref();
    let list = |buffer: &mut [u8]| rustix::fs::listxattr(path, buffer);
    let mut names = vec![0; 1024];
    let length = match list(&mut names) {
        Err(Errno::RANGE) => {
            names = vec![0; XATTR_BYTES_MAX];
            list(&mut names)
        }
        other => other,
    };
    let length = match length {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::NOSYS) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || name == MARK.as_bytes() {
            continue;
        }
        if let Some(value) = value(path, name)? {
            let mut hex = String::with_capacity(value.len() * 2);
            for byte in value {
                write!(hex, "{byte:02x}").map_err(io::Error::other)?;
            }
            found.insert(path::escape(name), hex);
        }
    }
    Ok(found)
}

/// One value; `None` if it went away since it was listed.
pub(crate) fn value(path: &[u8], name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let get = |buffer: &mut [u8]| rustix::fs::getxattr(path, name, buffer);
    let mut buffer = vec![0; 256];
    let length = match get(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer = vec![0; XATTR_BYTES_MAX];
            get(&mut buffer)
        }
        other => other,
    };
    match length {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
