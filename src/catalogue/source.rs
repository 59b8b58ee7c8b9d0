//! Stack file text as a tree of values that remember their file and line.
//!
//! Only reads TOML: what a key means is said elsewhere. Values from several files can be mixed in one tree, so that
//! an extending file may override single keys and an error still names the right line.

use std::fmt;
use std::sync::Arc;

use toml_edit::{Document, Item, Table, Value as TomlValue};

/// The largest stack file that is read.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The deepest nesting that is read; a predicate of a real check needs about eight.
const DEPTH_MAX: u32 = 24;

/// One mistake in a stack file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{file}:{line}: {}{message}{}", shown_key(.key), shown_remedy(.remedy))]
pub struct StackError {
    pub file: String,
    /// From 1.
    pub line: u32,
    /// Dotted path of the key, empty for the whole file.
    pub key: String,
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

fn shown_key(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("`{key}`: ")
    }
}

fn shown_remedy(remedy: &str) -> String {
    if remedy.is_empty() {
        String::new()
    } else {
        format!("; {remedy}")
    }
}

/// Where something stands.
#[derive(Clone, PartialEq, Eq)]
pub struct At {
    pub file: Arc<str>,
    pub line: u32,
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// All mistakes found so far.
#[derive(Debug, Default)]
pub struct Errors(Vec<StackError>);

impl Errors {
    /// Adds one.
    pub fn push(
        &mut self,
        at: &At,
        key: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(StackError {
            file: at.file.to_string(),
            line: at.line,
            key: key.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All of them by file and line, each once.
    pub fn into_sorted(mut self) -> Vec<StackError> {
        self.0.sort();
        self.0.dedup();
        self.0
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub at: At,
    pub value: Value,
}

/// The kinds of values that stack files use.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub text: String,
    pub at: At,
}

impl Value {
    /// What it is, for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    /// The same as JSON, for probe parameters.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Text(value) => value.clone().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Table(entries) => entries
                .iter()
                .map(|(key, node)| (key.text.clone(), node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    /// A text that is equal exactly for equal values, wherever they stand: keys sorted, no layout.
    pub fn canonical(&self) -> String {
        // serde_json's map is ordered by key, which is what makes this canonical.
        self.to_json().to_string()
    }

    /// The value below a key of a table.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(entries) => entries
                .iter()
                .find(|(key, _)| key.text == name)
                .map(|(_, node)| node),
            Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::List(_) => None,
        }
    }
}

struct Reader<'a> {
    file: Arc<str>,
    line_starts: Vec<usize>,
    errors: &'a mut Errors,
}

/// Reads one file; `None` when it could not be read at all (the errors say why).
pub fn read(file: &str, text: &str, errors: &mut Errors) -> Option<Node> {
    let file: Arc<str> = file.into();
    let top = At {
        file: file.clone(),
        line: 1,
    };
    if text.len() > FILE_BYTES_MAX {
        errors.push(
            &top,
            "",
            format!("the file is larger than {FILE_BYTES_MAX} bytes"),
            "split it into several stacks",
        );
        return None;
    }
    if let Some(line) = deep_line(text) {
        errors.push(
            &At { file, line },
            "",
            "nested too deeply",
            format!("use at most {DEPTH_MAX} levels"),
        );
        return None;
    }
    let line_starts = std::iter::once(0)
        .chain(text.match_indices('\n').map(|(at, _)| at + 1))
        .collect();
    let mut reader = Reader {
        file,
        line_starts,
        errors,
    };
    match Document::parse(text) {
        Ok(document) => Some(reader.table(document.as_table(), &top, 0)),
        Err(error) => {
            let at = reader.at(error.span().map(|span| span.start), &top);
            reader.errors.push(
                &at,
                "",
                format!("not TOML: {}", error.message().replace('\n', "; ")),
                "",
            );
            None
        }
    }
}

/// First line with more open brackets or dotted parts than any sensible file has. Asked before parsing, so that a
/// hostile file cannot make the parser's or our own recursion deep.
fn deep_line(text: &str) -> Option<u32> {
    let (mut line, mut depth, mut dots, mut quote) = (1_u32, 0_u32, 0_u32, None);
    for byte in text.bytes() {
        match (byte, quote) {
            (b'\n', _) => {
                line = line.saturating_add(1);
                dots = 0;
                quote = None; // A wrong guess inside a multi-line text only makes this stricter.
            }
            (b'"' | b'\'', None) => quote = Some(byte),
            (_, Some(open)) if open == byte => quote = None,
            (b'[' | b'{', None) => depth += 1,
            (b']' | b'}', None) => depth = depth.saturating_sub(1),
            (b'.', None) => dots += 1,
            (b'#', None) => quote = Some(b'\n'),
            (_, Some(_) | None) => {}
        }
        if depth > DEPTH_MAX || dots > 8 * DEPTH_MAX {
            return Some(line);
        }
    }
    None
}

impl Reader<'_> {
    fn at(&self, offset: Option<usize>, outer: &At) -> At {
        let line = offset.map_or(outer.line, |offset| {
            u32::try_from(self.line_starts.partition_point(|start| *start <= offset))
                .unwrap_or(u32::MAX)
        });
        At {
            file: self.file.clone(),
            line,
        }
    }

    fn table(&mut self, table: &Table, at: &At, depth: u32) -> Node {
        let mut entries = Vec::new();
        for (name, item) in table {
            let key_at = self.at(
                table
                    .key(name)
                    .and_then(toml_edit::Key::span)
                    .map(|span| span.start),
                at,
            );
            if let Some(node) = self.item(item, &key_at, depth + 1) {
                let at = key_at;
                entries.push((
                    Key {
                        text: name.to_owned(),
                        at,
                    },
                    node,
                ));
            }
        }
        Node {
            at: at.clone(),
            value: Value::Table(entries),
        }
    }

    fn item(&mut self, item: &Item, at: &At, depth: u32) -> Option<Node> {
        if depth > DEPTH_MAX {
            self.errors.push(
                at,
                "",
                "nested too deeply",
                format!("use at most {DEPTH_MAX} levels"),
            );
            return None;
        }
        match item {
            Item::None => None,
            Item::Value(value) => self.value(value, at, depth),
            Item::Table(table) => {
                let at = self.at(table.span().map(|span| span.start), at);
                Some(self.table(table, &at, depth))
            }
            Item::ArrayOfTables(tables) => Some(Node {
                at: at.clone(),
                value: Value::List(
                    tables
                        .iter()
                        .map(|table| {
                            let at = self.at(table.span().map(|span| span.start), at);
                            self.table(table, &at, depth + 1)
                        })
                        .collect(),
                ),
            }),
        }
    }

    fn value(&mut self, value: &TomlValue, outer: &At, depth: u32) -> Option<Node> {
        let at = self.at(value.span().map(|span| span.start), outer);
        if depth > DEPTH_MAX {
            self.errors.push(
                &at,
                "",
                "nested too deeply",
                format!("use at most {DEPTH_MAX} levels"),
            );
            return None;
        }
        let value = match value {
            TomlValue::String(text) => Value::Text(text.value().clone()),
            TomlValue::Integer(number) => Value::Int(*number.value()),
            TomlValue::Boolean(flag) => Value::Bool(*flag.value()),
            TomlValue::Float(_) | TomlValue::Datetime(_) => {
                self.errors.push(
                    &at,
                    "",
                    "fractions and dates have no meaning in a stack file",
                    "write a whole number, or a text with a unit such as \"90s\"",
                );
                return None;
            }
            TomlValue::Array(items) => Value::List(
                items
                    .iter()
                    .filter_map(|item| self.value(item, &at, depth + 1))
                    .collect(),
            ),
            TomlValue::InlineTable(table) => {
                let mut entries = Vec::new();
                for (name, value) in table {
                    let key_at = self.at(
                        table
                            .key(name)
                            .and_then(toml_edit::Key::span)
                            .map(|span| span.start),
                        &at,
                    );
                    if let Some(node) = self.value(value, &key_at, depth + 1) {
                        entries.push((
                            Key {
                                text: name.to_owned(),
                                at: key_at,
                            },
                            node,
                        ));
                    }
                }
                Value::Table(entries)
            }
        };
        Some(Node { at, value })
    }
}

/// `over` laid on `base`: tables by key as deep as `levels`, everything else replaced. Base order, then new keys.
pub fn merge(base: Node, over: Node, levels: u32) -> Node {
    match (base.value, over.value) {
        (Value::Table(mut entries), Value::Table(new)) if levels > 0 => {
            for (key, node) in new {
                match entries.iter_mut().find(|(known, _)| known.text == key.text) {
                    Some((known, old)) => {
                        let taken = std::mem::replace(
                            old,
                            Node {
                                at: key.at.clone(),
                                value: Value::Bool(false),
                            },
                        );
                        *old = merge(taken, node, levels - 1);
                        known.at = key.at;
                    }
                    None => entries.push((key, node)),
                }
            }
            Node {
                at: over.at,
                value: Value::Table(entries),
            }
        }
        (_, value) => Node { at: over.at, value },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_remember_their_lines() {
        let mut errors = Errors::default();
        let node = read(
            "x.toml",
            "a = 1\n[check.one]\nrules = [\n  { when = 2 },\n]\n",
            &mut errors,
        )
        .unwrap();
        let rules = node
            .get("check")
            .and_then(|node| node.get("one"))
            .and_then(|node| node.get("rules"))
            .unwrap();
        let Value::List(items) = &rules.value else {
            panic!("a list")
        };
        assert_eq!(items[0].at.line, 4);
        assert_eq!(items[0].get("when").unwrap().at.line, 4);
        assert_eq!(node.get("a").unwrap().at.line, 1);
        assert_eq!(errors.count(), 0);
    }

    #[test]
    fn hostile_files_are_refused_and_not_followed() {
        for (case, text) in [
            (
                "brackets",
                format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000)),
            ),
            ("tables", "{ a = ".repeat(100_000)),
            ("dots", format!("{} = 1", vec!["a"; 50_000].join("."))),
            ("header", format!("[{}]", vec!["a"; 50_000].join("."))),
            ("large", "#".repeat(FILE_BYTES_MAX + 1)),
            ("not toml", "a = = 1".to_owned()),
            ("date", "a = 2020-01-01".to_owned()),
        ] {
            let mut errors = Errors::default();
            read("x.toml", &text, &mut errors);
            assert_eq!(errors.count(), 1, "{case}");
        }
        let mut errors = Errors::default();
        read(
            "x.toml",
            &format!("{} = 1", vec!["a"; 60].join(".")),
            &mut errors,
        );
        assert_eq!(errors.count(), 1, "dots below the parser's own limit");
    }

    #[test]
    fn a_later_file_overrides_single_keys() {
        let mut errors = Errors::default();
        let base = read(
            "a",
            "[check.x]\ntitle = \"A\"\nevery = \"1m\"\n[check.y]\n",
            &mut errors,
        );
        let over = read("b", "[check.x]\nevery = \"2m\"\n[check.z]\n", &mut errors);
        let merged = merge(base.unwrap(), over.unwrap(), 3);
        assert_eq!(
            merged.canonical(),
            r#"{"check":{"x":{"every":"2m","title":"A"},"y":{},"z":{}}}"#
        );
        assert_eq!(errors.count(), 0);
    }
}
