//! Literals of predicates: lengths of time, bytes, modes, versions, globs.
//!
//! A literal is read with the type of the fact that it is compared with, so `"90s"` beside a number of bytes is an
//! error at load. There are no regular expressions: `*` is the only wildcard, which cannot run away.

use healer_agent::probe::spec::FactType;
use healer_agent::step::Bits;
use healer_agent::units::{parse_bytes, parse_duration};

use crate::model::Fact;

/// Reads a literal text for a fact of this type.
///
/// # Errors
/// A sentence that says what was expected.
pub(super) fn from_text(text: &str, kind: FactType) -> Result<Fact, String> {
    match kind {
        FactType::Text | FactType::ListOfText | FactType::Any | FactType::Map => {
            Ok(Fact::Text(text.to_owned()))
        }
        FactType::Millis => {
            let length = parse_duration(text).map_err(|error| error.to_string())?;
            i64::try_from(length.as_millis())
                .map(Fact::Int)
                .map_err(|_| format!("`{text}` is too long"))
        }
        FactType::Bytes => {
            let count = parse_bytes(text).map_err(|error| error.to_string())?;
            i64::try_from(count)
                .map(Fact::Int)
                .map_err(|_| format!("`{text}` is too large"))
        }
        FactType::Mode => mode(text)
            .map(|bits| Fact::Int(i64::from(bits)))
            .ok_or_else(|| {
                format!("`{text}` is no mode: write octal digits such as \"0644\", or bits such as \"o+w\"")
            }),
        FactType::Int | FactType::ListOfInt => text
            .trim()
            .parse()
            .map(Fact::Int)
            .map_err(|_| format!("`{text}` is not a whole number")),
        FactType::Bool => match text {
            "true" => Ok(Fact::Bool(true)),
            "false" => Ok(Fact::Bool(false)),
            _ => Err(format!("`{text}` is neither true nor false")),
        },
    }
}

/// Permission bits, octal or symbolic.
fn mode(text: &str) -> Option<u32> {
    let is_octal =
        (3..=5).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    if is_octal {
        u32::from_str_radix(text, 8)
            .ok()
            .filter(|bits| *bits <= 0o7777)
    } else {
        Bits::parse(text).map(|bits| bits.plain | bits.search)
    }
}

/// Does the whole text match, `*` standing for any run of characters?
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            p = star_p + 1;
            t = star_t + 1;
            star = Some((star_p, star_t + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// A version as its numbers; a suffix (`-rc1`, `+deb12`) is left away, `v` in front is allowed.
fn version(text: &str) -> Option<[u64; 3]> {
    let text = text.trim();
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let numbers = text.split(['-', '+', '~', ' ']).next()?;
    let mut parts = [0; 3];
    for (place, part) in numbers.split('.').enumerate() {
        let value = part.parse().ok()?;
        if let Some(slot) = parts.get_mut(place) {
            *slot = value;
        }
    }
    Some(parts)
}

/// Does a version satisfy a range? `>=8.1`, `^10.2`, `~1.4`, `=2`, bare `8.1` (as `=`, up to the places written);
/// spaces or commas between parts mean and, `||` means or; `~1.9` stays below 1.10, as npm reads it. `None`: version or range cannot be read.
pub(super) fn satisfies(text: &str, range: &str) -> Option<bool> {
    let have = version(text)?;
    let mut any = false;
    for alternative in range.split("||") {
        let mut all = true;
        let parts = alternative
            .split([' ', ','])
            .filter(|part| !part.is_empty());
        for part in parts {
            all &= part_satisfied(have, part)?;
        }
        any |= all;
    }
    Some(any)
}

fn part_satisfied(have: [u64; 3], part: &str) -> Option<bool> {
    let digits = part.find(|c: char| c.is_ascii_digit() || c == 'v')?;
    let (operator, wanted) = part.split_at(digits);
    let want = version(wanted)?;
    let places = wanted.split('.').count().min(3);
    let next = |place: usize| {
        let mut next = [0; 3];
        next[..=place].copy_from_slice(&want[..=place]);
        next[place] = next[place].saturating_add(1);
        next
    };
    Some(match operator {
        ">=" => have >= want,
        ">" => have > want,
        "<=" => have <= want,
        "<" => have < want,
        "" | "=" => have[..places] == want[..places],
        "^" => {
            let place = want
                .iter()
                .take(places)
                .position(|part| *part != 0)
                .unwrap_or(places - 1);
            have >= want && have < next(place)
        }
        "~" => have >= want && have < next(places.saturating_sub(1).min(1)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_have_the_type_of_what_they_are_compared_with() {
        for (text, kind, want) in [
            ("90s", FactType::Millis, Some(90_000)),
            ("90s", FactType::Bytes, None),
            ("64KiB", FactType::Bytes, Some(65_536)),
            ("0644", FactType::Mode, Some(0o644)),
            ("2755", FactType::Mode, Some(0o2755)),
            ("o+w", FactType::Mode, Some(0o002)),
            ("8", FactType::Mode, None),
            ("9999", FactType::Mode, None),
            ("12", FactType::Int, Some(12)),
            ("x", FactType::Int, None),
        ] {
            let got = match from_text(text, kind) {
                Ok(Fact::Int(number)) => Some(number),
                Ok(_) | Err(_) => None,
            };
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn versions_are_numbers_and_not_decimals() {
        for (have, range, want) in [
            ("8.10.1", ">=8.9", Some(true)),
            ("8.1.2-1+deb12u1", "8.1", Some(true)),
            ("8.10", "8.1", Some(false)),
            ("v20.11.0", "^18 || ^20", Some(true)),
            ("19.0.0", "^18 || ^20", Some(false)),
            ("1.9.9", "~1.9", Some(true)),
            ("1.10.0", "~1.9", Some(false)),
            ("1.9.9", "~1.9.2", Some(true)),
            ("0.2.9", "^0.2.3", Some(true)),
            ("0.3.0", "^0.2.3", Some(false)),
            ("7.4", ">=7.2 <8", Some(true)),
            ("8.0.0", ">=7.2,<8", Some(false)),
            ("lts", ">=1", None),
            ("1.0", "lts/*", None),
        ] {
            assert_eq!(satisfies(have, range), want, "{have} {range}");
        }
    }

    #[test]
    fn stars_match_any_run() {
        for (pattern, text, want) in [
            ("*Pending*", "2024_x ........ Pending", true),
            ("abc", "abcd", false),
            ("*", "", true),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c", false),
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }
}
