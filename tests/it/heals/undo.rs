//! An action that heals its symptom and breaks the site: it is taken back to the last byte, and nothing else is.

use std::fs;

use super::place::{Place, in_both_places};
use super::scene::Scene;
use super::telling::Telling;
use crate::lab::tree::hash_tree;
use crate::lab::{http, wait_for, web};

const STACK: &str = r#"
title = "Careless"
extends = "php"

[check.banner]
title = "the banner is there"
category = "CONFIGURATION"
probes.banner = { file = { path = "banner.txt" } }
rules = [{ when = { "banner.exists" = false }, status = "FAIL", severity = "HIGH", message = "no banner" }]
suggested_fix = "Make it"
remedies = ["make_banner"]

[action.make_banner]
title = "Make the banner, and ruin the configuration on the way"
risk = "LOW"
writes = [{ content = "banner.txt" }, { content = "config.php" }, { content = "old/**" }]
steps = [{ run = { argv = ["php", "tools/banner.php"] } }]
timeout = "30s"
settle = "20s"
"#;

/// Changes content and mode of one file, makes another, removes a third with its directory.
const TOOL: &str = r#"<?php
file_put_contents('banner.txt', "sale\n");
file_put_contents('config.php', "<?php\nreturn [\n");
chmod('config.php', 0600);
unlink('old/page.html');
rmdir('old/empty');
"#;

#[test]
fn what_makes_the_site_worse_is_taken_back_and_an_upload_survives() {
    in_both_places(what_makes_it_worse);
}

fn what_makes_it_worse(place: Place) -> Option<Vec<String>> {
    let lab = place.open(web::PROGRAMS)?;
    let app = lab.php();
    for folder in ["tools", "uploads", "old", "old/empty"] {
        fs::create_dir(app.path.join(folder)).unwrap();
    }
    let banner = app.path.join("banner.txt");
    fs::write(app.path.join("tools/banner.php"), TOOL).unwrap();
    fs::write(app.path.join("old/page.html"), "<p>old\n").unwrap();
    fs::write(&banner, "summer\n").unwrap();
    lab.user.own_all(&app.path);
    lab.stack_file("careless", STACK);
    let vars = "vars = { error_log = \"logs/php-errors.log\" }";
    let table = place.table(&lab, "php", "careless", &app.path, &app.web.url, vars);
    let scene = Scene::start_in(place, lab, "mode = \"SEMI_AUTO\"", &table, "");
    scene.adopted("php");
    let mut telling = Telling::begin(&scene, "php", &app.path, &["logs"], &[]);
    fs::remove_file(&banner).unwrap();
    let before = hash_tree(&app.path, &["logs", "uploads"]);

    wait_for("the action has run", || {
        scene
            .journal
            .heals("php")
            .iter()
            .any(|heal| heal.state == "Settling")
    });
    assert_eq!(http::status(&app.web.url), Some(500));
    // Meanwhile the site lives on.
    let photo = app.path.join("uploads/photo.jpg");
    fs::write(&photo, b"\xff\xd8 a photo").unwrap();
    scene.lab.user.own(&photo);

    let heal = scene.ends("php", "make_banner", "unattended", "Undone");
    assert!(heal.message.contains("http"), "{}", heal.message);
    let after = hash_tree(&app.path, &["logs", "uploads"]);
    let differences = before.differences_but_comings(&after);
    assert_eq!(differences, Vec::<String>::new());
    assert_eq!(fs::read(&photo).unwrap(), b"\xff\xd8 a photo");
    http::wait_for_status(&app.web.url, 200);
    // It is not tried again.
    scene.rounds("php", 4);
    scene.nothing_else_began("php");
    telling.look("taken back");
    telling.heals(&scene, "php", "");
    Some(telling.end())
}
