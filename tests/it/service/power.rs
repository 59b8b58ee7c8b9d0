//! What runs when the daemon is restarted, killed, or loses its power with the whole host.

use serde_json::Value;

use super::host::Host;
use crate::lab::wait_for;

fn config() -> String {
    format!(
        "mode = \"FULL_AUTO\"\n{}\n\
         [app.slow]\npath = \"/srv/slow\"\nstack = \"slow\"\nuser = \"www-data\"\n",
        super::QUICK
    )
}

/// Waits until the slow action runs, and gives its process.
#[track_caller]
fn began(host: &Host) -> String {
    let mut pid = None;
    wait_for("the action runs", || {
        pid = host.read("/srv/slow/data/began");
        pid.as_ref().is_some_and(|pid| pid.ends_with('\n'))
    });
    pid.expect("waited for").trim().to_owned()
}

fn is_alive(host: &Host, pid: &str) -> bool {
    host.run(&["kill", "-0", pid]).code == Some(0)
}

#[track_caller]
fn is_cured_and_ran_once(host: &Host, heal: &Value) {
    let end = host.ended("slow", 1);
    assert_eq!(end["state"], "Cured", "{end:#}");
    assert_eq!(end["healId"], heal["healId"], "the same heal");
    for file in ["began", "marker"] {
        let text = host.read(&format!("/srv/slow/data/{file}"));
        let lines = text.as_deref().map_or(0, |text| text.lines().count());
        assert_eq!(lines, 1, "{file}: {text:?}");
    }
}

#[test]
fn a_restart_of_the_daemon_kills_no_action_and_adopts_it() {
    let Some(host) = Host::open_slow(&config()) else {
        return;
    };
    host.systemctl(&["start", "healerd.service"]);
    let action = began(&host);
    let heal = host.heals("slow").remove(0);
    let daemon = host.show("MainPID");

    host.systemctl(&["restart", "healerd.service"]);
    assert_ne!(host.show("MainPID"), daemon, "another daemon");
    assert!(is_alive(&host, &action), "the action goes on");
    assert_eq!(host.read("/srv/slow/data/marker"), None, "and is not done");
    is_cured_and_ran_once(&host, &heal);
}

#[test]
fn a_killed_daemon_is_started_again_and_adopts_its_action() {
    let Some(host) = Host::open_slow(&config()) else {
        return;
    };
    host.run(&["mkdir", "-p", "/etc/systemd/system/healerd.service.d"])
        .expect_success();
    host.write(
        "/etc/systemd/system/healerd.service.d/quick.conf",
        "[Service]\nRestartSec=100ms\n",
    );
    host.systemctl(&["daemon-reload"]);
    host.systemctl(&["start", "healerd.service"]);
    let action = began(&host);
    let heal = host.heals("slow").remove(0);
    let daemon = host.show("MainPID");

    host.run(&["kill", "-KILL", &daemon]).expect_success();
    wait_for("systemd starts it again", || {
        let now = host.show("MainPID");
        now != daemon && now != "0" && host.show("ActiveState") == "active"
    });
    assert!(is_alive(&host, &action), "the action goes on");
    is_cured_and_ran_once(&host, &heal);
}

#[test]
fn after_a_power_cut_in_an_action_the_heal_comes_to_rest_and_nothing_runs_again() {
    let Some(host) = Host::open_slow(&config()) else {
        return;
    };
    host.systemctl(&["enable", "--now", "healerd.service"]);
    began(&host);
    let heal = host.heals("slow").remove(0);
    assert_eq!(heal["state"], "Acting", "{heal:#}");

    host.machine.cut();
    host.machine.start();
    wait_for("it is back", || host.show("ActiveState") == "active");
    let end = host.ended("slow", 1);
    assert_eq!(end["healId"], heal["healId"]);
    assert_eq!(end["details"]["outcome"], "interrupted", "{end:#}");
    // It did not cure, and what it did write is its own: a file that was not there before.
    assert_eq!(end["state"], "Undone", "{end:#}");
    assert_eq!(host.read("/srv/slow/data/began"), None);
    assert_eq!(host.read("/srv/slow/data/marker"), None);

    // It had its one try.
    wait_for("nothing is planned for it any more", || {
        let (_, plan) = host.ctl(&["plan", "slow"]);
        plan["cannotHeal"][0]["checkName"] == "marker" && plan["autoHeal"] == serde_json::json!([])
    });
    assert_eq!(host.heals("slow").len(), 1);
    let (_, status) = host.ctl(&["status"]);
    assert_eq!(status["heals"], serde_json::json!([]), "{status:#}");
}
