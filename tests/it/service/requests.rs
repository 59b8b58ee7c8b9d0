//! Requests as no client of ours sends them: each is answered or ended in time, changes nothing, and holds up nobody.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::daemon::{Daemon, app_table};
use crate::lab::process::is_alive;
use crate::lab::{Lab, fixture, store, wait_for};

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// 0 when the connection ended without one.
    pub(super) status: u16,
    pub(super) body: String,
}

impl Answer {
    fn code(&self) -> String {
        let problem: Value = serde_json::from_str(&self.body).unwrap_or_default();
        assert!(
            problem["detail"].is_string() && problem["hint"].is_string(),
            "says what and what to do: {self:?}"
        );
        problem["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends these bytes and reads until the daemon ends the connection, ten seconds at most.
fn send(socket: &Path, bytes: &[u8]) -> Answer {
    let mut stream = UnixStream::connect(socket).unwrap();
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).unwrap();
    stream.set_write_timeout(limit).unwrap();
    // A daemon that has heard enough may close before everything is sent; its answer is read all the same.
    stream.write_all(bytes).ok();
    let mut answer = Vec::new();
    let read = stream.take(8 << 20).read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        read.is_ok() || !text.is_empty(),
        "the connection hangs: {read:?}"
    );
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Answer {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0),
        body: body.to_owned(),
    }
}

/// What a path answers, in a connection of its own.
pub(super) fn get(socket: &Path, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.0\r\nHost: healerd\r\n\r\n");
    send(socket, request.as_bytes())
}

fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /api/v1/healer{path} HTTP/1.1\r\nHost: healerd\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

const JSON: &str = "Content-Type: application/json\r\n";

fn daemon(lab: &Lab) -> Daemon {
    let path = lab.dir().join("blog");
    store::copy_tree(&fixture("php"), &path);
    lab.user.own_all(&path);
    let table = super::files_only(&app_table(lab, "blog", "php", &path, "", ""));
    lab.daemon(&format!("mode = \"MANUAL\"\n{}{table}", super::QUICK), "")
        .unwrap()
}

/// Everything that a request could have changed, as the daemon shows it.
fn present(lab: &Lab, daemon: &Daemon) -> [Value; 5] {
    [
        &["heals"][..],
        &["approvals", "--all"],
        &["mode"],
        &["backups", "blog"],
        &["breaker", "blog"],
    ]
    .map(|question| daemon.ctl(lab, question).1)
}

#[test]
fn bad_requests_are_answered_in_time_and_change_nothing() {
    let Some(lab) = Lab::open(&[]) else { return };
    let daemon = daemon(&lab);
    wait_for("the first look is over", || {
        daemon.ctl(&lab, &["apps"]).1["items"][0]["looked"].is_string()
    });
    let before = present(&lab, &daemon);
    let socket = &daemon.socket;
    let heal = "/applications/blog/heal";
    let wish = r#"{"actionName":"fix_permissions"}"#;
    let nested = format!("{}{}", "[".repeat(40), "]".repeat(40));

    for (case, request, status, code) in [
        (
            "a body that is too long",
            post(
                heal,
                JSON,
                &format!("{{\"actionName\":\"{}\"}}", "a".repeat(70_000)),
            ),
            413,
            "too_large",
        ),
        (
            "nesting without end",
            post(heal, JSON, &nested),
            422,
            "too_deep",
        ),
        ("no JSON", post(heal, JSON, "actionName=x"), 422, "bad_body"),
        (
            "a key that does not exist",
            post(
                heal,
                JSON,
                r#"{"actionName":"fix_permissions","dryrun":true}"#,
            ),
            422,
            "bad_body",
        ),
        (
            "a kind that is not said",
            post(heal, "", wish),
            415,
            "not_json",
        ),
        ("no body", post(heal, JSON, ""), 422, "bad_body"),
        (
            "an unknown application",
            post("/applications/nosuch/heal", JSON, wish),
            404,
            "unknown",
        ),
        (
            "an unknown action",
            post(heal, JSON, r#"{"actionName":"rm_rf"}"#),
            404,
            "unknown",
        ),
        (
            "a way out of the path",
            post("/applications/..%2f..%2fetc/heal", JSON, wish),
            404,
            "unknown",
        ),
        (
            "a hold without a reason",
            post("/hold", JSON, r#"{"scope":"all","reason":"  "}"#),
            422,
            "reason",
        ),
        (
            "a mode that does not exist",
            post(
                "/mode",
                JSON,
                r#"{"healingMode":"YOLO","reason":"let it run"}"#,
            ),
            422,
            "bad_body",
        ),
        (
            "a rollback to nothing",
            post(
                "/applications/blog/backups/01jd0000000000000000000000/rollback",
                JSON,
                &format!(
                    "{{\"digest\":\"{}\",\"reason\":\"bring it back\"}}",
                    "0".repeat(64)
                ),
            ),
            404,
            "unknown",
        ),
    ] {
        let answer = send(socket, &request);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{case}: {answer:?}"
        );
    }

    // Not even HTTP, or a head without end.
    let noise: Vec<u8> = (0..=255).cycle().take(4096).collect();
    let answer = send(socket, &noise);
    assert!(matches!(answer.status, 0 | 400), "{answer:?}");
    let endless = format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(100_000));
    let answer = send(socket, endless.as_bytes());
    assert!(matches!(answer.status, 0 | 400 | 431), "{answer:?}");

    assert!(is_alive(daemon.pid));
    assert_eq!(present(&lab, &daemon), before);
    let (_, status) = daemon.ctl(&lab, &["status"]);
    assert_eq!(status["holds"], serde_json::json!([]));
}

#[test]
fn a_request_that_never_ends_is_ended_and_holds_up_nobody() {
    let Some(lab) = Lab::open(&[]) else { return };
    let daemon = daemon(&lab);
    let head = "POST /api/v1/healer/hold HTTP/1.1\r\nHost: healerd\r\n".to_owned();
    let body = format!("{head}{JSON}Content-Length: 100\r\n\r\n{{\"scope\"");
    let began = Instant::now();
    let waiting = [head, body].map(|part| {
        let socket = daemon.socket.clone();
        std::thread::spawn(move || (send(&socket, part.as_bytes()), Instant::now()))
    });
    // Meanwhile others are served.
    let (code, status) = daemon.ctl(&lab, &["status"]);
    assert!(matches!(code, Some(0 | 3)), "{status:#}");
    let answers = waiting.map(|thread| thread.join().unwrap());
    let [(half_head, head_ended), (half_body, body_ended)] = answers;
    assert!(matches!(half_head.status, 0 | 408), "{half_head:?}");
    assert_eq!(
        (half_body.status, half_body.code().as_str()),
        (408, "too_slow")
    );
    for ended in [head_ended, body_ended] {
        let took = ended.duration_since(began);
        assert!(took < Duration::from_secs(8), "{took:?}");
    }
    let (_, status) = daemon.ctl(&lab, &["status"]);
    assert_eq!(status["holds"], serde_json::json!([]));
}
