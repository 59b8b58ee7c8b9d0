//! Takes secrets out of the facts of a check result before they are stored. Pure.
//!
//! Facts that a stack marks secret never leave the host, and what is known there to be one is taken out of other facts
//! too. This is for the rest: what a program printed, a log line, a value behind a key that names a secret. A verdict
//! stays as it is; only what stands in the history is less.

use std::collections::BTreeMap;

use super::redact::{HIDDEN, hide};
use crate::model::check::CheckResult;
use crate::model::{Fact, Facts};

/// The result as it may be stored.
#[must_use]
pub fn result(result: &CheckResult) -> CheckResult {
    CheckResult {
        message: hide(&result.message),
        suggested_fix: result.suggested_fix.as_deref().map(hide),
        facts: result
            .facts
            .iter()
            .map(|(probe, facts)| (hide(probe), entries(facts)))
            .collect(),
        ..result.clone()
    }
}

/// Would the redactor hide what stands behind this key?
pub fn names_secret(key: &str) -> bool {
    let line = format!("{key}=\"shown\"");
    hide(&line) != line
}

fn entries(facts: &Facts) -> Facts {
    // A list of settings is often a list of maps, each with a key and a value.
    let by_name = ["name", "key"]
        .into_iter()
        .any(|field| matches!(facts.get(field), Some(Fact::Text(name)) if names_secret(name)));
    let behind = |key: &str| names_secret(key) || (by_name && key == "value");
    facts
        .iter()
        .map(|(key, value)| {
            let value = if behind(key) {
                hidden(value)
            } else {
                shown(value)
            };
            (hide(key), value)
        })
        .collect::<BTreeMap<_, _>>()
}

/// What stands behind a key that names a secret.
fn hidden(fact: &Fact) -> Fact {
    match fact {
        Fact::Text(_) | Fact::Int(_) | Fact::Unknown(_) => Fact::Text(HIDDEN.to_owned()),
        Fact::List(items) => Fact::List(items.iter().map(hidden).collect()),
        Fact::Map(map) => Fact::Map(
            map.iter()
                .map(|(key, value)| (hide(key), hidden(value)))
                .collect(),
        ),
        Fact::Absent | Fact::Bool(_) | Fact::Secret { .. } => fact.clone(),
    }
}

fn shown(fact: &Fact) -> Fact {
    match fact {
        Fact::Text(text) => Fact::Text(hide(text)),
        Fact::Unknown(reason) => Fact::Unknown(hide(reason)),
        Fact::List(items) => Fact::List(list(items)),
        Fact::Map(map) => Fact::Map(entries(map)),
        Fact::Absent | Fact::Bool(_) | Fact::Int(_) | Fact::Secret { .. } => fact.clone(),
    }
}

/// A list of lines may hold a secret over several of them.
fn list(items: &[Fact]) -> Vec<Fact> {
    let lines: Option<Vec<&str>> = items
        .iter()
        .map(|item| match item {
            Fact::Text(text) => Some(text.as_str()),
            Fact::Unknown(_)
            | Fact::Absent
            | Fact::Bool(_)
            | Fact::Int(_)
            | Fact::List(_)
            | Fact::Map(_)
            | Fact::Secret { .. } => None,
        })
        .collect();
    let Some(lines) = lines else {
        return items.iter().map(shown).collect();
    };
    let whole = lines.join("\n");
    let hidden = hide(&whole);
    if hidden == whole {
        return items.to_vec();
    }
    hidden
        .split('\n')
        .map(|line| Fact::Text(line.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Fact {
        Fact::Text(text.to_owned())
    }

    fn map(entries: &[(&str, Fact)]) -> Fact {
        Fact::Map(
            entries
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        )
    }

    #[test]
    fn no_secret_is_stored_whatever_it_stands_in() {
        let block = [
            "-----BEGIN PRIVATE KEY-----",
            "canary",
            "-----END PRIVATE KEY-----",
        ];
        for (case, fact) in [
            ("a line", text("DB_PASSWORD=canary")),
            ("a key", map(&[("APP_KEY", text("canary"))])),
            ("a number", map(&[("pin_token", Fact::Int(773_355))])),
            (
                "a list",
                map(&[("passwords", Fact::List(vec![text("canary")]))]),
            ),
            ("deeper", map(&[("secret", map(&[("a", text("canary"))]))])),
            ("lines", Fact::List(block.map(text).to_vec())),
            (
                "a list with others",
                Fact::List(vec![Fact::Int(1), text("token=canary")]),
            ),
            (
                "name and value",
                Fact::List(vec![map(&[
                    ("name", text("DB_PASSWORD")),
                    ("value", text("canary")),
                ])]),
            ),
            (
                "a reason",
                Fact::Unknown("https://user:canary@example.org".to_owned()),
            ),
            (
                "a key that holds one",
                map(&[("a?token=canary", Fact::Bool(true))]),
            ),
        ] {
            let stored = format!("{:?}", shown(&fact));
            assert!(!stored.contains("canary"), "{case}: {stored}");
            assert!(!stored.contains("773355"), "{case}: {stored}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for fact in [
            text("storage/framework/cache"),
            Fact::List(vec![text("one"), text("two\nthree")]),
            map(&[("status", Fact::Int(502)), ("value", text("shop"))]),
            Fact::Unknown("Permission denied".to_owned()),
            Fact::Secret { length: 51 },
            map(&[("APP_KEY", Fact::Secret { length: 51 })]),
        ] {
            assert_eq!(shown(&fact), fact);
        }
    }
}
