//! What of a rollback an agent of root may carry out: what its own record says that it changed, and nothing else.
//!
//! Such an agent compares each path with its record, state by state, so a plan made from two looks is put into the
//! record's words: the way back, or the same way once more for who goes back from a rollback.

use std::collections::BTreeMap;

use healer_agent::protocol::UndoItem;
use healer_agent::tree::{Effect, EntryState, TreePath};

use super::plan::UndoPlan;
use super::rollback::Rollback;

const REASON: &str = "no record of root's says that it was changed so: root leaves it";

/// The plan in the words of the record.
pub fn only_recorded(plan: UndoPlan, effects: &[Effect]) -> UndoPlan {
    let by_path: BTreeMap<&TreePath, &Effect> = effects
        .iter()
        .map(|effect| (&effect.path, effect))
        .collect();
    let mut recorded = UndoPlan {
        items: Vec::new(),
        ..plan
    };
    for item in plan.items {
        match by_path
            .get(&item.path)
            .and_then(|effect| worded(&item, effect))
        {
            Some(item) => recorded.items.push(item),
            None => recorded.kept.push((item.path, REASON.to_owned())),
        }
    }
    recorded
}

/// The same for a preview; what is left is shown in it.
pub fn rollback_recorded(rollback: Rollback, effects: &[Effect]) -> Rollback {
    let Rollback { mut preview, plan } = rollback;
    let plan = only_recorded(plan, effects);
    let left = |path: &TreePath| plan.kept.iter().any(|(kept, _)| kept == path);
    preview.changes.retain(|change| !left(&change.path));
    preview.overwrites.retain(|path| !left(path));
    preview.blocked.extend(plan.kept.iter().cloned());
    Rollback { preview, plan }
}

fn worded(item: &UndoItem, effect: &Effect) -> Option<UndoItem> {
    let (wanted, before, after) = (
        item.before.as_ref()?,
        effect.before.as_ref()?,
        effect.after.as_ref()?,
    );
    let (before, after) = if same_attributes(wanted, before) {
        (before, after)
    } else if same_attributes(wanted, after) {
        (after, before)
    } else {
        return None;
    };
    Some(UndoItem {
        path: item.path.clone(),
        before: Some(before.clone()),
        after: Some(after.clone()),
        in_place: false,
    })
}

fn same_attributes(one: &EntryState, other: &EntryState) -> bool {
    one.meta.mode == other.meta.mode
        && (one.meta.uid, one.meta.gid) == (other.meta.uid, other.meta.gid)
        && one.meta.xattrs == other.meta.xattrs
}

#[cfg(test)]
mod tests {
    use super::*;
    use healer_agent::tree::{Content, Digest, EffectSource, Meta, Stamp, StatKey};

    use crate::undo::{PreviewChange, PreviewKind, RollbackPreview};

    fn state(uid: u32, ctime: i64) -> EntryState {
        let stamp = |secs| Stamp { secs, nanos: 0 };
        EntryState {
            content: Content::File {
                size: 1,
                digest: None,
            },
            meta: Meta {
                mode: 0o644,
                uid,
                gid: uid,
                mtime: stamp(1),
                xattrs: BTreeMap::new(),
            },
            key: StatKey {
                dev: 1,
                ino: 2,
                nlink: 1,
                size: 1,
                mode: 0o100_644,
                uid,
                gid: uid,
                mtime: stamp(1),
                ctime: stamp(ctime),
            },
        }
    }

    fn item(path: &str, before: EntryState, after: EntryState) -> UndoItem {
        UndoItem {
            path: TreePath::parse(path).unwrap(),
            before: Some(before),
            after: Some(after),
            in_place: true,
        }
    }

    #[test]
    fn a_plan_is_put_into_the_words_of_the_record_and_nothing_is_added() {
        let effect = Effect {
            path: TreePath::parse("storage").unwrap(),
            before: Some(state(0, 10)),
            after: Some(state(33, 20)),
            source: EffectSource::Native,
        };
        for (case, path, wanted, want) in [
            ("the way back", "storage", state(0, 99), Some((0, 33))),
            ("once more", "storage", state(33, 99), Some((33, 0))),
            ("to a third owner", "storage", state(44, 99), None),
            ("another path", "public", state(0, 99), None),
        ] {
            let rollback = Rollback {
                preview: RollbackPreview {
                    changes: vec![PreviewChange {
                        path: TreePath::parse(path).unwrap(),
                        kind: PreviewKind::Attributes,
                        mode: None,
                        owner: None,
                    }],
                    overwrites: Vec::new(),
                    kept_newer_shared: Vec::new(),
                    blocked: Vec::new(),
                    digest: Digest::of(b"x"),
                },
                plan: UndoPlan {
                    items: vec![item(path, wanted, state(55, 98))],
                    ..UndoPlan::default()
                },
            };
            let Rollback { preview, plan } =
                rollback_recorded(rollback, std::slice::from_ref(&effect));
            let got = plan.items.first().map(|item| {
                let (before, after) = (item.before.as_ref(), item.after.as_ref());
                let known = [&effect.before, &effect.after].map(Option::as_ref);
                assert!(known.contains(&before) && known.contains(&after), "{case}");
                (before.unwrap().meta.uid, after.unwrap().meta.uid)
            });
            assert_eq!(got, want, "{case}");
            assert_eq!(preview.changes.len(), usize::from(want.is_some()), "{case}");
            assert_eq!(preview.blocked.len(), usize::from(want.is_none()), "{case}");
            assert_eq!(plan.kept.len(), usize::from(want.is_none()), "{case}");
        }
    }
}
