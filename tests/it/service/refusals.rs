//! What the daemon refuses to start on: each is told with its place and what to do, and nothing is touched.

use std::path::Path;

use sqlx::{ConnectOptions as _, Connection as _};

use crate::lab::daemon::{Daemon, app_table};
use crate::lab::process::{is_alive, run};
use crate::lab::{Lab, PATIENCE, fixture, set_mode, store, wait_for};

/// A lab with a site's files, and the configuration that watches them.
fn site() -> Option<(Lab, String)> {
    let lab = Lab::open(&[])?;
    let path = lab.dir().join("blog");
    store::copy_tree(&fixture("php"), &path);
    lab.user.own_all(&path);
    let table = super::files_only(&app_table(&lab, "blog", "php", &path, "", ""));
    Some((lab, format!("mode = \"MANUAL\"\n{}{table}", super::QUICK)))
}

/// Lays a file beside the configuration.
fn lay(lab: &Lab, path: &str, mode: u32, text: &str) {
    let file = lab.dir().join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, text).unwrap();
    set_mode(&file, mode);
}

/// Number of the line of the configuration that holds this.
fn line_of(config: &str, part: &str) -> usize {
    1 + config.lines().position(|line| line.contains(part)).unwrap()
}

#[track_caller]
fn refuses(lab: &Lab, config: &str, parts: &[String]) {
    let said = lab.daemon(config, "").expect_err("it must not start");
    for part in parts {
        assert!(said.contains(part), "`{part}` in:\n{said}");
    }
    assert!(
        !lab.dir().join("state").exists(),
        "nothing was made before everything was judged"
    );
    assert!(!lab.dir().join("control.sock").exists());
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once_with_its_line() {
    let Some((lab, config)) = site() else { return };
    let file = lab.dir().join("healerd.toml").display().to_string();
    let bad = config
        .replace("[grace]\n", "[grace]\ntiem = \"5s\"\n")
        .replace("stack = \"php\"", "stack = \"pph\"");
    lay(&lab, "webhook.secret", 0o644, "canary-of-the-webhook\n");
    let secret = lab.dir().join("webhook.secret").display().to_string();
    let bad = format!(
        "{bad}[notify]\nwebhook = {{ url = \"http://127.0.0.1:9/\", secret_file = \"{secret}\" }}\n"
    );
    refuses(
        &lab,
        &bad,
        &[
            format!("{file}:{}:", line_of(&bad, "tiem")),
            "`grace.tiem`".to_owned(),
            "did you mean `time`?".to_owned(),
            format!("{file}:{}:", line_of(&bad, "pph")),
            "the stack `pph`, which does not exist".to_owned(),
            format!("{file}:{}:", line_of(&bad, "secret_file")),
            format!("{secret}, which has mode 0644"),
            format!("chmod 0600 {secret}"),
        ],
    );
    assert!(!lab.log("healerd").contains("canary-of-the-webhook"));

    // The same judgement without a daemon, for a person and for a program.
    let check = |arguments: &[&str]| {
        run(
            lab.as_root(env!("CARGO_BIN_EXE_healerctl"))
                .env_remove("HEALERD_LAB")
                .args(arguments)
                .arg("check-config")
                .arg(&file),
            PATIENCE,
        )
    };
    let said = check(&[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("`grace.tiem`"), "{}", said.stderr);
    let said = check(&["--json"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let error: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(error["error"]["code"], "bad_config", "{error:#}");
}

#[test]
fn a_stack_file_with_a_mistake_is_told_by_file_and_line() {
    let Some((lab, config)) = site() else { return };
    lay(
        &lab,
        "stacks.d/own.toml",
        0o644,
        "title = \"Own\"\n\n[check.one]\ntitle = \"one\"\ncategory = \"SYSTEM\"\nprobe.file = 1\n",
    );
    refuses(
        &lab,
        &config,
        &[
            "own.toml:6:".to_owned(),
            "did you mean `probes`?".to_owned(),
        ],
    );
    // What is run as somebody else is written there, so nobody else may write it.
    lay(&lab, "stacks.d/own.toml", 0o666, "title = \"Own\"\n");
    refuses(
        &lab,
        &config,
        &["own.toml".to_owned(), "0666".to_owned(), "chmod".to_owned()],
    );
}

#[test]
fn a_configuration_that_others_can_write_is_refused() {
    let Some((lab, config)) = site() else { return };
    lay(
        &lab,
        "conf.d/10-loose.toml",
        0o666,
        "mode = \"FULL_AUTO\"\n",
    );
    refuses(
        &lab,
        &config,
        &[
            "10-loose.toml".to_owned(),
            "0666".to_owned(),
            "chmod go-w".to_owned(),
        ],
    );
}

#[test]
fn a_vault_in_a_temporary_directory_is_refused() {
    let Some((lab, config)) = site() else { return };
    let temp = tempfile::tempdir_in("/var/tmp").unwrap();
    let state = temp.path().join("state");
    lay(
        &lab,
        "conf.d/10-state.toml",
        0o644,
        &format!("[daemon]\nstate_dir = \"{}\"\n", state.display()),
    );
    refuses(
        &lab,
        &config,
        &[
            "10-state.toml:2:".to_owned(),
            "`daemon.state_dir` lies in a temporary folder, where backups would be lost".to_owned(),
        ],
    );
}

#[test]
fn a_second_daemon_on_the_same_state_names_the_first_and_leaves_it_alone() {
    let Some((lab, config)) = site() else { return };
    let first = lab.daemon(&config, "").unwrap();
    let (code, said) = first.ctl(&lab, &["hold", "all", "--reason", "kept by the first"]);
    assert_eq!(code, Some(0), "{said:#}");
    let second = run(
        lab.as_root(env!("CARGO_BIN_EXE_healerd"))
            .env_remove("HEALERD_LAB")
            .arg("--config")
            .arg(lab.dir().join("healerd.toml")),
        PATIENCE,
    );
    assert_eq!(second.code, Some(1), "{second:?}");
    let holder = format!("is in use by process {}", first.pid);
    assert!(second.stderr.contains(&holder), "{}", second.stderr);
    assert!(second.stderr.contains("heal twice"), "{}", second.stderr);
    assert!(is_alive(first.pid));
    let (_, status) = first.ctl(&lab, &["status"]);
    assert_eq!(status["holds"][0]["reason"], "kept by the first");

    // Killed without a word, it leaves a socket and a lock behind; the next one takes both and knows the hold.
    first.kill(&lab);
    assert!(first.socket.exists());
    let next = lab.restart_daemon(first).unwrap();
    let (_, status) = next.ctl(&lab, &["status"]);
    assert_eq!(status["holds"][0]["reason"], "kept by the first");
    next.stop(&lab);
}

/// Marks the state as written by a later release.
fn from_the_future(database: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let mut connection = options.connect().await.unwrap();
            sqlx::query(
                "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9001, 'from a later release', 1, x'00', 0)",
            )
            .execute(&mut connection)
            .await
            .unwrap();
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(&mut connection)
                .await
                .unwrap();
            connection.close().await.unwrap();
        });
}

#[test]
fn state_from_a_later_release_is_refused_and_not_changed() {
    let Some((lab, config)) = site() else { return };
    let daemon = lab.daemon(&config, "").unwrap();
    daemon.stop(&lab);
    let database = daemon.state_dir.join("state.db");
    from_the_future(&database);
    let before = std::fs::read(&database).unwrap();
    let said = lab.restart_daemon(daemon).unwrap_err();
    assert!(
        said.contains("written by a later version: it has schema 9001"),
        "{said}"
    );
    assert!(said.contains("install the later version again"), "{said}");
    assert!(std::fs::read(&database).unwrap() == before, "not a byte");
}

#[test]
fn after_three_crashes_in_ten_minutes_it_only_observes() {
    let Some((lab, config)) = site() else { return };
    let config = config.replace("mode = \"MANUAL\"", "mode = \"FULL_AUTO\"");
    let mut daemon: Daemon = lab.daemon(&config, "").unwrap();
    let observing = |daemon: &Daemon| daemon.ctl(&lab, &["status"]).1["observing"].clone();
    for _ in 0..3 {
        assert!(observing(&daemon).is_null());
        daemon.kill(&lab);
        daemon = lab.restart_daemon(daemon).unwrap();
    }
    let why = observing(&daemon);
    assert!(
        why.as_str()
            .is_some_and(|why| why.contains("3 times within ten minutes")),
        "{why}"
    );
    set_mode(&lab.dir().join("blog/config.php"), 0o666);
    let bad = |daemon: &Daemon| {
        let (_, apps) = daemon.ctl(&lab, &["apps"]);
        apps["items"][0]["bad"] == serde_json::json!(["file_permissions"])
    };
    wait_for("it sees", || bad(&daemon));
    wait_for("what it would do is known", || {
        let (_, plan) = daemon.ctl(&lab, &["plan", "blog"]);
        plan["autoHeal"][0]["actionName"] == "fix_permissions"
    });
    let (_, heals) = daemon.ctl(&lab, &["heals"]);
    assert_eq!(heals["items"], serde_json::json!([]), "and does nothing");
    let (code, said) = daemon.ctl(&lab, &["resume", "all", "--reason", "the disk is repaired"]);
    assert_eq!(code, Some(0), "{said:#}");
    wait_for("it heals again", || {
        let (_, heals) = daemon.ctl(&lab, &["heals"]);
        heals["items"][0]["state"] == "Cured"
    });
}
