//! Texts with `{names}` of facts in them.
//!
//! Braces that do not hold exactly a fact's name (with an optional `|default`) are plain text, so that a literal such
//! as `{"status":` needs no escape. A default stands in for an absent fact only: a guess in place of an unknown one
//! would look like knowledge. A default that begins with `@` is another name with its own default:
//! `{vars.port|@env.values.PORT|3000}`.

use healer_agent::probe::spec::FactType;
use serde_json::Value as Json;

use super::fact::{FactPath, MESSAGE_CHARS_MAX, Scope, escape, show};
use crate::model::Fact;

/// The most texts that one template may become.
const EXPANDED_MAX: usize = 1000;

/// A text, cut into plain stretches and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name {
        path: FactPath,
        default: Default,
        /// As it was written, for those that are passed on unfilled.
        source: String,
    },
}

/// What stands in for an absent fact.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Default {
    None,
    Text(String),
    Name(Box<Template>),
}

impl Default {
    fn parse(text: &str) -> Self {
        match text.strip_prefix('@') {
            Some(name) if FactPath::parse(name.split('|').next().unwrap_or(name)).is_some() => {
                Self::Name(Box::new(Template::parse(&format!("{{{name}}}"))))
            }
            Some(_) | None => Self::Text(text.to_owned()),
        }
    }
}

/// Why a template could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// There is surely no such value.
    #[error("`{0}` is absent")]
    Absent(String),
    #[error("`{0}` is unknown: {1}")]
    Unknown(String, String),
    #[error("`{0}` is {1}, which cannot stand in a text here")]
    Type(String, &'static str),
    #[error("more than {EXPANDED_MAX} values")]
    TooMany,
}

impl Template {
    /// Cuts a text; never fails, because everything else is plain text.
    pub fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, from_open) = rest.split_at(open);
            plain.push_str(before);
            let inside = from_open[1..]
                .find(['{', '}'])
                .filter(|end| from_open.as_bytes().get(end + 1) == Some(&b'}'))
                .map(|end| &from_open[1..=end]);
            let named = inside.and_then(|inside| {
                let (path, default) = match inside.split_once('|') {
                    Some((path, default)) => (path, Default::parse(default)),
                    None => (inside, Default::None),
                };
                Some((FactPath::parse(path)?, default, inside.len() + 2))
            });
            if let Some((path, default, length)) = named {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Name {
                    path,
                    default,
                    source: from_open[..length].to_owned(),
                });
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
        Self { pieces }
    }

    /// The names in it, with whether a default is given.
    pub fn names(&self) -> impl Iterator<Item = (&FactPath, bool)> {
        self.pieces.iter().flat_map(|piece| match piece {
            Piece::Name { path, default, .. } => {
                let mut found = vec![(path, !matches!(default, Default::None))];
                if let Default::Name(inner) = default {
                    found.extend(inner.names());
                }
                found
            }
            Piece::Text(_) => Vec::new(),
        })
    }

    /// As it was written, piece by piece.
    pub fn shown(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Name { source, .. } => source.as_str(),
        })
    }

    /// Stars that the author wrote.
    pub fn literal_stars(&self) -> usize {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.matches('*').count(),
                Piece::Name { .. } => 0,
            })
            .sum()
    }

    /// The text, when it holds no name.
    pub fn literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Does the author's own text begin it with `--name=`? Then no value in it can become another option.
    pub fn names_an_option(&self) -> bool {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text.starts_with("--") && text.contains('='),
            _ => false,
        }
    }

    /// One sentence for people: unknown and absent are said, lists are joined, foreign text is escaped, and the whole
    /// is bounded.
    pub fn message(
        &self,
        scope: &Scope<'_>,
        type_of: &dyn Fn(&FactPath) -> Option<FactType>,
    ) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Name { path, default, .. } => match (&*scope.fact(path), default) {
                    (Fact::Absent, Default::Text(default)) => text.push_str(default),
                    (Fact::Absent, Default::Name(inner)) => {
                        text.push_str(&inner.message(scope, type_of));
                    }
                    (fact, _) => text.push_str(&show(fact, type_of(path))),
                },
            }
        }
        escape(&text, MESSAGE_CHARS_MAX)
    }

    /// One exact text.
    ///
    /// # Errors
    /// When a name has no value, or a list, map or secret.
    pub fn fill(&self, scope: &Scope<'_>) -> Result<String, FillError> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Name { path, default, .. } => match (&*scope.fact(path), default) {
                    (Fact::Absent, Default::Text(default)) => text.push_str(default),
                    (Fact::Absent, Default::Name(inner)) => text.push_str(&inner.fill(scope)?),
                    (fact, _) => text.push_str(&scalar(path, fact)?),
                },
            }
        }
        Ok(text)
    }

    /// One exact text per entry of the one list in it; without a list, one text.
    ///
    /// # Errors
    /// As [`Template::fill`], and when there are too many.
    pub fn expand(&self, scope: &Scope<'_>) -> Result<Vec<String>, FillError> {
        let list = self
            .pieces
            .iter()
            .enumerate()
            .find_map(|(place, piece)| match piece {
                Piece::Name { path, .. } => match scope.fact(path).into_owned() {
                    Fact::List(items) => Some((place, path, items)),
                    Fact::Unknown(_)
                    | Fact::Absent
                    | Fact::Bool(_)
                    | Fact::Int(_)
                    | Fact::Text(_)
                    | Fact::Map(_)
                    | Fact::Secret { .. } => None,
                },
                Piece::Text(_) => None,
            });
        let Some((place, path, items)) = list else {
            return Ok(vec![self.fill(scope)?]);
        };
        if items.len() > EXPANDED_MAX {
            return Err(FillError::TooMany);
        }
        let part = |pieces: &[Piece]| {
            Self {
                pieces: pieces.to_vec(),
            }
            .fill(scope)
        };
        let (before, after) = (
            part(&self.pieces[..place])?,
            part(&self.pieces[place + 1..])?,
        );
        items
            .iter()
            .map(|item| Ok(format!("{before}{}{after}", scalar(path, item)?)))
            .collect()
    }

    /// The text with only the names of some scopes filled in; all others stay as they were written.
    ///
    /// # Errors
    /// As [`Template::fill`].
    pub fn fill_some(&self, scopes: &[&str], scope: &Scope<'_>) -> Result<String, FillError> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Name { path, default, .. } if scopes.contains(&path.scope.as_str()) => {
                    match (&*scope.fact(path), default) {
                        (Fact::Absent, Default::Text(default)) => text.push_str(default),
                        (Fact::Absent, Default::Name(inner)) => {
                            text.push_str(&inner.fill_some(scopes, scope)?);
                        }
                        (fact, _) => text.push_str(&scalar(path, fact)?),
                    }
                }
                Piece::Name { source, .. } => text.push_str(source),
            }
        }
        Ok(text)
    }
}

fn scalar(path: &FactPath, fact: &Fact) -> Result<String, FillError> {
    match fact {
        Fact::Text(text) => Ok(text.clone()),
        Fact::Int(number) => Ok(number.to_string()),
        Fact::Bool(flag) => Ok(flag.to_string()),
        Fact::Absent => Err(FillError::Absent(path.to_string())),
        Fact::Unknown(reason) => Err(FillError::Unknown(path.to_string(), reason.clone())),
        Fact::List(_) => Err(FillError::Type(path.to_string(), "a list")),
        Fact::Map(_) => Err(FillError::Type(path.to_string(), "a map")),
        Fact::Secret { .. } => Err(FillError::Type(path.to_string(), "a secret")),
    }
}

/// Every text in a JSON value with the names of some scopes filled in; keys hold none. What becomes empty by an empty
/// default (`{app.origin|}`) is left out of its table, as if it had never been written.
///
/// # Errors
/// As [`Template::fill`].
pub fn fill_json(value: &Json, scopes: &[&str], scope: &Scope<'_>) -> Result<Json, FillError> {
    Ok(match value {
        Json::String(text) => Json::String(Template::parse(text).fill_some(scopes, scope)?),
        Json::Array(items) => Json::Array(
            items
                .iter()
                .map(|item| fill_json(item, scopes, scope))
                .collect::<Result<_, _>>()?,
        ),
        Json::Object(entries) => {
            let mut filled = serde_json::Map::new();
            for (key, item) in entries {
                let value = fill_json(item, scopes, scope)?;
                let vanished = value.as_str() == Some("") && item.as_str() != Some("");
                if !vanished {
                    filled.insert(key.clone(), value);
                }
            }
            Json::Object(filled)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => value.clone(),
    })
}

/// Every name in the texts of a JSON value, with whether a default is given.
pub fn json_names(value: &Json) -> Vec<(FactPath, bool)> {
    let mut found = Vec::new();
    collect(value, &mut found);
    found
}

fn collect(value: &Json, found: &mut Vec<(FactPath, bool)>) {
    match value {
        Json::String(text) => {
            found.extend(
                Template::parse(text)
                    .names()
                    .map(|(path, has)| (path.clone(), has)),
            );
        }
        Json::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Json::Object(entries) => entries.values().for_each(|item| collect(item, found)),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Facts;

    fn probes() -> BTreeMap<String, Facts> {
        let facts: Facts = [
            ("gone".to_owned(), Fact::Absent),
            ("dark".to_owned(), Fact::Unknown("hidden".to_owned())),
            ("size".to_owned(), Fact::Int(2048)),
            (
                "list".to_owned(),
                Fact::List(vec![
                    Fact::Text("a".to_owned()),
                    Fact::Text("b\n".to_owned()),
                ]),
            ),
            ("key".to_owned(), Fact::Secret { length: 5 }),
        ]
        .into();
        [("p".to_owned(), facts)].into()
    }

    #[test]
    fn names_are_filled_and_everything_else_is_text() {
        let probes = probes();
        let scope = Scope {
            probes: Some(&probes),
            ..Scope::default()
        };
        for (text, want) in [
            ("plain {x} {\"a\":1}", Ok("plain {x} {\"a\":1}")),
            ("{p.gone|none} of {p.size}", Ok("none of 2048")),
            ("{p.gone}", Err("`p.gone` is absent")),
            ("{p.dark|1}", Err("`p.dark` is unknown: hidden")),
            (
                "{p.key}",
                Err("`p.key` is a secret, which cannot stand in a text here"),
            ),
            (
                "{p.list}",
                Err("`p.list` is a list, which cannot stand in a text here"),
            ),
        ] {
            let filled = Template::parse(text)
                .fill(&scope)
                .map_err(|error| error.to_string());
            assert_eq!(filled.as_deref().map_err(String::as_str), want, "{text}");
        }
        assert_eq!(
            Template::parse("{p.list}/**").expand(&scope).unwrap(),
            ["a/**", "b\n/**"]
        );
        assert_eq!(
            Template::parse("{p.list}: {p.size}, {p.dark}, {p.key}")
                .message(&scope, &|path| (path.fact == "size")
                    .then_some(FactType::Bytes)),
            "a, b\\n: 2 KiB, unknown, [secret of 5 characters]"
        );
    }

    proptest::proptest! {
        #[test]
        fn an_unfilled_template_is_what_was_written(text in "[a-c{}.|]{0,24}") {
            let same = Template::parse(&text).fill_some(&[], &Scope::default()).unwrap();
            assert_eq!(same, text);
        }
    }
}
