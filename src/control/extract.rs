//! What a request says, checked before anybody acts on it: who, where, how long, how deep.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::peer::Peer;
use super::problem::Failure;
use super::{ControlState, wire};
use crate::config::{Role, parse_duration};
use crate::model::approval::Person;

/// Deepest nesting of a body. Source: SAFETY.md I6.
const DEPTH_MAX: usize = 32;

/// Longest wait for a whole body.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 1000;

/// Who asks, and what they may do now.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) person: Person,
    pub(super) role: Role,
}

impl Caller {
    /// Goes on only with this role or a higher one.
    pub(super) fn may(&self, role: Role, verb: &str) -> Result<(), Failure> {
        if self.role >= role {
            return Ok(());
        }
        tracing::warn!(person = %self.person.to_text(), role = %self.role, verb, "request refused for its role");
        Err(forbidden(
            format!(
                "{} is {}; to {verb} takes {role}.",
                self.person.to_text(),
                self.role
            ),
            format!(
                "Ask somebody with the role {role}, or an administrator for a line in [control.roles]."
            ),
        ))
    }
}

fn forbidden(detail: String, hint: String) -> Failure {
    Failure::new(StatusCode::FORBIDDEN, "role", detail, hint)
}

impl FromRequestParts<Arc<ControlState>> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ControlState>,
    ) -> Result<Self, Failure> {
        let Some(peer) = parts.extensions.get::<Arc<Peer>>() else {
            return Err(forbidden(
                "Nothing is known of the caller.".to_owned(),
                "Use the control socket.".to_owned(),
            ));
        };
        let role = peer.role(&state.access.borrow()).ok_or_else(|| {
            forbidden(
                format!("{} has no role here.", peer.person.to_text()),
                "An administrator can name you, or a group of yours, in [control.roles]."
                    .to_owned(),
            )
        })?;
        Ok(Self {
            person: peer.person.clone(),
            role,
        })
    }
}

/// The changing parts of a route.
#[derive(Debug)]
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<ControlState>> for At<T> {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ControlState>,
    ) -> Result<Self, Failure> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Failure::bad_input(
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad_path",
                format!("The path cannot be read: {}.", rejection.body_text()),
                "Names hold letters, digits, `_`, `-` and `.` only.",
            )),
        }
    }
}

/// What stands behind the `?`.
#[derive(Debug)]
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<ControlState>> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ControlState>,
    ) -> Result<Self, Failure> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Failure::bad_input(
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad_query",
                format!("The query cannot be read: {}.", rejection.body_text()),
                document_hint(),
            )),
        }
    }
}

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<ControlState>> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &Arc<ControlState>) -> Result<Self, Failure> {
        let json = is_json(&request);
        let bytes = read(request).await?;
        if bytes.is_empty() {
            return Err(Failure::bad_input(
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad_body",
                "The request has no body.",
                document_hint(),
            ));
        }
        parse(json, &bytes).map(Self)
    }
}

/// A JSON body that may be left away.
#[derive(Debug)]
pub(super) struct MaybeBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<Arc<ControlState>> for MaybeBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &Arc<ControlState>) -> Result<Self, Failure> {
        let json = is_json(&request);
        let bytes = read(request).await?;
        if bytes.is_empty() {
            Ok(Self(T::default()))
        } else {
            parse(json, &bytes).map(Self)
        }
    }
}

fn is_json(request: &Request) -> bool {
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    kind.split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn read(request: Request) -> Result<Bytes, Failure> {
    let reading = axum::body::to_bytes(request.into_body(), wire::BODY_BYTES_MAX);
    match tokio::time::timeout(BODY_WITHIN, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Failure::bad_input(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!(
                "The body is longer than {} bytes, or it broke off.",
                wire::BODY_BYTES_MAX
            ),
            "Send less.",
        )),
        Err(_) => Err(Failure::bad_input(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            format!(
                "The body did not come within {} seconds.",
                BODY_WITHIN.as_secs()
            ),
            "Send the whole request at once.",
        )),
    }
}

/// Reads a body that is here; nothing deeper than the limit is given to the parser.
pub(super) fn parse<T: DeserializeOwned>(json: bool, bytes: &[u8]) -> Result<T, Failure> {
    if !json {
        return Err(Failure::bad_input(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_json",
            "The body is not said to be JSON.",
            "Send it with `Content-Type: application/json`.",
        ));
    }
    if depth(bytes) > DEPTH_MAX {
        return Err(Failure::bad_input(
            StatusCode::UNPROCESSABLE_ENTITY,
            "too_deep",
            format!("The body is nested deeper than {DEPTH_MAX}."),
            document_hint(),
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::bad_input(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_body",
            format!("The body cannot be read: {error}."),
            document_hint(),
        )
    })
}

fn document_hint() -> String {
    format!("`GET {}` describes every request.", wire::OPENAPI)
}

/// Deepest nesting of brackets outside of texts; an upper bound also for what is no JSON.
fn depth(bytes: &[u8]) -> usize {
    let (mut now, mut most, mut text, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b'[' | b'{' if !text => {
                now += 1;
                most = most.max(now);
            }
            b']' | b'}' if !text => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// A name or id of the path; what cannot be one is not there.
pub(super) fn named<T: FromStr>(text: &str, what: &str, list: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::unknown(what, text, list))
}

/// A reason that says something.
pub(super) fn reason(text: &str) -> Result<String, Failure> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::invalid(
            "reason",
            "A reason is needed.",
            "Say why, for whoever reads the audit log.",
        ));
    }
    if text.len() > REASON_BYTES_MAX || text.contains('\0') {
        return Err(Failure::invalid(
            "reason",
            format!("A reason is at most {REASON_BYTES_MAX} bytes long and holds no NUL."),
            "Say it shorter.",
        ));
    }
    Ok(text.to_owned())
}

/// A length of time, not zero.
pub(super) fn length(text: &str) -> Result<Duration, Failure> {
    match parse_duration(text) {
        Ok(length) if !length.is_zero() => Ok(length),
        Ok(_) => Err(Failure::invalid(
            "time",
            "A length of time cannot be zero.",
            "Write it as in `20m` or `2h`.",
        )),
        Err(reason) => Err(Failure::invalid(
            "time",
            format!("{reason}."),
            "Write it as in `20m` or `2h`.",
        )),
    }
}

/// `undo` out of the pair; exactly one of both was to be true.
pub(super) fn keep_or_undo(keep: bool, undo: bool) -> Result<bool, Failure> {
    if keep == undo {
        return Err(Failure::invalid(
            "keep_or_undo",
            "Say what becomes of what was done: exactly one of `keep` and `undo` must be true.",
            "Send `\"keep\": true` or `\"undo\": true`.",
        ));
    }
    Ok(undo)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn depth_is_counted_outside_of_texts_only() {
        for (text, want) in [
            ("", 0),
            ("{}", 1),
            (r#"{"a":[{"b":1}]}"#, 3),
            (r#"{"a":"[[[[{{{{"}"#, 1),
            (r#"{"a":"\"[[[["}"#, 1),
            ("]]]][[", 2),
            ("[][][]", 1),
        ] {
            assert_eq!(depth(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        let failure =
            parse::<wire::HealRequest>(true, br#"{"actionName":"a","dryrun":true}"#).unwrap_err();
        let problem = failure.problem();
        assert_eq!((problem.status, problem.code.as_str()), (422, "bad_body"));
        assert!(problem.detail.contains("dryrun"), "{}", problem.detail);
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(parse::<wire::HealRequest>(true, &bytes));
            drop(parse::<wire::HoldRequest>(true, &bytes));
        }

        #[test]
        fn nothing_deeper_than_the_limit_is_parsed(levels in 33_usize..2000, open in "[\\[{]") {
            let failure = parse::<serde_json::Value>(true, open.repeat(levels).as_bytes()).unwrap_err();
            prop_assert_eq!(failure.problem().code, "too_deep");
        }

        #[test]
        fn what_the_parser_takes_is_no_deeper_than_counted(text in "[\\[\\]{}\":,a\\\\1]{0,60}") {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                prop_assert!(nesting(&value) <= depth(text.as_bytes()));
            }
        }
    }

    fn nesting(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Array(list) => 1 + list.iter().map(nesting).max().unwrap_or(0),
            serde_json::Value::Object(map) => 1 + map.values().map(nesting).max().unwrap_or(0),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => 0,
        }
    }
}
