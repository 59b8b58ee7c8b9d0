//! The pulse: a hint every few seconds that time has passed.
//!
//! The scheduler crate gives the beat and nothing else, and none of its types leave this module: by itself it overlaps
//! runs, drops activations when its channel is full, and falls silent when the wall clock steps back. So due times live
//! in the store, and the engine's own boot-clock timer wakes it when a beat is missing.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::seam::{BoxFuture, Pulse};

/// Every five seconds: a third of the shortest look, so that the timer alone never has to be exact.
const BEAT: &str = "*/5 * * * * *";

/// The scheduler did not start. The daemon may go on with [`NoPulse`].
#[derive(Debug, thiserror::Error)]
#[error("the pulse did not start: {0}")]
pub struct PulseError(String);

/// Beats by a cron job.
pub struct CronPulse {
    beat: Arc<Notify>,
    scheduler: JobScheduler,
}

impl std::fmt::Debug for CronPulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CronPulse").finish_non_exhaustive()
    }
}

impl CronPulse {
    /// Starts beating.
    ///
    /// # Errors
    /// When the scheduler cannot start.
    pub async fn start() -> Result<Self, PulseError> {
        Self::start_with(BEAT).await
    }

    async fn start_with(expression: &str) -> Result<Self, PulseError> {
        let failed = |error: tokio_cron_scheduler::JobSchedulerError| PulseError(error.to_string());
        let beat = Arc::new(Notify::new());
        let scheduler = JobScheduler::new().await.map_err(failed)?;
        let notify = Arc::clone(&beat);
        let job = Job::new(expression, move |_, _| notify.notify_one()).map_err(failed)?;
        scheduler.add(job).await.map_err(failed)?;
        scheduler.start().await.map_err(failed)?;
        Ok(Self { beat, scheduler })
    }

    /// Stops beating.
    pub async fn stop(mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::debug!(reason = %error, "the pulse did not stop cleanly");
        }
    }
}

impl Pulse for CronPulse {
    fn beat(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.beat.notified())
    }
}

/// Never beats: the engine's own timer does it all.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPulse;

impl Pulse for NoPulse {
    fn beat(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_pulse_beats() {
        let pulse = CronPulse::start_with("* * * * * *").await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), pulse.beat())
            .await
            .expect("a beat each second");
        pulse.stop().await;
    }

    #[tokio::test]
    async fn a_pulse_taken_away_leaves_the_timer() {
        let clock = crate::system::RealClock::new().unwrap();
        let due = crate::seam::Clock::now(&clock).boot_ms + 20;
        tokio::select! {
            () = NoPulse.beat() => panic!("no pulse beats"),
            () = crate::seam::Clock::sleep_until(&clock, due) => {}
        }
    }
}
