//! The HTTP client of webhooks and the heartbeat.
//!
//! No redirects: a notice goes to the address that was written, or nowhere. No proxy from the environment.

use std::sync::Once;
use std::time::Duration;

/// Chooses ring for all TLS of the process. May be called any number of times.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only when another one is installed, and then that one serves.
        if rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
        {
            tracing::debug!("another TLS provider was installed before");
        }
    });
}

/// A client whose every request ends within `timeout`.
///
/// # Errors
/// When the certificates of this machine cannot be used.
pub(super) fn client(timeout: Duration) -> Result<reqwest::Client, String> {
    install_tls();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(5)))
        .user_agent(concat!("healerd/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(told)
}

/// An error with its causes, without the address: it may be a secret.
pub(super) fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    super::redact::clean(&text, 500)
}
