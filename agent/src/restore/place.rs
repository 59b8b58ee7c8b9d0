//! Names in one directory: where a path is restored, and the temporary names beside it.
//!
//! The temporary names follow from heal and path alone, so a repeated call finds what a crashed one left:
//!
//! - `….w` is being made. It is ours whatever it holds, and never exchanged with anything.
//! - `…` is complete, or is what came out of an exchange: somebody's content may be in it.
//! - `….p` is the copy that makes rewriting in an inode repeatable ([`super::in_place`]).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::tree::{Digest, TreePath};

/// Where one path is restored.
#[derive(Debug)]
pub(crate) struct Place {
    directory: OwnedFd,
    pub(crate) name: Vec<u8>,
    /// Complete or displaced.
    pub(crate) ready: Vec<u8>,
    /// Being made.
    pub(crate) making: Vec<u8>,
    /// Copy for rewriting in place.
    pub(super) copy: Vec<u8>,
}

impl Place {
    pub(crate) fn new(directory: OwnedFd, name: Vec<u8>, heal: &str, path: &TreePath) -> Self {
        let number = &Digest::of(path.as_bytes()).to_string()[..16];
        let ready = format!(".healerd-{heal}-{number}");
        Self {
            directory,
            name,
            making: format!("{ready}.w").into_bytes(),
            copy: format!("{ready}.p").into_bytes(),
            ready: ready.into_bytes(),
        }
    }

    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// A new file under the name for what is being made.
    pub(crate) fn create(&self) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(&self.directory, &*self.making, flags, mode)?;
        Ok(File::from(file))
    }

    /// Exchanges two names, both of which exist.
    pub(crate) fn exchange(&self, one: &[u8], other: &[u8]) -> Result<(), Errno> {
        let here = &self.directory;
        rustix::fs::renameat_with(here, one, here, other, RenameFlags::EXCHANGE)
    }

    /// Renames to a name that must not exist.
    pub(crate) fn rename_new(&self, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        let here = &self.directory;
        match rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
            // A file system without the flag: a link fails just as well where the name exists.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                rustix::fs::linkat(here, from, here, to, AtFlags::empty())?;
                rustix::fs::unlinkat(here, from, AtFlags::empty())
            }
            other => other,
        }
    }

    /// Removes a file or an empty directory of ours. Gone already is fine.
    pub(crate) fn discard(&self, name: &[u8]) -> Result<(), Errno> {
        let here = &self.directory;
        match rustix::fs::unlinkat(here, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {
                match rustix::fs::unlinkat(here, name, AtFlags::REMOVEDIR) {
                    Err(Errno::NOENT) => Ok(()),
                    other => other,
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the directory's names durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        super::meta::sync_directory(self.directory())
    }
}

/// A heal's id as part of a file name: as it is where it can be, else a digest of it.
pub(super) fn label(heal: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !heal.is_empty() && heal.len() <= 64 && heal.bytes().all(plain) {
        heal.to_owned()
    } else {
        Digest::of(heal.as_bytes()).to_string()[..32].to_owned()
    }
}

/// Both are "somebody's files are in it".
pub(super) fn holds_files(error: Errno) -> bool {
    matches!(error, Errno::NOTEMPTY | Errno::EXIST)
}
