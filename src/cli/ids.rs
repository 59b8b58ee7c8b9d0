//! Ids as people type them: a unique beginning is enough, and tables show just that much.

use std::fmt::Display;
use std::str::FromStr;

use super::output::{CliError, code};
use crate::telemetry::redact::escape;

/// Letters of a whole id.
const LENGTH: usize = 26;

/// Fewest letters that tables show: ids of nearby times share their beginning.
const SHOWN_MIN: usize = 10;

/// Most candidates that an ambiguous beginning names.
const NAMED_MAX: usize = 5;

/// Is it a whole id, so that no list must be asked?
pub(super) fn is_whole(given: &str) -> bool {
    given.len() == LENGTH && given.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The one known id that begins with `given`.
///
/// # Errors
/// When there is none, or more than one: then some of them are named.
pub(super) fn resolve<'a>(
    what: &str,
    list: &str,
    given: &str,
    known: impl Iterator<Item = &'a str>,
) -> Result<String, CliError> {
    let wanted = given.to_ascii_lowercase();
    let mut found: Vec<&str> = known.filter(|id| id.starts_with(&wanted)).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        _ if wanted.is_empty() => Err(CliError::usage(format!("an id of {what} is empty"))),
        [one] => Ok((*one).to_owned()),
        [] => Err(CliError::new(
            code::USAGE,
            "unknown",
            format!("no {what} has an id that begins with `{}`", escape(given)),
        )
        .hint(format!("`{list}` shows what there is"))),
        many => {
            let mut named = many
                .iter()
                .take(NAMED_MAX)
                .copied()
                .collect::<Vec<_>>()
                .join(", ");
            if many.len() > NAMED_MAX {
                named.push_str(", …");
            }
            Err(CliError::new(
                code::USAGE,
                "ambiguous",
                format!("`{}` is the beginning of {} ids", escape(given), many.len()),
            )
            .hint(format!("give more letters: {named}")))
        }
    }
}

/// How many letters tell all of `ids` apart.
pub(super) fn shown_length<'a>(ids: impl Iterator<Item = &'a str>) -> usize {
    let mut ids: Vec<&str> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids.windows(2)
        .map(|pair| {
            let shared = pair[0]
                .bytes()
                .zip(pair[1].bytes())
                .take_while(|(left, right)| left == right)
                .count();
            shared + 1
        })
        .max()
        .unwrap_or(0)
        .max(SHOWN_MIN)
}

/// The beginning of an id.
pub(super) fn short(id: &str, length: usize) -> String {
    id.chars().take(length).collect()
}

/// A name from the command line, judged before it becomes part of a path.
///
/// # Errors
/// When it cannot be such a name.
pub(super) fn name<T: FromStr<Err: Display>>(text: &str) -> Result<T, CliError> {
    text.parse()
        .map_err(|error| CliError::usage(format!("{error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = [
        "01jd0000000000000000000001",
        "01jd000000000a000000000002",
        "01je0000000000000000000003",
    ];

    fn ask(given: &str) -> Result<String, CliError> {
        resolve("heal", "healerctl heals", given, KNOWN.into_iter())
    }

    #[test]
    fn a_unique_beginning_is_enough() {
        assert_eq!(ask("01je").unwrap(), KNOWN[2]);
        assert_eq!(ask("01JE").unwrap(), KNOWN[2]);
    }

    #[test]
    fn an_ambiguous_beginning_names_the_candidates() {
        let error = ask("01jd").unwrap_err();
        assert_eq!(error.code, "ambiguous");
        let hint = error.hint.unwrap();
        assert!(hint.contains(KNOWN[0]) && hint.contains(KNOWN[1]), "{hint}");
    }

    #[test]
    fn nothing_is_no_beginning_of_everything() {
        assert_eq!(ask("").unwrap_err().code, "usage");
        assert_eq!(ask("zz").unwrap_err().code, "unknown");
    }

    #[test]
    fn what_is_shown_tells_the_shown_apart() {
        let length = shown_length(KNOWN.into_iter());
        assert_eq!(length, 14);
        for id in KNOWN {
            assert_eq!(ask(&short(id, length)).unwrap(), id);
        }
        assert_eq!(shown_length(std::iter::empty()), SHOWN_MIN);
    }
}
