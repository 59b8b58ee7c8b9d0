//! What lies below a folder, to the last byte: the demonstration compares with its own eyes, not with the daemon's.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// One entry: everything that an undo must bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    mode: u32,
    uid: u32,
    gid: u32,
    /// Of a file; empty for a directory.
    content: Vec<u8>,
}

/// A folder as it was at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree(BTreeMap<PathBuf, Seen>);

impl Tree {
    /// Reads all of it. Only for small folders of our own.
    pub(super) fn read(root: &Path) -> io::Result<Self> {
        let mut found = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                let meta = path.symlink_metadata()?;
                let content = if meta.is_file() {
                    std::fs::read(&path)?
                } else {
                    Vec::new()
                };
                if meta.is_dir() {
                    folders.push(path.clone());
                }
                let name = path.strip_prefix(root).unwrap_or(&path).to_owned();
                found.insert(
                    name,
                    Seen {
                        mode: meta.mode(),
                        uid: meta.uid(),
                        gid: meta.gid(),
                        content,
                    },
                );
            }
        }
        Ok(Self(found))
    }

    /// The same without one entry.
    pub(super) fn without(mut self, name: &str) -> Self {
        self.0.remove(Path::new(name));
        self
    }

    /// Names of entries that differ, are new or are gone.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut names: Vec<String> = self
            .0
            .keys()
            .chain(other.0.keys())
            .filter(|name| self.0.get(*name) != other.0.get(*name))
            .map(|name| name.display().to_string())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_mode_and_presence_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sub/a");
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(&file, "one").unwrap();
        let before = Tree::read(folder.path()).unwrap();
        assert_eq!(before, Tree::read(folder.path()).unwrap());
        std::fs::write(&file, "two").unwrap();
        std::fs::write(folder.path().join("b"), "").unwrap();
        let after = Tree::read(folder.path()).unwrap();
        assert_eq!(before.differences(&after), ["b", "sub/a"]);
        assert_eq!(before.differences(&after.without("b")), ["sub/a"]);
    }
}
