//! Express under pm2, with a bystander under the same pm2 that nothing may touch.

use std::fs;
use std::path::Path;

use super::place::{Place, in_both_places};
use super::scene::Scene;
use super::telling::Telling;
use crate::lab::node::{self, Express, Managed};
use crate::lab::tree::hash_tree;
use crate::lab::{Lab, faults, http, wait_for};

/// A lab with the application in it; `top` is the daemon's configuration before its tables.
fn watched(place: Place, top: &str, stack: &str) -> Option<(Scene, Express)> {
    let lab = place.open(node::PROGRAMS)?;
    let app = lab.express_pm2()?;
    let table = table(place, &lab, &app, stack)?;
    let scene = Scene::start_in(place, lab, top, &table, "");
    scene.adopted("express");
    Some((scene, app))
}

/// The application's table, and pm2 where a user may have installed it for himself: below the home of `PM2_HOME`.
pub(super) fn table(place: Place, lab: &Lab, app: &Express, stack: &str) -> Option<String> {
    let programs = lab.dir().join(".local/bin");
    fs::create_dir_all(&programs).unwrap();
    let pm2 = node::installed("pm2")?.join("node_modules/.bin/pm2");
    std::os::unix::fs::symlink(pm2, programs.join("pm2")).unwrap();
    let vars = format!(
        "vars = {{ pm2_home = \"{}\", npm_cache = \"{}\" }}",
        lab.pm2_home().display(),
        lab.home().join(".npm").display(),
    );
    Some(place.table(lab, "express", stack, &app.path, &app.url, &vars))
}

/// What no other lab's application has in its files.
pub(super) fn own(app: &Express) -> [(String, &'static str); 1] {
    [(format!("PORT={}", app.port), "PORT")]
}

/// The other application under the same pm2.
pub(super) fn bystander(lab: &Lab, app: &Express) -> Managed {
    app.managed(lab)
        .into_iter()
        .find(|process| process.name == "bystander")
        .unwrap()
}

#[test]
fn express_is_healed_and_its_neighbour_is_not_touched() {
    in_both_places(express_is_healed);
}

fn express_is_healed(place: Place) -> Option<Vec<String>> {
    let top = "mode = \"FULL_AUTO\"\n[approval]\npersons = \"one\"\n";
    let (scene, app) = watched(place, top, "express")?;
    let lab = &scene.lab;
    let mut telling = Telling::begin(&scene, "express", &app.path, &[], &own(&app));
    let neighbour = bystander(lab, &app);
    let files = |ignoring: &[&str]| hash_tree(&app.path, ignoring);
    let before = files(&[]);

    faults::stopped_in_pm2(lab, &app);
    assert_eq!(http::status(&app.url), None);
    scene.heals_alone("express", "restart_app");
    http::wait_for_status(&app.url, 200);
    before.assert_same(&files(&[]));
    assert_eq!(bystander(lab, &app), neighbour);

    // A package is gone and the process cannot start: the packages first, the process after them. What pm2 still starts
    // over and over runs at one look and not at the next, so it has given up before anything is judged by it.
    scene.while_held("express", || {
        faults::package_missing(lab, &app, "express");
        wait_for("pm2 gives up on a missing package", || {
            app.process(lab).status == "errored"
        });
    });
    scene.heals_alone("express", "npm_ci");
    http::wait_for_status(&app.url, 200);
    assert!(app.path.join("node_modules/express/package.json").exists());
    assert!(!app.path.join(".healerd-install").exists());
    assert_eq!(bystander(lab, &app), neighbour);
    // pm2 may have started it once more by itself.
    for heal in scene.at_rest("express") {
        assert_eq!(
            (heal.action.as_str(), heal.state.as_str()),
            ("restart_app", "Cured")
        );
    }

    // What a person edits by hand and a full disk cuts off comes back as it was.
    let manifest = app.path.join("package.json");
    let good = fs::read(&manifest).unwrap();
    faults::package_json_cut(&app);
    scene.heals_alone("express", "restore_package_json");
    assert_eq!(fs::read(&manifest).unwrap(), good);

    let lock = app.path.join("package-lock.json");
    let good = fs::read(&lock).unwrap();
    cut(&lock, good.len() / 2);
    scene.heals_alone("express", "restore_package_lock");
    assert_eq!(fs::read(&lock).unwrap(), good);

    let modules = app.path.join("node_modules");
    fs::remove_dir_all(&modules).unwrap();
    scene.heals_alone("express", "npm_ci");
    assert!(modules.join("dotenv/package.json").exists());
    http::wait_for_status(&app.url, 200);
    assert_eq!(bystander(lab, &app), neighbour);
    scene.nothing_else_began("express");
    telling.look("in the end");

    // In a lower mode it waits for a person, who takes it back afterwards to the last byte.
    scene.set_mode("express", "SEMI_AUTO");
    faults::package_json_cut(&app);
    let left = files(&[]);
    telling.look("cut off");
    let heal = scene.heals_approved("express", "restore_package_json");
    telling.look("approved");
    scene.takes_back("express", &heal);
    assert_eq!(
        left.differences_but_comings(&files(&[])),
        Vec::<String>::new()
    );
    telling.look("taken back");
    assert_eq!(bystander(lab, &app), neighbour);
    for action in ["npm_ci", "restore_package_json", "restore_package_lock"] {
        telling.heals(&scene, "express", action);
    }
    Some(telling.end())
}

fn cut(path: &Path, length: usize) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(length as u64).unwrap();
}
