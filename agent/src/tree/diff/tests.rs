use proptest::prelude::*;

use super::*;
use crate::tree::{Digest, Stamp, StatKey};

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        4 => (0_u8..3).prop_map(|byte| Content::File {
            size: 1,
            digest: Some(Digest::of(&[byte])),
        }),
        1 => Just(Content::Directory),
        1 => (0_u8..2).prop_map(|byte| Content::Link { target: format!("t{byte}") }),
    ]
}

fn state() -> impl Strategy<Value = EntryState> {
    let xattrs = proptest::collection::btree_map(
        prop_oneof![
            Just(ACL.to_owned()),
            Just("user.a".to_owned()),
            Just("user.b".to_owned())
        ],
        prop_oneof![Just("00".to_owned()), Just("01".to_owned())],
        0..3,
    );
    (content(), 0_u32..3, 0_u32..2, 0_u32..2, 0_i64..3, xattrs).prop_map(
        |(content, mode, uid, gid, secs, xattrs)| {
            with_key(
                content,
                Meta {
                    mode,
                    uid,
                    gid,
                    mtime: Stamp { secs, nanos: 0 },
                    xattrs,
                },
            )
        },
    )
}

fn with_key(content: Content, meta: Meta) -> EntryState {
    let key = StatKey {
        dev: 1,
        ino: 1,
        nlink: 1,
        size: 1,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        mtime: meta.mtime,
        ctime: meta.mtime,
    };
    EntryState { content, meta, key }
}

fn entry() -> impl Strategy<Value = Option<EntryState>> {
    proptest::option::weighted(0.85, state())
}

fn become_target(merge: &Merge) -> Option<EntryState> {
    merge
        .target
        .clone()
        .map(|(content, meta)| with_key(content, meta))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn undo_twice_is_undo_once(before in entry(), after in entry(), now in entry()) {
        let once = become_target(&merge(before.as_ref(), after.as_ref(), now.as_ref()));
        let twice = merge(before.as_ref(), after.as_ref(), once.as_ref());
        prop_assert_eq!(become_target(&twice), once);
    }

    #[test]
    fn what_the_action_did_not_change_is_never_touched(before in entry(), now in entry()) {
        let merge = merge(before.as_ref(), before.as_ref(), now.as_ref());
        prop_assert!(merge.restore.is_empty());
        prop_assert_eq!(become_target(&merge), now);
    }

    #[test]
    fn with_no_third_party_the_result_is_before_exactly(before in entry(), after in entry()) {
        let merge = merge(before.as_ref(), after.as_ref(), after.as_ref());
        prop_assert!(merge.keep.is_empty());
        match (become_target(&merge), before) {
            // A directory's own time is settled last, from its entries.
            (Some(got), Some(want)) if want.content == Content::Directory => {
                prop_assert!(same_state(&got, &want));
            }
            (got, want) => prop_assert_eq!(got, want),
        }
    }

    #[test]
    fn what_a_third_party_changed_is_kept(before in state(), after in state(), now in state()) {
        let merge = merge(Some(&before), Some(&after), Some(&now));
        let target = become_target(&merge).unwrap();
        if !same_content(&now, &after) {
            prop_assert!(same_content(&target, &now));
        }
        if now.meta.mode != after.meta.mode {
            prop_assert_eq!(target.meta.mode, now.meta.mode);
        }
        if (now.meta.uid, now.meta.gid) != (after.meta.uid, after.meta.gid) {
            prop_assert_eq!((target.meta.uid, target.meta.gid), (now.meta.uid, now.meta.gid));
        }
        for name in ["user.a", "user.b", ACL] {
            if now.meta.xattrs.get(name) != after.meta.xattrs.get(name) {
                prop_assert_eq!(target.meta.xattrs.get(name), now.meta.xattrs.get(name));
            }
        }
        let directory = now.content == Content::Directory;
        if !directory && now.meta.mtime != after.meta.mtime {
            prop_assert_eq!(target.meta.mtime, now.meta.mtime);
        }
    }

    #[test]
    fn a_created_file_that_anybody_touched_stays(after in state(), now in state()) {
        let merge = merge(None, Some(&after), Some(&now));
        prop_assert_eq!(merge.target.is_none(), same_state(&after, &now));
    }
}

#[test]
fn what_could_not_be_looked_at_is_not_absent() {
    let file = with_key(
        Content::Directory,
        Meta {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Stamp { secs: 0, nanos: 0 },
            xattrs: BTreeMap::new(),
        },
    );
    let path = TreePath::parse("a/b").unwrap();
    let before = Manifest::from([(path, Some(file))]);
    assert_eq!(changes(&before, &Manifest::new()).len(), 1);
    let unknown = [TreePath::parse("a").unwrap()];
    assert_eq!(changes_except(&before, &Manifest::new(), &unknown), []);
}

#[test]
fn a_file_that_goes_to_another_owner_takes_along_no_power_that_it_did_not_have() {
    let file = |uid, mode, byte: u8| {
        let content = Content::File {
            size: 1,
            digest: Some(Digest::of(&[byte])),
        };
        let meta = Meta {
            mode,
            uid,
            gid: 0,
            mtime: Stamp { secs: 0, nanos: 0 },
            xattrs: BTreeMap::new(),
        };
        with_key(content, meta)
    };
    for (case, had, now, want) in [
        ("set meanwhile", 0o644, file(33, 0o4755, 1), 0o755),
        ("had it, untouched", 0o4755, file(33, 0o4755, 1), 0o4755),
        (
            "had it, written meanwhile",
            0o4755,
            file(33, 0o4755, 2),
            0o755,
        ),
    ] {
        let merge = merge(Some(&file(0, had, 1)), Some(&file(33, had, 1)), Some(&now));
        let (_, meta) = merge.target.unwrap();
        assert_eq!((meta.uid, meta.mode), (0, want), "{case}");
    }
}
