//! Actions that would live on: at their deadline nothing of them is left, and everybody else is.

use std::fs;

use super::express::{self, bystander, table};
use super::place::{Place, in_both_places};
use super::scene::Scene;
use super::telling::Telling;
use crate::lab::{http, node};

/// Ends by itself and leaves a daemon; does not listen to TERM; never stops talking.
const STACK: &str = r#"
title = "Runaway"
extends = "express"

[check.promise]
title = "the promise is kept"
category = "CONFIGURATION"
probes.file = { file = { path = "promise.txt" } }
rules = [{ when = { "file.exists" = false }, status = "FAIL", severity = "HIGH", message = "no promise" }]
suggested_fix = "Write it"
remedies = ["daemonize", "be_deaf", "flood"]

[action.daemonize]
title = "Leave a process behind"
risk = "LOW"
writes = [{ content = "promise.txt" }]
steps = [{ run = { argv = ["setsid", "--fork", "sleep", "MARKER"] } }]
timeout = "20s"
settle = "1s"

[action.be_deaf]
title = "Do not listen"
risk = "LOW"
writes = [{ content = "promise.txt" }]
steps = [{ run = { argv = ["node", "-e", "for (const s of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(s, () => 0); require('child_process').spawn('sleep', ['MARKER'], { detached: true }); setInterval(() => 0, 1000)"] } }]
timeout = "3s"
settle = "1s"

[action.flood]
title = "Talk without end"
risk = "LOW"
writes = [{ content = "promise.txt" }]
steps = [{ run = { argv = ["yes", "MARKER"] } }]
timeout = "3s"
settle = "1s"
"#;

#[test]
fn nothing_of_an_action_outlives_it() {
    in_both_places(runs_away);
}

fn runs_away(place: Place) -> Option<Vec<String>> {
    let lab = place.open(node::PROGRAMS)?;
    let app = lab.express_pm2()?;
    // No other process of this machine sleeps exactly so long.
    let marker = format!("90{}{}", std::process::id(), place as u8);
    lab.stack_file("runaway", &STACK.replace("MARKER", &marker));
    let promise = app.path.join("promise.txt");
    fs::write(&promise, "kept\n").unwrap();
    lab.user.own(&promise);
    let table = table(place, &lab, &app, "runaway")?;
    let scene = Scene::start_in(place, lab, "mode = \"SEMI_AUTO\"", &table, "");
    scene.adopted("express");
    let mut telling = Telling::begin(&scene, "express", &app.path, &[], &express::own(&app));
    let lab = &scene.lab;
    let (own, other) = (app.process(lab), bystander(lab, &app));
    fs::remove_file(&promise).unwrap();
    for action in ["daemonize", "be_deaf", "flood"] {
        scene.ends("express", action, "unattended", "NotCured");
        assert_eq!(running(&marker), Vec::<String>::new(), "after {action}");
    }
    assert_eq!((app.process(lab), bystander(lab, &app)), (own, other));
    assert_eq!(http::status(&app.url), Some(200));
    assert_eq!(http::status(&app.bystander_url), Some(200));
    telling.look("in the end");
    telling.heals(&scene, "express", "");
    Some(telling.end())
}

/// Command lines that hold the marker.
fn running(marker: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(marker) {
            found.push(line);
        }
    }
    found
}
