//! Paths below an application's root, and patterns over them.
//!
//! A [`TreePath`] cannot leave its root by its text: it is never absolute and holds no `..`, no empty component and
//! no NUL. (Links are another matter, and [`crate::roots`] settles it when the path is opened.)

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not a path below a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("a path below the root cannot be absolute: `{0}`")]
    Absolute(String),
    #[error("a path below the root cannot hold `..`: `{0}`")]
    Parent(String),
    #[error("a path cannot hold a NUL byte")]
    Nul,
    #[error("`%` must be followed by two hex digits: `{0}`")]
    Escape(String),
    #[error("a path is at most 4096 bytes long")]
    TooLong,
}

/// Path below an application's root, as bytes; empty is the root itself.
///
/// As text (JSON, logs, tables) bytes that are not printable UTF-8, and `%` itself, are written `%XX`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// The root itself.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Reads the escaped text form. `./` and doubled slashes are cleaned away.
    ///
    /// # Errors
    /// When the text is absolute, holds `..` or NUL, or is badly escaped.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.contains('%') {
            Self::from_bytes(&unescape(text)?)
        } else {
            Self::from_bytes(text.as_bytes())
        }
    }

    /// Takes raw bytes, as the kernel gives them.
    ///
    /// # Errors
    /// As [`TreePath::parse`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PathError> {
        let shown = || escape(bytes);
        if bytes.len() <= 4096 && is_clean(bytes) {
            return Ok(Self(bytes.to_vec()));
        }
        if bytes.contains(&0) {
            return Err(PathError::Nul);
        }
        if bytes.len() > 4096 {
            return Err(PathError::TooLong);
        }
        if bytes.first() == Some(&b'/') {
            return Err(PathError::Absolute(shown()));
        }
        let mut clean = Vec::with_capacity(bytes.len());
        for part in bytes.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(PathError::Parent(shown())),
                _ => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(part);
                }
            }
        }
        Ok(Self(clean))
    }

    /// As [`TreePath::from_bytes`], without a copy where nothing is to be cleaned away.
    pub(crate) fn from_vec(bytes: Vec<u8>) -> Result<Self, PathError> {
        if bytes.len() <= 4096 && is_clean(&bytes) {
            return Ok(Self(bytes));
        }
        Self::from_bytes(&bytes)
    }

    /// The last component; `None` for the root.
    pub(crate) fn name(&self) -> Option<&[u8]> {
        self.0
            .rsplit(|byte| *byte == b'/')
            .next()
            .filter(|name| !name.is_empty())
    }

    /// The bytes, without leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
    }

    /// The directory that holds this path, and its last component; `None` for the root.
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => Some((Self(self.0[..at].to_vec()), &self.0[at + 1..])),
            None => Some((Self::root(), &self.0)),
        }
    }

    /// This path with one more component, which must not hold a slash.
    ///
    /// # Errors
    /// When the component is `..`, or the whole becomes too long.
    pub fn join(&self, component: &[u8]) -> Result<Self, PathError> {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(component);
        Self::from_bytes(&bytes)
    }

    /// Bytes that its text takes as JSON at most.
    pub(crate) fn json_bytes_max(&self) -> usize {
        let byte = |byte: &u8| match byte {
            b'"' | b'\\' | b'%' | 0..b' ' | 0x7f.. => 3,
            _ => 1,
        };
        2 + self.0.iter().map(byte).sum::<usize>()
    }

    /// True when `self` is `other` or lies below it.
    pub fn is_below(&self, other: &Self) -> bool {
        other.is_root()
            || self.0 == other.0
            || (self.0.starts_with(&other.0) && self.0.get(other.0.len()) == Some(&b'/'))
    }
}

/// Is it a path without anything to refuse or to clean away? Almost every path is.
fn is_clean(bytes: &[u8]) -> bool {
    // The root, too, is left to the slow way.
    let mut begin = 0;
    loop {
        let rest = &bytes[begin..];
        let end = rest.iter().position(|byte| matches!(byte, b'/' | 0));
        let part = &rest[..end.unwrap_or(rest.len())];
        if matches!(part, b"" | b"." | b"..") {
            return false;
        }
        match end {
            None => return true,
            Some(end) if rest[end] == 0 => return false,
            Some(end) => begin += end + 1,
        }
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if self.is_root() {
            ".".to_owned()
        } else {
            escape(&self.0)
        })
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({self})")
    }
}

impl Serialize for TreePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match plain(&self.0) {
            Some(text) => serializer.serialize_str(text),
            None => serializer.serialize_str(&escape(&self.0)),
        }
    }
}

impl<'de> Deserialize<'de> for TreePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = TreePath;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path below a root")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TreePath, E> {
                TreePath::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A set of paths: a path whose components may hold `*` (any run of bytes without a slash), with an optional
/// trailing `/**` that takes in everything below.
///
/// `bootstrap/cache/*.php` · `vendor/**` · `.env` · `**` (the whole root).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    path: TreePath,
    below: bool,
}

impl Pattern {
    /// Reads the text form.
    ///
    /// # Errors
    /// As [`TreePath::parse`].
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let (head, below) = match text.strip_suffix("**") {
            Some(head) if head.is_empty() || head.ends_with('/') => (head, true),
            _ => (text, false),
        };
        Ok(Self {
            path: TreePath::parse(head)?,
            below,
        })
    }

    /// Everything from the first component that holds a `*` on is left away: where a walk for this pattern starts.
    pub fn fixed_prefix(&self) -> TreePath {
        let mut prefix = TreePath::root();
        for part in self.path.components() {
            if part.contains(&b'*') {
                break;
            }
            match prefix.join(part) {
                Ok(longer) => prefix = longer,
                Err(_) => break, // cannot happen: a part of a valid path
            }
        }
        prefix
    }

    /// The single path this pattern names, when it holds no star.
    pub fn as_path(&self) -> Option<&TreePath> {
        (!self.below && !self.path.as_bytes().contains(&b'*')).then_some(&self.path)
    }

    /// Does it take in everything below its path?
    pub fn is_recursive(&self) -> bool {
        self.below
    }

    /// Does the pattern take in this path? `vendor/**` takes in `vendor` itself.
    pub fn matches(&self, path: &TreePath) -> bool {
        let mut parts = path.components();
        for wanted in self.path.components() {
            match parts.next() {
                Some(part) if component_matches(wanted, part) => {}
                _ => return false,
            }
        }
        self.below || parts.next().is_none()
    }

    /// Could the pattern take in something at or below this directory? Lets a walk skip what cannot match.
    pub fn may_match_below(&self, directory: &TreePath) -> bool {
        let mut wanted = self.path.components();
        for part in directory.components() {
            match wanted.next() {
                Some(pattern) if component_matches(pattern, part) => {}
                Some(_) => return false,
                None => return self.below,
            }
        }
        true
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.below, self.path.is_root()) {
            (true, true) => f.write_str("**"),
            (true, false) => write!(f, "{}/**", self.path),
            (false, _) => write!(f, "{}", self.path),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        Self::parse(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

/// Glob match of one component; `*` only.
fn component_matches(pattern: &[u8], text: &[u8]) -> bool {
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

/// The bytes themselves, where [`escape`] would change nothing and that is seen at a glance.
fn plain(bytes: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'%';
    bytes
        .iter()
        .all(is_plain)
        .then(|| std::str::from_utf8(bytes).ok())?
}

/// Bytes as text: printable UTF-8 as it is, everything else and `%` as `%XX`.
pub fn escape(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' || character.is_control() {
                let mut buffer = [0; 4];
                for byte in character.encode_utf8(&mut buffer).bytes() {
                    write!(text, "%{byte:02X}").expect("writing to a String does not fail");
                }
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            write!(text, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
    text
}

/// The bytes that [`escape`] wrote.
///
/// # Errors
/// When a `%` is not followed by two hex digits.
pub fn unescape(text: &str) -> Result<Vec<u8>, PathError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let value = tail
                .get(..2)
                .and_then(|hex| std::str::from_utf8(hex).ok())
                .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                .ok_or_else(|| PathError::Escape(text.to_owned()))?;
            bytes.push(value);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_its_root() {
        for (text, want) in [
            ("storage/./logs//x", Some("storage/logs/x")),
            ("", Some(".")),
            ("a%00b", None),
            ("../x", None),
            ("a/../b", None),
            ("/etc", None),
            ("a%2e%2e/b", Some("a../b")),
            ("%2e%2e/b", None),
            ("a/..", None),
            ("a/b/", Some("a/b")),
            ("./a/.b/...", Some("a/.b/...")),
        ] {
            assert_eq!(
                TreePath::parse(text)
                    .ok()
                    .map(|path| path.to_string())
                    .as_deref(),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn text_and_bytes_are_the_same_path() {
        for bytes in [
            &b"caf\xc3\xa9"[..],
            b"bad\xff\xfename",
            b"100%",
            b"new\nline",
            b"quote\"and\\",
        ] {
            let path = TreePath::from_bytes(bytes).unwrap();
            let text = serde_json::to_string(&path).unwrap();
            assert!(text.len() <= path.json_bytes_max(), "{text}");
            assert_eq!(
                serde_json::from_str::<TreePath>(&text).unwrap(),
                path,
                "{text}"
            );
        }
    }

    #[test]
    fn patterns_take_in_what_they_say() {
        for (pattern, path, want) in [
            ("bootstrap/cache/*.php", "bootstrap/cache/config.php", true),
            ("bootstrap/cache/*.php", "bootstrap/cache/a/b.php", false),
            ("bootstrap/cache/*.php", "bootstrap/cache/.gitignore", false),
            ("vendor/**", "vendor", true),
            ("vendor/**", "vendor/a/b", true),
            ("vendor/**", "vendors", false),
            ("**", "anything/at/all", true),
            (".env", ".env", true),
            (".env", ".env.local", false),
            ("a*c*e", "abcde", true),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            let path = TreePath::parse(path).unwrap();
            assert_eq!(pattern.matches(&path), want, "{pattern} {path}");
            if want {
                let parent = path.split_last().unwrap().0;
                assert!(
                    pattern.may_match_below(&parent) || !pattern.matches(&path),
                    "{pattern} {path}"
                );
            }
        }
    }
}
