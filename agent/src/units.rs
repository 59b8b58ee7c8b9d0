//! Lengths of time and numbers of bytes as people write them: `30s`, `1h30m`, `2d`, `64KiB`.
//!
//! Pure. A bare number is refused, because nobody can tell whether `30` meant seconds or minutes; fractions are
//! refused too, because `1.5h` and `1,5h` look alike in some languages. The daemon reads its files with the same functions.

use std::time::Duration;

/// Why a text is not a length of time or a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("`{0}` is not a length of time such as 250ms, 30s, 5m, 1h30m, 2d or 1w")]
    Duration(String),
    #[error("`{0}` is not a number of bytes such as 512B, 64KiB, 1MB or 2GiB")]
    Bytes(String),
    #[error("`{0}` is too large")]
    TooLarge(String),
}

/// Text of a foreign value in an error, cut so that a message stays one line.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Splits a leading number off; `None` without one or when it does not fit.
fn number(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| text.split_at(digits))
}

/// Reads one or more numbers with units, largest unit first: `ms`, `s`, `m`, `h`, `d`, `w`.
///
/// # Errors
/// When the text is not of that form, or the sum does not fit into 64 bits of milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let bad = || UnitError::Duration(shown(text));
    let large = || UnitError::TooLarge(shown(text));
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut smaller_than = u64::MAX;
    while !rest.is_empty() {
        let (digits, tail) = number(rest).ok_or_else(bad)?;
        let value: u64 = digits.parse().map_err(|_| large())?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(bad()),
        };
        if unit_ms >= smaller_than {
            return Err(bad());
        }
        smaller_than = unit_ms;
        total_ms = value
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or_else(large)?;
        rest = tail;
    }
    if smaller_than == u64::MAX {
        return Err(bad());
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads a number with one unit: `B`, decimal `KB MB GB TB`, binary `KiB MiB GiB TiB`.
///
/// # Errors
/// When the text is not of that form, or the number does not fit into 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let bad = || UnitError::Bytes(shown(text));
    let large = || UnitError::TooLarge(shown(text));
    let (digits, unit) = number(text).ok_or_else(bad)?;
    let factor: u64 = match unit.strip_prefix(' ').unwrap_or(unit) {
        "B" => 1,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(bad()),
    };
    let value: u64 = digits.parse().map_err(|_| large())?;
    value.checked_mul(factor).ok_or_else(large)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_written() {
        for (text, want) in [
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("2d", Some(172_800_000)),
            ("1w", Some(604_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("30", None),
            ("1.5h", None),
            ("-1s", None),
            ("30m1h", None),
            ("1h1h", None),
            ("1 h", None),
            ("s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615w", None),
        ] {
            let read = parse_duration(text).ok();
            assert_eq!(read, want.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn bytes_are_read_as_written() {
        for (text, want) in [
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("64 KiB", Some(65_536)),
            ("1MB", Some(1_000_000)),
            ("2GiB", Some(2 << 30)),
            ("64", None),
            ("", None),
            ("KiB", None),
            ("1.5MB", None),
            ("99999999TiB", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,40}") {
            // What is read is what was written: digits that are there, in a unit that is there.
            let written = text.bytes().any(|byte| byte.is_ascii_digit())
                && text.bytes().any(|byte| byte.is_ascii_alphabetic());
            proptest::prop_assert!(parse_duration(&text).is_err() || written, "{}", text);
            proptest::prop_assert!(parse_bytes(&text).is_err() || written, "{}", text);
        }

        #[test]
        fn every_number_of_every_unit_is_read(count in 0_u64..1_000_000) {
            for (unit, ms) in [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)] {
                let read = parse_duration(&format!("{count}{unit}")).ok();
                proptest::prop_assert_eq!(read, Some(Duration::from_millis(count * ms)));
            }
            for (unit, factor) in [("B", 1), ("KiB", 1 << 10), ("MB", 1_000_000), ("GiB", 1 << 30)] {
                let read = parse_bytes(&format!("{count}{unit}")).ok();
                proptest::prop_assert_eq!(read, Some(count * factor));
            }
        }
    }
}
