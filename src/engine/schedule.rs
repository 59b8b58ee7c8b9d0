//! When an app is due: its period with jitter, or its cron expression; and looks in between.
//!
//! Due times are durable. After an outage an app is due once, spread over its period, so that ten thousand of them do
//! not start together.

use std::time::Duration;

use crate::model::app::{App, Schedule};
use crate::model::time::Moment;
use crate::system::CronSchedule;

/// The next due time after a round at `now`. `draw` is any random number.
pub(super) fn next_due(app: &App, now: &Moment, draw: u64) -> Moment {
    match &app.schedule {
        Schedule::Every(period) => {
            now.plus(jittered(*period, app.policy.timing.jitter_percent, draw))
        }
        // The expression was checked when the configuration was read; should it fail now, an hour is better than never.
        Schedule::Cron { expression, zone } => {
            let wall_ms = CronSchedule::parse(expression, zone, now.wall_ms)
                .ok()
                .and_then(|cron| cron.next_after(now.wall_ms))
                .unwrap_or(now.wall_ms + 3_600_000);
            now.plus(Duration::from_millis(
                u64::try_from(wall_ms - now.wall_ms).unwrap_or(0),
            ))
        }
    }
}

/// A due time that the store remembers, after a start: kept while it lies within one period from now, else spread
/// over the period.
pub(super) fn due_after_start(
    app: &App,
    stored: Option<&Moment>,
    now: &Moment,
    draw: u64,
) -> Moment {
    let Schedule::Every(period) = &app.schedule else {
        return next_due(app, now, draw);
    };
    let spread = now.plus(period.mul_f64(fraction(draw)));
    match stored {
        None => spread,
        Some(due) => {
            let due = due.anchored(now);
            let ahead_ms = due.boot_ms - now.boot_ms;
            let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
            if (0..=period_ms.saturating_mul(2)).contains(&ahead_ms) {
                due
            } else {
                spread
            }
        }
    }
}

/// `period` ± `percent`, by `draw`.
fn jittered(period: Duration, percent: u32, draw: u64) -> Duration {
    let spread = f64::from(percent.min(100)) / 100.0;
    period.mul_f64(1.0 - spread + 2.0 * spread * fraction(draw))
}

/// 0.0 to 1.0.
fn fraction(draw: u64) -> f64 {
    f64::from(u32::try_from(draw >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_percent() {
        let period = Duration::from_secs(60);
        for draw in [0, u64::MAX / 2, u64::MAX] {
            let length = jittered(period, 10, draw);
            assert!((54.0..=66.0).contains(&length.as_secs_f64()), "{length:?}");
        }
        assert_eq!(jittered(period, 0, 12345), period);
    }
}
