//! References between the probes of one check: `{probe.fact}`, `{probe.fact.key}`, `{probe.fact|default}`.
//!
//! Pure. Braces that do not hold exactly this form are plain text, so that a literal such as `{"status":` needs no
//! escape. Nothing here knows facts; [`super::graph`] fills references in.

use std::fmt;

use serde_json::Value;

/// One reference as it stands in a parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Name of the other probe, in the same check.
    pub probe: String,
    pub fact: String,
    /// Key of a map fact; everything after the second dot, so that it may hold dots itself.
    pub key: Option<String>,
    /// What to take when the fact is absent. An unknown fact stays unknown: a guess would look like knowledge.
    pub default: Option<String>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.probe, self.fact)?;
        if let Some(key) = &self.key {
            write!(f, ".{key}")?;
        }
        Ok(())
    }
}

/// A stretch of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Reference(Reference),
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        && !text.as_bytes()[0].is_ascii_digit()
}

/// Reads what stands between two braces.
fn inside(text: &str) -> Option<Reference> {
    let (path, default) = match text.split_once('|') {
        Some((path, default)) => (path, Some(default.to_owned())),
        None => (text, None),
    };
    let mut parts = path.splitn(3, '.');
    let (probe, fact, key) = (parts.next()?, parts.next()?, parts.next());
    if !is_name(probe) || !is_name(fact) || key.is_some_and(str::is_empty) {
        return None;
    }
    if key.is_some_and(|key| key.chars().any(|c| c.is_whitespace() || c.is_control())) {
        return None;
    }
    Some(Reference {
        probe: probe.to_owned(),
        fact: fact.to_owned(),
        key: key.map(str::to_owned),
        default,
    })
}

/// Cuts a text into plain stretches and references.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from_open) = rest.split_at(open);
        plain.push_str(before);
        let found = from_open[1..]
            .find(['{', '}'])
            .filter(|end| from_open.as_bytes()[end + 1] == b'}')
            .and_then(|end| Some((inside(&from_open[1..=end])?, end + 2)));
        if let Some((reference, length)) = found {
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Reference(reference));
            rest = &from_open[length..];
        } else {
            plain.push('{');
            rest = &from_open[1..];
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    pieces
}

/// Every reference in a parameter value, in the order of the text; keys of objects hold none.
pub(super) fn references(value: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    collect(value, &mut found);
    found
}

fn collect(value: &Value, found: &mut Vec<Reference>) {
    match value {
        Value::String(text) => {
            for piece in pieces(text) {
                if let Piece::Reference(reference) = piece {
                    found.push(reference);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(items) => items.values().for_each(|item| collect(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Does a parameter hold a reference at all?
pub(super) fn has_reference(value: &Value) -> bool {
    !references(value).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_a_reference() {
        let reference = |probe: &str, fact: &str, key: Option<&str>, default: Option<&str>| {
            Piece::Reference(Reference {
                probe: probe.into(),
                fact: fact.into(),
                key: key.map(Into::into),
                default: default.map(Into::into),
            })
        };
        let text = |text: &str| Piece::Text(text.into());
        for (given, want) in [
            ("plain", vec![text("plain")]),
            ("{a.b}", vec![reference("a", "b", None, None)]),
            (
                "127.0.0.1:{env.values.PORT|3000}/",
                vec![
                    text("127.0.0.1:"),
                    reference("env", "values", Some("PORT"), Some("3000")),
                    text("/"),
                ],
            ),
            (
                "{env.values.a.b}",
                vec![reference("env", "values", Some("a.b"), None)],
            ),
            ("{a.b|}", vec![reference("a", "b", None, Some(""))]),
            ("{\"status\":1}", vec![text("{\"status\":1}")]),
            ("{{a.b}", vec![text("{"), reference("a", "b", None, None)]),
            ("{a}", vec![text("{a}")]),
            ("{a.b", vec![text("{a.b")]),
            ("${APP_NAME}", vec![text("${APP_NAME}")]),
            ("{1.5}", vec![text("{1.5}")]),
            ("", vec![]),
        ] {
            assert_eq!(pieces(given), want, "{given}");
        }
    }

    proptest::proptest! {
        #[test]
        fn cutting_loses_nothing(given in "[a-c{}.|]{0,24}") {
            let again: String = pieces(&given)
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text.clone(),
                    Piece::Reference(r) => match &r.default {
                        Some(default) => format!("{{{r}|{default}}}"),
                        None => format!("{{{r}}}"),
                    },
                })
                .collect();
            assert_eq!(again, given);
        }
    }
}
