//! WordPress' own files: what is missing or cut off is seen without the network, and WP-CLI puts it back or changes
//! nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::place::Place;
use super::scene::Scene;
use super::wordpress::{APP, differences, look, takes_back, watched_with};
use crate::lab::process::run;
use crate::lab::wordpress::{self, WordPress};
use crate::lab::{Lab, faults, http, set_mode, wait_for};

const CAPABILITIES: &str = "wp-includes/capabilities.php";

/// WP-CLI with a cache of its own and nothing behind it: every connection goes to a port where nobody listens.
fn offline(lab: &Lab, wp_cli: &Path) -> PathBuf {
    let folder = lab.dir().join("wp-cli");
    fs::create_dir_all(folder.join("cache/core")).unwrap();
    let file = folder.join("wp.php");
    let text = format!(
        "<?php\nforeach ( array( 'http', 'https', 'all' ) as $kind ) putenv( \"{{$kind}}_proxy=http://127.0.0.1:9\" );\n\
         putenv( 'WP_CLI_CACHE_DIR=' . __DIR__ . '/cache' );\ninclude '{}';\n",
        wp_cli.display(),
    );
    fs::write(&file, text).unwrap();
    set_mode(&file, 0o644);
    set_mode(&folder, 0o755);
    lab.user.own_all(&folder.join("cache"));
    file
}

/// Puts these files where WP-CLI keeps what it has downloaded.
fn downloaded(scene: &Scene, app: &WordPress, files: &[&str]) {
    let version = fs::read_to_string(app.file("wp-includes/version.php")).unwrap();
    let version = version
        .lines()
        .find_map(|line| line.strip_prefix("$wp_version = '")?.strip_suffix("';"))
        .unwrap();
    let cache = scene.lab.dir().join("wp-cli/cache/core");
    let program = "$z = new ZipArchive; $z->open( $argv[1], ZipArchive::CREATE ); \
        foreach ( array_slice( $argv, 2 ) as $f ) $z->addFile( $f, \"wordpress/$f\" ); $z->close();";
    run(
        scene
            .lab
            .as_user("php")
            .args(["-r", program, "--"])
            .arg(cache.join(format!("wordpress-{version}-en_US.zip")))
            .args(files)
            .current_dir(&app.path),
        Duration::from_mins(1),
    )
    .expect_success();
}

#[test]
fn a_core_file_that_is_gone_or_cut_off_is_put_back_or_nothing_is_changed() {
    let Some(wp_cli) = wordpress::wp_cli() else {
        return;
    };
    let wrap = |lab: &Lab| {
        // What was not put back does not come later.
        let stack = "extends = \"wordpress\"\n[action.core_download]\nsettle = \"2s\"\n";
        lab.stack_file("wordpress", stack);
        offline(lab, &wp_cli)
    };
    let Some((scene, app)) = watched_with(Place::Here, &["greeting"], &wrap, false, "") else {
        return;
    };
    let file = app.file(CAPABILITIES);
    let good = fs::read(&file).unwrap();
    let healthy = look(&app);

    // There is nowhere to get it from: the action fails, and what it touched is as it was.
    faults::core_file_missing(&app, CAPABILITIES);
    http::wait_for_status(&app.web.url, 500);
    let broken = look(&app);
    let approval = scene.proposed(APP, "core_download");
    scene.approve(&approval);
    let heal = scene.next_end(APP);
    assert_eq!(heal.action, "core_download");
    assert!(
        ["NotCured", "Undone"].contains(&heal.state.as_str()),
        "{heal:?}"
    );
    assert_eq!(differences(&broken, &look(&app)), Vec::<String>::new());
    fs::write(&file, &good).unwrap();
    scene.lab.user.own(&file);
    http::wait_for_status(&app.web.url, 200);
    wait_for("the incident is over", || scene.journal.unclosed(APP) == 0);

    // A full disk cut it off: the file is there, and PHP cannot read it.
    downloaded(&scene, &app, &[CAPABILITIES, "wp-load.php"]);
    faults::core_file_cut(&app, CAPABILITIES);
    http::wait_for_status(&app.web.url, 500);
    let cut = look(&app);
    scene.check_says(
        APP,
        "wp_core_files",
        "FAIL",
        "breaks off, or is no PHP at all: wp-includes/capabilities.php",
    );
    scene.check_says(APP, "wp_plugin_fatal", "PASS", "own files come first");
    let approval = scene.proposed(APP, "core_download");
    scene.approve(&approval);
    let heal = scene.ends(APP, "core_download", "approved", "Cured");
    http::wait_for_status(&app.web.url, 200);
    assert_eq!(fs::read(&file).unwrap(), good);
    let changed = differences(&healthy, &look(&app));
    let ours = |line: &String| {
        line.starts_with("wp-includes/capabilities.php: ") || line.starts_with("wp-load.php: ")
    };
    assert!(changed.iter().all(ours), "{changed:?}");
    takes_back(&scene, &heal);
    assert_eq!(differences(&cut, &look(&app)), Vec::<String>::new());
}
