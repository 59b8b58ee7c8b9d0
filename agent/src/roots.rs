//! An application's real directories, opened once, and paths opened beneath them.
//!
//! Every open starts from a directory handle, stays beneath it, and follows no link, with one exception: a link
//! below the application's root that leads into another *declared* root is continued beneath that root's own handle,
//! once per path. Where a link leads is only ever learnt from the kernel and then opened anew beneath the declared
//! root, so a process that swaps links meanwhile can make an open fail and cannot make it leave.
//!
//! It reads no contents and decides nothing about what is found.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use crate::protocol::{Refusal, RefusalCode, Target};
use crate::tree::{TreePath, path};

/// How often an open is tried again when the kernel says that a rename raced it.
const RACES_MAX: u32 = 16;

/// A kernel before 5.6, or a filter that does not know the call: walk component by component instead.
static WITHOUT_OPENAT2: AtomicBool = AtomicBool::new(false);

/// The real directories of one application.
#[derive(Debug)]
pub struct Roots {
    root: Root,
    declared: Vec<Root>,
}

#[derive(Debug)]
struct Root {
    handle: OwnedFd,
    real: Vec<u8>,
}

impl Roots {
    /// Resolves the root and the declared roots to real directories and holds them open.
    ///
    /// # Errors
    /// When one of them is not an absolute path, not there, not a directory, not searchable, or the host's own `/`.
    pub fn open(target: &Target) -> Result<Self, Refusal> {
        Ok(Self {
            root: Root::open(&target.root)?,
            declared: target
                .roots
                .iter()
                .map(|root| Root::open(root))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The real directories as text, the application's root first. They change when a release link moves.
    pub fn real(&self) -> Vec<String> {
        std::iter::once(&self.root)
            .chain(&self.declared)
            .map(|root| path::escape(&root.real))
            .collect()
    }

    /// The directory that holds a path, and the path's last component. For the root itself: the root and `.`.
    ///
    /// # Errors
    /// What the system says; `ELOOP` for a link that is not the one named hop.
    pub fn parent(&self, path: &TreePath) -> io::Result<(OwnedFd, Vec<u8>)> {
        match path.split_last() {
            None => Ok((self.root.handle.try_clone()?, b".".to_vec())),
            Some((parent, name)) => Ok((
                self.at(&parent, OFlags::PATH | OFlags::DIRECTORY)?,
                name.to_vec(),
            )),
        }
    }

    /// As [`Roots::parent`]; but where the path itself is a link to a file or directory in a declared root (a
    /// release's `.env` or `storage`), the place of that.
    ///
    /// # Errors
    /// As [`Roots::parent`].
    pub fn place(&self, path: &TreePath) -> io::Result<(OwnedFd, Vec<u8>)> {
        let (directory, name) = self.parent(path)?;
        if self.declared.is_empty() || path.is_root() {
            return Ok((directory, name));
        }
        let Some(entry) = absent(open_entry(directory.as_fd(), &name))? else {
            return Ok((directory, name));
        };
        if kind(entry.as_fd())? != FileType::Symlink {
            return Ok((directory, name));
        }
        let Ok((root, rest)) = self.hop(directory.as_fd(), entry.as_fd(), &[]) else {
            return Ok((directory, name)); // an ordinary link: it is what stands at this path
        };
        let at = rest.iter().rposition(|byte| *byte == b'/');
        let (above, last) = match at {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (&[][..], &rest[..]),
        };
        if last.is_empty() {
            return Ok((root.handle.try_clone()?, b".".to_vec()));
        }
        let above = beneath(root.handle.as_fd(), above, OFlags::PATH | OFlags::DIRECTORY)?;
        match absent(open_entry(above.as_fd(), last))? {
            Some(led)
                if matches!(
                    kind(led.as_fd())?,
                    FileType::RegularFile | FileType::Directory
                ) =>
            {
                Ok((above, last.to_vec()))
            }
            _ => Ok((directory, name)),
        }
    }

    /// Opens a path. Links are not followed, the named hop excepted, which may also be the last component unless
    /// `flags` holds `NOFOLLOW`. `CLOEXEC` is added.
    ///
    /// # Errors
    /// What the system says; `ELOOP` for a link that is not the one named hop.
    pub fn at(&self, path: &TreePath, flags: OFlags) -> io::Result<OwnedFd> {
        match beneath(self.root.handle.as_fd(), path.as_bytes(), flags) {
            Err(error) if is_link(&error) && !self.declared.is_empty() => {}
            result => return result,
        }
        let parts: Vec<&[u8]> = path.components().collect();
        let mut directory = self.root.handle.try_clone()?;
        for (index, part) in parts.iter().enumerate() {
            let entry = open_entry(directory.as_fd(), part)?;
            if kind(entry.as_fd())? != FileType::Symlink {
                directory = entry;
                continue;
            }
            let rest = &parts[index + 1..];
            if rest.is_empty() && flags.contains(OFlags::NOFOLLOW) {
                break;
            }
            let (root, path) = self.hop(directory.as_fd(), entry.as_fd(), rest)?;
            return beneath(root.handle.as_fd(), &path, flags);
        }
        // No foreign link was met, so the refusal was about the last component, or the tree changed: ask once more.
        beneath(self.root.handle.as_fd(), path.as_bytes(), flags)
    }

    /// Where a link leads: a declared root and the path below it, with `rest` appended.
    fn hop(
        &self,
        directory: BorrowedFd<'_>,
        link: BorrowedFd<'_>,
        rest: &[&[u8]],
    ) -> io::Result<(&Root, Vec<u8>)> {
        let text = rustix::fs::readlinkat(link, c"", Vec::new())?;
        let led = rustix::fs::openat(
            directory,
            text.as_c_str(),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let real = real_path(led.as_fd())?;
        let (root, mut path) = self
            .declared
            .iter()
            .filter_map(|root| Some((root, strip_root(&real, &root.real)?.to_vec())))
            .min_by_key(|(_, path)| path.len())
            .ok_or(Errno::LOOP)?;
        for part in rest {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        Ok((root, path))
    }
}

impl Root {
    fn open(text: &str) -> Result<Self, Refusal> {
        let refuse = |code, why: &str| Refusal {
            code,
            message: format!("`{text}` {why}"),
        };
        let bytes =
            path::unescape(text).map_err(|error| refuse(RefusalCode::Root, &error.to_string()))?;
        if bytes.first() != Some(&b'/') || bytes.contains(&0) {
            return Err(refuse(RefusalCode::Root, "is not an absolute path"));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle =
            rustix::fs::open(bytes, flags, Mode::empty()).map_err(|error| match error {
                Errno::ACCESS | Errno::PERM => refuse(RefusalCode::Denied, "cannot be entered"),
                Errno::NOENT => refuse(RefusalCode::Root, "does not exist"),
                Errno::NOTDIR => refuse(RefusalCode::Root, "is not a directory"),
                other => refuse(RefusalCode::Root, &io::Error::from(other).to_string()),
            })?;
        let real = real_path(handle.as_fd())
            .map_err(|error| refuse(RefusalCode::System, &error.to_string()))?;
        if real == b"/" {
            return Err(refuse(
                RefusalCode::Root,
                "is the host's own root directory",
            ));
        }
        Ok(Self { handle, real })
    }
}

/// What is at a name, itself, whatever it is.
pub(crate) fn open_entry(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// The kind of thing behind a handle.
pub(crate) fn kind(handle: BorrowedFd<'_>) -> io::Result<FileType> {
    let stat = rustix::fs::statx(handle, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
    Ok(FileType::from_raw_mode(u32::from(stat.stx_mode)))
}

/// `None` for what is not there.
pub(crate) fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The path by which the kernel reaches an open file again, whatever its name is now.
pub(crate) fn by_handle(handle: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

fn real_path(handle: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlink(by_handle(handle), Vec::new())?.into_bytes())
}

/// What remains of a real path below a root's real path.
fn strip_root<'a>(path: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(root)?;
    match rest.first() {
        None => Some(rest),
        Some(b'/') => Some(&rest[1..]),
        Some(_) => None,
    }
}

/// A link stood where none may: `ELOOP`, or `ENOTDIR` where a directory was demanded of it.
fn is_link(error: &io::Error) -> bool {
    [Errno::LOOP, Errno::NOTDIR]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Opens a relative path beneath a handle, following no link at all.
fn beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let path = if path.is_empty() { b"." } else { path };
    if !WITHOUT_OPENAT2.load(Ordering::Relaxed) {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACES_MAX {
            match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
                Ok(handle) => return Ok(handle),
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS) => {
                    WITHOUT_OPENAT2.store(true, Ordering::Relaxed);
                    break;
                }
                // A filter's answer; where it is the file's own, the walk below says so again.
                Err(Errno::PERM) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    by_component(root, path, flags)
}

/// The same without `openat2`: one component at a time, each refused if it is a link.
fn by_component(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let mut parts = path.split(|byte| *byte == b'/').peekable();
    let mut directory: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        if part.is_empty() || part == b".." {
            return Err(Errno::INVAL.into());
        }
        let here = directory.as_ref().map_or(root, |handle| handle.as_fd());
        if parts.peek().is_none() {
            let link = !flags.contains(OFlags::NOFOLLOW)
                && kind(open_entry(here, part)?.as_fd())? == FileType::Symlink;
            if link {
                return Err(Errno::LOOP.into());
            }
            let flags = flags | OFlags::NOFOLLOW;
            return Ok(rustix::fs::openat(here, part, flags, Mode::empty())?);
        }
        let next = open_entry(here, part)?;
        let kind = kind(next.as_fd())?;
        if kind == FileType::Symlink {
            return Err(Errno::LOOP.into());
        }
        if kind != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        directory = Some(next);
    }
    Err(Errno::INVAL.into())
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests clear away trees of their own"
)]
mod tests;
