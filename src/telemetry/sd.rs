//! Talking to the service manager: ready, status, reloading, stopping, and the watchdog.
//!
//! The watchdog is fed on progress only: each [`Part`] of the daemon counts what it really did (the store: a commit), and
//! a ping is sent when all of them moved since the last one. A daemon that hangs in one part is restarted although the
//! others still turn. Without a service manager all of it does nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use super::redact;
use crate::seam::Clock;

/// What must move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The loop that starts rounds.
    Scheduler,
    /// A real commit.
    Store,
    /// The loop that ends what ran too long.
    Reaper,
    /// The loop that answers the control socket.
    Socket,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Scheduler, Self::Store, Self::Reaper, Self::Socket];

    /// Its name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Store => "store",
            Self::Reaper => "reaper",
            Self::Socket => "socket",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Scheduler => 0,
            Self::Store => 1,
            Self::Reaper => 2,
            Self::Socket => 3,
        }
    }
}

/// Counters of all parts; shared, and cheap to move.
#[derive(Debug, Default)]
pub struct Progress([AtomicU64; 4]);

impl Progress {
    /// Nothing moved yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The part did something real.
    pub fn advance(&self, part: Part) {
        self.0[part.index()].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> [u64; 4] {
        [0, 1, 2, 3].map(|index: usize| self.0[index].load(Ordering::Relaxed))
    }
}

/// Compares with the last time that all parts had moved.
#[derive(Debug, Default)]
pub struct Watch {
    last: [u64; 4],
}

impl Watch {
    /// Parts that stood still since the last time none did. None: this is the new last time.
    pub fn standing_still(&mut self, progress: &Progress) -> Vec<Part> {
        let now = progress.read();
        let still: Vec<Part> = Part::ALL
            .into_iter()
            .filter(|part| now[part.index()] == self.last[part.index()])
            .collect();
        if still.is_empty() {
            self.last = now;
        }
        still
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(reason = %error, "service manager not reached");
    }
}

/// One line for `systemctl status`; foreign text is cleaned, because a line break would begin another command.
fn line(text: &str) -> String {
    redact::clean(text, 300)
}

/// After migration, recovery and the bind of the socket, and after a reload.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
}

/// What the daemon is doing.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(&line(status))]);
}

/// A reload begins; [`ready`] ends it, whether it was taken or refused.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(at) => tell(&[NotifyState::Reloading, at]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// No new intent from here on.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(&line(status))]);
}

/// How often to look, when the service manager wants pings: four times per period, so that one late look is no restart.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|period| (period / 4).max(Duration::from_secs(1)))
}

/// Pings for as long as all parts move. Never returns.
pub async fn feed_watchdog(clock: &dyn Clock, progress: &Progress, interval: Duration) {
    let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
    let mut watch = Watch::default();
    loop {
        clock
            .sleep_until(clock.now().boot_ms.saturating_add(interval_ms))
            .await;
        let still = watch.standing_still(progress);
        if still.is_empty() {
            tell(&[NotifyState::Watchdog]);
        } else {
            let parts: Vec<_> = still.iter().map(|part| part.as_str()).collect();
            tracing::warn!(parts = parts.join(","), "watchdog held back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_that_stands_still_holds_the_ping_back() {
        for stuck in Part::ALL {
            let progress = Progress::new();
            let mut watch = Watch::default();
            for part in Part::ALL.into_iter().filter(|part| *part != stuck) {
                progress.advance(part);
            }
            assert_eq!(watch.standing_still(&progress), [stuck]);
            progress.advance(stuck);
            assert_eq!(watch.standing_still(&progress), []);
        }
    }

    #[test]
    fn every_ping_needs_new_progress_of_all() {
        let progress = Progress::new();
        let mut watch = Watch::default();
        assert_eq!(watch.standing_still(&progress), Part::ALL);
        for part in Part::ALL {
            progress.advance(part);
        }
        assert!(watch.standing_still(&progress).is_empty());
        assert_eq!(
            watch.standing_still(&progress),
            Part::ALL,
            "nothing moved since"
        );
        progress.advance(Part::Store);
        assert_eq!(
            watch.standing_still(&progress),
            [Part::Scheduler, Part::Reaper, Part::Socket]
        );
        for part in [Part::Scheduler, Part::Reaper, Part::Socket] {
            progress.advance(part);
        }
        assert!(
            watch.standing_still(&progress).is_empty(),
            "slow parts count from the last ping"
        );
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(line("healing\nREADY=1"), "healing\\nREADY=1");
    }
}
