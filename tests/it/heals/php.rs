//! Plain PHP: every action of its stack.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use super::scene::Scene;
use crate::lab::daemon::app_table;
use crate::lab::faults::{huge_log, loose_mode};
use crate::lab::tree::hash_tree;
use crate::lab::{Lab, http, web};

const VARS: &str = "vars = { error_log = \"logs/php-errors.log\", error_log_max = \"2MiB\" }";

#[test]
fn plain_php_is_healed_without_a_word_from_anyone() {
    let Some(lab) = Lab::open(web::PROGRAMS) else {
        return;
    };
    let app = lab.php();
    let table = app_table(&lab, "php", "php", &app.path, &app.web.url, VARS);
    let top = "mode = \"FULL_AUTO\"\n[approval]\npersons = \"one\"\n";
    let scene = Scene::start(lab, top, &table, "");
    scene.adopted("php");

    // Somebody emptied the settings, then tore them, and opened them to everybody on the way: they come back as they
    // were when all was well.
    let env = app.path.join(".env");
    let whole = fs::read(&env).unwrap();
    for ruined in ["", "APP_NAME=\"cut o"] {
        fs::write(&env, ruined).unwrap();
        loose_mode(&env, 0o644);
        scene.heals_alone("php", "restore_env");
        assert_eq!(fs::read(&env).unwrap(), whole);
        assert_eq!(fs::metadata(&env).unwrap().mode() & 0o7777, 0o640);
    }

    // Gone, and the application answers without its settings: somebody may have meant it, so a person decides.
    fs::remove_file(&env).unwrap();
    scene.check_says("php", "php_env_file", "FAIL", "known-good copy of");
    scene.heals_approved("php", "restore_env");
    assert_eq!(fs::read(&env).unwrap(), whole);
    let meta = fs::metadata(&env).unwrap();
    assert_eq!(
        (meta.mode() & 0o7777, meta.uid()),
        (0o640, scene.lab.user.uid)
    );

    // Its entry is gone: nobody keeps us out, whatever the server answers.
    let index = app.path.join("index.php");
    let entry = fs::read(&index).unwrap();
    fs::remove_file(&index).unwrap();
    scene.heals_alone("php", "restore_index");
    assert_eq!(fs::read(&index).unwrap(), entry);
    http::wait_for_status(&app.web.url, 200);

    // Everybody can write a file that runs as code: exactly that bit goes.
    let config = app.path.join("config.php");
    let before = hash_tree(&app.path, &["logs"]);
    loose_mode(&config, 0o666);
    scene.heals_alone("php", "fix_permissions");
    assert_eq!(fs::metadata(&config).unwrap().mode() & 0o7777, 0o664);
    loose_mode(&config, 0o640);
    before.assert_same(&hash_tree(&app.path, &["logs"]));

    // A log has grown, and a process has it open: its end stays, in its inode.
    let log = &app.error_log;
    huge_log(log, &scene.lab.user, 1);
    let mut writer = fs::File::options().append(true).open(log).unwrap();
    let inode = fs::metadata(log).unwrap().ino();
    huge_log(log, &scene.lab.user, 3 << 20);
    scene.heals_alone("php", "trim_error_log");
    let length = fs::metadata(log).unwrap().len();
    assert!(length < 2 << 20, "{length}");
    writer.write_all(b"the writer goes on\n").unwrap();
    assert_eq!(http::status(&app.web.page("?complain=aloud")), Some(200));
    let kept = fs::read_to_string(log).unwrap();
    assert!(kept.contains("the writer goes on\n"), "{}", kept.len());
    assert!(kept.contains("asked to complain: aloud"), "{}", kept.len());
    assert_eq!(fs::metadata(log).unwrap().ino(), inode);
    before.assert_same(&hash_tree(&app.path, &["logs"]));
    assert_eq!(http::status(&app.web.url), Some(200));

    // In a lower mode it waits for a person.
    scene.set_mode("php", "SEMI_AUTO");
    loose_mode(&config, 0o666);
    let approval = scene.proposed("php", "fix_permissions");
    scene.rounds("php", 3);
    assert_eq!(fs::metadata(&config).unwrap().mode() & 0o7777, 0o666);
    scene.nothing_else_began("php");
    scene.approve(&approval);
    scene.ends("php", "fix_permissions", "approved", "Cured");
    assert_eq!(fs::metadata(&config).unwrap().mode() & 0o7777, 0o664);
    scene.nothing_else_began("php");
}
