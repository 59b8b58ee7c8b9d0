//! Refusals as `application/problem+json`: what happened, a stable code, and what to do next.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{show, wire};
use crate::engine::handle::{OpError, OpErrorKind};
use crate::seam::StoreError;

/// A refusal on its way out.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: String,
    approval: Option<Box<wire::Approval>>,
    /// After input that cannot be trusted to end where it seems to, the connection is closed.
    close: bool,
}

impl Failure {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            hint: hint.into(),
            approval: None,
            close: false,
        }
    }

    /// Input that is not what it should be; the connection ends with the answer.
    pub(super) fn bad_input(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            close: true,
            ..Self::new(status, code, detail, hint)
        }
    }

    /// A value that is well-formed and wrong.
    pub(super) fn invalid(
        code: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail, hint)
    }

    /// A name or id that nothing has.
    pub(super) fn unknown(what: &str, name: &str, list: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "unknown",
            format!("There is no {what} `{name}`."),
            format!("`{list}` shows what there is."),
        )
    }

    /// From the engine; `one_person` tells how many votes an approval needs.
    pub(super) fn of(error: OpError, one_person: bool) -> Self {
        let status = match error.kind {
            OpErrorKind::NotFound => StatusCode::NOT_FOUND,
            OpErrorKind::Forbidden => StatusCode::FORBIDDEN,
            OpErrorKind::Conflict => StatusCode::CONFLICT,
            OpErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            OpErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let approval = error
            .approval
            .map(|approval| Box::new(show::approval(&approval, one_person)));
        Self {
            approval,
            ..Self::new(status, error.code, error.message, error.hint)
        }
    }

    /// The body.
    pub(super) fn problem(self) -> wire::Problem {
        wire::Problem {
            kind: format!("urn:healerd:problem:{}", self.code),
            title: title(self.status).to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: show::text(&self.detail),
            hint: show::text(&self.hint),
            approval: self.approval,
        }
    }
}

impl From<OpError> for Failure {
    fn from(error: OpError) -> Self {
        Self::of(error, false)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store",
            format!("The store did not answer: {error}"),
            "See the journal: `journalctl -u healerd`.",
        )
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, close) = (self.status, self.close);
        let mut response = (status, Json(self.problem())).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(wire::PROBLEM_TYPE),
        );
        if close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::NOT_FOUND => "Unknown",
        StatusCode::METHOD_NOT_ALLOWED => "Not a verb of this route",
        StatusCode::REQUEST_TIMEOUT => "Too slow",
        StatusCode::CONFLICT => "Not now",
        StatusCode::PAYLOAD_TOO_LARGE => "Too large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "Not JSON",
        StatusCode::UNPROCESSABLE_ENTITY => "Bad input",
        StatusCode::TOO_MANY_REQUESTS => "Too many connections",
        StatusCode::SERVICE_UNAVAILABLE => "Not available",
        _ => "Failed",
    }
}
