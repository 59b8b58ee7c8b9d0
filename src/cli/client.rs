//! Speaks to the daemon: HTTP over its Unix socket, JSON both ways.
//!
//! Every answer is bounded in size and in time. What the daemon refuses becomes an error with its stable code, its
//! sentence and its hint; what never reached a daemon becomes `unreachable` or `permission`. Nothing is retried here,
//! for a request may have been carried out although its answer was lost.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::output::{CliError, code};
use crate::control::wire::{BASE, Problem};
use crate::telemetry::redact::escape;

/// Longest body of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Longest wait for an answer; the daemon itself gives up on a busy application before that.
const ANSWER_WITHIN: Duration = Duration::from_secs(150);

/// Longest wait for the socket.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A client of one control socket.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

/// What is sent along: nothing, by default.
pub type Query<'a> = &'a [(&'a str, String)];

impl Client {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// When the machine's cryptography cannot be set up, which HTTP clients want even where nothing is encrypted.
    pub fn new(socket: &Path) -> Result<Self, CliError> {
        // Whoever was first chose the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            .connect_timeout(CONNECT_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| {
                CliError::new(code::FAILED, "client", "cannot make an HTTP client")
                    .caused_by(&error)
            })?;
        Ok(Self {
            http,
            socket: socket.to_owned(),
        })
    }

    /// Asks for something. `path` begins after `/api/v1/healer`.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
    ) -> Result<T, CliError> {
        self.send(Method::GET, path, query, None::<&()>, Duration::ZERO)
            .await
    }

    /// Has something done.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.send(Method::POST, path, &[], Some(body), Duration::ZERO)
            .await
    }

    /// Has something done, and waits up to `wait` for its end.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub async fn post_and_wait<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        wait: Duration,
    ) -> Result<T, CliError> {
        let query = [("wait", wait.as_secs().to_string())];
        self.send(Method::POST, path, &query, Some(body), wait)
            .await
    }

    /// Has something removed.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub async fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, CliError> {
        self.send(Method::DELETE, path, &[], body, Duration::ZERO)
            .await
    }

    /// Opens a stream that has no end.
    ///
    /// # Errors
    /// When no daemon answers, or it refuses.
    pub async fn stream(&self, path: &str) -> Result<reqwest::Response, CliError> {
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.http.get(url(path)).send());
        let response = answer
            .await
            .map_err(|_| late())?
            .map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = self.body(response).await?;
        Err(refusal(status, &body))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        body: Option<&impl Serialize>,
        wait: Duration,
    ) -> Result<T, CliError> {
        let mut request = self
            .http
            .request(method, url(path) + &query_text(query))
            .timeout(ANSWER_WITHIN + wait);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = self.body(response).await?;
        if !status.is_success() {
            return Err(refusal(status.as_u16(), &body));
        }
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|error| {
            CliError::new(
                code::FAILED,
                "bad_answer",
                "the daemon's answer was not understood",
            )
            .caused_by(&error)
            .hint("compare `healerctl --version` with the version that `healerctl status` shows")
        })
    }

    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, CliError> {
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(&error))?
        {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(CliError::new(
                    code::FAILED,
                    "answer_too_large",
                    format!("the daemon's answer is larger than {ANSWER_BYTES_MAX} bytes"),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        let socket = escape(&self.socket.display().to_string());
        match io_kind(error) {
            Some(io::ErrorKind::PermissionDenied) => CliError::new(
                code::PERMISSION,
                "permission",
                format!("the control socket `{socket}` may not be opened"),
            )
            .hint("run it as root, or ask an administrator for a role in [control.roles] and its group"),
            _ if error.is_timeout() => late(),
            _ if error.is_connect() => CliError::new(
                code::UNREACHABLE,
                "unreachable",
                format!("no daemon answers at `{socket}`"),
            )
            .caused_by(innermost(error))
            .hint("see whether it runs: `systemctl status healerd`; or name its socket with --socket"),
            _ => CliError::new(
                code::UNREACHABLE,
                "interrupted",
                "the connection to the daemon was lost; whether it did what was asked is unknown",
            )
            .caused_by(innermost(error))
            .hint("look: `healerctl status` and `healerctl heals`"),
        }
    }
}

fn late() -> CliError {
    CliError::new(
        code::UNREACHABLE,
        "timeout",
        "the daemon did not answer in time; whether it did what was asked is unknown",
    )
    .hint("look: `healerctl status` and `healerctl heals`")
}

fn url(path: &str) -> String {
    format!("http://healerd{BASE}{path}")
}

/// Values here are names, ids, numbers and paths; what a query cannot hold is percent-encoded.
fn query_text(query: Query<'_>) -> String {
    let mut text = String::new();
    for (key, value) in query {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(key);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

fn innermost<'a>(error: &'a reqwest::Error) -> &'a (dyn std::error::Error + 'static) {
    let mut found: &(dyn std::error::Error + 'static) = error;
    while let Some(next) = found.source() {
        found = next;
    }
    found
}

fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found.kind());
        }
        next = error.source();
    }
    None
}

/// What a refused request means for the caller. Foreign text is escaped here, once.
fn refusal(status: u16, body: &[u8]) -> CliError {
    let exit = match status {
        401 | 403 => code::PERMISSION,
        404 | 405 | 413 | 415 | 400 | 422 => code::USAGE,
        409 => code::REFUSED,
        _ => code::FAILED,
    };
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => {
            let mut error = CliError::new(exit, escape(&problem.code), escape(&problem.detail));
            if !problem.hint.is_empty() {
                error.hint = Some(escape(&problem.hint));
            }
            error.approval = problem
                .approval
                .and_then(|approval| serde_json::to_value(approval).ok())
                .map(Box::new);
            error
        }
        Err(_) => CliError::new(
            exit,
            "bad_answer",
            format!("the daemon answered with status {status} and no reason"),
        )
        .hint("see whether it is a healerd that listens at this socket"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_refusal_has_its_exit_code() {
        let body = br#"{"type":"urn:healerd:problem:role","title":"t","status":0,"code":"x","detail":"No.","hint":"Do this."}"#;
        for (status, want) in [
            (403, code::PERMISSION),
            (404, code::USAGE),
            (409, code::REFUSED),
            (422, code::USAGE),
            (503, code::FAILED),
        ] {
            let error = refusal(status, body);
            assert_eq!((error.exit, error.code.as_ref()), (want, "x"), "{status}");
        }
    }

    #[test]
    fn an_answer_that_is_no_problem_document_is_told_as_such() {
        let error = refusal(502, b"<html>");
        assert_eq!(
            (error.exit, error.code.as_ref()),
            (code::FAILED, "bad_answer")
        );
    }

    #[test]
    fn foreign_text_of_a_refusal_is_escaped() {
        let body =
            br#"{"type":"t","title":"t","status":409,"code":"x","detail":"a\u001b[2Jb","hint":""}"#;
        let error = refusal(409, body);
        assert!(!error.message.contains('\u{1b}'), "{}", error.message);
        assert_eq!(error.hint, None);
    }

    #[test]
    fn a_query_is_encoded() {
        let query = [
            ("application", "shop".to_owned()),
            ("only", "a b/ü&x=1".to_owned()),
        ];
        assert_eq!(
            query_text(&query),
            "?application=shop&only=a%20b%2F%C3%BC%26x%3D1"
        );
    }

    #[tokio::test]
    async fn a_socket_without_daemon_is_unreachable() {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::new(&folder.path().join("none.sock")).unwrap();
        let error = client
            .get::<serde_json::Value>("/status", &[])
            .await
            .unwrap_err();
        assert_eq!(
            (error.exit, error.code.as_ref()),
            (code::UNREACHABLE, "unreachable")
        );
    }
}
