use std::io::Write as _;
use std::process::Stdio;

use super::*;

fn app(index: usize) -> AppName {
    format!("app{index}").parse().unwrap()
}

/// Everything that can be set, set to something else than it begins with.
fn exercised() -> Metrics {
    let metrics = Metrics::new().unwrap();
    let second = Duration::from_secs(1);
    metrics.set_start(1_700_000_000_000);
    for health in Health::ALL {
        metrics.set_apps(*health, 3);
    }
    for mode in HealingMode::ALL {
        metrics.set_apps_in_mode(*mode, 3);
    }
    metrics.set_app_checks(&app(1), 2, 1);
    metrics.set_app_breaker_open(&app(1), true);
    metrics.check_ran(Status::Fail, second);
    metrics.round_ended(Success::Failed, second);
    metrics.round_started(second);
    metrics.set_hosts_unreachable(1);
    metrics.set_incidents(IncidentState::Open, 2);
    metrics.incident_opened(IncidentKind::Symptom);
    metrics.heal_started(Trigger::Daemon);
    metrics.heal_ended(HealEnd::Cured, second);
    metrics.set_heals_in_flight(1);
    metrics.denied(GuardName::Breaker);
    metrics.set_breakers(BreakerState::Open, 1);
    metrics.breaker_moved(BreakerState::Closed, BreakerState::Open);
    metrics.set_approvals(2, second);
    metrics.set_holds(1);
    metrics.set_backups(10, 2, second, second);
    metrics.backup_taken(Success::Ok);
    metrics.set_ratios(0.1, 0.2, 2.0);
    metrics.set_audit_head(7, "0f");
    metrics.committed(second);
    metrics.notice(Success::Failed);
    metrics.set_notices_waiting(4);
    metrics.reloaded(Success::Ok);
    metrics.panicked();
    metrics
}

fn series(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn every_metric_of_the_list_can_be_set_and_none_is_beside_it() {
    let fresh = Metrics::new().unwrap().text().unwrap();
    let text = exercised().text().unwrap();
    for metric in METRICS {
        assert!(
            text.contains(&format!("# HELP {} ", metric.name)),
            "{}",
            metric.name
        );
        let begins = |line: &str| line.starts_with(metric.name);
        let before: Vec<_> = series(&fresh)
            .into_iter()
            .filter(|line| begins(line))
            .collect();
        let after: Vec<_> = series(&text)
            .into_iter()
            .filter(|line| begins(line))
            .collect();
        assert!(
            before != after || metric.name == "healerd_build_info",
            "{} has no setter",
            metric.name
        );
    }
    let families = text
        .lines()
        .filter(|line| line.starts_with("# TYPE "))
        .count();
    assert_eq!(families, METRICS.len());
}

#[test]
fn ten_thousand_applications_stay_below_five_thousand_series_and_lose_no_count() {
    let metrics = exercised();
    metrics.keep_apps(&BTreeSet::new());
    for index in 0..10_000 {
        metrics.set_app_checks(&app(index), 1, 2);
        metrics.set_app_breaker_open(&app(index), true);
    }
    let text = metrics.text().unwrap();
    assert!(series(&text).len() < 5_000, "{}", series(&text).len());
    assert!(text.contains("healerd_app_bad_checks{app=\"other\"} 9000\n"));
    assert!(text.contains("healerd_app_unknown_checks{app=\"other\"} 18000\n"));
    assert!(text.contains("healerd_app_breaker_open{app=\"app7\"} 1\n"));

    metrics.set_app_checks(&app(9_999), 5, 2);
    assert!(
        metrics
            .text()
            .unwrap()
            .contains("healerd_app_bad_checks{app=\"other\"} 9004\n")
    );
}

#[test]
fn an_application_that_is_gone_leaves_no_series() {
    let metrics = Metrics::new().unwrap();
    metrics.set_app_checks(&app(1), 1, 0);
    metrics.set_app_checks(&app(2), 1, 0);
    metrics.keep_apps(&BTreeSet::from([app(2)]));
    let text = metrics.text().unwrap();
    assert!(!text.contains("app1") && text.contains("app2"), "{text}");
}

#[test]
fn an_audit_head_replaces_the_one_before() {
    let metrics = Metrics::new().unwrap();
    metrics.set_audit_head(1, "aa");
    metrics.set_audit_head(2, "bb");
    metrics.set_audit_head(3, "not a hash\n");
    let text = metrics.text().unwrap();
    assert!(!text.contains("healerd_audit_head_info{"), "{text}");
    metrics.set_audit_head(4, "cc");
    let text = metrics.text().unwrap();
    assert_eq!(text.matches("healerd_audit_head_info{").count(), 1);
    assert!(text.contains("healerd_audit_head 4\n"));
}

/// The reference checker of Prometheus, where it is there; with `HEALERD_TESTS_REQUIRE_ALL=1` it must be.
#[test]
fn promtool_finds_nothing_to_say() {
    let text = exercised().text().unwrap();
    let child = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let required =
                std::env::var_os("HEALERD_TESTS_REQUIRE_ALL").is_some_and(|value| value == "1");
            assert!(!required, "promtool is required: {error}");
            return;
        }
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[tokio::test]
async fn a_scrape_is_answered_and_nothing_else_is() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, exercised()));
    for (request, want) in [
        ("GET /metrics", "HTTP/1.1 200"),
        ("GET /", "HTTP/1.1 404"),
        ("POST /metrics", "HTTP/1.1 405"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let text = format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(want), "{request}: {answer}");
        assert_eq!(answer.contains("healerd_build_info"), want.ends_with("200"));
    }
    server.abort();
}
