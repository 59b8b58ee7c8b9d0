//! Input that means no good, or nothing at all.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::double::Double;
use super::{ADMIN, OPERATOR, access, ask, ask_as_type, path, state};
use crate::control::{bind, serve};

#[tokio::test]
async fn bad_input_is_a_problem_and_closes() {
    let deep = format!(
        r#"{{"actionName":"a","params":{}1{}}}"#,
        "[".repeat(40),
        "]".repeat(40)
    );
    let long = format!(r#"{{"actionName":"{}"}}"#, "a".repeat(70_000));
    let json = "application/json";
    for (case, kind, body, status, code) in [
        ("too long", json, long.as_str(), 413, "too_large"),
        ("too deep", json, deep.as_str(), 422, "too_deep"),
        ("torn", json, r#"{"actionName":"a"#, 422, "bad_body"),
        ("empty", json, "", 422, "bad_body"),
        (
            "an unknown field",
            json,
            r#"{"actionName":"a","dryrun":true}"#,
            422,
            "bad_body",
        ),
        (
            "another type",
            "text/plain",
            r#"{"actionName":"a"}"#,
            415,
            "not_json",
        ),
        (
            "a form, as a browser would send it",
            "application/x-www-form-urlencoded",
            "a=b",
            415,
            "not_json",
        ),
    ] {
        let double = Double::new();
        let got = ask_as_type(
            &double,
            OPERATOR,
            "POST",
            &path("/applications/shop/heal"),
            kind,
            body,
        )
        .await;
        assert_eq!(
            (got.status, got.kind.as_str()),
            (status, "application/problem+json"),
            "{case}: {}",
            got.text
        );
        assert_eq!(got.json()["code"], code, "{case}");
        assert!(got.closes, "{case}");
        assert_eq!(double.asked(), Vec::<String>::new(), "{case}");
    }
}

#[tokio::test]
async fn wrong_values_say_what_to_do() {
    let double = Double::new();
    for (verb, route, body, status, code) in [
        ("GET", "/nothing", "", 404, "no_route"),
        ("PUT", "/status", "", 405, "no_verb"),
        ("GET", "/applications/none", "", 404, "unknown"),
        ("GET", "/applications/..%2F..%2Fetc", "", 404, "unknown"),
        ("GET", "/applications/%ff", "", 422, "bad_path"),
        ("GET", "/heals/1", "", 404, "unknown"),
        ("GET", "/heals?limit=1001", "", 422, "limit"),
        ("GET", "/heals?limt=1", "", 422, "bad_query"),
        ("GET", "/heals?limit=-1", "", 422, "bad_query"),
        (
            "POST",
            "/hold",
            r#"{"scope":"everything","reason":"a"}"#,
            422,
            "scope",
        ),
        (
            "POST",
            "/hold",
            r#"{"scope":"all","reason":"  "}"#,
            422,
            "reason",
        ),
        (
            "POST",
            "/hold",
            r#"{"scope":"all","reason":"a","for":"soon"}"#,
            422,
            "time",
        ),
        (
            "POST",
            "/resume",
            r#"{"scope":"all","reason":"a"}"#,
            422,
            "keep_or_undo",
        ),
        (
            "POST",
            "/resume",
            r#"{"scope":"all","keep":true,"undo":true,"reason":"a"}"#,
            422,
            "keep_or_undo",
        ),
        (
            "POST",
            "/mode",
            r#"{"healingMode":"AUTO","reason":"a"}"#,
            422,
            "bad_body",
        ),
        (
            "POST",
            "/applications/shop/heal?wait=301",
            r#"{"actionName":"a"}"#,
            422,
            "wait",
        ),
        (
            "POST",
            "/applications/shop/heal",
            r#"{"actionName":"a","params":{"x":{}}}"#,
            422,
            "params",
        ),
    ] {
        let got = ask(&double, ADMIN, verb, &path(route), body).await;
        assert_eq!(
            (got.status, got.kind.as_str()),
            (status, "application/problem+json"),
            "{route}: {}",
            got.text
        );
        let problem = got.json();
        assert_eq!(problem["code"], code, "{route}");
        assert_eq!(problem["status"], status, "{route}");
        assert!(!problem["hint"].as_str().unwrap().is_empty(), "{route}");
    }
    assert_eq!(double.asked(), Vec::<String>::new());
}

/// A server on a socket of its own, until the test is over.
pub(super) struct Running {
    pub(super) folder: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(super) async fn new(group: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = bind(&folder.path().join("control.sock"), group)
            .await
            .unwrap();
        let (stop, stopped) = oneshot::channel();
        let mut access = access();
        access.roles.users.insert(
            rustix::process::geteuid().as_raw(),
            crate::config::Role::Admin,
        );
        let task = tokio::spawn(serve(listener, state(&Double::new(), access), async {
            stopped.await.ok();
        }));
        Self {
            folder,
            stop: Some(stop),
            task,
        }
    }

    pub(super) async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("control.sock"))
            .await
            .unwrap()
    }

    async fn end(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap();
    }
}

async fn rest(mut stream: UnixStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.ok();
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn requests_that_never_end_are_cut_after_five_seconds() {
    let running = Running::new(None).await;
    let (mut head, mut body) = (running.connect().await, running.connect().await);
    head.write_all(b"GET /api/v1/healer/status HT")
        .await
        .unwrap();
    let begun = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"sc",
        path("/hold")
    );
    body.write_all(begun.as_bytes()).await.unwrap();
    let both = async { tokio::join!(rest(head), rest(body)) };
    let (_, body) = tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .expect("both are closed");
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    running.end().await;
}

#[tokio::test]
async fn the_seventeenth_connection_of_one_user_is_told_so() {
    let running = Running::new(None).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut stream = running.connect().await;
        stream
            .write_all(format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", path("/status")).as_bytes())
            .await
            .unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");
        held.push(stream);
    }
    let answer = rest(running.connect().await).await;
    assert!(
        answer.starts_with("HTTP/1.1 429") && answer.contains("too_many_connections"),
        "{answer}"
    );
    drop(held);
    running.end().await;
}

#[tokio::test]
async fn an_event_stream_does_not_keep_the_daemon_from_ending() {
    let running = Running::new(None).await;
    let mut stream = running.connect().await;
    stream
        .write_all(format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", path("/events")).as_bytes())
        .await
        .unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    tokio::time::timeout(Duration::from_secs(4), running.end())
        .await
        .expect("it ends");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_body_gets_through_by_chance(body in "[\\[\\]{}\":,a-z0-9\\\\ ]{0,80}", route in 0_usize..4) {
        let route = ["/hold", "/resume", "/mode", "/applications/shop/heal"][route];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let double: Arc<Double> = Double::new();
        let got = runtime.block_on(ask(&double, ADMIN, "POST", &path(route), &body));
        prop_assert_eq!(got.status, 422);
        prop_assert_eq!(double.asked(), Vec::<String>::new());
    }
}
