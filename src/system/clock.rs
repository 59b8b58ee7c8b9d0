//! The clocks of this machine, and sleep that counts suspended time.
//!
//! The boot clock is the one to measure with: it is never set and goes on during suspend. The wall clock is read for
//! people and for what must compare across boots; see [`Moment`] for how little it is trusted.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::model::time::Moment;
use crate::seam::{BoxFuture, Clock};

/// Longest sleep of the fallback that does without a kernel timer: a suspend is noticed at most so much later.
const FALLBACK_STEP: Duration = Duration::from_secs(1);

/// The kernel's clocks.
#[derive(Debug, Clone)]
pub struct RealClock {
    boot_id: String,
}

impl RealClock {
    /// Reads which boot this is.
    ///
    /// # Errors
    /// When `/proc/sys/kernel/random/boot_id` cannot be read: without it no stored moment could be judged.
    pub fn new() -> std::io::Result<Self> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(Self {
            boot_id: boot_id.trim().to_owned(),
        })
    }
}

impl Clock for RealClock {
    fn now(&self) -> Moment {
        Moment {
            boot_id: self.boot_id.clone(),
            boot_ms: read_ms(ClockId::Boottime),
            wall_ms: read_ms(ClockId::Realtime),
        }
    }

    fn sleep_until(&self, boot_ms: i64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while read_ms(ClockId::Boottime) < boot_ms {
                // A timer that cannot be had (no free descriptors) must not turn into a busy loop.
                if wait_on_timer(boot_ms).await.is_err() {
                    let missing = boot_ms.saturating_sub(read_ms(ClockId::Boottime)).max(1);
                    let missing = Duration::from_millis(u64::try_from(missing).unwrap_or(1));
                    tokio::time::sleep(missing.min(FALLBACK_STEP)).await;
                }
            }
        })
    }
}

/// Milliseconds of one clock, rounded down.
fn read_ms(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(1000)
        .saturating_add(time.tv_nsec / 1_000_000)
}

/// Waits on a kernel timer of the boot clock, which also fires right after a suspend that passed the time.
async fn wait_on_timer(boot_ms: i64) -> std::io::Result<()> {
    let timer: OwnedFd = timerfd_create(
        TimerfdClockId::Boottime,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?;
    let at = Itimerspec {
        it_interval: Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: Timespec {
            tv_sec: boot_ms / 1000,
            tv_nsec: (boot_ms % 1000) * 1_000_000,
        },
    };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &at)?;
    // Readable once it fired; it is dropped then, so the count need not be read.
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that may close early; an owned descriptor never does"
    )]
    let ready = AsyncFd::new(timer)?;
    drop(ready.readable().await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleep_ends_when_the_boot_clock_says_so() {
        let clock = RealClock::new().unwrap();
        let target = clock.now().boot_ms + 30;
        clock.sleep_until(target).await;
        assert!(clock.now().boot_ms >= target);
    }

    #[tokio::test]
    async fn a_time_already_past_returns_at_once() {
        let clock = RealClock::new().unwrap();
        for past in [clock.now().boot_ms, 0, -1, i64::MIN] {
            clock.sleep_until(past).await;
        }
    }

    #[tokio::test]
    async fn a_time_never_reached_is_waited_for_without_spinning() {
        let clock = RealClock::new().unwrap();
        let before_ms = read_ms(ClockId::ThreadCPUTime);
        let waited =
            tokio::time::timeout(Duration::from_millis(400), clock.sleep_until(i64::MAX)).await;
        let used_ms = read_ms(ClockId::ThreadCPUTime) - before_ms;
        assert!(waited.is_err());
        assert!(used_ms < 200, "used {used_ms} ms of processor time");
    }

    #[test]
    fn one_boot_has_one_id() {
        let first = RealClock::new().unwrap().now();
        let second = RealClock::new().unwrap().now();
        assert_eq!(first.boot_id, second.boot_id);
        assert_eq!(first.boot_id.len(), 36);
        assert!(second.boot_ms >= first.boot_ms);
    }
}
