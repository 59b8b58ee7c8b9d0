//! Values as people write them: times, sizes, percentages.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// Longest time that may be written; sums of a few of them still fit everywhere.
const TIME_MAX: Duration = Duration::from_hours(24 * 3650);

/// A length of time: `"30s"`, `"1h 30m"`, `"2d"`, `"1w"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeSpan(pub Duration);

/// A number of bytes: `"256 MiB"`, `"20GiB"`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteCount(pub u64);

/// A share to either side: `10` or `"10%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Percent(pub u32);

/// A text, or a number or truth value taken as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar(pub String);

/// A text, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OneOrMany(pub Vec<String>);

/// Reads a length of time: numbers with the units ms, s, m, h, d, w.
///
/// # Errors
/// A sentence for people, when it is no time, or longer than ten years.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "`{}` is not a time; write a number with its unit (ms, s, m, h, d, w), as in \"90s\" or \"1h 30m\"",
            super::problem::shown(text)
        )
    };
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let count: u64 = number.parse().map_err(|_| wrong())?;
        let tail = tail.trim_start();
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return Err(wrong()),
        };
        let part = count.checked_mul(unit_ms).ok_or_else(wrong)?;
        total = total
            .checked_add(Duration::from_millis(part))
            .ok_or_else(wrong)?;
        rest = tail.trim_start();
    }
    if total > TIME_MAX {
        return Err(format!(
            "`{}` is longer than ten years",
            super::problem::shown(text)
        ));
    }
    Ok(total)
}

/// Reads a size: a number with B, KiB, MiB, GiB or TiB.
///
/// # Errors
/// A sentence for people, when it is no size, or larger than 2^63 - 1.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "`{}` is not a size; write a number with its unit (B, KiB, MiB, GiB, TiB), as in \"256 MiB\"",
            super::problem::shown(text)
        )
    };
    let text_trimmed = text.trim();
    let digits = text_trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text_trimmed.split_at(digits);
    let count: u64 = number.parse().map_err(|_| wrong())?;
    let shift = match unit.trim() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(wrong()),
    };
    count
        .checked_mul(1 << shift)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(wrong)
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = TimeSpan;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time with its unit, as in \"90s\" or \"1h 30m\"")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<TimeSpan, E> {
        parse_duration(text).map(TimeSpan).map_err(E::custom)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = ByteCount;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size, as in \"256 MiB\"")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteCount, E> {
        parse_bytes(text).map(ByteCount).map_err(E::custom)
    }
    fn visit_u64<E: de::Error>(self, count: u64) -> Result<ByteCount, E> {
        i64::try_from(count)
            .map(|_| ByteCount(count))
            .map_err(|_| E::custom(format!("`{count}` bytes are too many")))
    }
    fn visit_i64<E: de::Error>(self, count: i64) -> Result<ByteCount, E> {
        u64::try_from(count)
            .map(ByteCount)
            .map_err(|_| E::custom(format!("`{count}` is not a size")))
    }
}

struct PercentVisitor;

impl Visitor<'_> for PercentVisitor {
    type Value = Percent;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share from 0 to 50 %, as in \"10%\"")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Percent, E> {
        let number = text.trim().trim_end_matches('%').trim_end();
        match number.parse::<u64>() {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::custom(format!(
                "`{}` is not a share from 0 to 50 %, as in \"10%\"",
                super::problem::shown(text)
            ))),
        }
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Percent, E> {
        u32::try_from(number)
            .ok()
            .filter(|share| *share <= 50)
            .map(Percent)
            .ok_or_else(|| E::custom(format!("`{number}` is not a share from 0 to 50 %")))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Percent, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::custom(format!(
                "`{number}` is not a share from 0 to 50 %"
            ))),
        }
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.to_owned()))
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar(value.to_string()))
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany(vec![text.to_owned()]))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMany, A::Error> {
        let mut all = Vec::new();
        while let Some(text) = list.next_element()? {
            all.push(text);
        }
        Ok(OneOrMany(all))
    }
}

macro_rules! deserialize_by {
    ($($type:ident by $visitor:ident),+ $(,)?) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($visitor)
            }
        }
    )+};
}

deserialize_by!(
    TimeSpan by TimeVisitor,
    ByteCount by BytesVisitor,
    Percent by PercentVisitor,
    Scalar by ScalarVisitor,
    OneOrMany by OneOrManyVisitor,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        for (text, want_ms) in [
            ("30s", Some(30_000)),
            ("1h 30m", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("2 d", Some(172_800_000)),
            ("1w", Some(604_800_000)),
            ("250ms", Some(250)),
            ("0s", Some(0)),
            ("30", None),
            ("", None),
            ("-5s", None),
            ("1.5h", None),
            ("5 parsecs", None),
            ("99999999999999999999s", None),
            ("18446744073709551615w", None),
            ("11000d", None),
        ] {
            assert_eq!(
                parse_duration(text).ok(),
                want_ms.map(Duration::from_millis),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, want) in [
            ("256 MiB", Some(256 << 20)),
            ("20GiB", Some(20 << 30)),
            ("7B", Some(7)),
            ("256", None),
            ("256 MB", None),
            ("99999999 TiB", None),
            ("", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in ".{0,40}") {
            drop((parse_duration(&text), parse_bytes(&text)));
        }
    }
}
