//! Walking members and reading states and contents.
//!
//! A walk goes in path order (the byte order of [`TreePath`]), so that it can be cut into pages at any path. It never
//! follows links but for the one named hop of [`crate::roots`]: a link into a declared root is itself reported as a
//! link, and what lies below it under the link's own path. A member that names a single path is looked at through
//! such a link, because what it leads to is what a step would write.
//!
//! Without digests a walk is a plain stat walk: one `statx` an entry. It leaves out the extended attributes and ACLs of
//! files and directories, because `ctime` in the [`StatKey`] tells of their changes too. It says whether something
//! changed; a state to come back to is taken with digests.
//!
//! What cannot be looked at is reported with the reason and never taken for absent. Nothing is written here.

mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;
use std::time::Instant;

use rustix::fs::{AtFlags, Dir, FileType, OFlags, StatxFlags};

use crate::protocol::{Refusal, RefusalCode};
use crate::roots::{Roots, absent};
use crate::tree::{Content, EntryState, Manifest, Meta, Pattern, StatKey, TreePath};

pub(crate) use state::{MARK, key_of, reopen, value};
pub use state::{digest, state_at, state_of};

/// Directory handles that a walk keeps open at most; deeper directories are opened again for each entry.
const HANDLES_MAX: usize = 64;

/// How far a walk may go.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub entries_max: usize,
    pub deadline: Instant,
}

/// One page of a walk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// In path order. `None`: absent under a directory that could be read.
    pub entries: Vec<(TreePath, Option<EntryState>)>,
    /// What could not be looked at, with the reason.
    pub unreadable: Vec<(TreePath, String)>,
    /// Ask again after the last path of the two lists.
    pub more: bool,
}

/// The entries that `members` take in after a path, as many as the limits allow. With `digests` files are read.
///
/// # Errors
/// `Limit` when the deadline passed before anything was found.
pub fn list(
    roots: &Roots,
    members: &[Pattern],
    after: Option<&TreePath>,
    digests: bool,
    entries_max: usize,
    deadline: Instant,
) -> Result<ListPage, Refusal> {
    let mut page = ListPage::default();
    let walk = Walk {
        roots,
        members,
        after,
        digests,
        previous: None,
    };
    let mut found = 0_usize;
    let mut late = false;
    let ended = walk.run(&mut |path, look| {
        late = Instant::now() > deadline;
        if found >= entries_max.max(2) || late {
            return ControlFlow::Break(());
        }
        found += 1;
        match look(&path) {
            Ok(Found::State(state)) => page.entries.push((path, state)),
            Ok(Found::Vanished) => {}
            Err(error) => page.unreadable.push((path, error.to_string())),
        }
        ControlFlow::Continue(())
    });
    page.more = ended.is_break();
    if late && found == 0 {
        return Err(limit(
            "the time for the walk was over before it found anything",
        ));
    }
    Ok(page)
}

/// Everything that `members` take in, and what could not be looked at.
///
/// # Errors
/// `Limit` when there are more entries than allowed, or the deadline passed.
pub fn snapshot(
    roots: &Roots,
    members: &[Pattern],
    digests: bool,
    limits: Limits,
) -> Result<(Manifest, Vec<(TreePath, String)>), Refusal> {
    snapshot_since(roots, members, digests, limits, &Manifest::new())
}

/// As [`snapshot`], for a second look: an entry whose [`StatKey`] is the one in `previous` is taken from there, so it
/// costs one `statx`. That is sound because every change of content, attributes or ACL moves `ctime`, which no
/// program can set.
///
/// # Errors
/// As [`snapshot`].
pub fn snapshot_since(
    roots: &Roots,
    members: &[Pattern],
    digests: bool,
    limits: Limits,
    previous: &Manifest,
) -> Result<(Manifest, Vec<(TreePath, String)>), Refusal> {
    let mut manifest = Manifest::new();
    let mut unreadable = Vec::new();
    let mut failed = None;
    let walk = Walk {
        roots,
        members,
        after: None,
        digests,
        previous: Some(previous),
    };
    let ended = walk.run(&mut |path, look| {
        if manifest.len() + unreadable.len() >= limits.entries_max {
            failed = Some(limit(&format!(
                "there are more than {} entries",
                limits.entries_max
            )));
            return ControlFlow::Break(());
        }
        if Instant::now() > limits.deadline {
            failed = Some(limit("the time for the walk is over"));
            return ControlFlow::Break(());
        }
        match look(&path) {
            Ok(Found::State(state)) => {
                manifest.insert(path, state);
            }
            Ok(Found::Vanished) => {}
            Err(error) => unreadable.push((path, error.to_string())),
        }
        ControlFlow::Continue(())
    });
    match (ended, failed) {
        (ControlFlow::Break(()), Some(refusal)) => Err(refusal),
        _ => Ok((manifest, unreadable)),
    }
}

/// Bytes of the regular file that `expect` describes, from `offset` on, and whether the file ends with them.
///
/// # Errors
/// `Changed` when it is not, or no longer, that file; `Absent`, `Denied` or `System` as the system says.
pub fn read(
    roots: &Roots,
    path: &TreePath,
    expect: StatKey,
    offset: u64,
    budget: usize,
) -> Result<(Vec<u8>, bool), Refusal> {
    let changed = || Refusal {
        code: RefusalCode::Changed,
        message: format!("`{path}` is no longer the file that was listed"),
    };
    let open = || -> io::Result<Option<OwnedFd>> {
        let (directory, name) = roots.place(path)?;
        let handle = crate::roots::open_entry(directory.as_fd(), &name)?;
        if key_of(handle.as_fd())? != expect
            || crate::roots::kind(handle.as_fd())? != FileType::RegularFile
        {
            return Ok(None);
        }
        reopen(handle.as_fd(), OFlags::RDONLY).map(Some)
    };
    let refuse = |error| refusal(path, &error);
    let file = File::from(open().map_err(refuse)?.ok_or_else(changed)?);
    let left = usize::try_from(expect.size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; left.min(budget)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => return Err(changed()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(refuse(error)),
        }
    }
    if key_of(file.as_fd()).map_err(refuse)? != expect {
        return Err(changed());
    }
    Ok((bytes, offset.saturating_add(filled as u64) >= expect.size))
}

/// An error of the system as a refusal.
pub(crate) fn refusal(path: &TreePath, error: &io::Error) -> Refusal {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the standard library adds kinds; all others are the system's"
    )]
    let code = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => RefusalCode::Absent,
        io::ErrorKind::PermissionDenied => RefusalCode::Denied,
        io::ErrorKind::ResourceBusy => RefusalCode::Changed,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RefusalCode::NoRoom,
        _ => RefusalCode::System,
    };
    Refusal {
        code,
        message: format!("`{path}`: {error}"),
    }
}

fn limit(message: &str) -> Refusal {
    Refusal {
        code: RefusalCode::Limit,
        message: message.to_owned(),
    }
}

/// What a look at a path gives.
enum Found {
    /// Its state; `None`: absent.
    State(Option<EntryState>),
    /// It was listed, and went away under the walk.
    Vanished,
}

type Look<'a> = dyn FnMut(&TreePath) -> io::Result<Found> + 'a;

struct Walk<'a> {
    roots: &'a Roots,
    members: &'a [Pattern],
    after: Option<&'a TreePath>,
    digests: bool,
    previous: Option<&'a Manifest>,
}

type Sink<'s> = dyn FnMut(TreePath, &mut Look<'_>) -> ControlFlow<()> + 's;

/// What is still to be visited, on a stack with the next one last. Sorting by `at` gives path order: everything below
/// a directory sorts behind the directory's path and a slash, and `a-b` comes between `a` and `a/b`.
struct Token {
    at: Vec<u8>,
    what: What,
}

enum What {
    /// An entry of a directory, by name in the handle if that is still kept.
    Entry(Option<Rc<OwnedFd>>),
    /// What lies below a path that a member begins with.
    Start,
    /// What lies below a directory.
    Directory,
    /// What lies below a link, if that is the named hop.
    Link,
}

impl Walk<'_> {
    fn run(&self, sink: &mut Sink<'_>) -> ControlFlow<()> {
        let singles = self.singles();
        let mut singles = singles
            .iter()
            .filter(|path| self.after.is_none_or(|after| *path > after))
            .peekable();
        let mut stack = self.starts();
        while let Some(Token { at, what }) = stack.pop() {
            if let What::Entry(handle) = &what {
                let Ok(path) = TreePath::from_vec(at) else {
                    continue; // longer than any path that the kernel opens
                };
                while let Some(single) = singles.next_if(|single| **single < path) {
                    sink(single.clone(), &mut |path| {
                        self.single(path).map(Found::State)
                    })?;
                }
                if singles.peek().is_some_and(|single| **single == path) {
                    continue; // comes with its own look
                }
                if self.wanted(&path) {
                    sink(path, &mut |path| self.entry(path, handle.as_deref()))?;
                }
                continue;
            }
            let Ok(path) = TreePath::from_bytes(at.strip_suffix(b"/").unwrap_or(&at)) else {
                continue;
            };
            if self.is_over(&at) {
                continue;
            }
            let met = self.below(&path, &at);
            let unreadable = match met {
                Ok(mut tokens) => {
                    stack.append(&mut tokens);
                    continue;
                }
                Err(error) => error,
            };
            let kind = unreadable.kind();
            let expected = match what {
                What::Link => true,
                What::Start => {
                    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                }
                What::Directory | What::Entry(_) => kind == io::ErrorKind::NotFound,
            };
            if !expected {
                let mut error = Some(unreadable);
                sink(path, &mut |_| Err(error.take().unwrap_or_else(gone)))?;
            }
        }
        for single in singles {
            sink(single.clone(), &mut |path| {
                self.single(path).map(Found::State)
            })?;
        }
        ControlFlow::Continue(())
    }

    /// The members that name one path, and the directories that a `/**` takes in itself.
    fn singles(&self) -> BTreeSet<TreePath> {
        self.members
            .iter()
            .filter_map(|member| match member.as_path() {
                Some(path) => Some(path.clone()),
                None => Some(member.fixed_prefix()).filter(|prefix| member.matches(prefix)),
            })
            .collect()
    }

    /// Where the other members begin, last first, without those that another one meets on its way.
    fn starts(&self) -> Vec<Token> {
        let all: BTreeSet<Vec<u8>> = self
            .members
            .iter()
            .filter(|member| member.as_path().is_none())
            .map(|member| slashed(member.fixed_prefix().as_bytes()))
            .collect();
        all.iter()
            .filter(|at| {
                !all.iter()
                    .any(|other| other != *at && at.starts_with(other))
            })
            .rev()
            .map(|at| Token {
                at: at.clone(),
                what: What::Start,
            })
            .collect()
    }

    /// Was everything below this path part of an earlier page?
    fn is_over(&self, below: &[u8]) -> bool {
        self.after
            .is_some_and(|after| after.as_bytes() > below && !after.as_bytes().starts_with(below))
    }

    fn wanted(&self, path: &TreePath) -> bool {
        self.after.is_none_or(|after| path > after)
            && self.members.iter().any(|member| member.matches(path))
    }

    /// The entries of a directory as tokens, last first.
    fn below(&self, path: &TreePath, at: &[u8]) -> io::Result<Vec<Token>> {
        if !self
            .members
            .iter()
            .any(|member| member.may_match_below(path))
        {
            return Ok(Vec::new());
        }
        let directory = self.roots.at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut tokens = Vec::new();
        let mut dir = Dir::read_from(&directory)?;
        let directory = (depth(path) < HANDLES_MAX).then(|| Rc::new(directory));
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let mut here = Vec::with_capacity(at.len() + name.len());
            here.extend_from_slice(at);
            here.extend_from_slice(name);
            let below = match entry.file_type() {
                FileType::Directory => Some(What::Directory),
                FileType::Symlink | FileType::Unknown => Some(What::Link),
                FileType::RegularFile
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice => None,
            };
            if let Some(what) = below {
                tokens.push(Token {
                    at: slashed(&here),
                    what,
                });
            }
            tokens.push(Token {
                at: here,
                what: What::Entry(directory.clone()),
            });
        }
        tokens.sort_unstable_by(|one, other| other.at.cmp(&one.at));
        Ok(tokens)
    }

    /// The state of an entry of a walked directory.
    fn entry(&self, path: &TreePath, directory: Option<&OwnedFd>) -> io::Result<Found> {
        let Some(name) = path.name() else {
            return Ok(Found::Vanished);
        };
        let state = if let Some(directory) = directory {
            self.state(directory, name, path)
        } else {
            let parent = path
                .split_last()
                .map_or_else(TreePath::root, |(parent, _)| parent);
            match absent(self.roots.at(&parent, OFlags::PATH | OFlags::DIRECTORY))? {
                Some(directory) => self.state(&directory, name, path),
                None => Ok(None),
            }
        };
        Ok(state?.map_or(Found::Vanished, |state| Found::State(Some(state))))
    }

    /// The state of a member that names one path.
    fn single(&self, path: &TreePath) -> io::Result<Option<EntryState>> {
        match self.roots.place(path) {
            Ok((directory, name)) => self.state(&directory, &name, path),
            // A parent that is not there, or is a file: nothing can be at this path.
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn state(
        &self,
        directory: &OwnedFd,
        name: &[u8],
        path: &TreePath,
    ) -> io::Result<Option<EntryState>> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS);
        let Some(stat) = absent(stat.map_err(io::Error::from))? else {
            return Ok(None);
        };
        let key = state::key(&stat);
        let known = self
            .previous
            .and_then(|manifest| manifest.get(path))
            .and_then(Option::as_ref)
            .filter(|known| known.key == key)
            .filter(|known| {
                !self.digests || !matches!(known.content, Content::File { digest: None, .. })
            });
        if let Some(known) = known {
            return Ok(Some(known.clone()));
        }
        let content = match state::kind(&stat) {
            FileType::RegularFile if !self.digests => Content::File {
                size: key.size,
                digest: None,
            },
            FileType::Directory if !self.digests => Content::Directory,
            FileType::RegularFile
            | FileType::Directory
            | FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return state_at(directory.as_fd(), name, self.digests),
        };
        Ok(Some(EntryState {
            content,
            meta: Meta::of(&key, BTreeMap::new()),
            key,
        }))
    }
}

fn slashed(path: &[u8]) -> Vec<u8> {
    let mut path = path.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path
}

fn depth(path: &TreePath) -> usize {
    path.components().count()
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn gone() -> io::Error {
    io::ErrorKind::NotFound.into()
}

#[cfg(test)]
mod tests;
