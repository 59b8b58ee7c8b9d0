use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::protocol::Target;
use crate::tree::Digest;

fn open(root: &Path, roots: &[&Path]) -> Roots {
    Roots::open(&Target {
        root: root.to_str().unwrap().to_owned(),
        roots: roots
            .iter()
            .map(|root| root.to_str().unwrap().to_owned())
            .collect(),
        uid: 0,
        gid: 0,
        volatile: vec![],
    })
    .unwrap()
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts
        .iter()
        .map(|text| Pattern::parse(text).unwrap())
        .collect()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

fn paths(page: &ListPage) -> Vec<String> {
    page.entries
        .iter()
        .map(|(path, state)| format!("{path}{}", if state.is_some() { "" } else { " absent" }))
        .collect()
}

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["app/a/deep", "app/a-b", "shared/logs"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    for name in [
        "app/a/x",
        "app/a/deep/y",
        "app/a-b/z",
        "app/a.txt",
        "shared/logs/l",
        "shared/.env",
    ] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    symlink("../shared/logs", dir.path().join("app/logs")).unwrap();
    symlink("../shared/.env", dir.path().join("app/.env")).unwrap();
    dir
}

#[test]
fn pages_of_any_size_give_the_whole_walk_in_path_order() {
    let dir = tree();
    let roots = open(&dir.path().join("app"), &[&dir.path().join("shared")]);
    let members = patterns(&["**", "none", "a/x"]);
    let whole = list(&roots, &members, None, false, 1000, soon()).unwrap();
    assert_eq!(
        paths(&whole),
        [
            ".",
            ".env",
            "a",
            "a-b",
            "a-b/z",
            "a.txt",
            "a/deep",
            "a/deep/y",
            "a/x",
            "logs",
            "logs/l",
            "none absent",
        ]
    );
    assert!(whole.entries.is_sorted_by(|one, other| one.0 < other.0));
    for size in 2..8 {
        let mut pages = vec![];
        let mut after = None;
        loop {
            let page = list(&roots, &members, after.as_ref(), false, size, soon()).unwrap();
            pages.extend(page.entries.iter().cloned());
            after = page.entries.last().map(|(path, _)| path.clone());
            if !page.more {
                break;
            }
        }
        assert_eq!(pages, whole.entries, "pages of {size}");
    }
}

#[test]
fn members_take_in_what_they_name_and_absence_is_said() {
    let dir = tree();
    let roots = open(&dir.path().join("app"), &[]);
    for (members, want) in [
        (&["a/*"][..], &["a/deep", "a/x"][..]),
        (
            &["a/**", "vendor/**"],
            &["a", "a/deep", "a/deep/y", "a/x", "vendor absent"],
        ),
        (
            &["a/x/below", "gone/at/all"],
            &["a/x/below absent", "gone/at/all absent"],
        ),
        (&["gone/*.php"], &[]),
        (&["*/z", "a.*"], &["a-b/z", "a.txt"]),
    ] {
        let page = list(&roots, &patterns(members), None, false, 100, soon()).unwrap();
        assert_eq!(paths(&page), want, "{members:?}");
        assert_eq!(page.unreadable, []);
    }
}

#[test]
fn what_cannot_be_looked_at_is_never_absent() {
    let dir = tree();
    symlink("../shared", dir.path().join("app/foreign")).unwrap();
    let roots = open(&dir.path().join("app"), &[]);
    let page = list(
        &roots,
        &patterns(&["foreign/**", "foreign/x"]),
        None,
        false,
        9,
        soon(),
    );
    let page = page.unwrap();
    let unreadable: Vec<_> = page
        .unreadable
        .iter()
        .map(|(path, _)| path.to_string())
        .collect();
    assert_eq!(unreadable, ["foreign", "foreign/x"]);
    assert_eq!(paths(&page), ["foreign"]);
}

#[test]
fn a_single_member_is_seen_through_the_named_hop() {
    let dir = tree();
    let roots = open(&dir.path().join("app"), &[&dir.path().join("shared")]);
    let page = list(&roots, &patterns(&[".env"]), None, true, 9, soon()).unwrap();
    let state = page.entries[0].1.clone().unwrap();
    let want = Digest::of(b"shared/.env");
    assert_eq!(
        state.content,
        Content::File {
            size: 11,
            digest: Some(want)
        }
    );
    let page = list(&roots, &patterns(&["*"]), None, true, 9, soon()).unwrap();
    assert!(matches!(
        page.entries[0].1.as_ref().unwrap().content,
        Content::Link { .. }
    ));
}

#[test]
fn a_file_is_read_only_while_it_is_the_listed_one() {
    let dir = tree();
    let roots = open(&dir.path().join("app"), &[]);
    let path = TreePath::parse("a.txt").unwrap();
    let page = list(&roots, &patterns(&["a.txt"]), None, false, 9, soon()).unwrap();
    let key = page.entries[0].1.as_ref().unwrap().key;
    assert_eq!(
        read(&roots, &path, key, 0, 4).unwrap(),
        (b"app/".to_vec(), false)
    );
    assert_eq!(
        read(&roots, &path, key, 4, 90).unwrap(),
        (b"a.txt".to_vec(), true)
    );
    assert_eq!(read(&roots, &path, key, 90, 90).unwrap(), (vec![], true));
    fs::write(dir.path().join("app/a.txt"), "other").unwrap();
    let refusal = read(&roots, &path, key, 0, 4).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Changed);
}

#[test]
fn a_second_look_is_the_same_as_a_first_one() {
    let dir = tree();
    let roots = open(&dir.path().join("app"), &[&dir.path().join("shared")]);
    let limits = Limits {
        entries_max: 100,
        deadline: soon(),
    };
    let members = patterns(&["**"]);
    let (first, _) = snapshot(&roots, &members, true, limits).unwrap();
    fs::write(dir.path().join("app/a/x"), "new").unwrap();
    let (second, _) = snapshot_since(&roots, &members, true, limits, &first).unwrap();
    assert_eq!(second, snapshot(&roots, &members, true, limits).unwrap().0);
    let changed: Vec<_> = crate::tree::diff::changes(&first, &second)
        .into_iter()
        .map(|change| change.path.to_string())
        .collect();
    assert_eq!(changed, ["a/x"]);
    let few = Limits {
        entries_max: 3,
        ..limits
    };
    assert_eq!(
        snapshot(&roots, &members, true, few).unwrap_err().code,
        RefusalCode::Limit
    );
}
