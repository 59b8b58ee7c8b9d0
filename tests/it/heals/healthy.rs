//! A healthy application is looked at and left alone.

use std::process::Stdio;

use rustix::process::Signal;

use super::express::table;
use super::place::Place;
use super::scene::Scene;
use super::wordpress;
use crate::lab::daemon::app_table;
use crate::lab::process::signal;
use crate::lab::tree::hash_tree;
use crate::lab::{Lab, http, laravel, node, wait_for};

/// What the applications themselves write while they are asked for their pages.
const OWN: &[&str] = &[
    "storage/framework/sessions",
    "storage/framework/cache",
    "storage/logs",
    "logs",
];

#[test]
fn a_hundred_rounds_leave_healthy_applications_as_they_are() {
    let programs = [laravel::PROGRAMS, node::PROGRAMS].concat();
    let Some(lab) = Lab::open(&programs) else {
        return;
    };
    let Some(express) = lab.express_pm2() else {
        return;
    };
    let (laravel, php) = (lab.laravel(), lab.php());
    // Views and manifests are compiled with the first page.
    http::wait_for_status(&laravel.web.url, 200);
    let Some(express_table) = table(Place::Here, &lab, &express, "express") else {
        return;
    };
    let tables = [
        express_table,
        app_table(
            &lab,
            "laravel",
            "laravel",
            &laravel.path,
            &laravel.web.url,
            "",
        ),
        app_table(&lab, "php", "php", &php.path, &php.web.url, ""),
    ]
    .concat();
    let process = express.process(&lab);
    let paths = [&express.path, &laravel.path, &php.path];
    let before = paths.map(|path| hash_tree(path, OWN));
    let scene = Scene::start(lab, "mode = \"FULL_AUTO\"", &tables, "");
    for app in ["express", "laravel", "php"] {
        scene.adopted(app);
    }
    scene.rounds("laravel", 100);
    for (path, before) in paths.iter().zip(before) {
        before.assert_same(&hash_tree(path, OWN));
    }
    for app in ["express", "laravel", "php"] {
        scene.nothing_else_began(app);
        let bad: Vec<_> = scene
            .journal
            .checks(app)
            .into_iter()
            .filter(|(_, status, _)| status != "PASS")
            .collect();
        assert_eq!(bad, Vec::new(), "{app}");
    }
    assert_eq!(express.process(&scene.lab), process);
}

#[test]
fn a_round_of_a_healthy_laravel_starts_no_program() {
    let programs = [laravel::PROGRAMS, &["strace"]].concat();
    let Some(lab) = Lab::open(&programs) else {
        return;
    };
    let app = lab.laravel();
    http::wait_for_status(&app.web.url, 200);
    let table = app_table(&lab, "laravel", "laravel", &app.path, &app.web.url, "");
    let scene = Scene::start(lab, "mode = \"FULL_AUTO\"", &table, "");
    scene.adopted("laravel");
    starts_nothing(&scene, "laravel");
}

#[test]
fn a_healthy_wordpress_is_only_looked_at() {
    let programs = ["strace"];
    let Some(lab) = Lab::open(&programs) else {
        return;
    };
    drop(lab);
    let Some((scene, app)) = wordpress::watched(&["greeting"], None, false) else {
        return;
    };
    let before = wordpress::look(&app);
    starts_nothing(&scene, wordpress::APP);
    before.assert_same(&wordpress::look(&app));
    let bad: Vec<_> = scene
        .journal
        .checks(wordpress::APP)
        .into_iter()
        .filter(|(_, status, _)| status != "PASS")
        .collect();
    assert_eq!(bad, Vec::new());
    scene.nothing_else_began(wordpress::APP);
    // Nor does anybody greet its database without need: it would complain of each.
    let said = scene.lab.log("mariadb");
    assert!(!said.contains("Aborted connection"), "{said}");
}

/// No program starts during some rounds.
fn starts_nothing(scene: &Scene, app: &str) {
    let lab = &scene.lab;
    let trace = lab.dir().join("trace");
    let mut strace = lab.as_root("strace");
    strace
        .args(["-f", "-qq", "-e", "trace=execve,execveat", "-o"])
        .arg(&trace)
        .stdin(Stdio::null());
    for pid in family(scene.daemon.pid) {
        strace.arg("-p").arg(pid.to_string());
    }
    let pid = lab.spawn("strace", &mut strace);
    let daemon = scene.daemon.pid;
    wait_for("strace is attached", || {
        std::fs::read_to_string(format!("/proc/{daemon}/status"))
            .unwrap()
            .lines()
            .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    });
    scene.rounds(app, 8);
    signal(pid, Signal::TERM);
    wait_for("strace has ended", || !lab.runs(pid));
    let started = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(started, "");
}

/// A process and all its descendants.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(parent) = all.get(at).copied() {
        at += 1;
        let tasks = std::fs::read_dir(format!("/proc/{parent}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children"));
            let children = children.unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .filter_map(|child| child.parse::<u32>().ok()),
            );
        }
    }
    all
}
