//! What is wrong with a configuration: where, which key, why, and what to do.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Line and column count from 1; a problem of the file as a whole has none.
    File {
        path: PathBuf,
        position: Option<(usize, usize)>,
    },
    /// The name of the variable.
    Environment(String),
    /// Written nowhere.
    Nowhere,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                path,
                position: Some((line, column)),
            } => write!(f, "{}:{line}:{column}", path.display()),
            Self::File {
                path,
                position: None,
            } => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub place: Place,
    /// The key with its tables, `app.shop.user`; empty for a whole file.
    pub key: String,
    pub reason: String,
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "`{}` ", self.key)?;
        }
        write!(f, "{}\n  hint: {}", self.reason, self.remedy)
    }
}

/// Everything that is wrong, in order of file and line. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.shown())]
pub struct ConfigErrors(pub Vec<Problem>);

impl ConfigErrors {
    fn shown(&self) -> String {
        self.0
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Problem {
    /// Place, key and reason in one line, and what to do, for a record of the log.
    pub fn lines(&self) -> (String, &str) {
        let text = self.to_string();
        let first = text.lines().next().unwrap_or_default().to_owned();
        (first, &self.remedy)
    }
}

/// Something that is not wrong, and probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning(pub Problem);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The key with its tables as TOML writes it, foreign text escaped.
pub(super) fn key_text(path: &[String]) -> String {
    path.iter()
        .map(|part| {
            let plain = !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
            if plain {
                part.clone()
            } else {
                format!("\"{}\"", shown(part))
            }
        })
        .collect::<Vec<_>>()
        .join(".")
}

/// Foreign text for a message: short, without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars().take(120) {
        if letter.is_control() {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    if text.chars().nth(120).is_some() {
        out.push('…');
    }
    out
}
