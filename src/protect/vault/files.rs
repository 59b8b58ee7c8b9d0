//! Files of the vault, always by name beneath an open directory handle.
//!
//! A folder that is moved or replaced while the daemon runs cannot redirect what is written here, and no name is ever
//! followed through a link. What is full becomes [`VaultError::NoRoom`], so that callers can tell it from a fault.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::seam::VaultError;

/// Permission bits of every folder of the vault.
pub(super) const FOLDER_MODE: Mode = Mode::RWXU;
/// Permission bits of every file of the vault.
pub(super) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// One open directory.
#[derive(Debug)]
pub(super) struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a directory that must not be a link.
    pub(super) fn open(path: &Path) -> Result<Self, VaultError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| error("open", path.display().to_string(), errno.into()))?;
        Ok(Self {
            handle,
            path: path.to_path_buf(),
        })
    }

    /// Opens a directory in this one, making it first where it is absent.
    pub(super) fn sub(&self, name: &str) -> Result<Self, VaultError> {
        match rustix::fs::mkdirat(&self.handle, name, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.error("make the folder", name, errno.into())),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.handle, name, flags, Mode::empty())
            .map_err(|errno| self.error("open", name, errno.into()))?;
        Ok(Self {
            handle,
            path: self.path.join(name),
        })
    }

    /// Makes a file that is not there yet, for writing and reading.
    pub(super) fn create(&self, name: &str) -> Result<File, VaultError> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.handle, name, flags, FILE_MODE)
            .map(File::from)
            .map_err(|errno| self.error("create", name, errno.into()))
    }

    /// Opens a file for reading and writing, making it where it is absent.
    pub(super) fn open_or_create(&self, name: &str) -> Result<File, VaultError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.handle, name, flags, FILE_MODE)
            .map(File::from)
            .map_err(|errno| self.error("open", name, errno.into()))
    }

    /// Opens a file for reading; `None` where there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<File>, VaultError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => Ok(Some(File::from(handle))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("open", name, errno.into())),
        }
    }

    /// A whole small file, as long as it is at most `max` bytes; `None` where there is none.
    pub(super) fn read_all(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, VaultError> {
        let Some(file) = self.read(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|source| self.error("read", name, source))?;
        if bytes.len() as u64 > max {
            return Err(VaultError::Damaged(format!(
                "`{}` is longer than {max} bytes",
                self.path.join(name).display()
            )));
        }
        Ok(Some(bytes))
    }

    /// What `stat` says of a name itself; `None` where there is nothing.
    pub(super) fn stat(&self, name: &str) -> Result<Option<Stat>, VaultError> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("look at", name, errno.into())),
        }
    }

    /// Gives a file another name, replacing what bore it.
    pub(super) fn rename(&self, name: &str, to: &Self, new: &str) -> Result<(), VaultError> {
        rustix::fs::renameat(&self.handle, name, &to.handle, new)
            .map_err(|errno| self.error("rename", name, errno.into()))
    }

    /// Removes a file; true when there was one.
    pub(super) fn remove(&self, name: &str) -> Result<bool, VaultError> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("remove", name, errno.into())),
        }
    }

    /// Makes the names in this directory durable.
    pub(super) fn sync(&self) -> Result<(), VaultError> {
        rustix::fs::fsync(&self.handle).map_err(|errno| self.error("sync", ".", errno.into()))
    }

    /// Makes a file of this directory durable.
    pub(super) fn sync_file(&self, name: &str) -> Result<(), VaultError> {
        let file = self
            .read(name)?
            .ok_or_else(|| self.error("sync", name, io::ErrorKind::NotFound.into()))?;
        rustix::fs::fsync(&file).map_err(|errno| self.error("sync", name, errno.into()))
    }

    /// Makes everything of this directory's file system durable, in one pass over what is dirty.
    pub(super) fn sync_all(&self) -> Result<(), VaultError> {
        rustix::fs::syncfs(&self.handle).map_err(|errno| self.error("sync", ".", errno.into()))
    }

    /// Names of the regular files in it, sorted. Names that are not UTF-8 are none of ours.
    pub(super) fn names(&self) -> Result<Vec<String>, VaultError> {
        let fail = |errno: Errno| self.error("list", ".", errno.into());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.handle).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let plain = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
            if let (true, Some(name)) = (plain, text(entry.file_name())) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Bytes that are free for us on its file system.
    pub(super) fn free_bytes(&self) -> Result<u64, VaultError> {
        let stat = rustix::fs::fstatvfs(&self.handle)
            .map_err(|errno| self.error("ask for the room", ".", errno.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// The open handle, for what is asked of the directory itself.
    pub(super) fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// An error about a name in this directory.
    pub(super) fn error(
        &self,
        operation: &'static str,
        name: &str,
        source: io::Error,
    ) -> VaultError {
        error(
            operation,
            self.path.join(name).display().to_string(),
            source,
        )
    }
}

fn text(name: &CStr) -> Option<&str> {
    name.to_str()
        .ok()
        .filter(|name| !matches!(*name, "." | ".."))
}

/// A fault as the vault reports it: a full disk or quota is [`VaultError::NoRoom`].
pub(super) fn error(operation: &'static str, path: String, source: io::Error) -> VaultError {
    if matches!(
        source.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    ) {
        return VaultError::NoRoom(format!("cannot {operation} `{path}`: {source}"));
    }
    VaultError::Io {
        operation,
        path,
        source,
    }
}

/// Lets the kernel drop the cached pages of a file, so that reading it asks the disk. Best effort: pages that are
/// not yet written stay, and so do those somebody else maps.
pub(super) fn forget_pages(file: &File) {
    if rustix::fs::fadvise(file.as_fd(), 0, None, rustix::fs::Advice::DontNeed).is_err() {
        tracing::debug!("the page cache keeps a file of the vault");
    }
}
