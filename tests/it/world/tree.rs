//! Files in memory, with everything that a walk of the real ones would tell.

use std::collections::BTreeMap;

use healer_agent::protocol::{UndoItem, UndoOutcome, UndoResult};
use healer_agent::tree::diff::merge;
use healer_agent::tree::{Content, Digest, EntryState, Meta, Pattern, Stamp, StatKey, TreePath};

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    /// `None`: a directory.
    bytes: Option<Vec<u8>>,
    meta: Meta,
    ino: u64,
    ctime: Stamp,
}

/// The files of one application. Every change has a change time of its own, as on a disk whose clock is fine enough.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<TreePath, Node>,
    tick: u64,
}

/// A path of the tree.
pub(crate) fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

impl Tree {
    fn stamp(&mut self, wall_ms: i64) -> Stamp {
        self.tick += 1;
        Stamp {
            secs: wall_ms.div_euclid(1000),
            nanos: u32::try_from(self.tick % 1_000_000_000).unwrap(),
        }
    }

    /// Is anything there?
    pub(crate) fn has(&self, text: &str) -> bool {
        self.nodes.contains_key(&path(text))
    }

    /// The bytes of a file.
    pub(crate) fn read(&self, at: &TreePath) -> Option<&[u8]> {
        self.nodes.get(at)?.bytes.as_deref()
    }

    /// Writes a file, with the directories above it.
    pub(crate) fn write(&mut self, at: &TreePath, bytes: &[u8], wall_ms: i64) {
        self.make_parents(at, wall_ms);
        let stamp = self.stamp(wall_ms);
        let ino = self.tick;
        let node = self.nodes.entry(at.clone()).or_insert_with(|| Node {
            bytes: None,
            meta: Meta {
                mode: 0o644,
                uid: 1001,
                gid: 1002,
                mtime: stamp,
                xattrs: BTreeMap::new(),
            },
            ino,
            ctime: stamp,
        });
        node.bytes = Some(bytes.to_vec());
        node.meta.mtime = stamp;
        node.ctime = stamp;
    }

    fn make_parents(&mut self, at: &TreePath, wall_ms: i64) {
        let Some((parent, _)) = at.split_last() else {
            return;
        };
        if parent.is_root() || self.nodes.contains_key(&parent) {
            return;
        }
        self.make_parents(&parent, wall_ms);
        let stamp = self.stamp(wall_ms);
        let ino = self.tick;
        let meta = Meta {
            mode: 0o755,
            uid: 1001,
            gid: 1002,
            mtime: stamp,
            xattrs: BTreeMap::new(),
        };
        self.nodes.insert(
            parent,
            Node {
                bytes: None,
                meta,
                ino,
                ctime: stamp,
            },
        );
    }

    /// Changes permission bits.
    pub(crate) fn set_mode(&mut self, at: &TreePath, mode: u32, wall_ms: i64) {
        let stamp = self.stamp(wall_ms);
        if let Some(node) = self.nodes.get_mut(at) {
            node.meta.mode = mode;
            node.ctime = stamp;
        }
    }

    /// Removes an entry, and what lies below it.
    pub(crate) fn remove(&mut self, at: &TreePath) {
        self.nodes
            .retain(|known, _| known != at && !known.is_below(at));
    }

    /// What stands at a path, with the digest of a file when asked.
    pub(crate) fn state(&self, at: &TreePath, digests: bool) -> Option<EntryState> {
        let node = self.nodes.get(at)?;
        let size = node.bytes.as_ref().map_or(4096, |bytes| bytes.len() as u64);
        let content = match &node.bytes {
            None => Content::Directory,
            Some(bytes) => Content::File {
                size,
                digest: digests.then(|| Digest::of(bytes)),
            },
        };
        let meta = node.meta.clone();
        let kind = if node.bytes.is_some() {
            0o100_000
        } else {
            0o040_000
        };
        let key = StatKey {
            dev: 1,
            ino: node.ino,
            nlink: 1,
            size,
            mode: kind | meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            ctime: node.ctime,
        };
        Some(EntryState { content, meta, key })
    }

    /// What the members take in, in path order; absent fixed members too.
    pub(crate) fn list(
        &self,
        members: &[Pattern],
        digests: bool,
    ) -> Vec<(TreePath, Option<EntryState>)> {
        let mut found: BTreeMap<TreePath, Option<EntryState>> = members
            .iter()
            .filter_map(Pattern::as_path)
            .map(|fixed| (fixed.clone(), self.state(fixed, digests)))
            .collect();
        for at in self
            .nodes
            .keys()
            .filter(|at| members.iter().any(|member| member.matches(at)))
        {
            found.insert(at.clone(), self.state(at, digests));
        }
        found.into_iter().collect()
    }

    /// Everything that people would compare: contents and bits, without times.
    pub(crate) fn essence(&self) -> BTreeMap<String, (Option<String>, u32)> {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        self.nodes
            .iter()
            .map(|(at, node)| {
                (
                    at.to_string(),
                    (node.bytes.as_ref().map(text), node.meta.mode),
                )
            })
            .collect()
    }

    /// Takes changes back, three-way, as the agent does.
    pub(crate) fn undo(
        &mut self,
        items: &[UndoItem],
        staged: &BTreeMap<Digest, Vec<u8>>,
        wall_ms: i64,
    ) -> Vec<UndoOutcome> {
        items
            .iter()
            .map(|item| self.undo_one(item, staged, wall_ms))
            .collect()
    }

    fn undo_one(
        &mut self,
        item: &UndoItem,
        staged: &BTreeMap<Digest, Vec<u8>>,
        wall_ms: i64,
    ) -> UndoOutcome {
        let now = self.state(&item.path, true);
        let merged = merge(item.before.as_ref(), item.after.as_ref(), now.as_ref());
        let result = if !merged.restore.is_empty() {
            match merged.target {
                None => self.remove(&item.path),
                Some((content, meta)) => {
                    if let Content::File {
                        digest: Some(digest),
                        ..
                    } = content
                        && self.read(&item.path).map(Digest::of) != Some(digest)
                    {
                        let Some(bytes) = staged.get(&digest).cloned() else {
                            return UndoOutcome {
                                path: item.path.clone(),
                                result: UndoResult::Failed,
                                detail: "its content was not staged".to_owned(),
                            };
                        };
                        self.write(&item.path, &bytes, wall_ms);
                    }
                    let stamp = self.stamp(wall_ms);
                    if let Some(node) = self.nodes.get_mut(&item.path) {
                        node.meta = meta;
                        node.ctime = stamp;
                    }
                }
            }
            UndoResult::Restored
        } else if merged.keep.is_empty() {
            UndoResult::Already
        } else {
            UndoResult::Kept
        };
        UndoOutcome {
            path: item.path.clone(),
            result,
            detail: String::new(),
        }
    }
}
