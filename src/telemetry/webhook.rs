//! One notice as one POST of JSON.
//!
//! With a secret, `X-Healerd-Signature: blake3=HEX` is the keyed BLAKE3 hash of the body; the key is
//! `derive_key("healerd webhook signature v1", secret)`. Any 2xx is delivered; all else is tried again from the outbox.

use std::time::Duration;

use reqwest::header;

use super::http::{client, told};
use super::redact;
use crate::seam::{BoxFuture, Notice, Notifier, NotifyError};

/// Name of the key derivation; part of the contract with receivers.
const KEY_CONTEXT: &str = "healerd webhook signature v1";

/// Longest text of a notice.
const TEXT_BYTES_MAX: usize = 8 << 10;
const TITLE_BYTES_MAX: usize = 500;

/// Sends notices to one address.
pub struct Webhook {
    client: reqwest::Client,
    url: String,
    key: Option<[u8; 32]>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

impl Webhook {
    /// A sender to this address, which is never shown; with a secret, bodies are signed.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(url: &str, secret: Option<&str>, timeout: Duration) -> Result<Self, NotifyError> {
        Ok(Self {
            client: client(timeout).map_err(NotifyError)?,
            url: url.to_owned(),
            key: secret.map(|secret| blake3::derive_key(KEY_CONTEXT, secret.as_bytes())),
        })
    }

    async fn post(&self, notice: &Notice) -> Result<(), NotifyError> {
        let body = body(notice)?;
        let mut request = self
            .client
            .post(&self.url)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            let signature = blake3::keyed_hash(key, &body);
            request = request.header(
                "X-Healerd-Signature",
                format!("blake3={}", signature.to_hex()),
            );
        }
        let answer = request
            .body(body)
            .send()
            .await
            .map_err(|error| NotifyError(told(error)))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(NotifyError(format!(
                "the receiver answered {}",
                answer.status().as_u16()
            )))
        }
    }
}

impl Notifier for Webhook {
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(self.post(notice))
    }
}

/// The notice as JSON, its texts redacted. Line breaks of the text stay: JSON escapes them.
fn body(notice: &Notice) -> Result<Vec<u8>, NotifyError> {
    let lines: Vec<_> = redact::hide(&notice.text)
        .lines()
        .map(|line| redact::clean(line, TEXT_BYTES_MAX))
        .collect();
    let mut text = lines.join("\n");
    if text.len() > TEXT_BYTES_MAX {
        text = text.chars().take(TEXT_BYTES_MAX / 4).collect::<String>() + "…";
    }
    let safe = Notice {
        title: redact::clean(&notice.title, TITLE_BYTES_MAX),
        text,
        ..notice.clone()
    };
    serde_json::to_vec(&safe).map_err(|error| NotifyError(error.to_string()))
}
