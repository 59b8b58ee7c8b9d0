use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use healer_agent::tree::{Content, Digest, EntryState, Manifest, Meta, Stamp, StatKey, TreePath};

use super::shelf::Shelf;
use super::{DirVault, Place};
use crate::model::backup::{BackupKind, BackupManifest};
use crate::model::id::BackupId;
use crate::model::name::HostName;
use crate::model::time::Moment;
use crate::seam::{Vault as _, VaultError};

/// Stops the vault as if the process had died: after `left` points no effect follows any more.
#[derive(Debug)]
pub(super) struct Stop {
    left: AtomicI64,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            left: AtomicI64::new(i64::MAX),
        }
    }
}

impl Stop {
    pub(super) fn here(&self, _name: &str) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) <= 0
    }

    fn after(&self, points: i64) {
        self.left.store(points, Ordering::SeqCst);
    }

    fn happened(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }
}

fn place() -> Place {
    Place {
        owner: rustix::process::getuid().as_raw(),
        web_roots: Vec::new(),
        allow_temp: true,
    }
}

fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new()
        .permissions(mode)
        .tempdir()
        .unwrap()
}

fn shelf(path: &Path) -> Arc<Shelf> {
    Shelf::open(path, &place()).unwrap()
}

fn entry(digest: Option<Digest>, size: u64) -> EntryState {
    let stamp = Stamp { secs: 1, nanos: 2 };
    EntryState {
        content: Content::File { size, digest },
        meta: Meta {
            mode: 0o644,
            uid: 33,
            gid: 33,
            mtime: stamp,
            xattrs: BTreeMap::new(),
        },
        key: StatKey {
            dev: 1,
            ino: 2,
            nlink: 1,
            size,
            mode: 0o100_644,
            uid: 33,
            gid: 33,
            mtime: stamp,
            ctime: stamp,
        },
    }
}

fn manifest(id: u128, digests: &[Digest]) -> BackupManifest {
    let members: Manifest = digests
        .iter()
        .enumerate()
        .map(|(at, digest)| {
            let path = TreePath::parse(&format!("f{at}")).unwrap();
            (path, Some(entry(Some(*digest), 1)))
        })
        .collect();
    BackupManifest {
        id: BackupId::from_raw(id),
        kind: BackupKind::Heal,
        app: "shop".parse().unwrap(),
        host: HostName::local(),
        roots: vec!["/srv/shop".to_owned()],
        heal: None,
        taken: Moment {
            boot_id: "b".to_owned(),
            boot_ms: 0,
            wall_ms: 0,
        },
        members,
        base: Manifest::new(),
        base_gaps: Vec::new(),
    }
}

fn put(shelf: &Arc<Shelf>, bytes: &[u8]) -> Result<Digest, VaultError> {
    if bytes.len() > 1 << 20 {
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        let spill = shelf.spill(None, head)?;
        return Ok(shelf.finish(Some(spill), tail)?.0);
    }
    Ok(shelf.finish(None, bytes)?.0)
}

fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

fn object_path(vault: &Path, digest: Digest) -> PathBuf {
    let text = digest.to_string();
    vault.join("objects").join(&text[..2]).join(&text[2..])
}

fn big() -> Vec<u8> {
    (0..300_000_u32)
        .flat_map(|number| (number / 7).to_le_bytes())
        .collect()
}

#[tokio::test]
async fn contents_come_back_byte_by_byte_and_are_stored_once() {
    let temp = folder();
    let vault = DirVault::open(&temp.path().join("v"), &place()).unwrap();
    let _hold = vault.hold();
    let contents = [Vec::new(), b"APP_KEY=1\n".to_vec(), big()];
    let mut digests = Vec::new();
    for content in &contents {
        for round in 0..2 {
            let mut sink = vault.begin().await.unwrap();
            for piece in content.chunks(100_000) {
                sink.write(piece).await.unwrap();
            }
            let (digest, added) = sink.finish().await.unwrap();
            assert_eq!(digest, Digest::of(content));
            assert_eq!(added > 0, round == 0, "the second is the first one");
            digests.push(digest);
        }
    }
    digests.dedup();
    vault.commit(Arc::new(manifest(1, &digests))).await.unwrap();
    vault.verify(BackupId::from_raw(1)).await.unwrap();
    assert_eq!(files_below(&temp.path().join("v/objects")).len(), 3);
    for (digest, content) in digests.iter().zip(&contents) {
        let mut source = vault.open(*digest).await.unwrap();
        let mut read = Vec::new();
        loop {
            let piece = source.read(70_000).await.unwrap();
            assert!(piece.len() <= 70_000);
            if piece.is_empty() {
                break;
            }
            read.extend(piece);
        }
        assert!(read == *content);
    }
    let held = vault.room().await.unwrap().1;
    assert!(held > 0 && held < 1_200_000, "packed");
}

#[test]
fn files_of_the_vault_are_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let temp = folder();
    let path = temp.path().join("v");
    let shelf = shelf(&path);
    let digest = put(&shelf, b"x").unwrap();
    shelf.commit(&manifest(1, &[digest])).unwrap();
    for file in files_below(&path) {
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        let folder = fs::metadata(file.parent().unwrap()).unwrap();
        assert_eq!(folder.permissions().mode() & 0o7777, 0o700);
    }
}

#[test]
fn a_vault_in_use_is_not_opened_twice() {
    let temp = folder();
    let first = shelf(temp.path());
    assert!(Shelf::open(temp.path(), &place()).is_err());
    drop(first);
    Shelf::open(temp.path(), &place()).unwrap();
}

#[test]
fn a_manifest_that_names_a_content_that_is_not_there_is_refused() {
    let temp = folder();
    let shelf = shelf(temp.path());
    let missing = Digest::of(b"never stored");
    assert!(matches!(
        shelf.commit(&manifest(1, &[missing])),
        Err(VaultError::Damaged(reason)) if reason.contains(&missing.to_string())
    ));
    assert_eq!(shelf.list().unwrap(), []);
}

#[test]
fn every_torn_object_is_found_and_named_and_the_next_backup_stores_it_anew() {
    let temp = folder();
    let shelf = shelf(temp.path());
    let content = b"DB_PASSWORD=secret\n".repeat(9);
    let digest = put(&shelf, &content).unwrap();
    shelf.commit(&manifest(1, &[digest])).unwrap();
    shelf.confirm(BackupId::from_raw(1), &[]).unwrap();
    let path = object_path(temp.path(), digest);
    let whole = fs::read(&path).unwrap();
    let mut number = 2;
    for at in [0, 9, 17, 31, 39, 41, whole.len() - 1] {
        for torn in [
            whole[..at].to_vec(),
            whole
                .iter()
                .enumerate()
                .map(|(place, byte)| if place == at { !byte } else { *byte })
                .collect(),
        ] {
            fs::write(&path, &torn).unwrap();
            for found in [
                shelf.confirm(BackupId::from_raw(1), &[]),
                shelf.verify(BackupId::from_raw(1)),
            ] {
                assert!(
                    matches!(&found, Err(VaultError::Damaged(reason)) if reason.contains(&digest.to_string())),
                    "{at}: {found:?}"
                );
            }
            assert_eq!(put(&shelf, &content).unwrap(), digest);
            shelf.commit(&manifest(number, &[digest])).unwrap();
            number += 1;
            shelf.verify(BackupId::from_raw(1)).unwrap();
        }
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(
        shelf.confirm(BackupId::from_raw(1), &[]),
        Err(VaultError::Damaged(reason)) if reason.ends_with("it is missing")
    ));
}

#[tokio::test]
async fn a_damaged_object_is_never_read_to_its_end() {
    let temp = folder();
    let vault = DirVault::open(temp.path(), &place()).unwrap();
    let (digest, other) = (
        put(&vault.shelf, b"first").unwrap(),
        put(&vault.shelf, b"other").unwrap(),
    );
    vault
        .commit(Arc::new(manifest(1, &[digest, other])))
        .await
        .unwrap();
    fs::copy(
        object_path(temp.path(), other),
        object_path(temp.path(), digest),
    )
    .unwrap();
    let mut source = vault.open(digest).await.unwrap();
    source.read(100).await.unwrap();
    assert!(matches!(
        source.read(100).await,
        Err(VaultError::Damaged(_))
    ));
}

#[test]
fn a_manifest_torn_anywhere_is_no_backup() {
    let temp = folder();
    let shelf = shelf(temp.path());
    let digest = put(&shelf, b"x").unwrap();
    let id = BackupId::from_raw(1);
    shelf.commit(&manifest(1, &[digest])).unwrap();
    let path = temp.path().join(format!("manifests/{id}.json"));
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..at]).unwrap();
        assert!(
            matches!(shelf.manifest(id), Err(VaultError::Damaged(_))),
            "cut {at}"
        );
        assert_eq!(shelf.list().unwrap(), [], "cut {at}");
        let mut torn = whole.clone();
        torn[at] ^= 4;
        fs::write(&path, &torn).unwrap();
        assert!(
            matches!(shelf.verify(id), Err(VaultError::Damaged(_))),
            "flipped {at}"
        );
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(shelf.manifest(id).unwrap(), manifest(1, &[digest]));
    let other = BackupId::from_raw(2);
    fs::copy(&path, temp.path().join(format!("manifests/{other}.json"))).unwrap();
    assert!(
        matches!(shelf.manifest(other), Err(VaultError::Damaged(_))),
        "another's"
    );
    assert!(matches!(
        shelf.manifest(BackupId::from_raw(3)),
        Err(VaultError::Absent(_))
    ));
}

#[test]
fn removing_takes_what_no_other_backup_names() {
    let temp = folder();
    let shelf = shelf(temp.path());
    let (own, common) = (
        put(&shelf, b"own").unwrap(),
        put(&shelf, b"common").unwrap(),
    );
    shelf.commit(&manifest(1, &[own, common])).unwrap();
    shelf.commit(&manifest(2, &[common])).unwrap();
    let before = shelf.room().unwrap().1;
    let freed = shelf.remove(BackupId::from_raw(1)).unwrap();
    assert!(freed > 0);
    assert_eq!(shelf.room().unwrap().1, before - freed);
    assert!(!object_path(temp.path(), own).exists());
    shelf.verify(BackupId::from_raw(2)).unwrap();
    assert!(matches!(
        shelf.remove(BackupId::from_raw(1)),
        Err(VaultError::Absent(_))
    ));
    assert!(files_below(&temp.path().join("tmp")).is_empty());
}

#[test]
fn what_a_running_backup_counts_on_is_not_removed() {
    let temp = folder();
    let shelf = shelf(temp.path());
    let digest = put(&shelf, b"unchanged").unwrap();
    shelf.commit(&manifest(1, &[digest])).unwrap();
    let hold = shelf.hold();
    assert!(shelf.missing(&[digest]).unwrap().is_empty());
    shelf.remove(BackupId::from_raw(1)).unwrap();
    shelf.commit(&manifest(2, &[digest])).unwrap();
    shelf.verify(BackupId::from_raw(2)).unwrap();
    drop(hold);
    shelf.remove(BackupId::from_raw(2)).unwrap();
    assert!(!object_path(temp.path(), digest).exists());
}

#[test]
fn a_backup_that_was_given_up_leaves_nothing() {
    let temp = folder();
    let shelf = shelf(temp.path());
    let hold = shelf.hold();
    put(&shelf, b"small").unwrap();
    put(&shelf, &big()).unwrap();
    drop(shelf.spill(None, b"half").unwrap());
    drop(hold);
    assert!(files_below(&temp.path().join("tmp")).is_empty());
    assert!(files_below(&temp.path().join("objects")).is_empty());
}

#[test]
fn with_a_damaged_manifest_nothing_is_swept_until_it_is_removed() {
    let temp = folder();
    let shelf = shelf(temp.path());
    let (one, two) = (put(&shelf, b"one").unwrap(), put(&shelf, b"two").unwrap());
    shelf.commit(&manifest(1, &[one])).unwrap();
    shelf.commit(&manifest(2, &[two])).unwrap();
    let path = temp
        .path()
        .join(format!("manifests/{}.json", BackupId::from_raw(1)));
    fs::write(&path, b"torn").unwrap();
    shelf.remove(BackupId::from_raw(2)).unwrap();
    assert!(object_path(temp.path(), one).exists());
    shelf.remove(BackupId::from_raw(1)).unwrap();
    assert!(files_below(&temp.path().join("objects")).is_empty());
}

/// Everything that a fresh open must find in order.
fn in_order(path: &Path, must: &[u128]) {
    let shelf = shelf(path);
    let ids = shelf.list().unwrap();
    for id in must {
        assert!(
            ids.contains(&BackupId::from_raw(*id)),
            "backup {id} is lost"
        );
    }
    let mut named = BTreeSet::new();
    for id in ids {
        shelf.verify(id).unwrap();
        named.extend(
            shelf
                .manifest(id)
                .unwrap()
                .digests()
                .map(|one| object_path(path, one)),
        );
    }
    let objects: BTreeSet<_> = files_below(&path.join("objects")).into_iter().collect();
    assert_eq!(objects, named, "garbage is left");
    assert!(files_below(&path.join("tmp")).is_empty());
}

#[test]
fn a_crash_between_any_two_effects_loses_no_backup_and_leaves_no_garbage() {
    let big = big();
    let mut points = 0;
    loop {
        let temp = folder();
        let mut must = vec![1, 2];
        let crashed = {
            let shelf = shelf(temp.path());
            let common = put(&shelf, b"common").unwrap();
            let old = put(&shelf, b"old").unwrap();
            shelf.commit(&manifest(1, &[common])).unwrap();
            shelf.commit(&manifest(2, &[common, old])).unwrap();
            shelf.stop.after(points);
            let mut work = || -> Result<(), VaultError> {
                let _hold = shelf.hold();
                let mut digests = vec![put(&shelf, b"common")?, put(&shelf, &big)?];
                for number in 0..9_u8 {
                    digests.push(put(&shelf, &[number; 30])?);
                }
                shelf.commit(&manifest(3, &digests))?;
                must.push(3);
                must.retain(|id| *id != 2);
                shelf.remove(BackupId::from_raw(2))?;
                // Given up before its commit.
                put(&shelf, b"never committed")?;
                Ok(())
            };
            let done = work();
            assert!(done.is_ok() || shelf.stop.happened(), "{done:?}");
            shelf.stop.happened()
        };
        in_order(temp.path(), &must);
        if !crashed {
            break;
        }
        points += 1;
    }
    assert!(points > 20, "only {points} points were tried");
}

/// A file system of a few hundred KiB, gone with this value.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn new(options: &str) -> Option<Self> {
        let temp = folder();
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tiny"])
            .arg(temp.path())
            .status();
        done.is_ok_and(|status| status.success())
            .then_some(Self(temp))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status()
            .unwrap();
    }
}

#[test]
fn a_full_disk_at_any_byte_leaves_no_backup_and_no_piece_of_one() {
    let noise = |seed: u32, blocks: u32| -> Vec<u8> {
        (0..blocks)
            .flat_map(|at| {
                *blake3::hash(&[seed.to_le_bytes(), at.to_le_bytes()].concat()).as_bytes()
            })
            .collect()
    };
    // 256 folders take no blocks on tmpfs; each file takes whole pages.
    for options in [
        "size=96k",
        "size=160k",
        "size=288k",
        "nr_inodes=272",
        "nr_inodes=275",
    ] {
        let Some(tiny) = Tiny::new(&format!("{options},mode=0700")) else {
            // Only root can make a file system; elsewhere the crash sweep covers the same ends.
            assert!(!rustix::process::geteuid().is_root());
            return;
        };
        let path = tiny.0.path().join("v");
        let shelf = shelf(&path);
        let first = put(&shelf, b"first").unwrap();
        shelf.commit(&manifest(1, &[first])).unwrap();
        let full = {
            let _hold = shelf.hold();
            (0..).find_map(|seed| {
                let stored = put(&shelf, &noise(seed, 700));
                stored
                    .and_then(|digest| shelf.commit(&manifest(u128::from(seed) + 2, &[digest])))
                    .err()
            })
        };
        assert!(
            matches!(full, Some(VaultError::NoRoom(_))),
            "{options}: {full:?}"
        );
        assert!(files_below(&path.join("tmp")).is_empty(), "{options}");
        for id in shelf.list().unwrap() {
            shelf.verify(id).unwrap();
        }
        drop(shelf);
        in_order(&path, &[1]);
    }
}

#[tokio::test]
async fn a_warm_index_may_be_lost_or_torn() {
    let temp = folder();
    let vault = DirVault::open(temp.path(), &place()).unwrap();
    let app = "shop".parse().unwrap();
    assert!(vault.warm_index(&app).await.is_empty());
    let key = entry(None, 5).key;
    let index = [(TreePath::parse("a").unwrap(), (key, Digest::of(b"a")))].into();
    vault.keep_warm_index(&app, &index).await;
    assert_eq!(vault.warm_index(&app).await, index);
    fs::write(
        temp.path().join("indexes/shop.index"),
        b"healerd-index 1\nx",
    )
    .unwrap();
    assert!(vault.warm_index(&app).await.is_empty());
}
