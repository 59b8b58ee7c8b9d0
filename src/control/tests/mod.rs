//! The socket as callers meet it: roles, refusals, hostile input, identity, the document.

mod double;
mod hostile;
mod peers;
mod roles;
mod stops;
mod verbs;

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

use super::peer::Peer;
use super::{Access, ControlState, routes};
use crate::config::{Role, Roles};
use crate::model::approval::Person;
use double::Double;

/// The number of a user for each role.
const VIEWER: u32 = 1001;
const OPERATOR: u32 = 1002;
const APPROVER: u32 = 1003;
const ADMIN: u32 = 1004;
const NOBODY: u32 = 1005;

fn access() -> Access {
    let users = [
        (VIEWER, Role::Viewer),
        (OPERATOR, Role::Operator),
        (APPROVER, Role::Approver),
        (ADMIN, Role::Admin),
    ];
    Access {
        roles: Roles {
            users: users.into(),
            ..Roles::default()
        },
        parents: [("blog".parse().unwrap(), "shop".parse().unwrap())].into(),
        one_person: false,
    }
}

fn state(double: &Arc<Double>, access: Access) -> ControlState {
    let (_sender, receiver) = watch::channel(Arc::new(access));
    ControlState {
        backend: Arc::clone(double) as Arc<dyn super::Backend>,
        access: receiver,
        metrics_text: Arc::new(|| "healerd_build_info 1\n".to_owned()),
        notifier_test: Arc::new(|| Box::pin(async { Ok("A test notice was sent.".to_owned()) })),
        progress: Arc::new(|| {}),
        started: double::moment(),
    }
}

/// What came back.
struct Got {
    status: u16,
    kind: String,
    closes: bool,
    text: String,
}

impl Got {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// One request as this user, without a socket.
async fn ask(double: &Arc<Double>, uid: u32, method: &str, path: &str, body: &str) -> Got {
    ask_as_type(double, uid, method, path, "application/json", body).await
}

async fn ask_as_type(
    double: &Arc<Double>,
    uid: u32,
    method: &str,
    path: &str,
    kind: &str,
    body: &str,
) -> Got {
    let service = TowerToHyperService::new(routes::router(Arc::new(state(double, access()))));
    let peer = Peer {
        person: Person {
            uid,
            name: format!("user{uid}"),
        },
        gids: Vec::new(),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .extension(Arc::new(peer))
        .body(Body::from(body.to_owned()))
        .unwrap();
    let answer = service.call(request).await.unwrap();
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    let (status, kind, closes) = (
        answer.status().as_u16(),
        header("content-type"),
        header("connection") == "close",
    );
    // An event stream never ends by itself.
    let text = if kind.starts_with("text/event-stream") {
        String::new()
    } else {
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20)
            .await
            .unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    Got {
        status,
        kind,
        closes,
        text,
    }
}

fn path(rest: &str) -> String {
    format!("{}{rest}", super::wire::BASE)
}

#[test]
fn the_committed_document_is_the_one_of_the_code() {
    let found = super::document().to_pretty_json().unwrap() + "\n";
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    if std::env::var_os("HEALERD_WRITE_OPENAPI").is_some() {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is how the committed document is made"
        )]
        std::fs::write(&file, &found).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == found,
        "docs/openapi.json is not current; run this test with HEALERD_WRITE_OPENAPI=1 and look at the change"
    );
}
