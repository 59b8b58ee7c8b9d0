use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn stamp() -> impl Strategy<Value = Stamp> {
    (
        prop_oneof![0_i64..3, any::<i64>()],
        prop_oneof![0_u32..3, any::<u32>()],
    )
        .prop_map(|(secs, nanos)| Stamp { secs, nanos })
}

fn key() -> impl Strategy<Value = StatKey> {
    let wide = || prop_oneof![0_u64..300, any::<u64>()];
    let narrow = || prop_oneof![0_u32..3, any::<u32>()];
    (
        (wide(), wide(), wide()),
        (narrow(), narrow(), narrow(), narrow()),
        stamp(),
        proptest::option::of(stamp()),
    )
        .prop_map(
            |((dev, ino, size), (nlink, mode, uid, gid), mtime, ctime)| StatKey {
                dev,
                ino,
                nlink,
                size,
                mode,
                uid,
                gid,
                mtime,
                ctime: ctime.unwrap_or(mtime),
            },
        )
}

fn content(size: u64) -> impl Strategy<Value = Content> {
    prop_oneof![
        (
            prop_oneof![Just(size), any::<u64>()],
            proptest::option::of(any::<[u8; 32]>())
        )
            .prop_map(|(size, digest)| Content::File {
                size,
                digest: digest.map(Digest::from_bytes),
            }),
        Just(Content::Directory),
        "[a-z/.é%\"]{0,40}".prop_map(|target| Content::Link { target }),
        Just(Content::Other),
    ]
}

fn state() -> impl Strategy<Value = EntryState> {
    let xattrs = proptest::collection::btree_map("user\\.[a-z]{1,4}", "([0-9a-f]{2}){0,9}", 0..3);
    let meta = (xattrs, any::<bool>(), any::<u32>());
    key().prop_flat_map(move |key| {
        (content(key.size), Just(key), meta.clone()).prop_map(
            |(content, key, (xattrs, other_owner, uid))| {
                let mut meta = Meta::of(&key, xattrs);
                if other_owner {
                    meta.uid = uid;
                }
                EntryState { content, meta, key }
            },
        )
    })
}

fn listed() -> impl Strategy<Value = Vec<Listed>> {
    let path = prop_oneof![
        "(lib|src|a)(/[a-c]{1,3}){0,4}".prop_map(|text| TreePath::parse(&text).unwrap()),
        proptest::collection::vec(any::<u8>(), 0..12)
            .prop_filter_map("no path", |bytes| TreePath::from_bytes(&bytes).ok()),
    ];
    let entry = (path, proptest::option::weighted(0.9, state()));
    proptest::collection::vec(entry, 0..12)
}

proptest! {
    #[test]
    fn any_list_comes_back_as_it_was(entries in listed()) {
        let bytes = pack(&entries).unwrap();
        prop_assert_eq!(unpack(&bytes), Ok(entries));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(unpack(&bytes));
    }

    #[test]
    fn a_list_that_is_cut_or_changed_never_panics(
        entries in listed(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = pack(&entries).unwrap();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            drop(unpack(&bytes[..at]));
            bytes[at] = byte;
            drop(unpack(&bytes));
        }
    }
}

/// A tree as package managers make it.
fn tree(files: u64) -> Vec<Listed> {
    (0..files)
        .map(|number| {
            let path = format!("vendor/package{}/src/File{number}.php", number / 30);
            let time = Stamp {
                secs: 1_790_000_000 + i64::try_from(number / 100).unwrap(),
                nanos: u32::try_from(number * 7_919_777 % 1_000_000_000).unwrap(),
            };
            let key = StatKey {
                dev: 65_024,
                ino: 1_200_000 + number,
                nlink: 1,
                size: 1_000 + number * 37 % 9_000,
                mode: 0o100_644,
                uid: 1001,
                gid: 1001,
                mtime: time,
                ctime: time,
            };
            let state = EntryState {
                content: Content::File {
                    size: key.size,
                    digest: None,
                },
                meta: Meta::of(&key, BTreeMap::new()),
                key,
            };
            (TreePath::parse(&path).unwrap(), Some(state))
        })
        .collect()
}

#[test]
fn an_ordinary_file_takes_less_than_a_third_of_its_json() {
    let entries = tree(2_000);
    let bytes = pack(&entries).unwrap();
    let json = serde_json::to_vec(&entries).unwrap();
    assert!(
        bytes.len() * 3 < json.len(),
        "{} bytes, {} as JSON",
        bytes.len(),
        json.len()
    );
    assert!(bytes.len() < 2_000 * 40, "{}", bytes.len());
}

#[test]
fn a_page_without_end_is_refused() {
    let root = (TreePath::root(), None);
    let whole = vec![root; ENTRIES_MAX];
    let mut bytes = pack(&whole).unwrap();
    assert_eq!(unpack(&bytes).unwrap().len(), ENTRIES_MAX);
    bytes.extend(pack(&whole[..1]).unwrap());
    assert!(unpack(&bytes).is_err());
}

#[test]
fn few_bytes_that_stand_for_many_paths_are_refused() {
    let deep = (TreePath::from_bytes(&[b'a'; 4000]).unwrap(), None);
    let mut bytes = pack(std::slice::from_ref(&deep)).unwrap();
    let longer = vec![deep; 600];
    bytes.extend(pack(&longer).unwrap());
    assert!(bytes.len() < 20 << 10, "{}", bytes.len());
    assert!(unpack(&bytes).is_err());
    assert_eq!(unpack(&pack(&longer[..250]).unwrap()).unwrap().len(), 250);
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    for bytes in [
        &[
            FILE, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
        ][..],
        &[ABSENT, 1, 0],       // shares what is not there
        &[ABSENT, 0, 3, b'a'], // cut off
        &[7, 0, 0],            // of no kind
        &[ABSENT, 0, 2, b'.', b'.'],
    ] {
        assert!(unpack(bytes).is_err(), "{bytes:?}");
    }
}
