//! Random trees, and random things that happen to them.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags};

/// The `splitmix64` generator: a case is its seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(super) fn bytes(&mut self) -> Vec<u8> {
        let length = *self.pick(&[0, 1, 7, 40, 3000]);
        (0..length)
            .map(|_| b'a' + u8::try_from(self.below(26)).unwrap())
            .collect()
    }
}

const NAMES: [&[u8]; 8] = [
    b"a",
    b"b",
    b"a-b",
    b"caf\xc3\xa9",
    b"bad\xff\xfe",
    b"new\nline",
    b"100%",
    b".x",
];
const MODES: [u32; 6] = [0o644, 0o600, 0o755, 0o4755, 0o640, 0o444];

pub(super) fn paths(root: &Path, want: impl Fn(&fs::Metadata) -> bool) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut todo = vec![root.to_owned()];
    while let Some(at) = todo.pop() {
        let meta = fs::symlink_metadata(&at).unwrap();
        if meta.is_dir() {
            todo.extend(
                fs::read_dir(&at)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        if want(&meta) && at != root {
            found.push(at);
        }
    }
    found.sort();
    found
}

fn name(random: &mut Random) -> &'static OsStr {
    OsStr::from_bytes(NAMES[random.below(NAMES.len())])
}

pub(super) fn free_name(random: &mut Random, root: &Path) -> PathBuf {
    let mut directories = paths(root, fs::Metadata::is_dir);
    directories.push(root.to_owned());
    let directory = random.pick(&directories).clone();
    let at = directory.join(name(random));
    if at.symlink_metadata().is_ok() {
        let number = random.below(1000);
        directory.join(format!("n{number}"))
    } else {
        at
    }
}

/// A few files, links, hard links and directories, with odd names, modes, owners, ACLs and old times.
pub(super) fn grow(random: &mut Random, root: &Path) {
    for _ in 0..3 + random.below(9) {
        let at = free_name(random, root);
        if at.symlink_metadata().is_ok() {
            continue;
        }
        match random.below(8) {
            0..2 => fs::create_dir(&at).unwrap(),
            2 => symlink(random.pick(&["a", "../b", "/nowhere", "caf\u{e9}"]), &at).unwrap(),
            3 => {
                let files = paths(root, fs::Metadata::is_file);
                if files.is_empty() {
                    fs::write(&at, random.bytes()).unwrap();
                } else {
                    fs::hard_link(random.pick(&files), &at).unwrap();
                }
            }
            _ => fs::write(&at, random.bytes()).unwrap(),
        }
    }
    for at in paths(root, |_| true) {
        if random.below(3) == 0 {
            owner(random, &at);
        }
        if random.below(2) == 0 {
            mode(random, &at);
        }
        if random.below(4) == 0 {
            attribute(random, &at);
        }
    }
    let mut all = paths(root, |_| true);
    all.push(root.to_owned());
    for at in all {
        time(random, &at);
    }
}

fn owner(random: &mut Random, at: &Path) {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = *random.pick(&[(0, 0), (33, 33), (1000, 33), (1000, 1000)]);
        std::os::unix::fs::lchown(at, Some(uid), Some(gid)).unwrap();
    }
}

pub(super) fn mode(random: &mut Random, at: &Path) {
    let meta = fs::symlink_metadata(at).unwrap();
    let mode = if meta.is_dir() {
        *random.pick(&[0o755, 0o700, 0o2775, 0o1777, 0o555])
    } else {
        *random.pick(&MODES)
    };
    if !meta.is_symlink() {
        fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// An ACL or another attribute, where the file system keeps them.
fn attribute(random: &mut Random, at: &Path) {
    let meta = fs::symlink_metadata(at).unwrap();
    if meta.is_symlink() {
        return;
    }
    let name = match random.below(3) {
        0 => "user.note",
        1 if meta.is_dir() => "system.posix_acl_default",
        _ => "system.posix_acl_access",
    };
    let value = if name == "user.note" {
        random.bytes()
    } else {
        acl(random)
    };
    if random.below(4) == 0 {
        rustix::fs::removexattr(at, name).unwrap_or_default();
    } else {
        rustix::fs::setxattr(at, name, &value, XattrFlags::empty()).unwrap_or_default();
    }
}

/// `user::rw-,user:1000:?,group::r--,mask::?,other::r--` in the kernel's form.
fn acl(random: &mut Random) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    let some = u16::try_from(random.below(8)).unwrap();
    let none = u32::MAX;
    for (tag, bits, id) in [
        (1_u16, 6_u16, none),
        (2, some, 1000),
        (4, 4, none),
        (0x10, 7 - some, none),
        (0x20, 4, none),
    ] {
        value.extend(tag.to_le_bytes());
        value.extend(bits.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

fn time(random: &mut Random, at: &Path) {
    let stamp = Timespec {
        tv_sec: 1_000_000_000 + i64::try_from(random.below(500_000_000)).unwrap(),
        tv_nsec: i64::try_from(random.below(1_000_000_000)).unwrap(),
    };
    let times = Timestamps {
        last_access: stamp,
        last_modification: stamp,
    };
    rustix::fs::utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn remove(at: &Path) {
    if fs::symlink_metadata(at).unwrap().is_dir() {
        fs::remove_dir_all(at).unwrap();
    } else {
        fs::remove_file(at).unwrap();
    }
}

/// One thing that an action may do.
pub(super) fn act(random: &mut Random, root: &Path) {
    let all = paths(root, |_| true);
    let files = paths(root, fs::Metadata::is_file);
    let free = free_name(random, root);
    let free = Some(free).filter(|free| free.symlink_metadata().is_err());
    if let (0..5, Some(free)) = (random.below(16), &free) {
        match random.below(5) {
            0 => fs::create_dir(free).unwrap(),
            1 => symlink("made", free).unwrap(),
            2 if !files.is_empty() => fs::hard_link(random.pick(&files), free).unwrap(),
            3 if !all.is_empty() => {
                let from = random.pick(&all).clone();
                if !free.starts_with(&from) {
                    fs::rename(from, free).unwrap();
                }
            }
            _ => fs::write(free, random.bytes()).unwrap(),
        }
        return;
    }
    if all.is_empty() {
        return;
    }
    let at = random.pick(&all).clone();
    match random.below(10) {
        0 => remove(&at),
        1 => mode(random, &at),
        2 => owner(random, &at),
        3 => attribute(random, &at),
        4 => time(random, &at),
        5 => {
            remove(&at);
            fs::write(&at, random.bytes()).unwrap();
        }
        6 => {
            remove(&at);
            fs::create_dir(&at).unwrap();
            if random.below(2) == 0 {
                fs::write(at.join("inside"), random.bytes()).unwrap();
            }
        }
        7 => {
            remove(&at);
            symlink(random.pick(&["changed", "other"]), &at).unwrap();
        }
        _ => {
            if let Some(file) = files.get(random.below(files.len().max(1))) {
                fs::write(file, random.bytes()).unwrap();
            }
        }
    }
}

/// What somebody else did, so that it can be looked for afterwards.
#[derive(Debug, Clone)]
pub(super) enum Deed {
    Content(Vec<u8>),
    Appended(Vec<u8>),
    Mode(u32),
    Gone,
}

/// One thing that somebody else does, at a path that nobody else touched; `None` if it did not work out. Whole files
/// are written over only while no undo is at work (`calm`): in an inode that is being rewritten that cannot be told.
pub(super) fn meddle(
    random: &mut Random,
    root: &Path,
    calm: bool,
    free: impl Fn(&Path) -> bool,
) -> Option<(PathBuf, Deed)> {
    let ours = |at: &Path| {
        at.components()
            .any(|part| part.as_os_str().as_bytes().starts_with(b".healerd-"))
    };
    let mark = format!("theirs{}", random.next()).into_bytes();
    if random.below(3) == 0 {
        let at = free_name(random, root);
        let there = at.symlink_metadata().is_ok();
        if there
            || at
                .components()
                .any(|part| part.as_os_str().as_bytes().starts_with(b".healerd-"))
            || !free(&at)
        {
            return None;
        }
        fs::write(&at, &mark).ok()?;
        return Some((at, Deed::Content(mark)));
    }
    let files: Vec<PathBuf> = paths(root, fs::Metadata::is_file)
        .into_iter()
        .filter(|at| !ours(at) && free(at))
        .collect();
    if files.is_empty() {
        return None;
    }
    let at = random.pick(&files).clone();
    let deed = match random.below(5) {
        0 if calm => {
            fs::write(&at, &mark).ok()?;
            Deed::Content(mark)
        }
        1 => {
            let new = root.join("theirs");
            fs::write(&new, &mark).unwrap();
            fs::rename(new, &at).unwrap();
            Deed::Content(mark)
        }
        2 => {
            fs::remove_file(&at).ok()?;
            Deed::Gone
        }
        3 => {
            fs::set_permissions(&at, fs::Permissions::from_mode(0o606)).ok()?;
            Deed::Mode(0o606)
        }
        _ => {
            let mut file = fs::OpenOptions::new().append(true).open(&at).ok()?;
            file.write_all(&mark).unwrap();
            Deed::Appended(mark)
        }
    };
    Some((at, deed))
}
