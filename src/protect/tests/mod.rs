//! Backups and undo against real files, through the agent's own code.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a hook looks at one kind of request and lets the others pass"
)]

mod disk;

use std::fs;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use healer_agent::protocol::{Answer, Request};
use healer_agent::roots::Roots;
use healer_agent::tree::diff::changes;
use healer_agent::tree::{Content, Digest, Effect, EffectSource, Manifest, Pattern, TreePath};
use healer_agent::walk;

use self::disk::{Scene, content, metadata, shared};
use super::{ProtectError, VerifiedBackup, known_good, protect, still_the_same, undo_on_host};
use crate::seam::{HostError, Reply, VaultError};
use crate::undo;

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

const FILES: &[(&str, &str)] = &[
    (".env", "APP_KEY=1\n"),
    ("composer.json", "{}"),
    ("cache/a.php", "<?php a"),
    ("cache/b.php", "<?php b"),
    ("cache/deep/c.php", "<?php c"),
    ("logs/site.log", "one\n"),
];

#[tokio::test]
async fn a_backup_holds_the_whole_write_set_and_can_be_read_back() {
    let scene = Scene::new(FILES);
    let request = scene.request(vec![content("cache/**"), content("absent.php")], &[".env"]);
    let backup = protect(&scene.world, &request).await.unwrap();
    let manifest = scene.world.vault.manifest(backup.id()).await.unwrap();
    assert_eq!(&manifest, backup.manifest());
    let paths: Vec<_> = manifest.members.keys().map(ToString::to_string).collect();
    assert_eq!(
        paths,
        [
            "absent.php",
            "cache",
            "cache/a.php",
            "cache/b.php",
            "cache/deep",
            "cache/deep/c.php"
        ]
    );
    assert_eq!(
        manifest.members[&path("absent.php")],
        None,
        "absent is a state"
    );
    assert_eq!(manifest.base.len(), 1);
    assert_eq!((backup.row().files, backup.row().bytes), (4, 31));
    scene.world.vault.verify(backup.id()).await.unwrap();
}

#[tokio::test]
async fn an_unchanged_backup_reads_no_content_and_adds_none() {
    let scene = Scene::new(FILES);
    let first = protect(
        &scene.world,
        &scene.request(vec![content("cache/**")], &[".env"]),
    )
    .await
    .unwrap();
    let reads = scene.calls("read");
    assert_eq!(reads, 4);
    let second = protect(
        &scene.world,
        &scene.request(vec![content("cache/**")], &[".env"]),
    )
    .await
    .unwrap();
    assert_eq!(scene.calls("read"), reads);
    assert_eq!(second.row().stored_bytes, 0);
    assert_eq!(first.manifest().members, second.manifest().members);
    scene.write("cache/a.php", "<?php A");
    let third = protect(
        &scene.world,
        &scene.request(vec![content("cache/**")], &[".env"]),
    )
    .await
    .unwrap();
    assert_eq!(scene.calls("read"), reads + 1);
    assert_ne!(third.manifest().members, second.manifest().members);
}

#[tokio::test]
async fn a_warm_index_does_not_hide_that_the_vault_lost_a_content() {
    let scene = Scene::new(FILES);
    let first = protect(&scene.world, &scene.request(vec![content(".env")], &[]))
        .await
        .unwrap();
    let digest = first.manifest().digests().next().unwrap().to_string();
    let object = scene
        .vault()
        .join("objects")
        .join(&digest[..2])
        .join(&digest[2..]);
    for damage in ["torn", "gone"] {
        match damage {
            "torn" => fs::write(&object, b"HEALERDV").unwrap(),
            _ => fs::remove_file(&object).unwrap(),
        }
        let again = protect(&scene.world, &scene.request(vec![content(".env")], &[]))
            .await
            .unwrap();
        scene.world.vault.verify(again.id()).await.unwrap();
        scene.world.vault.verify(first.id()).await.unwrap();
    }
}

#[tokio::test]
async fn a_member_that_cannot_be_read_aborts_and_leaves_no_backup() {
    let scene = Scene::new(FILES);
    scene.hook(|request| match request {
        Request::List { after, .. } => Some(Ok(Reply {
            answer: Answer::List {
                roots: vec!["/srv".to_owned()],
                entries: Vec::new(),
                unreadable: vec![(
                    path("cache/b.php"),
                    "Permission denied (os error 13)".to_owned(),
                )],
                more: after.is_some(),
            },
            body: Vec::new(),
        })),
        _ => None,
    });
    let request = scene.request(vec![content("cache/**")], &[]);
    let error = protect(&scene.world, &request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Backup failed: Permission denied. Healing aborted for safety."
    );
    assert!(error.details().contains("`cache/b.php`"));
    assert_eq!(scene.world.vault.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_base_member_that_is_missing_or_unreadable_aborts_nothing() {
    let scene = Scene::new(FILES);
    scene.hook(|request| match request {
        Request::Read { path: read, .. } if *read == path("composer.json") => {
            Some(Err(HostError::Refused {
                host: "local".parse().unwrap(),
                refusal: healer_agent::protocol::Refusal {
                    code: healer_agent::protocol::RefusalCode::Denied,
                    message: "no".to_owned(),
                },
            }))
        }
        _ => None,
    });
    let request = scene.request(
        vec![content("cache/**")],
        &[".env", "composer.json", "composer.lock"],
    );
    let backup = protect(&scene.world, &request).await.unwrap();
    let gaps: Vec<_> = backup
        .manifest()
        .base_gaps
        .iter()
        .map(|(path, reason)| format!("{path}: {reason}"))
        .collect();
    assert_eq!(
        gaps,
        [
            "composer.json: Permission denied",
            "composer.lock: it is missing"
        ]
    );
    assert!(!backup.manifest().base.contains_key(&path("composer.json")));
}

#[tokio::test]
async fn the_base_set_stays_within_its_limits() {
    let scene = Scene::new(FILES);
    let mut request = scene.request(vec![content(".env")], &["cache/**", "logs/**"]);
    request.limits.base_files_max = 3;
    let backup = protect(&scene.world, &request).await.unwrap();
    assert!(backup.manifest().base.len() <= 3);
    assert!(!backup.manifest().base_gaps.is_empty());
    request.id = crate::model::id::BackupId::from_raw(scene.world.new_id());
    request.limits.base_files_max = 100;
    request.limits.base_bytes_max = 8;
    let backup = protect(&scene.world, &request).await.unwrap();
    assert!(
        backup.row().bytes <= 8 + 10,
        "the write set and eight bytes"
    );
}

/// Changes a file before each of the first `times` reads of it.
fn restless(scene: &Scene, name: &'static str, times: u32) {
    let file = scene.path(name);
    let mut left = times;
    scene.hook(move |request| {
        if let Request::Read { path: read, .. } = request
            && *read == path(name)
            && left > 0
        {
            left -= 1;
            fs::write(&file, "x".repeat(20 + left as usize)).unwrap();
        }
        None
    });
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_tried_three_times_more() {
    let scene = Scene::new(FILES);
    restless(&scene, "cache/a.php", 3);
    let backup = protect(&scene.world, &scene.request(vec![content("cache/**")], &[]))
        .await
        .unwrap();
    let Some(Some(entry)) = backup.manifest().members.get(&path("cache/a.php")) else {
        panic!("it is there");
    };
    let Content::File { size, .. } = entry.content else {
        panic!("it is a file");
    };
    assert_eq!(size, fs::metadata(scene.path("cache/a.php")).unwrap().len());
    let scene = Scene::new(FILES);
    restless(&scene, "cache/a.php", 4);
    let error = protect(&scene.world, &scene.request(vec![content("cache/**")], &[]))
        .await
        .unwrap_err();
    assert!(matches!(error, ProtectError::Changing { .. }), "{error}");
}

#[tokio::test]
async fn many_small_files_come_together_and_each_is_what_it_was() {
    let scene = Scene::new(FILES);
    for n in 0..50 {
        scene.write(&format!("many/{n}"), &format!("content {}", n % 40));
    }
    scene.write("many/large", &"x".repeat(200_000));
    let backup = protect(&scene.world, &scene.request(vec![content("many/**")], &[]))
        .await
        .unwrap();
    assert_eq!(scene.calls("read many"), 3, "twenty at a time");
    assert_eq!(scene.calls("read"), 2, "the large one in two pieces");
    assert_eq!(backup.row().files, 51);
    for n in 0..50 {
        let Some(Some(entry)) = backup.manifest().members.get(&path(&format!("many/{n}"))) else {
            panic!("it is there");
        };
        let text = format!("content {}", n % 40);
        assert_eq!(
            entry.content,
            Content::File {
                size: text.len() as u64,
                digest: Some(Digest::of(text.as_bytes()))
            }
        );
    }
    scene.world.vault.verify(backup.id()).await.unwrap();
}

#[tokio::test]
async fn a_file_of_many_that_changes_or_vanishes_costs_only_itself() {
    let scene = Scene::new(FILES);
    for n in 0..40 {
        scene.write(&format!("many/{n}"), &format!("content {n}"));
    }
    let (changed, gone) = (scene.path("many/7"), scene.path("many/8"));
    let mut first = true;
    scene.hook(move |request| {
        if let Request::ReadMany { .. } = request
            && std::mem::take(&mut first)
        {
            fs::write(&changed, "another content").unwrap();
            fs::remove_file(&gone).unwrap();
        }
        None
    });
    let backup = protect(&scene.world, &scene.request(vec![content("many/**")], &[]))
        .await
        .unwrap();
    assert_eq!(backup.row().files, 39);
    let members = &backup.manifest().members;
    assert!(!members.contains_key(&path("many/8")));
    let Some(Some(entry)) = members.get(&path("many/7")) else {
        panic!("it is there");
    };
    let Content::File { digest, .. } = entry.content else {
        panic!("it is a file");
    };
    assert_eq!(digest, Some(Digest::of(b"another content")));
    scene.world.vault.verify(backup.id()).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_answers_for_many_with_other_lengths_is_not_believed() {
    let scene = Scene::new(FILES);
    for n in 0..40 {
        scene.write(&format!("many/{n}"), "content");
    }
    for (lengths, body) in [
        (vec![], vec![]),
        (vec![Some(7)], b"conten".to_vec()),
        (vec![Some(6)], b"conten".to_vec()),
        (vec![Some(7)], b"content and more".to_vec()),
        (vec![None; 41], vec![]),
    ] {
        let answer = Answer::ReadMany { lengths };
        scene.hook(move |request| match request {
            Request::ReadMany { .. } => Some(Ok(Reply {
                answer: answer.clone(),
                body: body.clone(),
            })),
            _ => None,
        });
        let request = scene.request(vec![content("many/**")], &[]);
        let error = protect(&scene.world, &request).await.unwrap_err();
        assert!(matches!(error, ProtectError::Host(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_file_that_vanishes_before_it_is_read_was_absent() {
    let scene = Scene::new(FILES);
    let (named, found) = (scene.path(".env"), scene.path("cache/b.php"));
    scene.hook(move |request| {
        if let Request::Read { path: read, .. } = request {
            if *read == path(".env") {
                fs::remove_file(&named).unwrap();
            } else if *read == path("cache/b.php") {
                fs::remove_file(&found).unwrap();
            }
        }
        None
    });
    let backup = protect(
        &scene.world,
        &scene.request(vec![content(".env"), content("cache/**")], &[]),
    )
    .await
    .unwrap();
    assert_eq!(backup.manifest().members.get(&path(".env")), Some(&None));
    assert_eq!(backup.manifest().members.get(&path("cache/b.php")), None);
}

#[tokio::test]
async fn a_member_of_metadata_alone_stores_no_content() {
    let scene = Scene::new(FILES);
    let backup = protect(
        &scene.world,
        &scene.request(vec![metadata("cache/**")], &[]),
    )
    .await
    .unwrap();
    assert_eq!(backup.manifest().members.len(), 5);
    assert_eq!(backup.manifest().digests().count(), 0);
    assert_eq!(scene.calls("read"), 0);
}

#[tokio::test]
async fn nothing_declared_is_no_backup_and_asks_the_host_nothing() {
    let scene = Scene::new(FILES);
    let error = protect(&scene.world, &scene.request(Vec::new(), &[]))
        .await
        .unwrap_err();
    assert!(matches!(error, ProtectError::Nothing));
    assert!(scene.disk.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_room_nothing_is_read() {
    let scene = Scene::new(FILES);
    scene.disk.free_bytes.store(1 << 20, Ordering::SeqCst);
    let error = protect(&scene.world, &scene.request(vec![content(".env")], &[]))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Backup failed: No room on the target. Healing aborted for safety."
    );
    scene.disk.free_bytes.store(1 << 40, Ordering::SeqCst);
    let mut request = scene.request(vec![content(".env")], &[]);
    request.limits.room_bytes = u64::MAX / 2;
    let error = protect(&scene.world, &request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Backup failed: No room on the vault. Healing aborted for safety."
    );
    assert_eq!(scene.calls("read"), 0);
}

#[tokio::test]
async fn a_deploy_during_the_backup_aborts_it() {
    let scene = Scene::new(FILES);
    let mut pages = 0;
    scene.hook(move |request| {
        if let Request::List {
            target,
            members,
            after,
            ..
        } = request
        {
            pages += 1;
            let roots = Roots::open(target).unwrap();
            let end = std::time::Instant::now() + std::time::Duration::from_secs(9);
            let page = walk::list(&roots, members, after.as_ref(), false, 2, end).unwrap();
            return Some(Ok(Reply {
                answer: Answer::List {
                    roots: vec![format!("/releases/{pages}")],
                    entries: page.entries,
                    unreadable: page.unreadable,
                    more: page.more,
                },
                body: Vec::new(),
            }));
        }
        None
    });
    let error = protect(&scene.world, &scene.request(vec![content("cache/**")], &[]))
        .await
        .unwrap_err();
    assert!(matches!(error, ProtectError::Moved), "{error}");
}

#[tokio::test]
async fn a_page_that_never_goes_on_ends_the_backup() {
    let scene = Scene::new(FILES);
    scene.hook(|request| match request {
        Request::List { .. } => Some(Ok(Reply {
            answer: Answer::List {
                roots: Vec::new(),
                entries: vec![(path("a"), None)],
                unreadable: Vec::new(),
                more: true,
            },
            body: Vec::new(),
        })),
        _ => None,
    });
    let error = protect(&scene.world, &scene.request(vec![content("**")], &[]))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ProtectError::Host(HostError::Protocol { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn what_changed_after_the_backup_is_noticed_before_the_intent() {
    type Change = fn(&Scene);
    let members = || {
        let mut logs = metadata("logs/**");
        logs.shared = true;
        vec![content("cache/**"), content("absent.php"), logs]
    };
    let cases: [(&str, Change, bool); 8] = [
        ("nothing", |_| (), true),
        (
            "rewritten, same length",
            |s| s.write("cache/a.php", "<?php z"),
            false,
        ),
        ("created", |s| s.write("cache/new.php", ""), false),
        ("appeared", |s| s.write("absent.php", ""), false),
        (
            "removed",
            |s| fs::remove_file(s.path("cache/a.php")).unwrap(),
            false,
        ),
        (
            "a live log grew",
            |s| s.write("logs/site.log", "one\ntwo\n"),
            true,
        ),
        ("a live log came", |s| s.write("logs/new.log", "x"), true),
        (
            "mode of a metadata member",
            |s| {
                use std::os::unix::fs::PermissionsExt as _;
                fs::set_permissions(s.path("logs/site.log"), fs::Permissions::from_mode(0o600))
                    .unwrap();
            },
            false,
        ),
    ];
    for (case, change, want) in cases {
        let scene = Scene::new(FILES);
        let backup = protect(&scene.world, &scene.request(members(), &[]))
            .await
            .unwrap();
        change(&scene);
        let same = still_the_same(&scene.world, &backup, &scene.app, scene.login())
            .await
            .unwrap();
        assert_eq!(same, want, "{case}");
    }
}

#[tokio::test]
async fn known_good_is_a_backup_of_the_config_members() {
    let scene = Scene::new(FILES);
    let id = crate::model::id::BackupId::from_raw(scene.world.new_id());
    let members = vec![
        Pattern::parse(".env").unwrap(),
        Pattern::parse("none").unwrap(),
    ];
    let backup = known_good::take(&scene.world, id, &scene.app, scene.login(), members)
        .await
        .unwrap();
    assert_eq!(
        backup.row().kind,
        crate::model::backup::BackupKind::KnownGood
    );
    assert_eq!(backup.manifest().members.len(), 2);
}

fn snapshot(scene: &Scene) -> Manifest {
    let roots = Roots::open(&scene.app.target).unwrap();
    let limits = walk::Limits {
        entries_max: 100_000,
        deadline: std::time::Instant::now() + std::time::Duration::from_mins(1),
    };
    walk::snapshot(&roots, &[Pattern::parse("**").unwrap()], true, limits)
        .unwrap()
        .0
}

fn effects(before: &Manifest, after: &Manifest, source: EffectSource) -> Vec<Effect> {
    changes(before, after)
        .into_iter()
        .map(|change| Effect {
            path: change.path,
            before: change.before,
            after: change.after,
            source,
        })
        .collect()
}

async fn protected(scene: &Scene) -> VerifiedBackup {
    let members = vec![content("cache/**"), content(".env"), shared("logs/**")];
    protect(&scene.world, &scene.request(members, &[]))
        .await
        .unwrap()
}

#[tokio::test]
async fn an_undo_brings_back_what_the_action_changed_and_keeps_what_others_wrote() {
    let scene = Scene::new(FILES);
    let backup = protected(&scene).await;
    let before = snapshot(&scene);
    // The action.
    scene.write("cache/a.php", "broken");
    fs::remove_dir_all(scene.path("cache/deep")).unwrap();
    scene.write("cache/created/by/it.php", "new");
    scene.write(".env", "APP_KEY=\n");
    let effects = effects(&before, &snapshot(&scene), EffectSource::Walk);
    // Somebody else, since.
    scene.write(".env", "APP_KEY=by a person\n");
    scene.write("cache/created/mine.php", "mine");
    let plan = undo::plan(backup.manifest(), backup.members(), &effects, &[], true);
    assert!(
        plan.blocked.is_empty() && plan.outside.is_empty(),
        "{plan:?}"
    );
    let heal = scene.heal();
    let undone = undo_on_host(&scene.world, &scene.app, scene.login(), heal, &plan)
        .await
        .unwrap();
    assert_eq!(scene.read("cache/a.php"), "<?php a");
    assert_eq!(scene.read("cache/deep/c.php"), "<?php c");
    assert!(!scene.path("cache/created/by").exists());
    assert_eq!(scene.read("cache/created/mine.php"), "mine");
    assert_eq!(scene.read(".env"), "APP_KEY=by a person\n");
    assert!(undone.report.failed.is_empty(), "{:?}", undone.report);
    assert!(
        undone
            .report
            .kept
            .iter()
            .any(|line| line.starts_with(".env: "))
    );
    let captured = undone.captured.unwrap();
    assert!(captured.manifest().members.contains_key(&path(".env")));
    assert_eq!(scene.calls("forget"), 1);
    // Twice is once.
    let now = snapshot(&scene);
    undo_on_host(&scene.world, &scene.app, scene.login(), heal, &plan)
        .await
        .unwrap();
    assert_eq!(changes(&now, &snapshot(&scene)), []);
}

#[tokio::test]
async fn an_undisturbed_undo_is_exact() {
    let scene = Scene::new(FILES);
    let backup = protected(&scene).await;
    let before = snapshot(&scene);
    scene.write("cache/a.php", "broken");
    fs::remove_dir_all(scene.path("cache/deep")).unwrap();
    fs::remove_file(scene.path(".env")).unwrap();
    std::os::unix::fs::symlink("a.php", scene.path(".env")).unwrap();
    scene.write("cache/x/y/z", "new");
    let effects = effects(&before, &snapshot(&scene), EffectSource::Walk);
    let root = Pattern::parse(".").unwrap(); // its entries moved, so its time did
    let mut members = backup.members().to_vec();
    members.push(shared("."));
    let plan = undo::plan(backup.manifest(), &members, &effects, &[root], true);
    let undone = undo_on_host(&scene.world, &scene.app, scene.login(), scene.heal(), &plan)
        .await
        .unwrap();
    assert_eq!(undone.report.failed, [""; 0]);
    assert_eq!(undone.report.kept, [""; 0]);
    let left: Vec<_> = changes(&before, &snapshot(&scene))
        .into_iter()
        .map(|change| change.path.to_string())
        .filter(|path| path != ".")
        .collect();
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn a_damaged_backup_writes_nothing() {
    let scene = Scene::new(FILES);
    let backup = protected(&scene).await;
    let before = snapshot(&scene);
    scene.write("cache/a.php", "broken");
    scene.write("cache/b.php", "broken too");
    let after = snapshot(&scene);
    let effects = effects(&before, &after, EffectSource::Native);
    let plan = undo::plan(backup.manifest(), backup.members(), &effects, &[], true);
    let digest = plan.needed.iter().next_back().unwrap().to_string();
    let object = scene
        .vault()
        .join("objects")
        .join(&digest[..2])
        .join(&digest[2..]);
    let mut bytes = fs::read(&object).unwrap();
    let last = bytes.last_mut().unwrap();
    *last ^= 1;
    fs::write(&object, bytes).unwrap();
    let error = undo_on_host(&scene.world, &scene.app, scene.login(), scene.heal(), &plan)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ProtectError::Vault(VaultError::Damaged(_))),
        "{error}"
    );
    assert_eq!(changes(&after, &snapshot(&scene)), []);
    assert_eq!(scene.calls("undo"), 0);
}

#[tokio::test]
async fn an_undo_of_many_paths_goes_in_requests_that_fit() {
    let names: Vec<String> = (0..1500)
        .map(|number| format!("cache/d{}/f{number}", number % 40))
        .collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "before")).collect();
    let scene = Scene::new(&files);
    let backup = protect(&scene.world, &scene.request(vec![content("cache/**")], &[]))
        .await
        .unwrap();
    let before = snapshot(&scene);
    fs::remove_dir_all(scene.path("cache/d7")).unwrap();
    for name in &names {
        if !name.starts_with("cache/d7/") {
            scene.write(name, "after!");
            scene.write(&format!("{name}.new/x"), "after!");
        }
    }
    let effects = effects(&before, &snapshot(&scene), EffectSource::Walk);
    let plan = undo::plan(backup.manifest(), backup.members(), &effects, &[], true);
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    scene.hook(move |request| {
        if matches!(request, Request::Undo { .. }) {
            seen.lock()
                .unwrap()
                .push(serde_json::to_vec(request).unwrap().len());
        }
        None
    });
    let undone = undo_on_host(&scene.world, &scene.app, scene.login(), scene.heal(), &plan)
        .await
        .unwrap();
    assert_eq!(undone.report.failed, [""; 0]);
    let sizes = sizes.lock().unwrap().clone();
    assert!(
        sizes.len() > 1 && sizes.iter().all(|size| *size < 1 << 20),
        "{sizes:?}"
    );
    let left: Vec<_> = changes(&before, &snapshot(&scene))
        .into_iter()
        .map(|change| change.path.to_string())
        .collect();
    assert_eq!(left, [""; 0]);
}

fn _assert_send(scene: &'static Scene) -> impl Send {
    protected(scene)
}
