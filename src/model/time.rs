//! Moments that survive clock steps and restarts.
//!
//! Within one boot durations are measured on the boot clock (it counts suspended time and is never set). Across boots
//! only the wall clock is left, and it may lie: elapsed time is then clamped by whoever asks, see [`Moment::since`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One reading of all clocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Which boot of this machine.
    pub boot_id: String,
    /// `CLOCK_BOOTTIME`, milliseconds.
    pub boot_ms: i64,
    /// Wall clock, milliseconds since the epoch; for people, for windows and across boots only.
    pub wall_ms: i64,
}

impl Moment {
    /// Time that surely passed since `earlier`, at most `period`.
    ///
    /// Within a boot the boot clock tells. Across boots it is the wall clock clamped to `[0, period]`: a clock that
    /// stepped back means "no time passed", never "all passed" (SAFETY.md T1; sudo's CVE-2013-1775), but for the time
    /// since this boot, which surely passed; so every wait ends (T2).
    pub fn since(&self, earlier: &Self, period: Duration) -> Duration {
        let elapsed_ms = if self.boot_id == earlier.boot_id {
            self.boot_ms.saturating_sub(earlier.boot_ms)
        } else {
            self.wall_ms
                .saturating_sub(earlier.wall_ms)
                .max(self.boot_ms)
        };
        Duration::from_millis(u64::try_from(elapsed_ms).unwrap_or(0)).min(period)
    }

    /// Has `period` passed since `earlier`?
    pub fn is_past(&self, earlier: &Self, period: Duration) -> bool {
        self.since(earlier, period) >= period
    }

    /// Time still missing of `period` since `earlier`; zero when it is over.
    pub fn remaining(&self, earlier: &Self, period: Duration) -> Duration {
        period.saturating_sub(self.since(earlier, period))
    }

    /// This moment and `duration` more, on both clocks.
    #[must_use]
    pub fn plus(&self, duration: Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self {
            boot_id: self.boot_id.clone(),
            boot_ms: self.boot_ms.saturating_add(ms),
            wall_ms: self.wall_ms.saturating_add(ms),
        }
    }

    /// The same moment on the clocks of `now`'s boot, so that its age goes on growing from what surely passed.
    ///
    /// Within a boot it is unchanged. From another boot the wall clock tells its age, never below the time since this
    /// boot: a clock that stepped back costs one full wait and no more (SAFETY.md T2).
    #[must_use]
    pub fn anchored(&self, now: &Self) -> Self {
        if self.boot_id == now.boot_id {
            return self.clone();
        }
        let age_ms = now
            .wall_ms
            .saturating_sub(self.wall_ms)
            .max(now.boot_ms)
            .max(0);
        Self {
            boot_id: now.boot_id.clone(),
            boot_ms: now.boot_ms.saturating_sub(age_ms),
            wall_ms: now.wall_ms.saturating_sub(age_ms),
        }
    }

    /// RFC 3339 in UTC, for people and JSON.
    pub fn to_text(&self) -> String {
        wall_text(self.wall_ms)
    }
}

/// RFC 3339 in UTC of wall milliseconds, to the second.
pub fn wall_text(wall_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(wall_ms).map_or_else(
        |_| "out of range".to_owned(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// Wall milliseconds of an RFC 3339 text, with any offset.
pub fn wall_of(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_millisecond)
}

/// A length of time as people write it: `2m 5s`, `1h`, `3d 4h`; two units at most.
pub fn duration_text(duration: Duration) -> String {
    let total = duration.as_secs();
    if total == 0 {
        return format!("{}ms", duration.subsec_millis());
    }
    let parts = [
        (total / 86_400, "d"),
        (total / 3600 % 24, "h"),
        (total / 60 % 60, "m"),
        (total % 60, "s"),
    ];
    let shown: Vec<_> = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: &str, boot_ms: i64, wall_ms: i64) -> Moment {
        Moment {
            boot_id: boot.to_owned(),
            boot_ms,
            wall_ms,
        }
    }

    #[test]
    fn elapsed_time_never_exceeds_the_period_and_never_goes_back() {
        let hour = Duration::from_secs(3600);
        for (case, now, then, want_ms) in [
            (
                "same boot, wall stepped back ten years",
                at("a", 5000, -9_999),
                at("a", 2000, 0),
                3000,
            ),
            (
                "same boot, wall stepped ahead",
                at("a", 5000, i64::MAX),
                at("a", 2000, 0),
                3000,
            ),
            (
                "other boot, wall ahead by years",
                at("b", 10, i64::MAX),
                at("a", 2000, 0),
                3_600_000,
            ),
            (
                "other boot, wall stepped back",
                at("b", 10, 0),
                at("a", 2000, 5000),
                10,
            ),
            (
                "other boot, honest wall",
                at("b", 10, 65_000),
                at("a", 2000, 5000),
                60_000,
            ),
        ] {
            assert_eq!(
                now.since(&then, hour),
                Duration::from_millis(want_ms),
                "{case}"
            );
        }
    }

    #[test]
    fn durations_read_well() {
        for (seconds, want) in [
            (5, "5s"),
            (125, "2m 5s"),
            (3600, "1h"),
            (90_061, "1d 1h"),
            (86_460, "1d"),
        ] {
            assert_eq!(duration_text(Duration::from_secs(seconds)), want);
        }
    }
}
