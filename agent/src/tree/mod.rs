//! The state of files as values: paths, entries, manifests, and what differs between two looks.
//!
//! Pure: nothing here opens a file. [`crate::walk`] makes these values, [`diff`] compares them, [`crate::restore`]
//! carries the result out.

pub mod diff;
mod flat;
pub mod packed;
pub mod path;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use path::{PathError, Pattern, TreePath};

/// BLAKE3 of a file's whole content; 64 lower-case hex digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Wraps 32 bytes that a hasher made.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its 64 lower-case hex digits, without the heap.
    pub fn to_hex(&self) -> impl AsRef<str> {
        blake3::Hash::from_bytes(self.0).to_hex()
    }

    /// Reads 64 hex digits; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text)
            .ok()
            .map(|hash| Self(*hash.as_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Digest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hex digits")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Digest, E> {
                Digest::parse(text).ok_or_else(|| E::custom("a digest is 64 hex digits"))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A file time with the precision the kernel keeps. In JSON `[secs, nanos]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(i64, u32)", into = "(i64, u32)")]
pub struct Stamp {
    /// Seconds since the epoch; negative before it.
    pub secs: i64,
    /// 0 to 999 999 999.
    pub nanos: u32,
}

/// What a cheap `statx` says of an entry. Two equal keys mean: nobody wrote, renamed or changed it in between
/// (`ctime` cannot be set by a program), so content need not be read again. In JSON an array in the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "flat::Key", into = "flat::Key")]
pub struct StatKey {
    pub dev: u64,
    pub ino: u64,
    pub nlink: u32,
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Stamp,
    pub ctime: Stamp,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A regular file. `digest` is absent where only a stat walk was asked for.
    File {
        size: u64,
        digest: Option<Digest>,
    },
    Directory,
    /// A symbolic link with its text, escaped like a [`TreePath`] but free to hold `..` and a leading `/`.
    Link {
        target: String,
    },
    /// A socket, pipe or device: recorded, never read, never restored.
    Other,
}

/// The attributes that an undo brings back one by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits, setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Stamp,
    /// Extended attributes (ACLs are `system.posix_acl_access` and `…_default`), name → lower-case hex of the value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// One path as it was seen at one moment. In JSON `[content, key, meta]`, where `meta` is null as long as it says no more
/// than `key`: lists and manifests hold thousands of these.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "flat::Entry")]
pub struct EntryState {
    pub content: Content,
    pub meta: Meta,
    pub key: StatKey,
}

/// What was found below a set of members: each path with its state, `None` where it is absent under a directory
/// that could be read. Sorted, so equal trees give equal bytes.
pub type Manifest = BTreeMap<TreePath, Option<EntryState>>;

/// Appends a manifest as JSON, to stand in a larger one.
///
/// # Errors
/// Only when it cannot be written as JSON, which is a fault of ours.
pub fn write_manifest(out: &mut Vec<u8>, manifest: &Manifest) -> serde_json::Result<()> {
    serde_json::to_writer(out, manifest)
}

/// What an action did to one path, recorded on the target when its processes were gone and before `finished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    pub path: TreePath,
    /// State before the action; `None`: absent.
    pub before: Option<EntryState>,
    /// State right after the action, with the digest of a regular file; `None`: absent.
    pub after: Option<EntryState>,
    pub source: EffectSource,
}

/// How an effect is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectSource {
    /// A native step that reported the path before and after through one descriptor: surely the action's.
    Native,
    /// Two walks around a `run` step: the action's or somebody else's in the same seconds.
    Walk,
    /// A walk made by recovery, because the supervisor died before it could say: only a bound.
    Recovery,
}
