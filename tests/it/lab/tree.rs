//! Compares two looks at a directory, to the last attribute, and says readably what differs.
//!
//! On purpose it shares no code with the program's own walk and manifest: it is there to contradict them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Everything about one path that an undo must bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: &'static str,
    /// Digest of the content, or the text of a link.
    content: String,
    size: u64,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    links: u64,
    attributes: BTreeMap<String, Vec<u8>>,
}

/// A directory at one moment, by path below it. The directory itself is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    entries: BTreeMap<PathBuf, Entry>,
}

/// Looks at everything below `root` but what `ignoring` names, each a path below it, with all below that.
pub(crate) fn hash_tree(root: &Path, ignoring: &[&str]) -> Look {
    hash_tree_as(root, ignoring, &[])
}

/// The same for a tree that is to be compared with one elsewhere: texts are read as if each of `own` (its directory, its
/// ports) were the word beside it.
pub(crate) fn hash_tree_as(root: &Path, ignoring: &[&str], own: &[(String, &str)]) -> Look {
    let mut entries = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        if ignoring.iter().any(|ignored| path == Path::new(ignored)) {
            continue;
        }
        let full = if path.as_os_str().is_empty() {
            root.to_path_buf()
        } else {
            root.join(&path)
        };
        let entry = Entry::read(&full, own);
        if entry.kind == "directory" {
            for child in std::fs::read_dir(&full)
                .unwrap_or_else(|error| panic!("{}: {error}", full.display()))
            {
                open.push(
                    path.join(
                        child
                            .expect("a directory that was opened can be read")
                            .file_name(),
                    ),
                );
            }
        }
        entries.insert(path, entry);
    }
    Look { entries }
}

impl Entry {
    fn read(path: &Path, own: &[(String, &str)]) -> Self {
        let mut size = None;
        let meta = path
            .symlink_metadata()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let kind = meta.file_type();
        let (kind, content) = if kind.is_symlink() {
            let text = std::fs::read_link(path).expect("it is a link");
            let text = read_as(text.display().to_string(), own);
            size = Some(text.len() as u64);
            ("link", format!("-> {text}"))
        } else if kind.is_dir() {
            ("directory", String::new())
        } else if kind.is_file() && !own.is_empty() {
            let bytes =
                std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let bytes = match String::from_utf8(bytes) {
                Ok(text) => read_as(text, own).into_bytes(),
                Err(error) => error.into_bytes(),
            };
            size = Some(bytes.len() as u64);
            ("file", blake3::hash(&bytes).to_hex().to_string())
        } else if kind.is_file() {
            let mut hasher = blake3::Hasher::new();
            let mut file = std::fs::File::open(path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            std::io::copy(&mut file, &mut hasher)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            ("file", hasher.finalize().to_hex().to_string())
        } else {
            ("special file", format!("device {}", meta.rdev()))
        };
        Self {
            kind,
            content,
            // The size of a directory is the file system's own business.
            size: if kind == "directory" {
                0
            } else {
                size.unwrap_or(meta.len())
            },
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            modified: (meta.mtime(), meta.mtime_nsec()),
            links: if kind == "directory" { 0 } else { meta.nlink() },
            attributes: attributes(path),
        }
    }

    fn differences(&self, other: &Self) -> Vec<String> {
        let mut list = Vec::new();
        let mut note =
            |what: &str, differ: bool, from: &dyn fmt::Display, to: &dyn fmt::Display| {
                if differ {
                    list.push(format!("{what} {from} => {to}"));
                }
            };
        note("kind", self.kind != other.kind, &self.kind, &other.kind);
        note("size", self.size != other.size, &self.size, &other.size);
        let short = |text: &str| text.chars().take(40).collect::<String>();
        note(
            "content",
            self.content != other.content,
            &short(&self.content),
            &short(&other.content),
        );
        let octal = |mode: u32| format!("{mode:04o}");
        note(
            "mode",
            self.mode != other.mode,
            &octal(self.mode),
            &octal(other.mode),
        );
        let owner = |(uid, gid): (u32, u32)| format!("{uid}:{gid}");
        note(
            "owner",
            self.owner != other.owner,
            &owner(self.owner),
            &owner(other.owner),
        );
        let time = |(seconds, nanos): (i64, i64)| format!("{seconds}.{nanos:09}");
        note(
            "modified",
            self.modified != other.modified,
            &time(self.modified),
            &time(other.modified),
        );
        note(
            "links",
            self.links != other.links,
            &self.links,
            &other.links,
        );
        let names: BTreeSet<&String> = self
            .attributes
            .keys()
            .chain(other.attributes.keys())
            .collect();
        for name in names {
            let (from, to) = (self.attributes.get(name), other.attributes.get(name));
            note(name, from != to, &format!("{from:?}"), &format!("{to:?}"));
        }
        list
    }
}

/// A text in which each of `own` is the word beside it.
pub(crate) fn read_as(mut text: String, own: &[(String, &str)]) -> String {
    for (from, to) in own {
        if text.contains(from.as_str()) {
            text = text.replace(from.as_str(), to);
        }
    }
    text
}

/// Extended attributes by name, ACLs among them.
fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0_u8; 64 << 10];
    // File systems without extended attributes have none.
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else {
        return BTreeMap::new();
    };
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0_u8; 64 << 10];
            let length =
                rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..])
                    .expect("an attribute that was listed can be read");
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}

impl Look {
    /// One line for each path that differs, in order of paths; empty when nothing does.
    pub(crate) fn differences(&self, later: &Self) -> Vec<String> {
        let paths: BTreeSet<&PathBuf> = self.entries.keys().chain(later.entries.keys()).collect();
        paths
            .into_iter()
            .filter_map(|path| {
                let shown = if path.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    path.as_path()
                };
                let shown = shown.display();
                match (self.entries.get(path), later.entries.get(path)) {
                    (Some(before), Some(after)) => {
                        let list = before.differences(after);
                        (!list.is_empty()).then(|| format!("{shown}: {}", list.join(", ")))
                    }
                    (Some(before), None) => Some(format!("{shown}: {} is gone", before.kind)),
                    (None, Some(after)) => Some(format!("{shown}: {} is new", after.kind)),
                    (None, None) => None,
                }
            })
            .collect()
    }

    /// All that differs but the time of the last change: what a heal brings back by its own hand is made anew.
    pub(crate) fn differences_but_times(&self, later: &Self) -> Vec<String> {
        self.differences_with_times(later, |_| false)
    }

    /// All that differs but the times of directories: they tell that entries came and went, and nothing else.
    pub(crate) fn differences_but_comings(&self, later: &Self) -> Vec<String> {
        self.differences_with_times(later, |entry| entry.kind != "directory")
    }

    fn differences_with_times(&self, later: &Self, counts: impl Fn(&Entry) -> bool) -> Vec<String> {
        let mut later = later.clone();
        for (path, entry) in &mut later.entries {
            if let Some(before) = self.entries.get(path)
                && !counts(entry)
            {
                entry.modified = before.modified;
            }
        }
        self.differences(&later)
    }

    /// # Panics
    /// When the later look differs in anything; all differences are shown.
    #[track_caller]
    pub(crate) fn assert_same(&self, later: &Self) {
        let differences = self.differences(later);
        assert!(
            differences.is_empty(),
            "the tree changed:\n{}",
            differences.join("\n")
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{hash_tree, hash_tree_as};
    use crate::lab::set_mode;

    fn garden() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "one").unwrap();
        fs::write(dir.path().join("kept"), "kept").unwrap();
        symlink("kept", dir.path().join("link")).unwrap();
        dir
    }

    fn differences(change: impl FnOnce(&Path)) -> Vec<String> {
        let dir = garden();
        let before = hash_tree(dir.path(), &["ignored"]);
        change(dir.path());
        before.differences(&hash_tree(dir.path(), &["ignored"]))
    }

    #[test]
    fn an_untouched_tree_has_no_differences() {
        assert_eq!(differences(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_change_is_told() {
        type Change = fn(&Path);
        let keep_time = |path: &Path, change: &dyn Fn()| {
            let modified = fs::metadata(path).unwrap().modified().unwrap();
            change();
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(modified)
                .unwrap();
        };
        let cases: [(&str, Change, &[&str]); 5] = [
            (
                "mode",
                |root| set_mode(&root.join("kept"), 0o600),
                &["kept: mode 0644 => 0600"],
            ),
            (
                "link text",
                |root| {
                    fs::remove_file(root.join("link")).unwrap();
                    symlink("sub", root.join("link")).unwrap();
                },
                &[
                    ".: modified",
                    "link: size 4 => 3, content -> kept => -> sub",
                ],
            ),
            (
                "gone",
                |root| fs::remove_file(root.join("sub/file")).unwrap(),
                &["sub: modified", "sub/file: file is gone"],
            ),
            (
                "new",
                |root| fs::create_dir(root.join("sub/new")).unwrap(),
                &["sub: modified", "sub/new: directory is new"],
            ),
            (
                "hard link",
                |root| fs::hard_link(root.join("kept"), root.join("twin")).unwrap(),
                &[".: modified", "kept: links 1 => 2", "twin: file is new"],
            ),
        ];
        for (case, change, want) in cases {
            let told = differences(change);
            assert_eq!(told.len(), want.len(), "{case}: {told:?}");
            for (line, start) in told.iter().zip(want) {
                assert!(line.starts_with(start), "{case}: {line}");
            }
        }
        // Same length, same time: only the bytes tell.
        let told = differences(|root| {
            let path = root.join("sub/file");
            keep_time(&path, &|| fs::write(&path, "two").unwrap());
        });
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("sub/file: content "), "{told:?}");
    }

    #[test]
    fn trees_that_differ_in_where_they_are_can_be_compared() {
        let look = |name: &str| {
            let dir = garden();
            fs::write(dir.path().join("config"), format!("root = {name}/x")).unwrap();
            symlink(format!("{name}/x"), dir.path().join("there")).unwrap();
            hash_tree_as(dir.path(), &[], &[(name.to_owned(), "HERE")])
        };
        let (one, other) = (look("/a"), look("/another"));
        assert_eq!(one.differences_but_times(&other), Vec::<String>::new());
        let raw = hash_tree(garden().path(), &[]);
        assert_eq!(raw.differences_but_times(&one).len(), 2, "two are new");
    }

    #[test]
    fn what_is_ignored_is_ignored_with_all_below() {
        let told = differences(|root| {
            fs::create_dir(root.join("ignored")).unwrap();
            fs::write(root.join("ignored/file"), "x").unwrap();
        });
        assert_eq!(told.len(), 1, "only the parent's time: {told:?}");
        assert!(told[0].starts_with(".: modified"), "{told:?}");
    }
}
