//! WordPress: what heals alone, what waits for a person, and what is rightly left, each seen from outside.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use super::journal::Heal;
use super::place::{Place, in_both_places};
use super::scene::Scene;
use super::telling::Telling;
use crate::lab::process::signal;
use crate::lab::tree::{Look, hash_tree};
use crate::lab::wordpress::{self, WordPress};
use crate::lab::{Lab, faults, http, set_mode};

pub(super) const APP: &str = "wordpress";

/// What the application itself writes while it serves.
const OWN: &[&str] = &["wp-content/debug.log"];

/// A lab with the application in it, watched in full automatic mode. Without `wp_cli` there is none.
pub(super) fn watched(
    plugins: &[&str],
    wp_cli: Option<&Path>,
    allow_root: bool,
) -> Option<(Scene, WordPress)> {
    watched_in(Place::Here, plugins, wp_cli, allow_root)
}

fn watched_in(
    place: Place,
    plugins: &[&str],
    wp_cli: Option<&Path>,
    allow_root: bool,
) -> Option<(Scene, WordPress)> {
    let wp_cli = wp_cli.unwrap_or(Path::new("/nonexistent/wp")).to_owned();
    // A person's way back is watched for no longer than this.
    let tables = "[settle]\nrestart = \"2s\"\n";
    watched_with(place, plugins, &|_| wp_cli.clone(), allow_root, tables)
}

/// The same with further tables of the configuration.
pub(super) fn watched_with(
    place: Place,
    plugins: &[&str],
    wp_cli: &dyn Fn(&Lab) -> PathBuf,
    allow_root: bool,
    tables: &str,
) -> Option<(Scene, WordPress)> {
    let lab = place.open(wordpress::PROGRAMS)?;
    let app = lab.wordpress(plugins);
    http::wait_for_status(&app.web.url, 200);
    let vars = format!(
        "vars = {{ maintenance_age = \"3s\", plugin_age = \"1s\", wp_cli = \"{}\" }}",
        wp_cli(&lab).display(),
    );
    let table = place.table(&lab, APP, "wordpress", &app.path, &app.web.url, &vars);
    let allow = if allow_root {
        format!(
            "[[chown]]\nbelow = \"{path}\"\nto = [\"{user}\"]\n\n[[modes]]\nbelow = \"{path}\"\n",
            path = app.path.display(),
            user = lab.user.name,
        )
    } else {
        String::new()
    };
    let top = "mode = \"FULL_AUTO\"\n[approval]\npersons = \"one\"\n";
    let scene = Scene::start_in(place, lab, top, &format!("{tables}{table}"), &allow);
    scene.adopted(APP);
    Some((scene, app))
}

/// What the story tells; the addresses of its servers are the lab's own.
pub(super) fn telling(scene: &Scene, app: &WordPress) -> Telling {
    let own = [
        (app.web.url.trim_end_matches('/').to_owned(), "URL"),
        (format!("127.0.0.1:{}", app.database.port), "DATABASE"),
    ];
    Telling::begin(scene, APP, &app.path, OWN, &own)
}

pub(super) fn look(app: &WordPress) -> Look {
    hash_tree(&app.path, OWN)
}

/// All that differs but the times of directories: entries came and went, and that is all these tell.
pub(super) fn differences(before: &Look, after: &Look) -> Vec<String> {
    before.differences_but_comings(after)
}

/// See [`Scene::takes_back`].
#[track_caller]
pub(super) fn takes_back(scene: &Scene, heal: &Heal) {
    scene.takes_back(APP, heal);
}

#[test]
fn wp_config_comes_back_alone_only_where_no_secret_is_lost() {
    in_both_places(wp_config_comes_back);
}

fn wp_config_comes_back(place: Place) -> Option<Vec<String>> {
    let (scene, app) = watched_in(place, &["greeting"], None, false)?;
    let mut telling = telling(&scene, &app);
    let config = app.file("wp-config.php");
    let good = fs::read_to_string(&config).unwrap();
    let before = look(&app);
    let is_whole = || {
        http::wait_for_status(&app.web.url, 200);
        assert_eq!(fs::read_to_string(&config).unwrap(), good);
        let meta = fs::metadata(&config).unwrap();
        let owner = (meta.mode() & 0o7777, meta.uid());
        assert_eq!(owner, (0o640, scene.lab.user.uid));
    };

    faults::wp_config_truncated(&app);
    http::wait_for_status(&app.web.url, 500);
    let truncated = look(&app);
    let from_truncated = scene.heals_alone(APP, "restore_wp_config");
    is_whole();

    // Every bracket is closed, and PHP cannot read it all the same.
    fs::write(
        &config,
        good.replace("'WP_DEBUG', false", "'WP_DEBUG' false"),
    )
    .unwrap();
    http::wait_for_status(&app.web.url, 500);
    scene.heals_alone(APP, "restore_wp_config");
    is_whole();
    telling.look("put back");

    // Somebody changed a key before it broke off: he may have meant it, so a person decides.
    let other = good.replace("k3}q#eW0", "somebody");
    let other = other.replace("require_once ABSPATH . 'wp-settings.php';\n", "");
    fs::write(&config, &other).unwrap();
    let approval = scene.proposed(APP, "restore_wp_config");
    scene.rounds(APP, 3);
    assert_eq!(fs::read_to_string(&config).unwrap(), other);
    scene.nothing_else_began(APP);
    scene.approve(&approval);
    scene.ends(APP, "restore_wp_config", "approved", "Cured");
    is_whole();

    // With this password the site reaches no database. Somebody wrote it, so it is proposed.
    let other = good.replace("fB7-mQ2x-lab", "something-else");
    fs::write(&config, &other).unwrap();
    http::wait_for_status(&app.web.url, 500);
    scene.check_says(APP, "wp_config_keys", "FAIL", "DB_PASSWORD");
    let changed = look(&app);
    let from_changed = scene.heals_approved(APP, "restore_changed_wp_config");
    is_whole();

    // Gone: the installer is open to anyone.
    faults::wp_config_missing(&app);
    http::wait_for_status(&app.web.url, 302);
    let heal = scene.heals_alone(APP, "restore_wp_config");
    is_whole();
    takes_back(&scene, &heal);
    assert!(!config.exists());
    scene.check_says(APP, "http", "FAIL", "the installer is open to anyone");
    let gone: Vec<String> = differences(&before, &look(&app));
    assert_eq!(gone, ["wp-config.php: file is gone"]);
    telling.look("taken back");
    telling.heals(&scene, APP, "restore_wp_config");
    // Whatever state a heal began with can be had again.
    for (case, state, heal) in [
        ("truncated", truncated, from_truncated),
        ("another password", changed, from_changed),
    ] {
        takes_back(&scene, &heal);
        assert_eq!(
            differences(&state, &look(&app)),
            Vec::<String>::new(),
            "{case}"
        );
    }
    let said = scene.lab.log("healerd");
    let stored = ["state.db", "state.db-wal"].map(|name| {
        let bytes = fs::read(scene.daemon.state_dir.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    for secret in ["something-else", "fB7-mQ2x-lab", "k3}q#eW0"] {
        let leaked = said.contains(secret) || stored.iter().any(|text| text.contains(secret));
        assert!(!leaked, "{secret} left the site");
    }
    Some(telling.end())
}

#[test]
fn owners_and_modes_are_put_right() {
    in_both_places(owners_and_modes);
}

fn owners_and_modes(place: Place) -> Option<Vec<String>> {
    let (scene, app) = watched_in(place, &["greeting"], None, true)?;
    let mut telling = telling(&scene, &app);
    let uploads = app.file("wp-content/uploads");
    let photo = uploads.join("2026/11/photo.jpg");
    fs::create_dir_all(photo.parent().unwrap()).unwrap();
    fs::write(&photo, b"\xff\xd8 a photo").unwrap();
    scene.lab.user.own_all(&uploads);
    let before = look(&app);

    faults::uploads_owned_by_root(&app);
    let owned_by_root = hash_tree(&uploads, &[]);
    let from_root = scene.heals_alone(APP, "fix_uploads_permissions");
    before.assert_same(&look(&app));

    // Everybody can write what holds the passwords.
    let config = app.file("wp-config.php");
    set_mode(&config, 0o666);
    let open = look(&app);
    telling.look("open to everybody");
    let heal = scene.heals_approved(APP, "fix_wp_config_mode");
    assert_eq!(fs::metadata(&config).unwrap().mode() & 0o7777, 0o660);
    assert_eq!(http::status(&app.web.url), Some(200));
    telling.look("approved");
    takes_back(&scene, &heal);
    assert_eq!(differences(&open, &look(&app)), Vec::<String>::new());
    takes_back(&scene, &from_root);
    owned_by_root.assert_same(&hash_tree(&uploads, &[]));
    telling.look("taken back");
    for action in ["fix_uploads_permissions", "fix_wp_config_mode"] {
        telling.heals(&scene, APP, action);
    }
    Some(telling.end())
}

#[test]
fn a_flag_of_maintenance_goes_when_it_is_surely_stale_and_not_before() {
    in_both_places(flag_of_maintenance);
}

fn flag_of_maintenance(place: Place) -> Option<Vec<String>> {
    let (scene, app) = watched_in(place, &["greeting"], None, false)?;

    let mut telling = telling(&scene, &app);

    // A flag that never ages, because it always says now.
    let flag = app.file(".maintenance");
    faults::wp_maintenance(&scene.lab, &app, "time()");
    http::wait_for_status(&app.web.url, 503);
    scene.check_says(APP, "wp_maintenance", "PASS", "in maintenance for");
    scene.heals_alone(APP, "clear_stale_maintenance");
    http::wait_for_status(&app.web.url, 200);

    // One that WordPress itself no longer believes.
    faults::wp_maintenance(&scene.lab, &app, "1500000000");
    scene.heals_alone(APP, "clear_stale_maintenance");
    assert!(!flag.exists());

    // Somebody is at work, whatever the flag says.
    let pid = scene.lab.spawn(
        "worker",
        scene
            .lab
            .as_user("php")
            .args(["-r", "sleep(120);", "/usr/local/bin/wp"])
            .current_dir(&app.path),
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    faults::wp_maintenance(&scene.lab, &app, &now.as_secs().to_string());
    scene.check_says(APP, "wp_maintenance", "PASS", "still running");
    scene.rounds(APP, 3);
    assert_eq!(http::status(&app.web.url), Some(503));
    scene.nothing_else_began(APP);
    let left = look(&app);
    signal(pid, Signal::TERM);
    let heal = scene.heals_alone(APP, "clear_stale_maintenance");
    http::wait_for_status(&app.web.url, 200);
    telling.look("in the end");
    takes_back(&scene, &heal);
    http::wait_for_status(&app.web.url, 503);
    assert_eq!(differences(&left, &look(&app)), Vec::<String>::new());
    telling.heals(&scene, APP, "clear_stale_maintenance");
    Some(telling.end())
}

#[test]
fn a_database_that_is_down_and_a_core_file_that_is_gone_are_not_healed_by_guessing() {
    in_both_places(database_down_and_core_file_gone);
}

fn database_down_and_core_file_gone(place: Place) -> Option<Vec<String>> {
    let (scene, mut app) = watched_in(place, &["greeting"], None, false)?;
    let mut telling = telling(&scene, &app);
    let before = look(&app);

    app.database.stop(&scene.lab);
    http::wait_for_status(&app.web.url, 500);
    scene.check_says(APP, "wp_database", "FAIL", "does not answer: refused");
    scene.check_says(APP, "http", "FAIL", "reaches no database");
    scene.rounds(APP, 4);
    for check in [
        "wp_config",
        "wp_config_syntax",
        "wp_core_files",
        "wp_plugin_fatal",
    ] {
        let (status, message) = scene.journal.check(APP, check).unwrap();
        assert_eq!(status, "PASS", "{check}: {message}");
    }
    telling.check(&scene, APP, "wp_database");
    telling.check(&scene, APP, "http");
    assert_eq!(scene.journal.approvals(APP), Vec::new());
    scene.nothing_else_began(APP);
    before.assert_same(&look(&app));
    app.database.start(&scene.lab);
    http::wait_for_status(&app.web.url, 200);
    scene.check_says(APP, "wp_database", "PASS", "");

    let core = app.file("wp-includes/capabilities.php");
    let good = fs::read(&core).unwrap();
    faults::core_file_missing(&app, "wp-includes/capabilities.php");
    http::wait_for_status(&app.web.url, 500);
    scene.check_says(
        APP,
        "wp_core_files",
        "FAIL",
        "missing: wp-includes/capabilities.php",
    );
    // It would come from the network, so it is only proposed.
    scene.proposed(APP, "core_download");
    scene.rounds(APP, 3);
    assert!(!core.exists());
    scene.nothing_else_began(APP);
    telling.check(&scene, APP, "wp_core_files");
    telling.look("gone");
    fs::write(&core, good).unwrap();
    scene.lab.user.own(&core);
    http::wait_for_status(&app.web.url, 200);
    scene.check_says(APP, "wp_core_files", "PASS", "");
    let changed = differences(&before, &look(&app));
    assert!(
        changed
            .iter()
            .all(|line| line.starts_with("wp-includes/capabilities.php: ")),
        "{changed:?}"
    );
    scene.nothing_else_began(APP);
    telling.look("in the end");
    Some(telling.end())
}

#[test]
fn a_plugin_that_fails_is_set_aside_and_so_is_one_of_two_that_clash() {
    in_both_places(plugins_set_aside);
}

fn plugins_set_aside(place: Place) -> Option<Vec<String>> {
    let wp_cli = wordpress::wp_cli()?;
    let (scene, app) = watched_in(place, &["greeting", "banner"], Some(&wp_cli), false)?;
    let mut telling = telling(&scene, &app);
    let page = || http::wait_for_status(&app.web.url, 200).body;
    let aside = |name: &str| app.plugin(&format!("{name}.healerd-off"));

    app.install_plugins(
        &scene.lab,
        &["clash-one", "clash-two", "greeting", "banner", "tidy"],
    );
    let active = app.active_plugins(&scene.lab);
    http::wait_for_status(&app.web.url, 500);
    let clashing = hash_tree(&app.plugin("clash-two"), &[]);
    let of_the_pair = scene.heals_approved(APP, "set_plugin_aside");
    let kept = page();
    assert!(kept.contains("greeting was here") && kept.contains("banner was here"));
    // The log names the second of the two.
    assert!(aside("clash-two").join("clash-two.php").exists());
    assert!(!app.plugin("clash-two").exists() && !aside("clash-one").exists());
    assert_eq!(
        app.active_plugins(&scene.lab),
        active,
        "the database is not touched, though a plugin wrote to it whenever it was started"
    );

    app.install_plugins(&scene.lab, &["greeting", "fatal", "banner"]);
    let active = app.active_plugins(&scene.lab);
    let plugins = app.file("wp-content/plugins");
    let broken = hash_tree(&plugins, &[]);
    http::wait_for_status(&app.web.url, 500);
    let heal = scene.heals_approved(APP, "set_plugin_aside");
    let kept = page();
    assert!(kept.contains("greeting was here") && kept.contains("banner was here"));
    assert!(aside("fatal").join("includes/loader.php").exists());
    telling.look("approved");
    takes_back(&scene, &heal);
    assert_eq!(
        differences(&broken, &hash_tree(&plugins, &[])),
        Vec::<String>::new()
    );
    http::wait_for_status(&app.web.url, 500);
    assert_eq!(app.active_plugins(&scene.lab), active);
    takes_back(&scene, &of_the_pair);
    clashing.assert_same(&hash_tree(&app.plugin("clash-two"), &[]));
    assert!(!aside("clash-two").exists());
    telling.look("taken back");
    telling.heals(&scene, APP, "set_plugin_aside");
    Some(telling.end())
}

#[test]
fn without_wp_cli_the_log_alone_sets_nothing_aside() {
    let Some((scene, app)) = watched(&["greeting"], None, false) else {
        return;
    };
    app.install_plugins(&scene.lab, &["fatal", "greeting"]);
    http::wait_for_status(&app.web.url, 500);
    let before = look(&app);
    scene.check_says(APP, "wp_plugin_fatal", "FAIL", "PHP's log names fatal");
    let approval = scene.proposed(APP, "set_suspect_aside");
    scene.rounds(APP, 3);
    before.assert_same(&look(&app));
    scene.nothing_else_began(APP);
    scene.approve(&approval);
    scene.ends(APP, "set_suspect_aside", "approved", "Cured");
    assert!(
        http::wait_for_status(&app.web.url, 200)
            .body
            .contains("greeting was here")
    );
}

#[test]
fn more_than_one_plugin_at_once_is_a_matter_for_a_person_and_the_database() {
    in_both_places(more_than_one_plugin);
}

fn more_than_one_plugin(place: Place) -> Option<Vec<String>> {
    let wp_cli = wordpress::wp_cli()?;
    let (scene, app) = watched_in(place, &["greeting"], Some(&wp_cli), false)?;
    let mut telling = telling(&scene, &app);
    app.install_plugins(&scene.lab, &["clash-one", "clash-two", "fatal", "greeting"]);
    http::wait_for_status(&app.web.url, 500);
    let before = look(&app);
    let approval = scene.proposed(APP, "deactivate_plugin");
    scene.rounds(APP, 2);
    before.assert_same(&look(&app));
    scene.nothing_else_began(APP);
    scene.approve(&approval);
    scene.ends(APP, "deactivate_plugin", "approved", "Cured");
    let page = http::wait_for_status(&app.web.url, 200).body;
    assert!(page.contains("greeting was here"));
    let active = app.active_plugins(&scene.lab);
    assert!(
        !active.contains("fatal/") && active.contains("greeting/"),
        "{active}"
    );
    let one_of_two = active.contains("clash-one/") != active.contains("clash-two/");
    assert!(one_of_two, "{active}");
    assert_eq!(differences(&before, &look(&app)), Vec::<String>::new());
    telling.look("in the end");
    telling.heals(&scene, APP, "deactivate_plugin");
    Some(telling.end())
}
