//! The short JSON of entries: arrays in a fixed order in place of named fields.
//!
//! Pure. A list or a manifest holds thousands of entries, and their names of fields would be most of its bytes and of the
//! time that both sides spend on it. The order is part of the protocol's version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeTuple as _};

use super::{Content, EntryState, Meta, Stamp, StatKey};

impl From<Stamp> for (i64, u32) {
    fn from(stamp: Stamp) -> Self {
        (stamp.secs, stamp.nanos)
    }
}

impl From<(i64, u32)> for Stamp {
    fn from((secs, nanos): (i64, u32)) -> Self {
        Self { secs, nanos }
    }
}

/// `dev`, `ino`, `nlink`, `size`, `mode`, `uid`, `gid`, `mtime`, `ctime`.
#[derive(Serialize, Deserialize)]
pub(super) struct Key(u64, u64, u32, u64, u32, u32, u32, Stamp, Stamp);

impl From<StatKey> for Key {
    fn from(key: StatKey) -> Self {
        Self(
            key.dev, key.ino, key.nlink, key.size, key.mode, key.uid, key.gid, key.mtime, key.ctime,
        )
    }
}

impl From<Key> for StatKey {
    fn from(key: Key) -> Self {
        let Key(dev, ino, nlink, size, mode, uid, gid, mtime, ctime) = key;
        Self {
            dev,
            ino,
            nlink,
            size,
            mode,
            uid,
            gid,
            mtime,
            ctime,
        }
    }
}

/// `content`, `key`, `meta`.
#[derive(Deserialize)]
pub(super) struct Entry(Content, StatKey, Option<Meta>);

impl From<Entry> for EntryState {
    fn from(Entry(content, key, meta): Entry) -> Self {
        Self {
            content,
            meta: meta.unwrap_or_else(|| Meta::of(&key, BTreeMap::new())),
            key,
        }
    }
}

impl Serialize for EntryState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let meta = (!self.meta.says_no_more_than(&self.key)).then_some(&self.meta);
        let mut entry = serializer.serialize_tuple(3)?;
        entry.serialize_element(&self.content)?;
        entry.serialize_element(&self.key)?;
        entry.serialize_element(&meta)?;
        entry.end()
    }
}

impl EntryState {
    /// Bytes that it takes as JSON at most.
    pub(crate) fn json_bytes_max(&self) -> usize {
        /// Brackets, names and numbers of an entry without texts, and of a meta that says more than the key.
        const ENTRY: usize = 260;
        const META: usize = 160;
        let content = match &self.content {
            Content::File { digest, .. } => digest.map_or(0, |_| 64),
            Content::Link { target } => 2 * target.len(), // escaped: a quote or a backslash doubles
            Content::Directory | Content::Other => 0,
        };
        let meta = if self.meta.says_no_more_than(&self.key) {
            0
        } else {
            let xattrs = self.meta.xattrs.iter();
            META + xattrs
                .map(|(name, value)| 2 * name.len() + value.len() + 8)
                .sum::<usize>()
        };
        ENTRY + content + meta
    }
}

impl Meta {
    /// The attributes that a look at an entry tells, beside its extended ones.
    pub(crate) fn of(key: &StatKey, xattrs: BTreeMap<String, String>) -> Self {
        Self {
            mode: key.mode & 0o7777,
            uid: key.uid,
            gid: key.gid,
            mtime: key.mtime,
            xattrs,
        }
    }

    pub(super) fn says_no_more_than(&self, key: &StatKey) -> bool {
        self.xattrs.is_empty()
            && self.mode == key.mode & 0o7777
            && self.uid == key.uid
            && self.gid == key.gid
            && self.mtime == key.mtime
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Digest;

    fn entry(content: Content) -> EntryState {
        let key = StatKey {
            dev: u64::MAX,
            ino: 12,
            nlink: 1,
            size: 5,
            mode: 0o100_644,
            uid: 33,
            gid: 34,
            mtime: Stamp {
                secs: -1,
                nanos: 999_999_999,
            },
            ctime: Stamp { secs: 8, nanos: 9 },
        };
        EntryState {
            content,
            meta: Meta::of(&key, BTreeMap::new()),
            key,
        }
    }

    #[test]
    fn an_entry_comes_back_as_it_was_whatever_its_attributes() {
        let file = entry(Content::File {
            size: 5,
            digest: Some(Digest::of(b"hello")),
        });
        let mut other_owner = file.clone();
        other_owner.meta.uid = 0;
        let mut with_acl = file.clone();
        with_acl
            .meta
            .xattrs
            .insert("system.posix_acl_access".to_owned(), "0200".to_owned());
        let link = entry(Content::Link {
            target: "../%FF".to_owned(),
        });
        let (folder, pipe) = (entry(Content::Directory), entry(Content::Other));
        let mut long = file.clone();
        long.key = StatKey {
            dev: u64::MAX,
            ino: u64::MAX,
            nlink: u32::MAX,
            size: u64::MAX,
            mode: u32::MAX,
            uid: u32::MAX,
            gid: u32::MAX,
            mtime: Stamp {
                secs: i64::MIN,
                nanos: u32::MAX,
            },
            ctime: Stamp {
                secs: i64::MIN,
                nanos: u32::MAX,
            },
        };
        let mut longest = long.clone();
        longest.meta = Meta::of(&long.key, BTreeMap::new());
        longest.meta.xattrs = with_acl.meta.xattrs.clone();
        for entry in [
            file,
            other_owner,
            with_acl,
            link,
            folder,
            pipe,
            long,
            longest,
        ] {
            let text = serde_json::to_string(&entry).unwrap();
            assert!(text.len() <= entry.json_bytes_max(), "{text}");
            assert_eq!(
                serde_json::from_str::<EntryState>(&text).unwrap(),
                entry,
                "{text}"
            );
        }
    }

    #[test]
    fn an_entry_is_an_array_that_repeats_nothing() {
        let entry = entry(Content::File {
            size: 5,
            digest: None,
        });
        assert_eq!(
            serde_json::to_string(&entry).unwrap(),
            r#"[{"file":{"size":5,"digest":null}},[18446744073709551615,12,1,5,33188,33,34,[-1,999999999],[8,9]],null]"#
        );
        let short = r#"[{"file":{"size":5,"digest":null}},[1,12,1,5]]"#;
        assert!(serde_json::from_str::<EntryState>(short).is_err());
    }
}
