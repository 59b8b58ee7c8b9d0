//! Notices against a receiver on this machine: fine, slow, broken, redirecting, gone.

mod outbox;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, post};

use super::heartbeat::Heartbeat;
use super::outbox::back_off;
use super::webhook::Webhook;
use crate::model::time::Moment;
use crate::seam::{Notice, Notifier as _};

type Seen = Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>;

fn notice() -> Notice {
    Notice {
        event: "incident_opened".to_owned(),
        app: Some("shop".to_owned()),
        host: None,
        title: "shop is down\n\u{1b}[31m".to_owned(),
        text: "DB_PASSWORD=canary-1\nand mysql://a:canary-2@db/".to_owned(),
        key: "incident:01j".to_owned(),
        at: Moment {
            boot_id: "boot".to_owned(),
            boot_ms: 1,
            wall_ms: 2,
        },
    }
}

async fn take(State(seen): State<Seen>, headers: HeaderMap, body: Bytes) -> StatusCode {
    seen.lock().unwrap().push((headers, body.to_vec()));
    StatusCode::NO_CONTENT
}

/// Sends to `/fine`, and never answers, fails or points elsewhere below the other paths.
async fn receiver() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let redirect = || async { (StatusCode::FOUND, [(header::LOCATION, "/fine")]).into_response() };
    let router = Router::new()
        .route("/fine", any(take))
        .route("/slow", post(std::future::pending::<Response>))
        .route(
            "/broken",
            any(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
        )
        .route("/moved", any(redirect))
        .with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    (address, seen)
}

#[tokio::test]
async fn a_notice_arrives_signed_and_without_secrets() {
    let (address, seen) = receiver().await;
    let url = format!("http://{address}/fine");
    let webhook = Webhook::new(&url, Some("shared secret"), Duration::from_secs(10)).unwrap();
    webhook.send(&notice()).await.unwrap();
    let (headers, body) = seen.lock().unwrap().pop().unwrap();
    let key = blake3::derive_key("healerd webhook signature v1", b"shared secret");
    let want = format!("blake3={}", blake3::keyed_hash(&key, &body).to_hex());
    assert_eq!(headers["x-healerd-signature"], want);
    assert_eq!(headers["content-type"], "application/json");
    let sent: Notice = serde_json::from_slice(&body).unwrap();
    assert_eq!(sent.title, "shop is down\\n\\u{1b}[31m");
    assert_eq!(
        sent.text,
        "DB_PASSWORD=[redacted]\nand mysql://a:[redacted]@db/"
    );
}

#[tokio::test]
async fn what_is_not_delivered_says_why_and_keeps_the_address_to_itself() {
    let (address, seen) = receiver().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for (case, url, want) in [
        (
            "broken",
            format!("http://{address}/broken?canary"),
            "the receiver answered 500",
        ),
        (
            "moved",
            format!("http://{address}/moved?canary"),
            "the receiver answered 302",
        ),
        ("slow", format!("http://{address}/slow?canary"), "timed out"),
        ("gone", format!("http://{closed}/canary"), "refused"),
    ] {
        let webhook = Webhook::new(&url, None, Duration::from_millis(300)).unwrap();
        let error = webhook.send(&notice()).await.unwrap_err().to_string();
        assert!(error.contains(want), "{case}: {error}");
        assert!(!error.contains("canary"), "{case}: {error}");
    }
    assert!(
        seen.lock().unwrap().is_empty(),
        "the redirect was not followed"
    );
}

#[tokio::test]
async fn a_heartbeat_is_heard_or_says_why_not() {
    let (address, seen) = receiver().await;
    Heartbeat::new(&format!("http://{address}/fine"))
        .unwrap()
        .beat()
        .await
        .unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
    let error = Heartbeat::new(&format!("http://{address}/broken"))
        .unwrap()
        .beat()
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the notice could not be delivered: the receiver answered 500"
    );
}

/// A clock that is always where it is asked to be, and stops for good after so many sleeps.
struct Jumping {
    boot_ms: Mutex<i64>,
    left: AtomicUsize,
}

impl crate::seam::Clock for Jumping {
    fn now(&self) -> Moment {
        let boot_ms = *self.boot_ms.lock().unwrap();
        Moment {
            boot_id: "boot".to_owned(),
            boot_ms,
            wall_ms: boot_ms,
        }
    }

    fn sleep_until(&self, boot_ms: i64) -> crate::seam::BoxFuture<'_, ()> {
        Box::pin(async move {
            let left = self
                .left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                });
            if left.is_err() {
                std::future::pending::<()>().await;
            }
            let mut now = self.boot_ms.lock().unwrap();
            *now = boot_ms.max(*now);
        })
    }
}

#[tokio::test]
async fn a_daemon_that_makes_no_progress_sends_no_heartbeat() {
    let (address, seen) = receiver().await;
    let beat = Heartbeat::new(&format!("http://{address}/fine")).unwrap();
    let clock = Jumping {
        boot_ms: Mutex::new(0),
        left: AtomicUsize::new(5),
    };
    let progress = super::sd::Progress::new();
    for part in super::sd::Part::ALL {
        progress.advance(part);
    }
    let run = beat.run(&clock, &progress, Duration::from_mins(1));
    let ended = tokio::time::timeout(Duration::from_secs(2), run).await;
    assert!(ended.is_err(), "it never ends by itself");
    assert_eq!(*clock.boot_ms.lock().unwrap(), 5 * 60_000);
    assert_eq!(
        seen.lock().unwrap().len(),
        1,
        "one for the progress there was, then silence"
    );
}

#[test]
fn attempts_grow_rarer_up_to_one_an_hour() {
    for (attempts, seconds) in [
        (0, 30),
        (1, 60),
        (3, 240),
        (7, 3600),
        (31, 3600),
        (32, 3600),
        (u32::MAX, 3600),
    ] {
        assert_eq!(
            back_off(attempts),
            Duration::from_secs(seconds),
            "{attempts}"
        );
    }
}
