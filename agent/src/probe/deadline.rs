//! A moment on the boot clock until which something may take.
//!
//! The boot clock runs on while a machine sleeps and does not follow steps of the wall clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since the host's boot, sleep included.
pub fn boot_now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(secs, nanos)
}

/// Milliseconds since the epoch by the wall clock, which file times are compared with.
pub(super) fn wall_now_ms() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec
        .saturating_mul(1_000)
        .saturating_add(now.tv_nsec / 1_000_000)
}

/// A moment on the boot clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// That much from now.
    pub fn after(time: Duration) -> Self {
        Self(boot_now().saturating_add(time))
    }

    /// That moment on the boot clock.
    pub const fn at(moment: Duration) -> Self {
        Self(moment)
    }

    /// The earlier one of this and `time` from now.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        self.min(Self::after(time))
    }

    /// What is left; zero when it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_sub(boot_now())
    }

    /// Is nothing left?
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}
