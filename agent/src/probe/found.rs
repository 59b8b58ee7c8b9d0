//! What a probe found, with the clear values of its secrets beside it.
//!
//! Pure. The clear values serve other probes of the same round and are dropped with it; only [`Found::facts`] is
//! ever put into an answer.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::spec::{Fact, Facts, kind};

/// The longest text that an answer carries.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 10;
/// The most items of one list or map.
pub(super) const ITEMS_MAX: usize = 1_000;
/// The most values of one JSON fact, and how deep it may be.
const JSON_VALUES_MAX: usize = 20_000;
const JSON_DEPTH_MAX: usize = 32;

/// The facts of one probe.
#[derive(Clone, Default)]
pub(super) struct Found {
    pub(super) facts: Facts,
    /// Clear values of the secrets in map facts, by fact and key.
    clear: BTreeMap<(String, String), String>,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("facts", &self.facts)
            .field("secrets", &self.clear.len())
            .finish()
    }
}

impl Found {
    /// Every fact of the kind is unknown, for one reason. An unknown kind has no facts.
    pub(super) fn unknown(name: &str, reason: &str) -> Self {
        Self::all(name, &Fact::Unknown(cut(reason, 1_024)))
    }

    /// Every fact of the kind is absent, as a start to fill in from.
    pub(super) fn absent(name: &str) -> Self {
        Self::all(name, &Fact::Absent)
    }

    fn all(name: &str, fact: &Fact) -> Self {
        let facts = kind(name).map_or_else(Facts::new, |kind| {
            kind.facts
                .iter()
                .map(|(name, _)| ((*name).to_owned(), fact.clone()))
                .collect()
        });
        Self {
            facts,
            clear: BTreeMap::new(),
        }
    }

    /// Sets a fact, cut to what an answer may carry.
    #[must_use]
    pub(super) fn with(mut self, name: &str, fact: impl Into<Fact>) -> Self {
        self.set(name, fact);
        self
    }

    /// Sets a fact, cut to what an answer may carry.
    pub(super) fn set(&mut self, name: &str, fact: impl Into<Fact>) {
        self.facts.insert(name.to_owned(), bounded(fact.into()));
    }

    /// Puts a secret into a map fact: its length is the fact, its text stays here.
    pub(super) fn keep_secret(&mut self, fact: &str, key: &str, text: String) {
        self.clear.insert((fact.to_owned(), key.to_owned()), text);
    }

    /// The clear text of a secret.
    pub(super) fn clear(&self, fact: &str, key: &str) -> Option<&str> {
        self.clear
            .get(&(fact.to_owned(), key.to_owned()))
            .map(String::as_str)
    }

    /// Clear values that any text of the check must not hold, whatever printed them: long ones whose key says so.
    pub(super) fn named_secrets(&self) -> impl Iterator<Item = &str> {
        const WORDS: [&str; 9] = [
            "KEY",
            "SECRET",
            "TOKEN",
            "PASS",
            "PWD",
            "SALT",
            "DSN",
            "CREDENTIAL",
            "AUTH",
        ];
        self.clear
            .iter()
            .filter(|((_, key), value)| {
                let key = key.to_ascii_uppercase();
                value.len() >= 8 && WORDS.iter().any(|word| key.contains(word))
            })
            .map(|(_, value)| value.as_str())
    }

    /// Takes these texts out of every text of the facts.
    pub(super) fn redact(&mut self, secrets: &[String]) {
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            for fact in self.facts.values_mut() {
                redact(fact, secret);
            }
        }
    }
}

fn redact(fact: &mut Fact, secret: &str) {
    let replace = |text: &mut String| {
        if text.contains(secret) {
            *text = text.replace(secret, "[secret]");
        }
    };
    match fact {
        Fact::Unknown(text) | Fact::Text(text) => replace(text),
        Fact::List(items) => items.iter_mut().for_each(|item| redact(item, secret)),
        Fact::Map(items) => {
            if items.keys().any(|key| key.contains(secret)) {
                *items = std::mem::take(items)
                    .into_iter()
                    .map(|(key, item)| (key.replace(secret, "[secret]"), item))
                    .collect();
            }
            for item in items.values_mut() {
                redact(item, secret);
            }
        }
        // A number that happens to equal a secret (a port) says nothing that its own probe would not say.
        Fact::Absent | Fact::Bool(_) | Fact::Int(_) | Fact::Secret { .. } => {}
    }
}

/// At most so many bytes of a text, whole characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

fn bounded(fact: Fact) -> Fact {
    match fact {
        Fact::Text(text) if text.len() > TEXT_BYTES_MAX => Fact::Text(cut(&text, TEXT_BYTES_MAX)),
        Fact::List(mut items) => {
            items.truncate(ITEMS_MAX);
            Fact::List(items.into_iter().map(bounded).collect())
        }
        Fact::Map(items) => Fact::Map(
            items
                .into_iter()
                .take(ITEMS_MAX)
                .map(|(key, item)| (key, bounded(item)))
                .collect(),
        ),
        Fact::Unknown(_)
        | Fact::Absent
        | Fact::Bool(_)
        | Fact::Int(_)
        | Fact::Text(_)
        | Fact::Secret { .. } => fact,
    }
}

/// Bytes that a fact takes in an answer, roughly and never too few.
pub(super) fn weight(fact: &Fact) -> usize {
    24 + match fact {
        Fact::Unknown(text) | Fact::Text(text) => escaped_length(text),
        Fact::List(items) => items.iter().map(weight).sum(),
        Fact::Map(items) => items
            .iter()
            .map(|(key, item)| 4 + escaped_length(key) + weight(item))
            .sum(),
        Fact::Absent | Fact::Bool(_) | Fact::Int(_) | Fact::Secret { .. } => 24,
    }
}

fn escaped_length(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            0..0x20 => 6,
            b'"' | b'\\' => 2,
            _ => 1,
        })
        .sum()
}

/// A JSON value as a fact: null is absent, a number that is no 64-bit integer stays text.
pub(super) fn json_fact(value: &Value) -> Fact {
    let mut left = JSON_VALUES_MAX;
    json(value, JSON_DEPTH_MAX, &mut left)
        .unwrap_or_else(|| Fact::Unknown("the JSON is too large or too deep".to_owned()))
}

fn json(value: &Value, depth: usize, left: &mut usize) -> Option<Fact> {
    *left = left.checked_sub(1)?;
    let below = depth.checked_sub(1)?;
    Some(match value {
        Value::Null => Fact::Absent,
        Value::Bool(value) => Fact::Bool(*value),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Fact::Text(number.to_string()), Fact::Int),
        Value::String(text) => Fact::Text(cut(text, TEXT_BYTES_MAX)),
        Value::Array(items) => Fact::List(
            items
                .iter()
                .map(|item| json(item, below, left))
                .collect::<Option<_>>()?,
        ),
        Value::Object(items) => Fact::Map(
            items
                .iter()
                .map(|(key, item)| Some((cut(key, 1_024), json(item, below, left)?)))
                .collect::<Option<_>>()?,
        ),
    })
}

impl From<bool> for Fact {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl From<i64> for Fact {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<u64> for Fact {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}
impl From<usize> for Fact {
    fn from(value: usize) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}
impl From<u32> for Fact {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<String> for Fact {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<&str> for Fact {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl<T: Into<Fact>> From<Vec<T>> for Fact {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}
impl<T: Into<Fact>> From<Option<T>> for Fact {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}
