//! When a cron expression is due next, in its own time zone. Pure.
//!
//! Five fields, or six with seconds first. Where clocks jump ahead a time that does not exist is due at the jump; where
//! they fall back it is due once.

use std::str::FromStr;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Why an expression or its zone cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("`{expression}` is not a cron expression: {reason}")]
    Expression { expression: String, reason: String },
    #[error("`{zone}` is not a time zone of this machine")]
    Zone { zone: String },
    #[error("`{expression}` is never due")]
    Never { expression: String },
}

/// One checked expression.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    cron: Cron,
    zone: TimeZone,
}

impl CronSchedule {
    /// Checks expression and zone, and that the expression has a next time after `wall_ms`.
    ///
    /// # Errors
    /// Names what cannot be used; the caller adds the field it stood in.
    pub fn parse(expression: &str, zone: &str, wall_ms: i64) -> Result<Self, CronError> {
        let cron = Cron::from_str(expression).map_err(|error| CronError::Expression {
            expression: shown(expression),
            reason: error.to_string(),
        })?;
        // The usual one needs no look at the machine's zones, whose names alone would be a hundred KiB kept for good.
        let zone = match zone {
            "UTC" => TimeZone::UTC,
            other => TimeZone::get(other).map_err(|_| CronError::Zone { zone: shown(other) })?,
        };
        let schedule = Self { cron, zone };
        if schedule.next_after(wall_ms).is_none() {
            return Err(CronError::Never {
                expression: shown(expression),
            });
        }
        Ok(schedule)
    }

    /// The first due time after `wall_ms`, in wall milliseconds; `None` when there is none.
    pub fn next_after(&self, wall_ms: i64) -> Option<i64> {
        let from = Timestamp::from_millisecond(wall_ms)
            .ok()?
            .to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&from, false).ok()?;
        Some(next.timestamp().as_millisecond())
    }
}

/// Foreign text for a message: short, and without control characters.
fn shown(text: &str) -> String {
    text.chars()
        .take(80)
        .flat_map(|letter| {
            let plain = !letter.is_control();
            plain.then_some(letter).into_iter().chain(
                (!plain)
                    .then(|| letter.escape_default())
                    .into_iter()
                    .flatten(),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn the_next_time_is_found_in_its_zone() {
        for (case, expression, zone, after, want) in [
            (
                "every five minutes",
                "*/5 * * * *",
                "UTC",
                "2025-01-01T00:00:00Z",
                "2025-01-01T00:05:00Z",
            ),
            (
                "three in the morning in Berlin, winter",
                "0 3 * * *",
                "Europe/Berlin",
                "2025-01-01T12:00:00Z",
                "2025-01-02T02:00:00Z",
            ),
            (
                "three in the morning in Berlin, summer",
                "0 3 * * *",
                "Europe/Berlin",
                "2025-07-01T12:00:00Z",
                "2025-07-02T01:00:00Z",
            ),
            (
                "half past two does not exist when clocks jump ahead",
                "30 2 * * *",
                "Europe/Berlin",
                "2025-03-29T12:00:00Z",
                "2025-03-30T01:00:00Z",
            ),
        ] {
            let schedule = CronSchedule::parse(expression, zone, ms(after)).unwrap();
            assert_eq!(schedule.next_after(ms(after)), Some(ms(want)), "{case}");
        }
    }

    #[test]
    fn a_time_that_comes_twice_is_due_once() {
        let schedule = CronSchedule::parse("30 2 * * *", "Europe/Berlin", 0).unwrap();
        let first = schedule.next_after(ms("2025-10-25T12:00:00Z")).unwrap();
        let second = schedule.next_after(first).unwrap();
        assert!(
            second - first > 20 * 3_600_000,
            "the second one is the next day's"
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (expression, zone, want) in [
            (
                "every monday",
                "UTC",
                "`every monday` is not a cron expression: ",
            ),
            ("* * * * *", "Mars/Base", "`Mars/Base` is not a time zone"),
            ("0 0 30 2 *", "UTC", "`0 0 30 2 *` is never due"),
            ("\u{1b}[2J", "UTC", "`\\u{1b}[2J` is not a cron expression"),
        ] {
            let error = CronSchedule::parse(expression, zone, 0)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_the_next_time_is_later(
            text in "[0-9*/,LW# -]{0,20}", wall_ms in 0_i64..4_000_000_000_000
        ) {
            if let Ok(schedule) = CronSchedule::parse(&text, "Europe/Berlin", wall_ms) {
                proptest::prop_assert!(schedule.next_after(wall_ms).unwrap() > wall_ms);
            }
        }
    }
}
