//! The lab about itself: each application is healthy at first, each fault is seen from outside, and a cure by hand is too.
//!
//! What fails here is the test bed or this machine, never the daemon.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::http::{get, status, wait_for_status};
use super::tree::hash_tree;
use super::{Lab, faults, laravel, machine, node, process, prometheus, set_mode, wait_for, web};

/// What a page may write while it is looked at.
const LARAVEL_SCRATCH: &[&str] = &["storage/framework", "storage/logs"];

#[test]
fn plain_php_is_healthy_and_looking_changes_nothing() {
    let Some(lab) = Lab::open(web::PROGRAMS) else {
        return;
    };
    let app = lab.php();
    let before = hash_tree(&app.path, &[]);
    assert!(
        get(&app.web.url)
            .unwrap()
            .body
            .contains("<title>Shop</title>")
    );
    assert_eq!(
        get(&app.web.page("health.php")).unwrap().body.trim(),
        r#"{"ok":true}"#
    );
    assert_eq!(
        status(&app.web.page(".env")),
        Some(403),
        "secrets are not served"
    );
    before.assert_same(&hash_tree(&app.path, &[]));
    assert_eq!(fs::metadata(&app.path).unwrap().uid(), lab.user.uid);
}

#[test]
fn faults_of_plain_php_are_seen_and_can_be_cured() {
    let Some(lab) = Lab::open(web::PROGRAMS) else {
        return;
    };
    let mut app = lab.php();

    assert_eq!(status(&app.web.page("?complain=loudly")), Some(200));
    assert!(
        fs::read_to_string(&app.error_log)
            .unwrap()
            .contains("asked to complain: loudly")
    );

    let index = app.path.join("index.php");
    let good = fs::read(&index).unwrap();
    faults::syntax_error(&index);
    wait_for_status(&app.web.url, 500);
    assert_eq!(
        status(&app.web.page("health.php")),
        Some(200),
        "only this page is broken"
    );
    fs::write(&index, good).unwrap();
    wait_for_status(&app.web.url, 200);

    let config = app.path.join("config.php");
    let good = fs::read(&config).unwrap();
    fs::remove_file(&config).unwrap();
    wait_for_status(&app.web.url, 500);
    fs::write(&config, good).unwrap();
    wait_for_status(&app.web.url, 200);

    app.web.kill_fpm(&lab);
    assert_eq!(status(&app.web.url), Some(502));
    assert!(app.web.fpm_socket.exists(), "the stale socket stays");
    app.web.start_fpm(&lab);
    wait_for_status(&app.web.url, 200);

    let secrets = app.path.join(".env");
    faults::loose_mode(&secrets, 0o666);
    assert_eq!(
        fs::metadata(&secrets).unwrap().permissions().mode() & 0o777,
        0o666
    );
    faults::loose_mode(&app.path, 0o777);
    assert_eq!(
        fs::metadata(&app.path).unwrap().permissions().mode() & 0o777,
        0o777
    );
    faults::env_truncated(&app.path);
    assert_eq!(
        fs::read_to_string(&secrets).unwrap(),
        "APP_ENV=production\n"[..18].to_owned() + "\n"
    );
    faults::env_missing(&app.path);
    assert!(!secrets.exists());
}

#[test]
fn a_huge_log_is_real_to_its_last_line() {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let Some(lab) = Lab::open(&[]) else { return };
    let log = lab.dir().join("laravel.log");
    faults::huge_log(&log, &lab.user, 300 << 20);
    let mut file = fs::File::open(&log).unwrap();
    let meta = file.metadata().unwrap();
    assert!(meta.len() >= 300 << 20, "{}", meta.len());
    assert!(meta.blocks() * 512 >= 300 << 20, "no holes");
    assert_eq!(meta.uid(), lab.user.uid);
    file.seek(SeekFrom::End(-1000)).unwrap();
    let mut tail = String::new();
    file.read_to_string(&mut tail).unwrap();
    assert!(
        tail.ends_with('\n') && tail.lines().nth(2).unwrap().starts_with("[2026-01-01"),
        "{tail}"
    );
}

#[test]
fn laravel_is_healthy_and_looking_changes_only_its_scratch() {
    let Some(lab) = Lab::open(laravel::PROGRAMS) else {
        return;
    };
    let app = lab.laravel();
    let before = hash_tree(&app.path, LARAVEL_SCRATCH);
    assert!(get(&app.web.url).unwrap().body.contains("hits 1, users 0"));
    assert_eq!(get(&app.web.page("health")).unwrap().body, r#"{"ok":true}"#);
    before.assert_same(&hash_tree(&app.path, LARAVEL_SCRATCH));
    let pending = app.artisan(&lab, &["migrate:status"]).expect_success();
    assert!(!pending.stdout.contains("| No"), "{}", pending.stdout);
}

#[test]
fn storage_owned_by_root_breaks_laravel_until_it_is_given_back() {
    let Some(lab) = Lab::open(laravel::PROGRAMS) else {
        return;
    };
    let app = lab.laravel();
    wait_for_status(&app.web.url, 200);
    faults::storage_owned_by_root(&app);
    assert_eq!(status(&app.web.url), Some(500));
    assert_eq!(fs::metadata(app.file("bootstrap/cache")).unwrap().uid(), 0);
    lab.user.own_all(&app.file("storage"));
    lab.user.own_all(&app.file("bootstrap/cache"));
    wait_for_status(&app.web.url, 200);
}

#[test]
fn a_bad_config_cache_breaks_laravel_until_it_is_cleared() {
    let Some(lab) = Lab::open(laravel::PROGRAMS) else {
        return;
    };
    let app = lab.laravel();
    let cached = app.file("bootstrap/cache/config.php");
    faults::stale_config_cache(&lab, &app);
    assert_eq!(status(&app.web.page("health")), Some(500));
    app.artisan(&lab, &["config:clear"]).expect_success();
    assert!(!cached.exists());
    wait_for_status(&app.web.page("health"), 200);

    faults::broken_config_cache(&lab, &app);
    assert_eq!(status(&app.web.url), Some(500));
    assert_ne!(
        app.artisan(&lab, &["config:clear"]).code,
        Some(0),
        "artisan cannot cure what it reads first"
    );
    fs::remove_file(&cached).unwrap();
    wait_for_status(&app.web.url, 200);
}

#[test]
fn a_damaged_environment_breaks_laravel_until_it_is_back() {
    let Some(lab) = Lab::open(laravel::PROGRAMS) else {
        return;
    };
    let app = lab.laravel();
    let env = app.file(".env");
    let good = fs::read(&env).unwrap();
    let restore = || {
        fs::write(&env, &good).unwrap();
        lab.user.own(&env);
        set_mode(&env, 0o640);
        wait_for_status(&app.web.url, 200);
    };
    restore();
    faults::app_key_empty(&app);
    assert_eq!(status(&app.web.url), Some(500));
    restore();
    faults::env_truncated(&app.path);
    assert_eq!(status(&app.web.url), Some(500));
    restore();
    faults::env_missing(&app.path);
    assert_eq!(status(&app.web.url), Some(500));
    restore();
}

#[test]
fn laravel_in_maintenance_answers_503_until_it_is_up() {
    let Some(lab) = Lab::open(laravel::PROGRAMS) else {
        return;
    };
    let app = lab.laravel();
    faults::maintenance_left_on(&lab, &app);
    assert_eq!(status(&app.web.url), Some(503));
    app.artisan(&lab, &["up"]).expect_success();
    wait_for_status(&app.web.url, 200);
}

#[test]
fn quiet_faults_of_laravel_are_seen_without_an_outage() {
    let Some(lab) = Lab::open(laravel::PROGRAMS) else {
        return;
    };
    let app = lab.laravel();
    let pending = || {
        app.artisan(&lab, &["migrate:status"])
            .expect_success()
            .stdout
            .contains("| No")
    };
    assert!(!pending());
    faults::migration_pending(&lab, &app);
    assert!(pending());
    app.artisan(&lab, &["migrate", "--force"]).expect_success();
    assert!(!pending());

    let upload = app.file("storage/app/public/upload.txt");
    fs::write(&upload, "uploaded").unwrap();
    assert_eq!(
        get(&app.web.page("storage/upload.txt")).unwrap().body,
        "uploaded"
    );
    faults::storage_link_missing(&app);
    assert_eq!(status(&app.web.page("storage/upload.txt")), Some(404));
    app.artisan(&lab, &["storage:link"]).expect_success();
    assert_eq!(status(&app.web.page("storage/upload.txt")), Some(200));

    faults::app_key_empty(&app);
    let quiet = get(&app.web.url).unwrap();
    faults::debug_left_on(&app);
    let loud = get(&app.web.url).unwrap();
    assert_eq!((quiet.status, loud.status), (500, 500));
    let trace = "MissingAppKeyException";
    assert!(
        !quiet.body.contains(trace) && loud.body.contains(trace),
        "{}",
        loud.body
    );
}

#[test]
fn laravels_packages_come_back_without_a_network() {
    let Some(lab) = Lab::open(laravel::PROGRAMS) else {
        return;
    };
    let app = lab.laravel();
    faults::vendor_missing(&app);
    assert_eq!(status(&app.web.url), Some(500));
    let mut install = lab.as_user("composer");
    install
        .args(["install", "-n", "--no-progress", "-d"])
        .arg(&app.path);
    process::run(&mut install, super::PATIENCE).expect_success();
    wait_for_status(&app.web.url, 200);
}

#[test]
fn faults_of_express_under_pm2_are_seen_and_leave_the_bystander_alone() {
    let Some(lab) = Lab::open(node::PROGRAMS) else {
        return;
    };
    let Some(app) = lab.express_pm2() else { return };
    let bystander = get(&app.bystander_url).unwrap().body;
    let healthy = app.process(&lab);
    assert_eq!((healthy.status.as_str(), healthy.restarts), ("online", 0));

    faults::process_killed(healthy.pid);
    wait_for("pm2 starts a killed process again", || {
        let now = app.process(&lab);
        now.status == "online" && now.pid != healthy.pid && now.restarts == 1
    });
    wait_for_status(&app.url, 200);

    faults::stopped_in_pm2(&lab, &app);
    assert_eq!(status(&app.url), None);
    assert_eq!(app.process(&lab).status, "stopped");

    let holder = faults::port_taken(&lab, app.port);
    app.pm2(&lab, &["start", &app.name]);
    wait_for("pm2 gives up on a port that is taken", || {
        app.process(&lab).status == "errored"
    });
    lab.stop(holder);
    app.pm2(&lab, &["restart", &app.name]).expect_success();
    wait_for_status(&app.url, 200);

    assert_eq!(
        get(&app.bystander_url).unwrap().body,
        bystander,
        "the same process all the time"
    );
}

#[test]
fn a_missing_package_comes_back_without_a_network() {
    let Some(lab) = Lab::open(node::PROGRAMS) else {
        return;
    };
    let Some(app) = lab.express_pm2() else { return };
    let before = hash_tree(&app.path.join("node_modules"), &[]);
    faults::package_missing(&lab, &app, "express");
    wait_for("pm2 gives up on a missing package", || {
        app.process(&lab).status == "errored"
    });
    assert_eq!(status(&app.url), None);
    app.npm(&lab, &["ci", "--offline"]).expect_success();
    app.pm2(&lab, &["restart", &app.name]).expect_success();
    wait_for_status(&app.url, 200);
    let gone: Vec<String> = before
        .differences(&hash_tree(&app.path.join("node_modules"), &[]))
        .into_iter()
        .filter(|line| line.contains("is gone") || line.contains(" content "))
        .collect();
    assert_eq!(
        gone,
        Vec::<String>::new(),
        "the lock file brings back the same bytes"
    );

    let manifest = app.path.join("package.json");
    let good = fs::read(&manifest).unwrap();
    let refused = |code: &str| {
        let said = app.npm(&lab, &["ci", "--offline"]);
        assert_ne!(said.code, Some(0), "{code}");
        assert!(said.stderr.contains(code), "{code}: {}", said.stderr);
        fs::write(&manifest, &good).unwrap();
    };
    faults::lock_out_of_step(&lab, &app);
    refused("EUSAGE");
    faults::package_json_cut(&app);
    refused("EJSONPARSE");
    assert_eq!(
        status(&app.url),
        Some(200),
        "a running process does not read its manifest"
    );
}

#[test]
fn express_as_a_unit_is_seen_to_fail_and_outlives_a_power_cut() {
    let Some(lab) = Lab::open(&[machine::PROGRAMS, node::PROGRAMS].concat()) else {
        return;
    };
    let Some(app) = lab.express_unit() else {
        return;
    };
    let machine = &app.machine;
    let active = || machine.run(&["systemctl", "is-active", &app.unit]).stdout;
    assert_eq!(active().trim(), "active");
    assert!(
        machine
            .root()
            .join(app.path.strip_prefix("/").unwrap())
            .join("package.json")
            .is_file()
    );

    machine
        .run(&["systemctl", "kill", "--signal=KILL", &app.unit])
        .expect_success();
    wait_for("systemd sees the process die", || {
        active().trim() == "failed"
    });
    assert_eq!(machine.status(&app.url), None);
    machine
        .run(&["systemctl", "restart", &app.unit])
        .expect_success();
    machine.wait_for_status(&app.url, 200);

    machine.cut();
    machine.start();
    machine.wait_for_status(&app.url, 200);
}

#[test]
fn prometheus_scrapes_its_target_and_promtool_has_an_opinion() {
    let Some(lab) = Lab::open(prometheus::PROGRAMS) else {
        return;
    };
    let server = lab.prometheus(None);
    let up = server.wait_for("up{job=\"lab\"} == 1");
    assert!((up - 1.0).abs() < f64::EPSILON);
    let own = get(&format!("{}metrics", server.url)).unwrap().body;
    assert!(own.contains("prometheus_build_info"));
    let good = "# HELP lab_things_total Things so far.\n# TYPE lab_things_total counter\nlab_things_total 1\n";
    prometheus::check_metrics(&lab, good).expect_success();
    assert_ne!(
        prometheus::check_metrics(&lab, "lab_things_total 1 1 1\n").code,
        Some(0)
    );
    let rules = lab.dir().join("rules.yml");
    fs::write(
        &rules,
        "groups: [{ name: lab, rules: [{ alert: Down, expr: 'up == 0' }] }]\n",
    )
    .unwrap();
    prometheus::check_rules(&lab, &rules).expect_success();
    fs::write(
        &rules,
        "groups: [{ name: lab, rules: [{ alert: Down, expr: 'up ==' }] }]\n",
    )
    .unwrap();
    assert_ne!(prometheus::check_rules(&lab, &rules).code, Some(0));
}

#[test]
fn a_daemon_that_cannot_start_is_told_with_what_it_said() {
    let Some(lab) = Lab::open(&[]) else { return };
    let refused = lab.daemon("no_such_key = 1", "");
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let Some(lab) = Lab::open(web::PROGRAMS) else {
        return;
    };
    let app = lab.php();
    let dir = lab.dir().to_path_buf();
    let (nginx, fpm) = (app.web.nginx, app.web.fpm);
    assert!(lab.runs(nginx) && process::is_alive(fpm));
    drop(lab);
    assert!(!dir.exists());
    assert!(!process::is_alive(nginx) && !process::is_alive(fpm));
    assert_eq!(marked(&dir), Vec::<String>::new(), "processes of the lab");
    assert_eq!(status(&app.web.url), None);
}

/// Processes that were started in a lab, by the mark in their environment.
fn marked(dir: &Path) -> Vec<String> {
    let mark = format!("HEALERD_LAB={}", dir.display());
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            fs::read(entry.path().join("environ")).is_ok_and(|bytes| {
                bytes
                    .split(|byte| *byte == 0)
                    .any(|variable| variable == mark.as_bytes())
            })
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
