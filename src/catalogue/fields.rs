//! Reading the keys of one table: each is taken once, with its type; what was not taken is an unknown key.
//!
//! Every mistake is recorded and reading goes on, so that one run shows all of them.

use std::str::FromStr;
use std::time::Duration;

use healer_agent::units::{parse_bytes, parse_duration};

use super::source::{At, Errors, Key, Node, Value};
use crate::model::word::UnknownWord;

/// A table whose keys are being read.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Dotted path of the table.
    pub path: String,
    pub at: At,
    entries: &'a [(Key, Node)],
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The keys of a table; `None`, with an error, when it is none.
    pub fn of(node: &'a Node, path: &str, errors: &mut Errors) -> Option<Self> {
        match &node.value {
            Value::Table(entries) => Some(Self {
                path: path.to_owned(),
                at: node.at.clone(),
                entries,
                asked: Vec::new(),
            }),
            other @ (Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::List(_)) => {
                errors.push(
                    &node.at,
                    path,
                    format!("is {}, a table was expected", other.kind()),
                    "write `{ key = value }`",
                );
                None
            }
        }
    }

    /// Path of one of its keys.
    pub fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The value of a key.
    pub fn take(&mut self, name: &'static str) -> Option<&'a Node> {
        self.asked.push(name);
        self.entries
            .iter()
            .find(|(key, _)| key.text == name)
            .map(|(_, node)| node)
    }

    /// As [`Fields::take`]; absence is an error.
    pub fn need(
        &mut self,
        name: &'static str,
        remedy: &str,
        errors: &mut Errors,
    ) -> Option<&'a Node> {
        let found = self.take(name);
        if found.is_none() {
            let key = self.key(name);
            errors.push(&self.at, &key, "is missing", remedy);
        }
        found
    }

    fn wrong(&self, name: &str, node: &Node, want: &str, errors: &mut Errors) {
        let key = self.key(name);
        errors.push(
            &node.at,
            &key,
            format!("is {}, {want} was expected", node.value.kind()),
            "",
        );
    }

    /// A text.
    pub fn text(&mut self, name: &'static str, errors: &mut Errors) -> Option<&'a str> {
        let node = self.take(name)?;
        if let Value::Text(text) = &node.value {
            Some(text)
        } else {
            self.wrong(name, node, "a text", errors);
            None
        }
    }

    /// True or false.
    pub fn flag(&mut self, name: &'static str, errors: &mut Errors) -> Option<bool> {
        let node = self.take(name)?;
        if let Value::Bool(flag) = node.value {
            Some(flag)
        } else {
            self.wrong(name, node, "true or false", errors);
            None
        }
    }

    /// A whole number.
    pub fn int(&mut self, name: &'static str, errors: &mut Errors) -> Option<i64> {
        let node = self.take(name)?;
        if let Value::Int(number) = node.value {
            Some(number)
        } else {
            self.wrong(name, node, "a number", errors);
            None
        }
    }

    /// A length of time.
    pub fn duration(&mut self, name: &'static str, errors: &mut Errors) -> Option<Duration> {
        let text = self.text(name, errors)?;
        self.parsed(name, text, parse_duration, errors)
    }

    /// A number of bytes.
    pub fn bytes(&mut self, name: &'static str, errors: &mut Errors) -> Option<u64> {
        let text = self.text(name, errors)?;
        self.parsed(name, text, parse_bytes, errors)
    }

    fn parsed<T, E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, E>,
        errors: &mut Errors,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                let at = self
                    .take(name)
                    .map_or_else(|| self.at.clone(), |node| node.at.clone());
                let key = self.key(name);
                errors.push(&at, &key, error.to_string(), "");
                None
            }
        }
    }

    /// A name of some kind.
    pub fn name<T>(&mut self, name: &'static str, errors: &mut Errors) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.text(name, errors)?;
        self.parsed(name, text, str::parse::<T>, errors)
    }

    /// One of a closed set of words.
    pub fn word<T: FromStr<Err = UnknownWord>>(
        &mut self,
        name: &'static str,
        errors: &mut Errors,
    ) -> Option<T> {
        let text = self.text(name, errors)?;
        match text.parse() {
            Ok(word) => Some(word),
            Err(error) => {
                let at = self
                    .take(name)
                    .map_or_else(|| self.at.clone(), |node| node.at.clone());
                let key = self.key(name);
                let remedy = did_you_mean(text, error.known.split(", "));
                errors.push(&at, &key, error.to_string(), remedy);
                None
            }
        }
    }

    /// A list of texts; a single text stands for a list of one.
    pub fn texts(
        &mut self,
        name: &'static str,
        errors: &mut Errors,
    ) -> Option<Vec<(&'a str, &'a At)>> {
        let node = self.take(name)?;
        texts(node, &self.key(name), errors)
    }

    /// A list of nodes.
    pub fn list(&mut self, name: &'static str, errors: &mut Errors) -> Option<&'a [Node]> {
        let node = self.take(name)?;
        if let Value::List(items) = &node.value {
            Some(items)
        } else {
            self.wrong(name, node, "a list", errors);
            None
        }
    }

    /// The entries of a table with free keys.
    pub fn entries(&mut self, name: &'static str, errors: &mut Errors) -> &'a [(Key, Node)] {
        match self.take(name) {
            None => &[],
            Some(node) => {
                if let Value::Table(entries) = &node.value {
                    entries
                } else {
                    self.wrong(name, node, "a table", errors);
                    &[]
                }
            }
        }
    }

    /// Says what was not asked for.
    pub fn finish(self, errors: &mut Errors) {
        for (key, _) in self.entries {
            if !self.asked.contains(&key.text.as_str()) {
                let path = self.key(&key.text);
                let mut remedy = did_you_mean(&key.text, self.asked.iter().copied());
                if remedy.is_empty() {
                    remedy = format!("known here: {}", self.asked.join(", "));
                }
                errors.push(&key.at, &path, "unknown key", remedy);
            }
        }
    }
}

/// A list of texts, or one text.
pub fn texts<'a>(
    node: &'a Node,
    path: &str,
    errors: &mut Errors,
) -> Option<Vec<(&'a str, &'a At)>> {
    let single = std::slice::from_ref(node);
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Text(_) => single,
        other @ (Value::Bool(_) | Value::Int(_) | Value::Table(_)) => {
            errors.push(
                &node.at,
                path,
                format!("is {}, a list of texts was expected", other.kind()),
                "",
            );
            return None;
        }
    };
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        if let Value::Text(text) = &item.value {
            found.push((text.as_str(), &item.at));
        } else {
            errors.push(
                &item.at,
                path,
                format!("holds {}, a text was expected", item.value.kind()),
                "",
            );
        }
    }
    Some(found)
}

/// A remedy that names the nearest known word; empty when none is near.
pub fn did_you_mean<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|word| {
            let distance = strsim::damerau_levenshtein(&text.to_lowercase(), &word.to_lowercase());
            (distance, word)
        })
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min()
        .map_or_else(String::new, |(_, word)| format!("did you mean `{word}`?"))
}
