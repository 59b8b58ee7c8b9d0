//! The search for a plugin starts the site, so it is made only where something could follow, and it names nobody for one
//! start that failed; and a setting that a person changed is told and becomes the known one.

use std::fs;

use super::place::{Place, in_both_places};
use super::scene::Scene;
use super::wordpress::{APP, look, telling, watched_with};
use crate::lab::wordpress::{self, WordPress};
use crate::lab::{Lab, http, wait_for};

/// How often a command has started the site with its plugins.
fn starts(app: &WordPress) -> usize {
    fs::read(app.plugin("flaky/starts"))
        .unwrap_or_default()
        .len()
}

fn ask(scene: &Scene, arguments: &[&str]) -> serde_json::Value {
    let (_, said) = scene.daemon.ctl(&scene.lab, arguments);
    said
}

#[test]
fn nothing_starts_the_site_in_manual_or_under_a_hold_and_chance_names_no_plugin() {
    in_both_places(nothing_starts_the_site);
}

fn nothing_starts_the_site(place: Place) -> Option<Vec<String>> {
    let wp_cli = wordpress::wp_cli()?;
    let keep = |_: &Lab| wp_cli.clone();
    let tables = "[known_good]\nage = \"2s\"\n";
    let (scene, app) = watched_with(place, &["greeting", "flaky"], &keep, false, tables)?;
    let mut telling = telling(&scene, &app);
    let (down, once) = (app.plugin("flaky/down"), app.plugin("flaky/once"));

    // A person changes a key: told, left alone, and known after a while in which the site was well with it.
    let config = app.file("wp-config.php");
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("k3}q#eW0", "rotated!");
    fs::write(&config, &text).unwrap();
    scene.check_says(APP, "wp_config_keys", "WARN", "AUTH_KEY");
    scene.check_says(APP, "wp_config_keys", "PASS", "");
    assert_eq!(scene.journal.backups(APP, "known_good"), 2);
    assert_eq!(fs::read_to_string(&config).unwrap(), text);
    assert_eq!(scene.journal.approvals(APP), Vec::new());
    scene.nothing_else_began(APP);

    // Nothing could follow in MANUAL.
    scene.set_mode(APP, "MANUAL");
    fs::write(&down, "").unwrap();
    http::wait_for_status(&app.web.url, 500);
    scene.check_says(APP, "wp_plugin_fatal", "ERROR", "no plugin was looked for");
    scene.rounds(APP, 2);
    assert_eq!(starts(&app), 0);
    // Nor under a hold, whatever the mode.
    scene.while_held(APP, || {
        scene.set_mode(APP, "FULL_AUTO");
        scene.rounds(APP, 3);
        assert_eq!(starts(&app), 0);
        // Who asks is answered.
        ask(&scene, &["diagnose", APP]);
        assert!(starts(&app) > 0);
    });

    // One start that fails, and none after it.
    fs::remove_file(&down).unwrap();
    http::wait_for_status(&app.web.url, 200);
    scene.check_says(APP, "wp_plugin_fatal", "PASS", "no fault of its own");
    for file in [&once, &down] {
        fs::write(file, "").unwrap();
        scene.lab.user.own(file);
    }
    wait_for("the search met the start that fails", || !once.exists());
    scene.check_says(APP, "wp_plugin_fatal", "ERROR", "comes and goes");
    let asked = starts(&app);
    scene.rounds(APP, 3);
    assert_eq!(
        starts(&app),
        asked,
        "a search that named nobody is not made again at once"
    );
    let said = scene.journal.history(APP, "wp_plugin_fatal");
    assert!(
        said.iter()
            .any(|(status, message)| status == "ERROR" && message.contains("comes and goes")),
        "{said:#?}"
    );
    assert!(
        !said
            .iter()
            .any(|(_, message)| message.contains("starts without")),
        "{said:#?}"
    );
    let named = |action: &str| {
        let approvals = scene.journal.approvals(APP);
        approvals.iter().any(|approval| approval.action == action)
    };
    assert!(!named("set_plugin_aside") && !named("deactivate_plugin"));
    fs::remove_file(&down).unwrap();
    http::wait_for_status(&app.web.url, 200);
    scene.nothing_else_began(APP);

    // In MANUAL a person asks for it, approves it, and it runs.
    scene.set_mode(APP, "MANUAL");
    app.install_plugins(&scene.lab, &["fatal"]);
    http::wait_for_status(&app.web.url, 500);
    scene.check_says(APP, "wp_plugin_fatal", "ERROR", "no plugin was looked for");
    let before = look(&app);
    let reason = ["--reason", "it was I who installed it"];
    ask(
        &scene,
        &[&["heal", APP, "set_plugin_aside"][..], &reason].concat(),
    );
    let approval = scene.proposed(APP, "set_plugin_aside");
    scene.rounds(APP, 3);
    before.assert_same(&look(&app));
    scene.approve(&approval);
    scene.ends(APP, "set_plugin_aside", "approved", "Cured");
    http::wait_for_status(&app.web.url, 200);
    telling.heals(&scene, APP, "");
    Some(telling.end())
}
