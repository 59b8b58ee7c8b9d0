//! The application's real directories as handles, and reading beneath them.
//!
//! Everything is opened beneath a directory handle without following links, with one exception: a link that leads
//! exactly into a declared root is one named hop (`current/.env` → `shared/.env`). Read only; nothing here creates,
//! writes or locks.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, open, openat2,
    readlinkat, statx,
};
use rustix::io::Errno;

use super::Context;
use crate::protocol::{Refusal, RefusalCode, Target};
use crate::tree::{Pattern, TreePath};

/// How deep a walk goes below a root.
const DEPTH_MAX: usize = 128;
/// The most entries that any walk looks at, whatever a stack file says.
const ENTRIES_MAX: u32 = 200_000;

/// The declared roots, opened once; the first one is the application's.
#[derive(Debug)]
pub(super) struct Place {
    roots: Vec<(PathBuf, OwnedFd)>,
}

fn root(path: &str) -> Result<(PathBuf, OwnedFd), Refusal> {
    let refusal = |errno: Errno| Refusal {
        code: match errno {
            Errno::ACCESS | Errno::PERM => RefusalCode::Denied,
            _ => RefusalCode::Root,
        },
        message: format!("cannot open the root `{path}`: {}", reason(errno)),
    };
    if !path.starts_with('/') {
        return Err(Refusal {
            code: RefusalCode::Root,
            message: format!("the root `{path}` is not an absolute path"),
        });
    }
    let real = std::fs::canonicalize(path)
        .map_err(|error| refusal(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let handle = open(
        &real,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(refusal)?;
    Ok((real, handle))
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

/// Takes `.` and `..` out of an absolute path by its text.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => _ = clean.pop(),
            Component::Normal(part) => clean.push(part),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

impl Place {
    /// Resolves and opens the target's roots.
    pub(super) fn open(target: &Target) -> Result<Self, Refusal> {
        let mut roots = vec![root(&target.root)?];
        for more in &target.roots {
            roots.push(root(more)?);
        }
        Ok(Self { roots })
    }

    /// The real directories, the application's first.
    pub(super) fn real(&self) -> Vec<String> {
        self.roots
            .iter()
            .map(|(path, _)| crate::tree::path::escape(path.as_os_str().as_bytes()))
            .collect()
    }

    /// The application's real directory.
    pub(super) fn root(&self) -> &Path {
        self.roots.first().map_or(Path::new("/"), |(path, _)| path)
    }

    /// Does an absolute path lie in one of the roots, by its text?
    pub(super) fn holds(&self, path: &Path) -> bool {
        self.roots.iter().any(|(root, _)| path.starts_with(root))
    }

    fn beneath(&self, at: usize, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let (_, handle) = self.roots.get(at).ok_or(Errno::NOENT)?;
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: a rename elsewhere on the system made the kernel unsure; it asks to be asked again.
        for _ in 0..16 {
            match openat2(
                handle,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Where the first link of a path leads, when that is into a declared root.
    fn hop(&self, path: &Path) -> Option<(usize, PathBuf)> {
        let mut done = PathBuf::new();
        let mut parts = path.components();
        while let Some(part) = parts.next() {
            let parent = self
                .beneath(0, &done, OFlags::PATH | OFlags::DIRECTORY)
                .ok()?;
            if let Ok(text) = readlinkat(&parent, part.as_os_str(), Vec::new()) {
                let target = Path::new(OsStr::from_bytes(text.as_bytes()));
                let leads_to = lexical(&self.root().join(&done).join(target));
                let (at, below) = self
                    .roots
                    .iter()
                    .enumerate()
                    .filter_map(|(at, (root, _))| Some((at, leads_to.strip_prefix(root).ok()?)))
                    .min_by_key(|(_, below)| below.as_os_str().len())?;
                let rest = parts.as_path();
                // Joining nothing would leave a slash that asks for a directory.
                let whole = if rest.as_os_str().is_empty() {
                    below.to_path_buf()
                } else {
                    below.join(rest)
                };
                return Some((at, whole));
            }
            done.push(part);
        }
        None
    }

    /// Opens a path below the root; a link that leads into a declared root is followed once.
    ///
    /// `ELOOP` means that a link leads elsewhere.
    pub(super) fn open_at(&self, path: &TreePath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        match self.beneath(0, path, flags) {
            Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {
                let (at, path) = self.hop(path).ok_or_else(|| {
                    // NOTDIR without any link: a file stands where a directory is named.
                    if self.has_link(path) {
                        Errno::LOOP
                    } else {
                        Errno::NOTDIR
                    }
                })?;
                self.beneath(at, &path, flags)
            }
            other => other,
        }
    }

    fn has_link(&self, path: &Path) -> bool {
        let mut done = PathBuf::new();
        for part in path.components() {
            let Ok(parent) = self.beneath(0, &done, OFlags::PATH | OFlags::DIRECTORY) else {
                return false;
            };
            if readlinkat(&parent, part.as_os_str(), Vec::new()).is_ok() {
                return true;
            }
            done.push(part);
        }
        false
    }

    /// Text of the link at a path; `None` when something else is there.
    pub(super) fn link(&self, path: &TreePath) -> Result<Option<Vec<u8>>, Errno> {
        let Some((parent, name)) = path.split_last() else {
            return Ok(None);
        };
        let parent = self.open_at(&parent, OFlags::PATH | OFlags::DIRECTORY)?;
        match readlinkat(&parent, OsStr::from_bytes(name), Vec::new()) {
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
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
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
        Ok(stat) => {
            let name = handle_path(&handle);
            walk.entry(
                &start,
                &stat,
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
