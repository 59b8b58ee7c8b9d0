//! A real Prometheus scrapes the daemon, and promtool finds nothing to complain about.

use crate::lab::daemon::{Daemon, app_table};
use crate::lab::prometheus::{self, check_metrics};
use crate::lab::{Lab, fixture, http, set_mode, store, wait_for};

/// An action that changes nothing: the breaker of its application opens.
const STUBBORN_STACK: &str = r#"
title = "Stubborn"

[check.marker]
title = "the marker is there"
category = "SYSTEM"
probes.marker = { file = { path = "marker" } }
rules = [{ when = { "marker.exists" = false }, status = "FAIL", severity = "HIGH", message = "there is no marker" }]
remedies = ["do_nothing"]

[action.do_nothing]
title = "Run and change nothing"
risk = "LOW"
writes = [{ content = "marker" }]
steps = [{ run = { argv = ["true"] } }]
timeout = "30s"
settle = "1s"
"#;

fn exposition(daemon: &Daemon) -> String {
    let answer = http::get(&format!("http://{}/metrics", daemon.metrics)).unwrap();
    assert_eq!(answer.status, 200);
    answer.body
}

#[test]
fn prometheus_sees_what_heals_and_breakers_do() {
    let Some(lab) = Lab::open(prometheus::PROGRAMS) else {
        return;
    };
    let stacks = lab.dir().join("stacks.d");
    std::fs::create_dir(&stacks).unwrap();
    std::fs::write(stacks.join("stubborn.toml"), STUBBORN_STACK).unwrap();
    let blog = lab.dir().join("blog");
    store::copy_tree(&fixture("php"), &blog);
    lab.user.own_all(&blog);
    let mule = lab.dir().join("mule");
    std::fs::create_dir(&mule).unwrap();
    std::fs::write(mule.join("marker"), "").unwrap();
    lab.user.own_all(&mule);
    let table = |name: &str, stack: &str, more: &str| {
        let path = lab.dir().join(name);
        super::files_only(&app_table(&lab, name, stack, &path, "", more))
    };
    let config = format!(
        "mode = \"FULL_AUTO\"\n{}[breaker]\nmax_failures = 1\n{}{}",
        super::QUICK,
        table("blog", "php", ""),
        table("mule", "stubborn", ""),
    );
    let daemon = lab.daemon(&config, "").unwrap();
    let prometheus = lab.prometheus(Some(&daemon.metrics));
    // As text, because counts are compared.
    let value = |expression: &str| {
        prometheus
            .query(expression)
            .map_or_else(String::new, |value| value.to_string())
    };
    wait_for("both applications are well", || {
        value("healerd_apps{health=\"healthy\"}") == "2"
    });
    assert_eq!(value("sum(healerd_heals_total)"), "0");
    assert_eq!(value("healerd_breakers{state=\"OPEN\"}"), "0");
    assert_eq!(value("up"), "1");
    let rounds = prometheus.wait_for("sum(healerd_rounds_total)");

    set_mode(&blog.join("config.php"), 0o666);
    std::fs::remove_file(mule.join("marker")).unwrap();
    wait_for("the cure is counted", || {
        value("sum(healerd_heals_total{outcome=\"cured\"})") == "1"
    });
    wait_for("the failure is counted, and opened the breaker", || {
        value("sum(healerd_heals_total{outcome=\"not_cured\"})") == "1"
            && value("healerd_breakers{state=\"OPEN\"}") == "1"
            && value("healerd_app_breaker_open{app=\"mule\"}") == "1"
    });
    assert_eq!(value("healerd_breakers{state=\"CLOSED\"}"), "1");
    // Where the two got into each other's way, one of them was given up before its start and began anew.
    assert_eq!(
        value(
            "sum(healerd_heals_started_total{trigger=\"daemon\"}) - sum(healerd_heals_total{outcome=\"aborted\"})"
        ),
        "2"
    );
    assert!(prometheus.wait_for("sum(healerd_rounds_total)") > rounds);
    for more_than_none in [
        "healerd_backups_total{result=\"ok\"} > 1",
        "healerd_audit_head > 0",
        "healerd_store_commit_duration_seconds_count > 0",
    ] {
        prometheus.wait_for(more_than_none);
    }

    // The same text through both doors, and it is clean.
    for (door, text) in [
        ("loopback", exposition(&daemon)),
        (
            "socket",
            super::requests::get(&daemon.socket, "/api/v1/healer/metrics").body,
        ),
    ] {
        let said = check_metrics(&lab, &text);
        assert_eq!(
            (said.code, said.stderr.as_str(), said.stdout.as_str()),
            (Some(0), "", ""),
            "{door}"
        );
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!((50..5_000).contains(&series), "{door}: {series} series");
    }
}
