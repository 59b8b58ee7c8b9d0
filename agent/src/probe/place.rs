//! The application's real directories as handles, and reading beneath them.
//!
//! [`Roots`] opens everything beneath a handle and follows no link but the one named hop into a declared root
//! (`current/.env` → `shared/.env`). Read only; nothing here creates, writes or locks.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxFlags, readlinkat, statx};
use rustix::io::Errno;

use super::Context;
use crate::protocol::{Refusal, RefusalCode, Target};
use crate::roots::Roots;
use crate::tree::path::unescape;
use crate::tree::{Pattern, TreePath};

/// How deep a walk goes below a root.
const DEPTH_MAX: usize = 128;
/// The most entries that any walk looks at, whatever a stack file says.
const ENTRIES_MAX: u32 = 200_000;

/// The declared roots, opened once; the first one is the application's.
#[derive(Debug)]
pub(super) struct Place {
    roots: Roots,
    /// Their real directories, to compare paths of processes with.
    real: Vec<PathBuf>,
}

/// What the system said, for people.
pub(super) fn reason(errno: Errno) -> String {
    match errno {
        Errno::ACCESS | Errno::PERM => "permission denied".to_owned(),
        Errno::NOENT => "not there".to_owned(),
        Errno::LOOP => "a link that leads out of the declared roots".to_owned(),
        other => std::io::Error::from(other).to_string(),
    }
}

/// Does this error say that nothing is there, under directories that could be searched?
pub(super) fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

impl Place {
    /// Resolves and opens the target's roots.
    pub(super) fn open(target: &Target) -> Result<Self, Refusal> {
        let roots = Roots::open(target)?;
        let real = roots
            .real()
            .iter()
            .map(|text| unescape(text).map(|bytes| PathBuf::from(OsString::from_vec(bytes))))
            .collect::<Result<_, _>>()
            .map_err(|error| Refusal {
                code: RefusalCode::Root,
                message: error.to_string(),
            })?;
        Ok(Self { roots, real })
    }

    /// The real directories, the application's first.
    pub(super) fn real(&self) -> Vec<String> {
        self.roots.real()
    }

    /// The application's real directory.
    pub(super) fn root(&self) -> &Path {
        self.real.first().map_or(Path::new("/"), PathBuf::as_path)
    }

    /// Does an absolute path lie in one of the roots, by its text?
    pub(super) fn holds(&self, path: &Path) -> bool {
        self.real.iter().any(|root| path.starts_with(root))
    }

    /// Opens a path below the root; a link that leads into a declared root is followed once.
    ///
    /// `ELOOP` means that a link leads elsewhere.
    pub(super) fn open_at(&self, path: &TreePath, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.roots.at(path, flags).map_err(|error| errno(&error))
    }

    /// Text of the link at a path; `None` when something else is there.
    pub(super) fn link(&self, path: &TreePath) -> Result<Option<Vec<u8>>, Errno> {
        if path.is_root() {
            return Ok(None);
        }
        let (parent, name) = self.roots.parent(path).map_err(|error| errno(&error))?;
        match readlinkat(&parent, OsStr::from_bytes(&name), Vec::new()) {
            Ok(text) => Ok(Some(text.into_bytes())),
            Err(Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Reads a regular file of at most `bytes_max`. `Ok(None)`: it is longer, or no regular file.
    pub(super) fn read(&self, path: &TreePath, bytes_max: u64) -> Result<Option<Vec<u8>>, Errno> {
        let handle = self.open_at(path, OFlags::PATH)?;
        if FileType::from_raw_mode(stat(&handle)?.stx_mode.into()) != FileType::RegularFile {
            return Ok(None);
        }
        let file = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        read_capped(file, bytes_max)
    }
}

/// Reads to the end, or gives `None` when there is more than `bytes_max`.
pub(super) fn read_capped(file: OwnedFd, bytes_max: u64) -> Result<Option<Vec<u8>>, Errno> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| errno(&error))?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

/// What the handle stands for.
pub(super) fn stat(handle: impl AsFd) -> Result<Statx, Errno> {
    statx(
        handle,
        c"",
        AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
        StatxFlags::BASIC_STATS,
    )
}

/// A path by which the kernel reaches an open handle.
pub(super) fn handle_path(handle: &OwnedFd) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// One entry that a walk came by.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) path: &'a TreePath,
    pub(super) stat: &'a Statx,
    /// The name by which the kernel reaches it from `parent`, without following it.
    pub(super) parent: &'a OwnedFd,
    pub(super) name: &'a OsStr,
}

impl Entry<'_> {
    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.stx_mode.into())
    }

    pub(super) fn is_directory(&self) -> bool {
        self.file_type() == FileType::Directory
    }
}

/// How a walk ended.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Limit, depth or time: what was seen is not all.
    pub(super) truncated: bool,
    /// What could not be looked into, with the reason; at most 20.
    pub(super) unreadable: Vec<(TreePath, String)>,
    /// The pattern names one path, and surely nothing is there.
    pub(super) missing: bool,
    /// Entries looked at.
    pub(super) seen: u32,
}

struct Walk<'a> {
    context: &'a Context,
    pattern: &'a Pattern,
    recursive: bool,
    entries_max: u32,
    walked: Walked,
}

/// Shows every entry that the pattern takes in, and with `recursive` everything below those, in no certain order.
/// Links are shown, not followed (but for the hop on the way to the pattern's fixed part).
pub(super) fn walk(
    context: &Context,
    pattern: &Pattern,
    recursive: bool,
    entries_max: u32,
    see: &mut dyn FnMut(&Entry<'_>),
) -> Walked {
    let mut walk = Walk {
        context,
        pattern,
        recursive,
        entries_max: entries_max.min(ENTRIES_MAX),
        walked: Walked::default(),
    };
    let start = pattern.fixed_prefix();
    let opened = context.place.open_at(&start, OFlags::PATH);
    let handle = match opened {
        Ok(handle) => handle,
        Err(errno) if is_absent(errno) => {
            walk.walked.missing = true;
            return walk.walked;
        }
        Err(errno) => {
            walk.unreadable(&start, errno);
            return walk.walked;
        }
    };
    // The handle stands for the entry itself: its magic link is followed once, to exactly that.
    match stat(&handle) {
        Ok(found) => {
            let name = handle_path(&handle);
            walk.entry(
                &start,
                &found,
                &handle,
                OsStr::new(&name),
                false,
                0,
                see,
                Some(&handle),
            );
        }
        Err(errno) => walk.unreadable(&start, errno),
    }
    walk.walked
}

impl Walk<'_> {
    fn unreadable(&mut self, path: &TreePath, errno: Errno) {
        if self.walked.unreadable.len() < 20 {
            self.walked.unreadable.push((path.clone(), reason(errno)));
        }
    }

    fn may_go_on(&mut self) -> bool {
        if self.walked.seen >= self.entries_max || self.context.stopped() {
            self.walked.truncated = true;
        }
        !self.walked.truncated
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one entry with where it was found; used twice"
    )]
    fn entry(
        &mut self,
        path: &TreePath,
        stat: &Statx,
        parent: &OwnedFd,
        name: &OsStr,
        below_match: bool,
        depth: usize,
        see: &mut dyn FnMut(&Entry<'_>),
        opened: Option<&OwnedFd>,
    ) {
        if !self.may_go_on() {
            return;
        }
        self.walked.seen += 1;
        let matched = below_match || self.pattern.matches(path);
        let entry = Entry {
            path,
            stat,
            parent,
            name,
        };
        if matched {
            see(&entry);
        }
        let below = matched && self.recursive;
        if entry.is_directory()
            && (below || self.pattern.may_match_below(path) && !self.ends_at(path))
        {
            self.directory(
                path,
                opened.unwrap_or(parent),
                opened.is_none().then_some(name),
                below,
                depth,
                see,
            );
        }
    }

    /// A pattern for one path needs no look below it.
    fn ends_at(&self, path: &TreePath) -> bool {
        !self.pattern.is_recursive() && self.pattern.matches(path)
    }

    fn directory(
        &mut self,
        path: &TreePath,
        at: &OwnedFd,
        name: Option<&OsStr>,
        below_match: bool,
        depth: usize,
        see: &mut dyn FnMut(&Entry<'_>),
    ) {
        if depth >= DEPTH_MAX {
            self.walked.truncated = true;
            return;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(at, name.unwrap_or(OsStr::new(".")), flags, Mode::empty())
            .and_then(|handle| Ok((Dir::read_from(&handle)?, handle)));
        let (mut list, handle) = match opened {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return, // gone since it was listed
            Err(errno) => return self.unreadable(path, errno),
        };
        while let Some(item) = list.read() {
            let item = match item {
                Ok(item) => item,
                Err(errno) => return self.unreadable(path, errno),
            };
            let bytes = item.file_name().to_bytes();
            if matches!(bytes, b"." | b"..") {
                continue;
            }
            let Ok(child) = path.join(bytes) else {
                self.walked.truncated = true;
                continue;
            };
            let name = OsStr::from_bytes(bytes);
            match statx(
                &handle,
                name,
                AtFlags::SYMLINK_NOFOLLOW,
                StatxFlags::BASIC_STATS,
            ) {
                Ok(stat) => {
                    self.entry(
                        &child,
                        &stat,
                        &handle,
                        name,
                        below_match,
                        depth + 1,
                        see,
                        None,
                    );
                }
                Err(Errno::NOENT) => {}
                Err(errno) => self.unreadable(&child, errno),
            }
            if self.walked.truncated {
                return;
            }
        }
    }
}

/// May the agent's own user do this to an entry? Asks with effective ids.
pub(super) fn may(
    parent: &OwnedFd,
    name: &OsStr,
    access: rustix::fs::Access,
) -> Result<bool, Errno> {
    // A name from `handle_path` is a magic link and must be followed; a listed name never is a link here.
    let answer = if name.as_bytes().starts_with(b"/proc/self/fd/") {
        rustix::fs::accessat(CWD, name, access, AtFlags::EACCESS)
    } else {
        rustix::fs::accessat(
            parent,
            name,
            access,
            AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW,
        )
    };
    match answer {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Ok(false),
        Err(errno) => Err(errno),
    }
}
