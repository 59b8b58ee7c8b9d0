//! Laravel: every action of its stack, and the conditions under which a site is not brought up.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::place::{Place, in_both_places};
use super::scene::Scene;
use super::telling::Telling;
use crate::lab::laravel::{self, Laravel};
use crate::lab::process::signal;
use crate::lab::tree::{Look, hash_tree};
use crate::lab::{faults, http, set_mode};

/// What the application itself writes while it serves.
const OWN: &[&str] = &[
    "storage/framework/views",
    "storage/framework/sessions",
    "storage/framework/cache",
    "storage/logs",
    "bootstrap/cache",
];

/// The same without what the action writes; the compiled manifests stand there from the beginning.
const SERVED: &[&str] = &[
    "storage/framework/views",
    "storage/framework/sessions",
    "storage/framework/cache",
    "storage/logs/laravel.log",
    "storage/logs/php-errors.log",
];

const VARS: &str = "vars = { maintenance_age = \"3s\", log_max = \"2MiB\" }";

/// A lab with the application in it, watched in this mode.
fn watched(place: Place, mode: &str, allow_root: bool) -> Option<(Scene, Laravel)> {
    let lab = place.open(laravel::PROGRAMS)?;
    let app = lab.laravel();
    // Compiled views and the manifests of bootstrap/cache are there before anybody looks.
    http::wait_for_status(&app.web.url, 200);
    let table = place.table(&lab, "laravel", "laravel", &app.path, &app.web.url, VARS);
    let allow = if allow_root {
        format!(
            "[[chown]]\nbelow = \"{path}\"\nto = [\"{user}\"]\n\n[[modes]]\nbelow = \"{path}\"\n",
            path = app.path.display(),
            user = lab.user.name,
        )
    } else {
        String::new()
    };
    let top = format!("mode = \"{mode}\"\n[approval]\npersons = \"one\"\n");
    let scene = Scene::start_in(place, lab, &top, &table, &allow);
    scene.adopted("laravel");
    Some((scene, app))
}

fn look(app: &Laravel) -> Look {
    hash_tree(&app.path, OWN)
}

/// Content, mode and owner, which is what an application can tell; the time of the last change is not.
fn file(path: &Path) -> (Vec<u8>, u32, u32, u32) {
    let meta = fs::metadata(path).unwrap();
    (fs::read(path).unwrap(), meta.mode(), meta.uid(), meta.gid())
}

#[test]
fn two_faults_at_once_are_cured_one_after_the_other() {
    in_both_places(two_faults);
}

fn two_faults(place: Place) -> Option<Vec<String>> {
    let (scene, app) = watched(place, "FULL_AUTO", true)?;
    let mut telling = Telling::begin(&scene, "laravel", &app.path, SERVED, &[]);
    faults::stale_config_cache(&scene.lab, &app);
    faults::storage_owned_by_root(&app);
    assert_eq!(http::status(&app.web.url), Some(500));
    let first = scene.next_end("laravel");
    let second = scene.next_end("laravel");
    assert_eq!(
        [&first, &second].map(|heal| (heal.action.as_str(), heal.state.as_str())),
        [("fix_storage_tree", "Cured"), ("config_cache", "Cured")]
    );
    http::wait_for_status(&app.web.url, 200);
    let user = scene.lab.user.uid;
    for path in [
        "storage",
        "storage/logs",
        "bootstrap/cache",
        "bootstrap/cache/config.php",
    ] {
        assert_eq!(fs::metadata(app.file(path)).unwrap().uid(), user, "{path}");
    }
    telling.look("two faults and their cures");

    // A few files only, as after one command of root's: exactly those are given back.
    let (odd, other) = (
        app.file("storage/logs/odd.log"),
        app.file("storage/app/odd"),
    );
    scene.while_held("laravel", || {
        for path in [&odd, &other] {
            fs::write(path, "x").unwrap();
            set_mode(path, 0o640);
        }
        telling.look("odd files");
    });
    scene.heals_alone("laravel", "fix_storage_permissions");
    for path in [&odd, &other] {
        assert_eq!(fs::metadata(path).unwrap().uid(), user);
    }
    telling.look("given back");
    scene.nothing_else_began("laravel");

    // A person takes back what root did, and takes that back in turn; meanwhile nothing heals by itself.
    let (code, said) = scene.daemon.ctl(
        &scene.lab,
        &["hold", "app:laravel", "--reason", "to go back and forth"],
    );
    assert_eq!(code, Some(0), "{said}");
    for (kind, owner) in [("heal", 0), ("before_rollback", user)] {
        let backup = newest_backup(&scene, kind);
        let words = ["backups", "laravel", "rollback", backup.as_str(), "--yes"];
        let words = [words.as_slice(), &["--reason", "a look at the other side"]].concat();
        let (code, said) = scene.daemon.ctl(&scene.lab, &words);
        assert_eq!(code, Some(0), "{said}");
        scene.ends("laravel", "rollback", "rollback", "Cured");
        for path in [&odd, &other] {
            assert_eq!(fs::metadata(path).unwrap().uid(), owner, "{kind}");
        }
        telling.look(kind);
    }
    telling.heals(&scene, "laravel", "");
    Some(telling.end())
}

/// The newest backup of this kind.
#[track_caller]
fn newest_backup(scene: &Scene, kind: &str) -> String {
    let (_, list) = scene.daemon.ctl(&scene.lab, &["backups", "laravel"]);
    let rows = list["items"].as_array();
    let rows = rows.unwrap_or_else(|| panic!("{list}"));
    rows.iter()
        .filter(|row| {
            row["kind"]
                .as_str()
                .is_some_and(|word| word.eq_ignore_ascii_case(kind))
        })
        .filter_map(|row| row["backupId"].as_str())
        .max()
        .unwrap_or_else(|| panic!("no {kind}: {list}"))
        .to_owned()
}

#[test]
fn caches_modes_and_logs_are_put_right_in_semi_auto() {
    in_both_places(caches_modes_and_logs);
}

fn caches_modes_and_logs(place: Place) -> Option<Vec<String>> {
    let (scene, app) = watched(place, "SEMI_AUTO", false)?;
    let mut telling = Telling::begin(&scene, "laravel", &app.path, SERVED, &[]);
    let before = look(&app);

    faults::broken_config_cache(&scene.lab, &app);
    assert_eq!(http::status(&app.web.url), Some(500));
    scene.heals_alone("laravel", "remove_bootstrap_cache");
    http::wait_for_status(&app.web.url, 200);
    assert!(!app.file("bootstrap/cache/config.php").exists());
    before.assert_same(&look(&app));

    let logs = app.file("storage/logs");
    let mode = fs::metadata(&logs).unwrap().mode() & 0o7777;
    set_mode(&logs, mode & !0o200);
    scene.heals_alone("laravel", "fix_storage_modes");
    assert_eq!(fs::metadata(&logs).unwrap().mode() & 0o7777, mode);

    app.artisan(&scene.lab, &["route:cache"]).expect_success();
    let routes = app.file("routes/web.php");
    let text = fs::read_to_string(&routes).unwrap();
    let changed = text + "Route::get('/news', fn () => 'news');\n";
    // Routes that are closures can be cached since Laravel 8.
    std::thread::sleep(Duration::from_millis(1100));
    fs::write(&routes, &changed).unwrap();
    assert_eq!(http::status(&app.web.page("news")), Some(404));
    scene.heals_alone("laravel", "route_cache");
    assert_eq!(http::status(&app.web.page("news")), Some(200));

    let log = app.file("storage/logs/laravel.log");
    faults::huge_log(&log, &scene.lab.user, 3 << 20);
    let inode = fs::metadata(&log).unwrap().ino();
    scene.heals_alone("laravel", "trim_log");
    let kept = fs::metadata(&log).unwrap();
    assert!(kept.len() < 2 << 20, "{}", kept.len());
    assert_eq!(kept.ino(), inode);
    scene.nothing_else_began("laravel");
    telling.look("in the end");
    telling.heals(&scene, "laravel", "");
    Some(telling.end())
}

#[test]
fn env_comes_back_alone_only_where_no_secret_is_lost() {
    in_both_places(env_comes_back);
}

fn env_comes_back(place: Place) -> Option<Vec<String>> {
    let (scene, app) = watched(place, "FULL_AUTO", false)?;
    let mut telling = Telling::begin(&scene, "laravel", &app.path, SERVED, &[]);
    let env = app.file(".env");
    let good = file(&env);

    faults::env_missing(&app.path);
    assert_eq!(http::status(&app.web.url), Some(500));
    scene.heals_alone("laravel", "restore_env");
    assert_eq!(file(&env), good);

    fs::write(&env, "").unwrap();
    scene.heals_alone("laravel", "restore_env");
    assert_eq!(file(&env), good);

    faults::app_key_empty(&app);
    assert_eq!(http::status(&app.web.url), Some(500));
    scene.heals_alone("laravel", "restore_env");
    assert_eq!(file(&env), good);

    scene.while_held("laravel", || {
        faults::env_truncated(&app.path);
        telling.look("cut off");
    });
    scene.heals_alone("laravel", "restore_env");
    assert_eq!(file(&env), good);
    telling.look("put back");
    assert_eq!(http::status(&app.web.url), Some(200));

    // Somebody wrote another key, too short for any cipher: he may have meant it, so a person decides.
    let text = String::from_utf8(good.0.clone()).unwrap();
    let other: String = text
        .lines()
        .map(|line| {
            if line.starts_with("APP_KEY=") {
                "APP_KEY=somebody-wrote-this\n".to_owned()
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    fs::write(&env, &other).unwrap();
    let left = look(&app);
    telling.look("another key");
    let approval = scene.proposed("laravel", "restore_env");
    scene.rounds("laravel", 3);
    assert_eq!(fs::read_to_string(&env).unwrap(), other);
    scene.nothing_else_began("laravel");
    scene.approve(&approval);
    let heal = scene.ends("laravel", "restore_env", "approved", "Cured");
    assert_eq!(file(&env), good);
    assert_eq!(http::status(&app.web.url), Some(200));
    telling.look("approved");

    // He did mean it, and has it back to the last byte.
    scene.takes_back("laravel", &heal);
    assert_eq!(
        left.differences_but_comings(&look(&app)),
        Vec::<String>::new()
    );
    telling.look("taken back");
    telling.heals(&scene, "laravel", "restore_env");
    Some(telling.end())
}

#[test]
fn a_forgotten_maintenance_ends_and_no_other_does() {
    in_both_places(maintenance);
}

fn maintenance(place: Place) -> Option<Vec<String>> {
    let (scene, app) = watched(place, "FULL_AUTO", false)?;
    let mut telling = Telling::begin(&scene, "laravel", &app.path, SERVED, &[]);
    let before = hash_tree(&app.path, &[OWN, &["storage/framework"]].concat());
    let stays_down = |why: &str| {
        scene.rounds("laravel", 4);
        assert_eq!(http::status(&app.web.url), Some(503), "{why}");
        scene.nothing_else_began("laravel");
    };
    let down = app.file("storage/framework/down");

    // Fresh: it belongs to somebody.
    faults::maintenance_left_on(&scene.lab, &app);
    assert_eq!(http::status(&app.web.url), Some(503));
    scene.check_says(
        "laravel",
        "laravel_maintenance",
        "PASS",
        "in maintenance for",
    );
    assert!(down.exists());
    // Old: it was forgotten.
    scene.heals_alone("laravel", "artisan_up");
    http::wait_for_status(&app.web.url, 200);
    before.assert_same(&hash_tree(
        &app.path,
        &[OWN, &["storage/framework"]].concat(),
    ));

    // Somebody keeps a way in.
    app.artisan(&scene.lab, &["down", "--secret=let-me-in"])
        .expect_success();
    scene.check_says("laravel", "laravel_maintenance", "PASS", "way in");
    std::thread::sleep(Duration::from_secs(3));
    stays_down("a way in for somebody");
    app.artisan(&scene.lab, &["up"]).expect_success();
    scene.check_says(
        "laravel",
        "laravel_maintenance",
        "PASS",
        "not in maintenance",
    );

    // An artisan is at work.
    let pid = scene.lab.spawn(
        "artisan",
        scene
            .lab
            .as_user("php")
            .args(["artisan", "schedule:work"])
            .current_dir(&app.path),
    );
    faults::maintenance_left_on(&scene.lab, &app);
    scene.check_says("laravel", "laravel_maintenance", "PASS", "still running");
    stays_down("an artisan at work");
    assert!(scene.lab.runs(pid), "{}", scene.lab.log("artisan"));

    // It ended without running its migrations: a person's work is not finished.
    faults::migration_pending(&scene.lab, &app);
    signal(pid, Signal::TERM);
    scene.check_says(
        "laravel",
        "laravel_maintenance",
        "FAIL",
        "migrations that were not run",
    );
    stays_down("a migration is missing");

    // He finishes it, and forgets to bring it up.
    app.artisan(&scene.lab, &["migrate", "--force"])
        .expect_success();
    scene.heals_alone("laravel", "artisan_up");
    http::wait_for_status(&app.web.url, 200);
    telling.look("in the end");
    telling.heals(&scene, "laravel", "");
    Some(telling.end())
}

#[test]
fn a_new_key_is_made_only_when_a_person_says_so() {
    let Some((scene, app)) = watched(Place::Here, "MANUAL", false) else {
        return;
    };
    let env = app.file(".env");
    let good = fs::read_to_string(&env).unwrap();
    let key = |text: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix("APP_KEY=").map(str::to_owned))
            .unwrap_or_default()
    };
    faults::app_key_empty(&app);
    let restore = scene.proposed("laravel", "restore_env");
    scene.rounds("laravel", 3);
    assert_eq!(http::status(&app.web.url), Some(500));
    let (code, said) = scene.daemon.ctl(
        &scene.lab,
        &[
            "reject",
            &restore.id,
            "--reason",
            "the old key was stolen, make a new one",
        ],
    );
    assert_eq!(code, Some(0), "{said:#}");
    // Root asks for it, and the configuration lets one person do both.
    let reason = "the old key was stolen";
    let (code, said) = scene.daemon.ctl(
        &scene.lab,
        &["heal", "laravel", "generate_app_key", "--reason", reason],
    );
    assert_eq!(code, Some(4), "{said:#}");
    scene.nothing_else_began("laravel");
    let approval = scene.proposed("laravel", "generate_app_key");
    scene.approve(&approval);
    scene.ends("laravel", "generate_app_key", "approved", "Cured");
    assert_eq!(http::status(&app.web.url), Some(200));
    let new = key(&fs::read_to_string(&env).unwrap());
    assert!(new.starts_with("base64:"), "{new}");
    assert_ne!(new, key(&good));
}
