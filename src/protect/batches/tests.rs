use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use healer_agent::protocol::{Target, UndoResult};
use healer_agent::restore;
use healer_agent::roots::Roots;
use healer_agent::tree::diff::changes;
use healer_agent::tree::{Content, Manifest, Pattern, TreePath};
use healer_agent::walk;

use super::*;

fn roots(root: &Path) -> Roots {
    Roots::open(&Target {
        root: root.display().to_string(),
        roots: Vec::new(),
        uid: 0,
        gid: 0,
        volatile: Vec::new(),
    })
    .unwrap()
}

fn manifest(root: &Path) -> Manifest {
    let all = [Pattern::parse("**").unwrap()];
    let deadline = Instant::now() + Duration::from_mins(1);
    let page = walk::list(&roots(root), &all, None, true, 10_000, deadline).unwrap();
    assert!(!page.more && page.unreadable.is_empty());
    page.entries.into_iter().collect()
}

/// What must be the same again: content, attributes, times; names that share a file by the first of them.
fn essence(root: &Path) -> Vec<String> {
    let manifest = manifest(root);
    let mut first: BTreeMap<(u64, u64), TreePath> = BTreeMap::new();
    manifest
        .iter()
        .filter_map(|(path, state)| Some((path, state.as_ref()?)))
        .map(|(path, state)| {
            let file = first
                .entry((state.key.dev, state.key.ino))
                .or_insert_with(|| path.clone());
            format!("{path}: {:?} {:?} {file}", state.content, state.meta)
        })
        .collect()
}

/// Lets an action happen to a tree and gives the undo of it, with the contents from before beside it.
fn undo_of(root: &Path, stage: &Path, action: impl FnOnce(&Path)) -> (Vec<String>, Vec<UndoItem>) {
    let (wanted, before) = (essence(root), manifest(root));
    for (path, state) in &before {
        if let Some(Content::File {
            digest: Some(digest),
            ..
        }) = state.as_ref().map(|state| &state.content)
        {
            fs::copy(root.join(path.to_string()), stage.join(digest.to_string())).unwrap();
        }
    }
    action(root);
    let items = changes(&before, &manifest(root))
        .into_iter()
        .map(|effect| UndoItem {
            in_place: effect
                .after
                .as_ref()
                .is_some_and(|after| after.key.nlink > 1),
            path: effect.path,
            before: effect.before,
            after: effect.after,
        })
        .collect();
    (wanted, items)
}

fn carry_out(root: &Path, stage: &Path, batches: &Batches) {
    let stage = |digest: &healer_agent::tree::Digest| File::open(stage.join(digest.to_string()));
    let deadline = Instant::now() + Duration::from_mins(1);
    for items in &batches.requests {
        for outcome in restore::undo(&roots(root), &stage, "h", items, deadline) {
            assert!(
                matches!(outcome.result, UndoResult::Restored | UndoResult::Already),
                "{outcome:?}"
            );
        }
    }
}

/// Every unit in a request of its own.
fn finest(items: &[UndoItem]) -> Batches {
    cut(items, 1, usize::MAX)
}

#[test]
fn names_of_one_file_come_back_as_one_however_the_undo_is_cut() {
    let (tree, stage) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = tree.path();
    fs::create_dir_all(root.join("z/deep")).unwrap();
    for (file, text) in [("a", "one"), ("c", "two"), ("k", "three")] {
        fs::write(root.join(file), text).unwrap();
    }
    fs::hard_link(root.join("a"), root.join("b")).unwrap();
    fs::hard_link(root.join("a"), root.join("z/deep/a")).unwrap();
    fs::hard_link(root.join("c"), root.join("d")).unwrap();
    let (wanted, items) = undo_of(root, stage.path(), |root| {
        // The group loses all but one name, to copies and to nothing; another file's name becomes one of it.
        fs::remove_dir_all(root.join("z")).unwrap();
        fs::remove_file(root.join("b")).unwrap();
        fs::write(root.join("b"), "one changed").unwrap();
        fs::remove_file(root.join("d")).unwrap();
        fs::hard_link(root.join("a"), root.join("d")).unwrap();
        fs::write(root.join("a"), "changed").unwrap();
        fs::write(root.join("k"), "changed too").unwrap();
        fs::create_dir_all(root.join("new/deep")).unwrap();
        fs::write(root.join("new/deep/file"), "created").unwrap();
    });
    assert_ne!(essence(root), wanted);
    let batches = finest(&items);
    assert!(batches.requests.len() > 4, "{batches:?}");
    carry_out(root, stage.path(), &batches);
    assert_eq!(essence(root), wanted);
    let links = |path: &str| fs::metadata(root.join(path)).unwrap().nlink();
    assert_eq!((links("a"), links("c")), (3, 2));
}

#[test]
fn a_closed_directory_is_opened_before_anything_in_it_is_changed() {
    let (tree, stage) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = tree.path();
    fs::create_dir_all(root.join("closed/below")).unwrap();
    fs::write(root.join("closed/below/file"), "before").unwrap();
    let (wanted, items) = undo_of(root, stage.path(), |root| {
        fs::write(root.join("closed/below/file"), "after").unwrap();
        fs::write(root.join("closed/below/created"), "after").unwrap();
        for directory in ["closed/below", "closed"] {
            fs::set_permissions(root.join(directory), Permissions::from_mode(0o500)).unwrap();
        }
    });
    let batches = finest(&items);
    let order: Vec<_> = batches
        .requests
        .iter()
        .flatten()
        .map(|item| item.path.to_string())
        .filter(|path| path.starts_with("closed"))
        .collect();
    assert_eq!(
        order,
        [
            "closed",
            "closed/below",
            "closed/below/created",
            "closed/below/file"
        ]
    );
    carry_out(root, stage.path(), &batches);
    assert_eq!(essence(root), wanted);
}

#[test]
fn what_must_stay_together_and_does_not_fit_is_refused_and_the_rest_is_sent() {
    let (tree, stage) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = tree.path();
    for file in ["a", "x"] {
        fs::write(root.join(file), "before").unwrap();
    }
    for name in ["b", "c", "d"] {
        fs::hard_link(root.join("a"), root.join(name)).unwrap();
    }
    let (_, items) = undo_of(root, stage.path(), |root| {
        fs::write(root.join("a"), "after").unwrap();
        fs::write(root.join("x"), "after").unwrap();
    });
    let one = serde_json::to_vec(&items[0]).unwrap().len();
    let batches = cut(&items, 2 * one, 2 * one);
    let refused: Vec<_> = batches
        .refused
        .iter()
        .map(|outcome| (outcome.path.to_string(), outcome.result))
        .collect();
    let failed = |name: &str| (name.to_owned(), UndoResult::Failed);
    assert_eq!(refused, ["a", "b", "c", "d"].map(failed));
    assert_eq!(batches.requests.len(), 1);
    assert_eq!(batches.requests[0][0].path.to_string(), "x");
    assert!(cut(&items, 1, 5 * one).refused.is_empty());
}

#[test]
fn small_items_share_a_request() {
    let (tree, stage) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = tree.path();
    for number in 0..40 {
        fs::write(root.join(format!("{number}")), "before").unwrap();
    }
    let (_, items) = undo_of(root, stage.path(), |root| {
        for number in 0..40 {
            fs::write(root.join(format!("{number}")), "after").unwrap();
        }
    });
    assert_eq!(cut(&items, BYTES_WANTED, BYTES_MAX).requests.len(), 1);
    let sizes: Vec<_> = cut(&items, 4096, BYTES_MAX)
        .requests
        .iter()
        .map(|batch| serde_json::to_vec(batch).unwrap().len())
        .collect();
    assert!(sizes.len() > 2, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 4096 + 256), "{sizes:?}");
}
