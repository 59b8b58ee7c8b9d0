//! Names of facts, where they are looked up, and how they are shown to people.
//!
//! A name is `probe.fact` or `probe.fact.key`, or stands below one of four words that no probe may bear: `app` (the
//! application), `vars` (its values), `params` (an action's parameters), `checks` (statuses of other checks).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use healer_agent::probe::spec::{FactType, Kind};

use crate::model::app::App;
use crate::model::check::CheckResult;
use crate::model::plan::{ParamValue, Params};
use crate::model::time::duration_text;
use crate::model::{Fact, Facts};

/// Words that no probe may bear.
pub const RESERVED: &[&str] = &["app", "vars", "params", "checks"];

/// What `app.…` can name; all are texts.
pub const APP_FACTS: &[&str] = &["name", "host", "stack", "user", "url", "origin", "root"];

/// The most characters of foreign text in one message.
pub const MESSAGE_CHARS_MAX: usize = 300;

/// The most entries of a list that a message names.
const SHOWN_ITEMS_MAX: usize = 10;

/// Name of a fact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FactPath {
    /// Probe, or one of [`RESERVED`].
    pub scope: String,
    pub fact: String,
    /// Key of a map; everything after the second dot.
    pub key: Option<String>,
}

impl FactPath {
    /// Reads the dotted form; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let (scope, fact, key) = (parts.next()?, parts.next()?, parts.next());
        let is_name = |text: &str| {
            text.bytes()
                .next()
                .is_some_and(|first| first.is_ascii_alphabetic())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        };
        let key_fits = key.is_none_or(|key| {
            !key.is_empty() && !key.chars().any(|c| c.is_whitespace() || c.is_control())
        });
        (is_name(scope) && is_name(fact) && key_fits).then(|| Self {
            scope: scope.to_owned(),
            fact: fact.to_owned(),
            key: key.map(str::to_owned),
        })
    }

    /// Does it stand below one of [`RESERVED`]?
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.scope.as_str())
    }
}

impl fmt::Display for FactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.scope, self.fact)?;
        if let Some(key) = &self.key {
            write!(f, ".{key}")?;
        }
        Ok(())
    }
}

/// Type of a fact of a probe kind.
///
/// # Errors
/// A sentence when the kind has no such fact, or a key is asked of what has none.
pub fn type_of(kind: &Kind, path: &FactPath) -> Result<FactType, String> {
    let found = kind.facts.iter().find(|(name, _)| *name == path.fact);
    match (found, &path.key) {
        (None, _) => Err(format!(
            "a `{}` probe gives no fact `{}`",
            kind.name, path.fact
        )),
        (Some((_, FactType::Map | FactType::Any)), Some(_)) => Ok(FactType::Any),
        (Some((_, kind)), None) => Ok(*kind),
        (Some(_), Some(key)) => Err(format!(
            "`{}.{}` holds no keys, so `{key}` cannot be asked of it",
            path.scope, path.fact
        )),
    }
}

/// Where names are looked up. What a place does not have is unknown, so that nothing rests on a guess.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope<'a> {
    pub app: Option<&'a App>,
    /// Defaults of the stack's vars.
    pub defaults: Option<&'a BTreeMap<String, String>>,
    /// Facts of a check's probes.
    pub probes: Option<&'a BTreeMap<String, Facts>>,
    pub params: Option<&'a Params>,
    pub results: Option<&'a [CheckResult]>,
}

impl<'a> Scope<'a> {
    /// The fact of that name.
    pub fn fact(&self, path: &FactPath) -> Cow<'a, Fact> {
        let text = |text: &str| Cow::Owned(Fact::Text(text.to_owned()));
        match path.scope.as_str() {
            "app" => match self.app {
                None => unknown(path, "no application is given"),
                Some(app) => {
                    let value = match path.fact.as_str() {
                        "name" => Some(app.name.as_str()),
                        "host" => Some(app.host.as_str()),
                        "stack" => Some(app.stack.as_str()),
                        "user" => Some(app.user.as_str()),
                        "url" => app.url.as_deref(),
                        "origin" => app.origin.as_deref(),
                        "root" => Some(app.target.root.as_str()),
                        _ => return unknown(path, "there is no such value"),
                    };
                    value.map_or(Cow::Owned(Fact::Absent), text)
                }
            },
            "vars" => {
                let set = self.app.and_then(|app| app.vars.get(&path.fact));
                // An empty default says that there is none.
                let default = || {
                    self.defaults?
                        .get(&path.fact)
                        .filter(|text| !text.is_empty())
                };
                let value = set.or_else(default);
                match (value, self.app) {
                    (Some(value), _) => text(value),
                    (None, Some(_)) => Cow::Owned(Fact::Absent),
                    (None, None) => unknown(path, "no application is given"),
                }
            }
            "params" => match self.params.and_then(|params| params.get(&path.fact)) {
                Some(value) => Cow::Owned(param_fact(value)),
                None => unknown(path, "there is no such parameter"),
            },
            "checks" => {
                let found = self
                    .results
                    .and_then(|all| all.iter().find(|result| result.check.as_str() == path.fact));
                match found {
                    Some(result) => text(result.status.as_str()),
                    None => unknown(path, "the check gave no result"),
                }
            }
            probe => match self.probes.and_then(|probes| probes.get(probe)) {
                None => unknown(path, "the probe gave no answer"),
                Some(facts) => match (facts.get(&path.fact), &path.key) {
                    (None, _) => unknown(path, "the probe did not say"),
                    (Some(fact), None) => Cow::Borrowed(fact),
                    (Some(fact), Some(key)) => below(fact, key),
                },
            },
        }
    }
}

fn unknown<'a>(path: &FactPath, why: &str) -> Cow<'a, Fact> {
    Cow::Owned(Fact::Unknown(format!("{path}: {why}")))
}

/// The value below a key; a key may hold dots itself, so the whole is tried first.
fn below<'a>(fact: &'a Fact, key: &str) -> Cow<'a, Fact> {
    match fact {
        Fact::Map(entries) => {
            if let Some(found) = entries.get(key) {
                return Cow::Borrowed(found);
            }
            match key.split_once('.') {
                Some((head, rest)) => match entries.get(head) {
                    Some(inner) => below(inner, rest),
                    None => Cow::Owned(Fact::Absent),
                },
                None => Cow::Owned(Fact::Absent),
            }
        }
        Fact::Unknown(reason) => Cow::Owned(Fact::Unknown(reason.clone())),
        Fact::Absent => Cow::Owned(Fact::Absent),
        Fact::Bool(_) | Fact::Int(_) | Fact::Text(_) | Fact::List(_) | Fact::Secret { .. } => {
            Cow::Owned(Fact::Absent)
        }
    }
}

fn param_fact(value: &ParamValue) -> Fact {
    match value {
        ParamValue::Unknown => Fact::Unknown("the parameter is not known yet".to_owned()),
        ParamValue::Int(number) => Fact::Int(*number),
        ParamValue::Text(text) => Fact::Text(text.clone()),
        ParamValue::List(items) => Fact::List(items.iter().cloned().map(Fact::Text).collect()),
    }
}

/// A fact as people read it. Foreign text is escaped; secrets show only their length.
pub fn show(fact: &Fact, kind: Option<FactType>) -> String {
    match fact {
        Fact::Unknown(_) => "unknown".to_owned(),
        Fact::Absent => "absent".to_owned(),
        Fact::Bool(true) => "yes".to_owned(),
        Fact::Bool(false) => "no".to_owned(),
        Fact::Int(number) => show_int(*number, kind),
        Fact::Text(text) => escape(text, MESSAGE_CHARS_MAX),
        Fact::Secret { length } => format!("[secret of {length} characters]"),
        Fact::List(items) => {
            let mut shown: Vec<_> = items
                .iter()
                .take(SHOWN_ITEMS_MAX)
                .map(|item| show(item, None))
                .collect();
            if items.len() > SHOWN_ITEMS_MAX {
                shown.push(format!("and {} more", items.len() - SHOWN_ITEMS_MAX));
            }
            shown.join(", ")
        }
        Fact::Map(entries) => entries
            .iter()
            .take(SHOWN_ITEMS_MAX)
            .map(|(key, item)| format!("{}={}", escape(key, 60), show(item, None)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn show_int(number: i64, kind: Option<FactType>) -> String {
    let plain = || number.to_string();
    let Ok(count) = u64::try_from(number) else {
        return plain();
    };
    match kind {
        Some(FactType::Millis) => duration_text(std::time::Duration::from_millis(count)),
        Some(FactType::Bytes) => bytes_text(count),
        Some(FactType::Mode) => format!("{number:04o}"),
        Some(
            FactType::Bool
            | FactType::Int
            | FactType::Text
            | FactType::ListOfText
            | FactType::ListOfInt
            | FactType::Map
            | FactType::Any,
        )
        | None => plain(),
    }
}

/// A number of bytes in the largest unit that leaves something before the point.
pub fn bytes_text(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut tenth, mut unit) = (count, 0, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        tenth = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit == 0 || whole >= 100 || tenth == 0 {
        format!("{whole} {}", UNITS[unit])
    } else {
        format!("{whole}.{tenth} {}", UNITS[unit])
    }
}

/// Foreign text for one line: control and direction characters escaped, cut with `…` at `chars_max` characters.
pub fn escape(text: &str, chars_max: usize) -> String {
    let mut shown = String::new();
    let mut length = 0;
    for character in text.chars() {
        let piece: String = if is_disturbing(character) {
            character.escape_default().collect()
        } else {
            character.to_string()
        };
        let added = piece.chars().count();
        if length + added > chars_max.saturating_sub(1) {
            if length + added == chars_max && shown.len() + piece.len() >= text.len() {
                shown.push_str(&piece); // it just fits
            } else {
                shown.push('…');
            }
            break;
        }
        shown.push_str(&piece);
        length += added;
    }
    shown
}

/// Characters that would change how the rest of a line or terminal looks.
fn is_disturbing(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_break_a_line() {
        assert_eq!(
            escape("a\n\x1b[31mb\u{202e}", 300),
            "a\\n\\u{1b}[31mb\\u{202e}"
        );
        let long = escape(&"x".repeat(1000), MESSAGE_CHARS_MAX);
        assert_eq!(long.chars().count(), MESSAGE_CHARS_MAX);
        assert!(long.ends_with('…'));
        assert_eq!(escape("äöü", 3), "äöü");
    }

    #[test]
    fn numbers_are_shown_in_their_unit() {
        for (number, kind, want) in [
            (90_000, FactType::Millis, "1m 30s"),
            (0o2755, FactType::Mode, "2755"),
            (0o644, FactType::Mode, "0644"),
            (1536, FactType::Bytes, "1.5 KiB"),
            (314_572_800, FactType::Bytes, "300 MiB"),
            (12, FactType::Bytes, "12 B"),
            (-5, FactType::Millis, "-5"),
        ] {
            assert_eq!(show(&Fact::Int(number), Some(kind)), want);
        }
    }

    #[test]
    fn keys_with_dots_are_found() {
        let inner = Fact::Map([("b.c".to_owned(), Fact::Int(1))].into());
        let outer = Fact::Map([("a".to_owned(), inner), ("x.y".to_owned(), Fact::Int(2))].into());
        assert_eq!(*below(&outer, "a.b.c"), Fact::Int(1));
        assert_eq!(*below(&outer, "x.y"), Fact::Int(2));
        assert_eq!(*below(&outer, "a.z"), Fact::Absent);
    }
}
