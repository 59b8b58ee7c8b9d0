//! The same cases against the real and the simulated side of the seams: production and simulation differ in nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use healer_agent::tree::{Content, Digest, EntryState, Meta, Stamp, StatKey};
use healerd::model::backup::{BackupKind, BackupManifest};
use healerd::model::id::BackupId;
use healerd::protect::vault::{DirVault, Place};
use healerd::seam::{Clock, Randomness, Vault, VaultError};
use healerd::system::{OsRandom, RealClock};

use crate::world::clock::{SimClock, SimRandom};
use crate::world::crash::Fuse;
use crate::world::tree::path;
use crate::world::vault::SimVault;

async fn store(vault: &dyn Vault, bytes: &[u8]) -> (Digest, u64) {
    let mut sink = vault.begin().await.unwrap();
    for piece in bytes.chunks(3) {
        sink.write(piece).await.unwrap();
    }
    sink.finish().await.unwrap()
}

async fn read(vault: &dyn Vault, digest: Digest) -> Vec<u8> {
    let mut source = vault.open(digest).await.unwrap();
    let mut all = Vec::new();
    loop {
        let piece = source.read(4).await.unwrap();
        if piece.is_empty() {
            return all;
        }
        assert!(piece.len() <= 4);
        all.extend(piece);
    }
}

fn manifest(number: u128, contents: &[(&str, Digest, u64)]) -> BackupManifest {
    let stamp = Stamp { secs: 1, nanos: 0 };
    let entry = |digest, size| EntryState {
        content: Content::File {
            size,
            digest: Some(digest),
        },
        meta: Meta {
            mode: 0o644,
            uid: 1,
            gid: 1,
            mtime: stamp,
            xattrs: BTreeMap::new(),
        },
        key: StatKey {
            dev: 1,
            ino: 1,
            nlink: 1,
            size,
            mode: 0o100_644,
            uid: 1,
            gid: 1,
            mtime: stamp,
            ctime: stamp,
        },
    };
    BackupManifest {
        id: BackupId::from_raw(number),
        kind: BackupKind::Heal,
        app: "shop".parse().unwrap(),
        host: "local".parse().unwrap(),
        roots: vec!["/srv/shop".to_owned()],
        heal: None,
        taken: SimClock::default().now(),
        members: contents
            .iter()
            .map(|(at, digest, size)| (path(at), Some(entry(*digest, *size))))
            .collect(),
        base: BTreeMap::new(),
        base_gaps: Vec::new(),
    }
}

async fn a_vault(vault: &dyn Vault) {
    let (first, added) = store(vault, b"first content").await;
    assert_eq!(first, Digest::of(b"first content"));
    assert!(added > 0);
    let (again, added) = store(vault, b"first content").await;
    assert_eq!((again, added), (first, 0), "a content is kept once");
    let (second, _) = store(vault, b"second").await;
    let (empty, _) = store(vault, b"").await;
    assert_eq!(read(vault, first).await, b"first content");
    assert_eq!(read(vault, empty).await, b"");
    assert!(vault.has(second).await.unwrap());
    let absent = Digest::of(b"never stored");
    assert!(!vault.has(absent).await.unwrap());
    assert!(vault.open(absent).await.is_err());
    let missing = vault.missing(vec![first, absent]).await.unwrap();
    assert_eq!(missing.into_iter().collect::<Vec<_>>(), [absent]);

    let one = manifest(1, &[("a", first, 13), ("b", second, 6)]);
    let two = manifest(2, &[("a", first, 13), ("c", empty, 0)]);
    assert_eq!(vault.list().await.unwrap(), []);
    vault.commit(Arc::new(one.clone())).await.unwrap();
    vault.commit(Arc::new(two.clone())).await.unwrap();
    let mut listed = vault.list().await.unwrap();
    listed.sort();
    assert_eq!(listed, [one.id, two.id]);
    assert_eq!(vault.manifest(one.id).await.unwrap(), one);
    vault.verify(one.id).await.unwrap();
    vault.confirm(two.id, Vec::new()).await.unwrap();

    vault.remove(one.id).await.unwrap();
    assert!(matches!(vault.manifest(one.id).await, Err(VaultError::Absent(id)) if id == one.id));
    assert!(vault.verify(one.id).await.is_err());
    vault.verify(two.id).await.unwrap();
    assert!(
        vault.has(first).await.unwrap(),
        "another manifest names it still"
    );
    assert!(
        !vault.has(second).await.unwrap(),
        "no manifest names it any more"
    );
    let (free, _) = vault.room().await.unwrap();
    assert!(free > 0);
}

#[tokio::test]
async fn vaults_keep_what_they_promise() {
    let dir = tempfile::tempdir().unwrap();
    let owner = rustix::process::geteuid().as_raw();
    let place = Place {
        owner,
        allow_temp: true,
        ..Place::default()
    };
    a_vault(&DirVault::open(&dir.path().join("vault"), &place).unwrap()).await;
    a_vault(&SimVault::new(Arc::new(Fuse::default()))).await;
}

async fn a_clock(clock: &dyn Clock) {
    let first = clock.now();
    let second = clock.now();
    assert_eq!(first.boot_id, second.boot_id);
    assert!(!first.boot_id.is_empty());
    assert!(second.boot_ms >= first.boot_ms);
    assert!(first.wall_ms > 1_600_000_000_000);
    clock.sleep_until(first.boot_ms - 1000).await;
}

#[tokio::test]
async fn clocks_never_go_back_and_wait_for_nothing_past() {
    a_clock(&RealClock::new().unwrap()).await;
    a_clock(&SimClock::default()).await;
}

#[test]
fn random_numbers_do_not_repeat() {
    let sides: [&dyn Randomness; 2] = [&OsRandom, &SimRandom::new(7)];
    for side in sides {
        let mut drawn: Vec<_> = (0..1000).map(|_| side.next()).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 1000);
    }
}
