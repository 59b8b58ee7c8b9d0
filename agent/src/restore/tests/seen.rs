//! A comparer that shares no code with the walk: standard library calls and raw attribute lists only.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) kind: char,
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
    owner: (u32, u32),
    pub(super) mtime: (i64, i64),
    xattrs: Vec<(OsString, Vec<u8>)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    pub(super) entries: BTreeMap<PathBuf, Seen>,
    /// Names that are one file, for each name of a file with several.
    pub(super) links: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

pub(super) fn look(root: &Path) -> Tree {
    let mut tree = Tree::default();
    let mut inodes: BTreeMap<(u64, u64), BTreeSet<PathBuf>> = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let at = root.join(&path);
        let found = fs::symlink_metadata(&at).unwrap();
        let kind = found.file_type();
        let (kind, bytes) = if kind.is_dir() {
            for entry in fs::read_dir(&at).unwrap() {
                todo.push(path.join(entry.unwrap().file_name()));
            }
            ('d', vec![])
        } else if kind.is_symlink() {
            ('l', fs::read_link(&at).unwrap().into_os_string().into_vec())
        } else if kind.is_file() {
            ('f', fs::read(&at).unwrap())
        } else {
            (if kind.is_socket() { 's' } else { 'o' }, vec![])
        };
        if found.nlink() > 1 && kind != 'd' {
            inodes
                .entry((found.dev(), found.ino()))
                .or_default()
                .insert(path.clone());
        }
        tree.entries.insert(
            path,
            Seen {
                kind,
                bytes,
                mode: found.mode(),
                owner: (found.uid(), found.gid()),
                mtime: (found.mtime(), found.mtime_nsec()),
                xattrs: xattrs(&at),
            },
        );
    }
    for names in inodes.into_values() {
        for name in &names {
            tree.links.insert(name.clone(), names.clone());
        }
    }
    tree
}

fn xattrs(at: &Path) -> Vec<(OsString, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let Ok(length) = rustix::fs::llistxattr(at, &mut names) else {
        return vec![];
    };
    let mut found: Vec<_> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(at, name, &mut value).unwrap();
            (OsString::from_vec(name.to_vec()), value[..length].to_vec())
        })
        .collect();
    found.sort();
    found
}
