//! The two kinds of files that say what the vault holds: manifests and warm indexes.
//!
//! Pure. Both carry the digest of their own bytes, so that a torn one is never taken for a whole one. A manifest is
//! JSON behind one line of text, so that a person can read it with nothing but a pager; a warm index is a flat list
//! of fixed words, because it is read before each backup and is thrown away at the first doubt.

use healer_agent::tree::{self, Digest, Stamp, StatKey, TreePath};
use serde::Serialize;

use crate::model::backup::{BackupKind, BackupManifest};
use crate::model::id::{BackupId, HealId};
use crate::model::name::{AppName, HostName};
use crate::model::time::Moment;
use crate::seam::vault::WarmIndex;

/// First words of a manifest; the number is the version of its form.
const MANIFEST: &str = "healerd-manifest 1";
const INDEX: &[u8; 16] = b"healerd-index 1\n";

/// A manifest longer than this is none of ours.
pub(super) const MANIFEST_BYTES_MAX: u64 = 512 << 20;
/// As for manifests.
pub(super) const INDEX_BYTES_MAX: u64 = 256 << 20;
/// The first line of a manifest is shorter than this.
pub(super) const LINE_BYTES_MAX: usize = 160;

/// A manifest as a file: one line, and the JSON that it tells of.
#[derive(Debug)]
pub(super) struct ManifestFile {
    bytes: Vec<u8>,
    /// Where the line begins; before it is what was kept free for it.
    begin: usize,
    json: usize,
    digest: Digest,
}

impl ManifestFile {
    /// # Errors
    /// Only when the value cannot be written as JSON, which is a fault of ours.
    pub(super) fn of(manifest: &BackupManifest) -> Result<Self, serde_json::Error> {
        let mut bytes = Vec::with_capacity(LINE_BYTES_MAX + bytes_about(manifest));
        bytes.resize(LINE_BYTES_MAX, 0);
        write_json(&mut bytes, manifest)?;
        let json = &bytes[LINE_BYTES_MAX..];
        let digest = Digest::of(json);
        let line = format!("{MANIFEST} {digest} {}\n", json.len());
        let begin = LINE_BYTES_MAX - line.len(); // two words, 64 digits and a number are shorter than that
        bytes[begin..LINE_BYTES_MAX].copy_from_slice(line.as_bytes());
        Ok(Self {
            bytes,
            begin,
            json: LINE_BYTES_MAX,
            digest,
        })
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }

    /// Its first line, which names length and digest of all that follows.
    pub(super) fn line(&self) -> &[u8] {
        &self.bytes[self.begin..self.json]
    }

    /// Digest of what follows the line.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }
}

/// Bytes of its JSON, so that it need not be moved while it grows.
fn bytes_about(manifest: &BackupManifest) -> usize {
    const ENTRY: usize = 240;
    let entries = manifest.members.len() + manifest.base.len();
    let paths = manifest.members.keys().chain(manifest.base.keys());
    4096 + entries * ENTRY + paths.map(|path| path.as_bytes().len()).sum::<usize>()
}

/// The JSON of a manifest. Its lists of entries, which are nearly all of it, are written by the agent's crate: that one
/// is built for speed. They go straight to their place, because a copy of so many bytes costs as much as writing them.
fn write_json(out: &mut Vec<u8>, manifest: &BackupManifest) -> serde_json::Result<()> {
    #[derive(Serialize)]
    struct Head<'a> {
        id: &'a BackupId,
        kind: &'a BackupKind,
        app: &'a AppName,
        host: &'a HostName,
        roots: &'a [String],
        heal: &'a Option<HealId>,
        taken: &'a Moment,
    }
    let BackupManifest {
        id,
        kind,
        app,
        host,
        roots,
        heal,
        taken,
        members,
        base,
        base_gaps,
    } = manifest;
    serde_json::to_writer(
        &mut *out,
        &Head {
            id,
            kind,
            app,
            host,
            roots,
            heal,
            taken,
        },
    )?;
    out.pop(); // the object goes on
    out.extend_from_slice(br#","members":"#);
    tree::write_manifest(out, members)?;
    out.extend_from_slice(br#","base":"#);
    tree::write_manifest(out, base)?;
    out.extend_from_slice(br#","base_gaps":"#);
    serde_json::to_writer(&mut *out, base_gaps)?;
    out.push(b'}');
    Ok(())
}

/// Digest and length that the first line tells, and where the JSON begins.
fn manifest_line(bytes: &[u8]) -> Option<(Digest, usize, usize)> {
    let head = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let end = head.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&head[..end]).ok()?;
    let (digest, length) = line
        .strip_prefix(MANIFEST)?
        .strip_prefix(' ')?
        .split_once(' ')?;
    Some((Digest::parse(digest)?, length.parse().ok()?, end + 1))
}

/// Does a file that begins so and is `length` bytes long look whole? Cheap; the digest is not asked.
pub(super) fn manifest_looks_whole(head: &[u8], length: u64) -> bool {
    manifest_line(head).is_some_and(|(_, json, at)| json as u64 + at as u64 == length)
}

/// Reads a manifest.
///
/// # Errors
/// A reason why it is damaged.
pub(super) fn manifest_of(bytes: &[u8], id: BackupId) -> Result<BackupManifest, String> {
    let (digest, length, at) =
        manifest_line(bytes).ok_or("its first line is not that of a manifest")?;
    let json = &bytes[at..];
    if json.len() != length {
        return Err(format!("it holds {} bytes of {length}", json.len()));
    }
    if Digest::of(json) != digest {
        return Err("its digest differs".to_owned());
    }
    let manifest: BackupManifest =
        serde_json::from_slice(json).map_err(|error| format!("it cannot be read: {error}"))?;
    if manifest.id != id {
        return Err(format!("it is that of backup {}", manifest.id));
    }
    Ok(manifest)
}

/// The whole file of a warm index.
pub(super) fn index_bytes(index: &WarmIndex) -> Vec<u8> {
    let mut body = Vec::with_capacity(index.len() * 160);
    for (path, (key, digest)) in index {
        let path = path.as_bytes();
        let length = u16::try_from(path.len()).unwrap_or(u16::MAX); // a path has at most 4096 bytes
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(path);
        for word in [key.dev, key.ino, key.size] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        for word in [key.nlink, key.mode, key.uid, key.gid] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        for stamp in [key.mtime, key.ctime] {
            body.extend_from_slice(&stamp.secs.to_le_bytes());
            body.extend_from_slice(&stamp.nanos.to_le_bytes());
        }
        body.extend_from_slice(digest.as_bytes());
    }
    let mut bytes = Vec::with_capacity(INDEX.len() + 32 + body.len());
    bytes.extend_from_slice(INDEX);
    bytes.extend_from_slice(Digest::of(&body).as_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads a warm index; `None` at the first doubt.
pub(super) fn index_of(bytes: &[u8]) -> Option<WarmIndex> {
    let (digest, body) = bytes.strip_prefix(INDEX)?.split_first_chunk::<32>()?;
    if Digest::of(body).as_bytes() != digest {
        return None;
    }
    let mut rest = body;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let length = u16::from_le_bytes(take(&mut rest)?);
        let (path, tail) = rest.split_at_checked(usize::from(length))?;
        rest = tail;
        let path = TreePath::from_bytes(path).ok()?;
        let mut long = || take(&mut rest).map(u64::from_le_bytes);
        let (dev, ino, size) = (long()?, long()?, long()?);
        let mut short = || take(&mut rest).map(u32::from_le_bytes);
        let (nlink, mode, uid, gid) = (short()?, short()?, short()?, short()?);
        let mut stamp = || {
            Some(Stamp {
                secs: i64::from_le_bytes(take(&mut rest)?),
                nanos: u32::from_le_bytes(take(&mut rest)?),
            })
        };
        let (mtime, ctime) = (stamp()?, stamp()?);
        let digest = Digest::from_bytes(take(&mut rest)?);
        let key = StatKey {
            dev,
            ino,
            nlink,
            size,
            mode,
            uid,
            gid,
            mtime,
            ctime,
        };
        entries.push((path, (key, digest)));
    }
    Some(entries.into_iter().collect())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use healer_agent::tree::{Content, EntryState, Meta};

    use super::*;

    #[test]
    fn a_manifest_is_written_as_its_type_says() {
        let index = index();
        let members = index.iter().map(|(path, (key, digest))| {
            let content = Content::File {
                size: key.size,
                digest: Some(*digest),
            };
            let state = EntryState {
                content,
                meta: Meta {
                    mode: key.mode & 0o7777,
                    uid: key.uid,
                    gid: key.gid,
                    mtime: key.mtime,
                    xattrs: BTreeMap::new(),
                },
                key: *key,
            };
            (path.clone(), Some(state))
        });
        let manifest = BackupManifest {
            id: BackupId::from_raw(1),
            kind: BackupKind::Heal,
            app: "shop".parse().unwrap(),
            host: HostName::local(),
            roots: vec!["/srv/\"shop\"".to_owned()],
            heal: Some(HealId::from_raw(2)),
            taken: Moment {
                boot_id: "b".to_owned(),
                boot_ms: 3,
                wall_ms: 4,
            },
            members: members.collect(),
            base: BTreeMap::from([(TreePath::root(), None)]),
            base_gaps: vec![(TreePath::root(), "it is missing".to_owned())],
        };
        let mut written = Vec::new();
        write_json(&mut written, &manifest).unwrap();
        assert_eq!(written, serde_json::to_vec(&manifest).unwrap());
        assert!(written.len() <= bytes_about(&manifest));
        let file = ManifestFile::of(&manifest).unwrap();
        let whole = file.bytes();
        assert_eq!(whole, [file.line(), &written].concat());
        assert_eq!(file.digest(), Digest::of(&written));
        assert_eq!(manifest_of(whole, manifest.id), Ok(manifest));
    }

    fn index() -> WarmIndex {
        (0..3_u64)
            .map(|n| {
                let stamp = Stamp {
                    secs: -5,
                    nanos: 999_999_999,
                };
                let key = StatKey {
                    dev: 1,
                    ino: u64::MAX - n,
                    nlink: 1,
                    size: n,
                    mode: 0o644,
                    uid: 33,
                    gid: 33,
                    mtime: stamp,
                    ctime: stamp,
                };
                let path = TreePath::from_bytes(format!("a/b\u{ff}{n}").as_bytes()).unwrap();
                (path, (key, Digest::of(&[1])))
            })
            .collect()
    }

    #[test]
    fn a_warm_index_comes_back_as_it_was() {
        assert_eq!(index_of(&index_bytes(&index())), Some(index()));
        assert_eq!(
            index_of(&index_bytes(&WarmIndex::new())),
            Some(WarmIndex::new())
        );
    }

    #[test]
    fn a_warm_index_that_is_torn_anywhere_is_ignored() {
        let bytes = index_bytes(&index());
        for at in 0..bytes.len() {
            assert_eq!(index_of(&bytes[..at]), None, "cut off at {at}");
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            assert_eq!(index_of(&torn), None, "flipped at {at}");
        }
    }
}
