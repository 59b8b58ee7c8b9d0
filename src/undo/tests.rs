use std::collections::BTreeMap;

use healer_agent::protocol::{UndoOutcome, UndoResult, WriteKind, WriteMember};
use healer_agent::tree::{
    Content, Digest, Effect, EffectSource, EntryState, Manifest, Meta, Pattern, Stamp, StatKey,
    TreePath,
};
use proptest::prelude::*;

use super::*;
use crate::model::backup::{BackupKind, BackupManifest};
use crate::model::id::BackupId;
use crate::model::name::HostName;
use crate::model::time::Moment;

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

/// A file whose inode, time and bytes come from `bytes`, so that equal bytes are the same file.
fn file(bytes: &str) -> EntryState {
    state(
        Content::File {
            size: bytes.len() as u64,
            digest: Some(Digest::of(bytes.as_bytes())),
        },
        bytes.bytes().map(u64::from).sum(),
    )
}

fn state(content: Content, ino: u64) -> EntryState {
    let stamp = Stamp {
        secs: i64::try_from(ino).unwrap(),
        nanos: 0,
    };
    EntryState {
        content,
        meta: Meta {
            mode: 0o644,
            uid: 33,
            gid: 33,
            mtime: stamp,
            xattrs: BTreeMap::new(),
        },
        key: StatKey {
            dev: 1,
            ino,
            nlink: 1,
            size: 1,
            mode: 0o644,
            uid: 33,
            gid: 33,
            mtime: stamp,
            ctime: stamp,
        },
    }
}

fn without_digest(mut entry: EntryState) -> EntryState {
    if let Content::File { digest, .. } = &mut entry.content {
        *digest = None;
    }
    entry
}

fn manifest(members: &[(&str, Option<EntryState>)]) -> BackupManifest {
    BackupManifest {
        id: BackupId::from_raw(7),
        kind: BackupKind::Heal,
        app: "shop".parse().unwrap(),
        host: HostName::local(),
        roots: Vec::new(),
        heal: None,
        taken: Moment {
            boot_id: "b".to_owned(),
            boot_ms: 0,
            wall_ms: 5_000_000,
        },
        members: members
            .iter()
            .map(|(text, entry)| (path(text), entry.clone()))
            .collect(),
        base: Manifest::new(),
        base_gaps: Vec::new(),
    }
}

fn member(pattern: &str, what: WriteKind, shared: bool) -> WriteMember {
    WriteMember {
        pattern: Pattern::parse(pattern).unwrap(),
        what,
        shared,
    }
}

fn effect(
    text: &str,
    before: Option<EntryState>,
    after: Option<EntryState>,
    source: EffectSource,
) -> Effect {
    Effect {
        path: path(text),
        before,
        after,
        source,
    }
}

/// Where one effect ends up.
fn fate(plan: &UndoPlan) -> &'static str {
    match (
        plan.items.len(),
        plan.kept.len(),
        plan.blocked.len(),
        plan.outside.len(),
        plan.others.len(),
    ) {
        (1, 0, 0, 0, 0) => "back",
        (0, 1, 0, 0, 0) => "kept",
        (0, 0, 1, 0, 0) => "blocked",
        (0, 0, 0, 1, 0) => "outside",
        (0, 0, 0, 0, 1) => "others",
        (0, 0, 0, 0, 0) => "nothing",
        _ => "several",
    }
}

#[test]
fn each_effect_goes_back_or_is_told() {
    use EffectSource::{Native, Recovery, Walk};
    let writes = [
        member("vendor/**", WriteKind::Content, false),
        member("storage/**", WriteKind::Content, true),
        member("meta/**", WriteKind::Metadata, false),
    ];
    let old = Some(file("old"));
    let new = Some(file("newer"));
    let mut chmod = file("old");
    chmod.meta.mode = 0o600;
    let chmod = Some(chmod);
    let backed_up = [
        ("vendor/a", old.clone()),
        ("storage/a", old.clone()),
        ("meta/a", old.clone().map(without_digest)),
    ];
    let mut touched = file("touched");
    touched.content = Content::File {
        size: 7,
        digest: None,
    };
    let touched = Some(touched);
    for (case, at, before, after, source, want) in [
        (
            "rewritten by a step",
            "vendor/a",
            &old,
            &new,
            Native,
            "back",
        ),
        (
            "rewritten by a program",
            "vendor/a",
            &old,
            &new,
            Walk,
            "back",
        ),
        ("removed", "vendor/a", &old, &None, Walk, "back"),
        ("created", "vendor/b", &None, &new, Walk, "back"),
        ("unchanged", "vendor/a", &old, &old, Walk, "nothing"),
        ("shared, by a step", "storage/a", &old, &new, Native, "back"),
        (
            "shared, perhaps by the site",
            "storage/a",
            &old,
            &new,
            Walk,
            "kept",
        ),
        (
            "shared, an upload perhaps",
            "storage/b",
            &None,
            &new,
            Walk,
            "kept",
        ),
        ("shared, removed", "storage/a", &old, &None, Walk, "back"),
        (
            "shared, only its mode",
            "storage/a",
            &old,
            &chmod,
            Walk,
            "back",
        ),
        (
            "recovered, exclusive",
            "vendor/a",
            &None,
            &new,
            Recovery,
            "back",
        ),
        (
            "recovered, created",
            "vendor/b",
            &None,
            &new,
            Recovery,
            "back",
        ),
        (
            "recovered, shared",
            "storage/a",
            &old,
            &new,
            Recovery,
            "kept",
        ),
        (
            "recovered, appeared before",
            "vendor/b",
            &touched,
            &new,
            Recovery,
            "blocked",
        ),
        (
            "changed since the backup",
            "vendor/a",
            &touched,
            &new,
            Walk,
            "blocked",
        ),
        (
            "changed since, then removed",
            "vendor/a",
            &touched,
            &None,
            Walk,
            "blocked",
        ),
        ("attributes alone", "meta/a", &old, &chmod, Native, "back"),
        (
            "attributes alone, but rewritten",
            "meta/a",
            &old,
            &new,
            Walk,
            "blocked",
        ),
        ("outside, by a step", "x", &old, &new, Native, "outside"),
        ("outside, by a program", "x", &old, &new, Walk, "outside"),
        ("outside, nobody saw", "x", &old, &new, Recovery, "others"),
        (
            "outside, where others write",
            "views/x",
            &old,
            &new,
            Walk,
            "others",
        ),
        (
            "outside, where others write, by a step",
            "views/x",
            &old,
            &new,
            Native,
            "outside",
        ),
    ] {
        let effects = [effect(at, before.clone(), after.clone(), source)];
        let volatile = [Pattern::parse("views/**").unwrap()];
        let plan = plan(&manifest(&backed_up), &writes, &effects, &volatile, false);
        assert_eq!(fate(&plan), want, "{case}: {plan:?}");
        if source == Walk {
            let confined = super::plan(&manifest(&backed_up), &writes, &effects, &volatile, true);
            assert!(confined.outside.is_empty(), "{case}: confined");
        }
    }
}

#[test]
fn the_time_of_a_directory_goes_back_with_the_member_that_changed_in_it() {
    let writes = [member("conf/env", WriteKind::Content, false)];
    let directory = |secs: i64, mode: u32| {
        let mut entry = state(Content::Directory, 7);
        entry.meta.mtime.secs = secs;
        entry.key.mtime.secs = secs;
        entry.meta.mode = mode;
        Some(entry)
    };
    let inside = effect(
        "conf/env",
        Some(file("old")),
        Some(file("newer")),
        EffectSource::Native,
    );
    let backed_up = [("conf/env", Some(file("old")))];
    for (case, at, mode, want) in [
        ("of the member", "conf", 0o755, "back"),
        ("of something else", "other", 0o755, "others"),
        ("more than its time", "conf", 0o777, "outside"),
    ] {
        let around = effect(
            at,
            directory(1, 0o755),
            directory(2, mode),
            EffectSource::Native,
        );
        let plan = plan(
            &manifest(&backed_up),
            &writes,
            &[around.clone(), inside.clone()],
            &[],
            true,
        );
        let found = if plan.items.iter().any(|item| item.path == around.path) {
            "back"
        } else if plan.others.contains(&around.path) {
            "others"
        } else if plan.outside.contains(&around) {
            "outside"
        } else {
            "nowhere"
        };
        assert_eq!(found, want, "{case}: {plan:?}");
    }
}

#[test]
fn what_a_dead_supervisor_recorded_counts_while_it_is_so() {
    let writes = [member("own/**", WriteKind::Content, false)];
    let native = |at: &str, after: &str| {
        effect(
            at,
            Some(file("old")),
            Some(file(after)),
            EffectSource::Native,
        )
    };
    let found = |after: &str| {
        effect(
            "own/a",
            Some(file("old")),
            Some(file(after)),
            EffectSource::Recovery,
        )
    };
    for (case, recorded, found, want) in [
        (
            "as recorded",
            native("own/a", "new"),
            Some(found("new")),
            Some(EffectSource::Native),
        ),
        (
            "changed once more",
            native("own/a", "new"),
            Some(found("newer")),
            Some(EffectSource::Recovery),
        ),
        ("back already", native("own/a", "new"), None, None),
        (
            "nobody looked there",
            native("beside", "new"),
            None,
            Some(EffectSource::Native),
        ),
    ] {
        let effects = after_death(vec![recorded], found.into_iter().collect(), &writes);
        let sources: Vec<_> = effects.iter().map(|effect| effect.source).collect();
        assert_eq!(sources, want.into_iter().collect::<Vec<_>>(), "{case}");
    }
}

#[test]
fn the_digest_before_comes_from_the_backup() {
    let writes = [member("**", WriteKind::Content, false)];
    let before = without_digest(file("old"));
    let effects = [effect(
        "a",
        Some(before),
        Some(file("newer")),
        EffectSource::Walk,
    )];
    let plan = plan(
        &manifest(&[("a", Some(file("old")))]),
        &writes,
        &effects,
        &[],
        true,
    );
    assert_eq!(plan.items[0].before, Some(file("old")));
    assert_eq!(plan.needed, [Digest::of(b"old")].into());
}

#[test]
fn hard_links_and_open_logs_are_rewritten_in_their_inode() {
    let writes = [
        member("own", WriteKind::Content, false),
        member("log", WriteKind::Content, true),
    ];
    let same_inode = |shorter: &str| {
        let mut entry = file(shorter);
        entry.key.ino = file("old log").key.ino;
        entry
    };
    let mut linked = file("newer");
    linked.key.nlink = 2;
    let mut linked_before = file("old");
    linked_before.key.nlink = 2;
    for (case, at, before, after, want) in [
        ("own", "own", file("old"), file("newer"), false),
        ("linked", "own", linked_before, linked, true),
        (
            "trimmed log",
            "log",
            file("old log"),
            same_inode("log"),
            true,
        ),
        ("rotated log", "log", file("old log"), file("log"), false),
    ] {
        let effects = [effect(
            at,
            Some(before.clone()),
            Some(after),
            EffectSource::Native,
        )];
        let plan = plan(
            &manifest(&[(at, Some(before))]),
            &writes,
            &effects,
            &[],
            true,
        );
        assert_eq!(plan.items[0].in_place, want, "{case}");
    }
}

#[test]
fn what_is_volatile_never_holds_an_undo_up() {
    let writes = [member("views/**", WriteKind::Content, false)];
    let effects = [effect(
        "views/a",
        Some(without_digest(file("gone"))),
        Some(file("newer")),
        EffectSource::Walk,
    )];
    let volatile = [Pattern::parse("views/**").unwrap()];
    let backup = manifest(&[]);
    assert_eq!(
        fate(&plan(&backup, &writes, &effects, &[], true)),
        "blocked"
    );
    assert_eq!(
        fate(&plan(&backup, &writes, &effects, &volatile, true)),
        "kept"
    );
}

#[test]
fn a_path_without_an_outcome_counts_as_failed() {
    let writes = [member("**", WriteKind::Content, false)];
    let effects =
        ["a", "b", "c", "d"].map(|at| effect(at, None, Some(file("new")), EffectSource::Walk));
    let plan = plan(&manifest(&[]), &writes, &effects, &[], true);
    let outcome = |at: &str, result, detail: &str| UndoOutcome {
        path: path(at),
        result,
        detail: detail.to_owned(),
    };
    let report = report(
        &plan,
        &[
            outcome("a", UndoResult::Restored, ""),
            outcome("b", UndoResult::Already, ""),
            outcome("c", UndoResult::Kept, "content"),
        ],
    );
    assert_eq!((report.restored, report.already), (1, 1));
    assert_eq!(report.kept, ["c: content"]);
    assert_eq!(report.failed, ["d: the host said nothing about it"]);
}

fn present(entries: &[(&str, EntryState)]) -> Manifest {
    entries
        .iter()
        .map(|(text, entry)| (path(text), Some(entry.clone())))
        .collect()
}

#[test]
fn a_rollback_shows_what_it_would_do_and_keeps_what_is_newer() {
    let backup = manifest(&[
        ("own/a", Some(file("old"))),
        ("own/gone", Some(file("gone"))),
        ("own/same", Some(file("same"))),
        ("own/absent", None),
        ("up/new", Some(file("old"))),
        ("up/owned", Some(file("old"))),
        ("meta/x", Some(without_digest(file("old")))),
    ]);
    let mut newer = file("newer");
    newer.key.ctime.secs = 6000;
    let mut owned = file("old");
    owned.meta.uid = 4242;
    owned.key.ctime.secs = 6000;
    let mut chmod = file("other bytes");
    chmod.meta.mode = 0o600;
    let now = present(&[
        ("own/a", file("newer")),
        ("own/same", file("same")),
        ("own/absent", file("newer")),
        ("own/created", file("newer")),
        ("up/new", newer.clone()),
        ("up/created", newer),
        ("up/owned", owned),
        ("meta/x", chmod.clone()),
        ("meta/created", file("newer")),
    ]);
    let writes = [
        member("own/**", WriteKind::Content, false),
        member("up/**", WriteKind::Content, true),
        member("meta/**", WriteKind::Metadata, false),
    ];
    let shown = |rollback: &Rollback| -> Vec<String> {
        let changes = rollback.preview.changes.iter();
        changes
            .map(|change| format!("{:?} {}", change.kind, change.path))
            .collect()
    };
    let careful = rollback_plan(&backup, &now, &writes, false, &[]);
    assert_eq!(
        shown(&careful),
        [
            "Attributes meta/x",
            "Rewrite own/a",
            "Remove own/absent",
            "Remove own/created",
            "Recreate own/gone",
            "Attributes up/owned"
        ],
        "no content of the live site is lost by an owner that it gets back"
    );
    assert_eq!(
        careful.preview.kept_newer_shared,
        [path("up/created"), path("up/new")]
    );
    assert_eq!(
        careful.preview.overwrites,
        [path("own/a"), path("own/absent"), path("own/created")]
    );
    let meta = &careful.plan.items[0];
    let (before, after) = (meta.before.as_ref().unwrap(), meta.after.as_ref().unwrap());
    assert_eq!(before.content, after.content, "its bytes stay");
    assert_eq!((before.meta.mode, after.meta.mode), (0o644, 0o600));

    let exact = rollback_plan(&backup, &now, &writes, true, &[]);
    assert!(exact.preview.kept_newer_shared.is_empty());
    assert!(shown(&exact).contains(&"Remove up/created".to_owned()));
    assert_ne!(exact.preview.digest, careful.preview.digest);

    let only = rollback_plan(&backup, &now, &writes, false, &[path("own/a")]);
    assert_eq!(shown(&only), ["Rewrite own/a"]);
    let again = rollback_plan(&backup, &now, &writes, false, &[]);
    assert_eq!(again, careful, "the same present gives the same digest");
}

#[test]
fn content_that_was_not_stored_is_not_promised() {
    let backup = manifest(&[("a", Some(without_digest(file("old"))))]);
    let writes = [member("**", WriteKind::Metadata, false)];
    let rollback = rollback_plan(&backup, &Manifest::new(), &writes, true, &[]);
    assert!(rollback.plan.items.is_empty());
    assert_eq!(rollback.preview.blocked.len(), 1);
}

fn any_state() -> impl Strategy<Value = Option<EntryState>> {
    prop_oneof![
        Just(None),
        Just(Some(state(Content::Directory, 9))),
        Just(Some(state(Content::Other, 8))),
        Just(Some(state(
            Content::Link {
                target: "x".to_owned()
            },
            7
        ))),
        "[ab]{1,2}".prop_map(|bytes| Some(file(&bytes))),
        "[ab]{1,2}".prop_map(|bytes| Some(without_digest(file(&bytes)))),
    ]
}

proptest! {
    #[test]
    fn every_effect_is_answered_once_and_nothing_is_promised_without_content(
        states in prop::collection::vec((any_state(), any_state(), any_state(), 0..3_usize), 1..6),
        shared: bool,
        metadata: bool,
        confined: bool,
    ) {
        let what = if metadata { WriteKind::Metadata } else { WriteKind::Content };
        let writes = [member("in/**", what, shared)];
        let sources = [EffectSource::Native, EffectSource::Walk, EffectSource::Recovery];
        let mut effects = Vec::new();
        let mut members = Vec::new();
        let names: Vec<String> = (0..states.len())
            .map(|at| if at % 3 == 2 { format!("out/{at}") } else { format!("in/{at}") })
            .collect();
        for (name, (backed_up, before, after, source)) in names.iter().zip(&states) {
            members.push((name.as_str(), backed_up.clone()));
            effects.push(effect(name, before.clone(), after.clone(), sources[*source]));
        }
        let backup = manifest(&members);
        let stored: std::collections::BTreeSet<_> = backup.digests().collect();
        let plan = plan(&backup, &writes, &effects, &[], confined);
        prop_assert!(plan.needed.is_subset(&stored), "{:?}", plan);
        let mut told: Vec<_> = plan.items.iter().map(|item| item.path.clone()).collect();
        told.extend(plan.kept.iter().map(|(path, _)| path.clone()));
        told.extend(plan.blocked.iter().map(|(path, _)| path.clone()));
        told.extend(plan.outside.iter().map(|effect| effect.path.clone()));
        told.extend(plan.others.iter().cloned());
        let count = told.len();
        told.sort();
        told.dedup();
        prop_assert_eq!(told.len(), count);
        for item in &plan.items {
            prop_assert!(item.path.to_string().starts_with("in/"));
        }
        effects.reverse();
        prop_assert_eq!(super::plan(&backup, &writes, &effects, &[], confined), plan);
    }
}
