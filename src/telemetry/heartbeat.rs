//! A call to an address outside for as long as healerd makes progress: a dead-man signal, so that somebody else notices
//! when it stops. It depends on nothing that is watched.

use std::time::Duration;

use super::http::{client, told};
use super::sd::{Progress, Watch};
use crate::seam::{Clock, NotifyError};

/// Calls one address.
pub struct Heartbeat {
    client: reqwest::Client,
    url: String,
}

impl std::fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heartbeat").finish_non_exhaustive()
    }
}

impl Heartbeat {
    /// A caller of this address, which is never shown.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(url: &str) -> Result<Self, NotifyError> {
        Ok(Self {
            client: client(Duration::from_secs(10)).map_err(NotifyError)?,
            url: url.to_owned(),
        })
    }

    /// One call.
    ///
    /// # Errors
    /// When it was not answered with 2xx.
    pub async fn beat(&self) -> Result<(), NotifyError> {
        let answer = self
            .client
            .get(&self.url)
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

    /// Calls after each period in which all parts of the daemon moved. Never returns.
    pub async fn run(&self, clock: &dyn Clock, progress: &Progress, every: Duration) {
        let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        let mut watch = Watch::default();
        let mut was_heard = true;
        loop {
            clock
                .sleep_until(clock.now().boot_ms.saturating_add(every_ms))
                .await;
            if !watch.standing_still(progress).is_empty() {
                continue;
            }
            let heard = self.beat().await;
            if let Err(error) = &heard
                && was_heard
            {
                tracing::warn!(reason = %error, "heartbeat not heard");
            }
            was_heard = heard.is_ok();
        }
    }
}
