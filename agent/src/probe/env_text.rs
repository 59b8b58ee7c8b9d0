//! `.env` files in the two dialects that the applications themselves read.
//!
//! Pure. PHP's (vlucas/phpdotenv 5, which Laravel uses) is strict: one line that it does not understand and the whole
//! file is refused, so the application does not start. Node's (dotenv) skips what it does not understand. In both a
//! later line wins. `${X}` stays text: nothing is ever filled in, least of all from our own environment.

use std::collections::BTreeMap;

use super::spec::Dialect;

/// Why PHP would refuse the file. Names the line and never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct EnvError {
    pub(super) line: usize,
    pub(super) what: &'static str,
}

/// Keys and values of a file.
pub(super) fn parse(bytes: &[u8], dialect: Dialect) -> Result<BTreeMap<String, String>, EnvError> {
    match dialect {
        Dialect::Php => php(bytes),
        Dialect::Node => Ok(node(&String::from_utf8_lossy(bytes))),
    }
}

// --- PHP ---------------------------------------------------------------------------------------------------------

fn php(bytes: &[u8]) -> Result<BTreeMap<String, String>, EnvError> {
    // As the library does when it reads the file: the byte order mark goes, foreign bytes are replaced.
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes));
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut entries = BTreeMap::new();
    // Lines of a value that spans several, and where it began.
    let mut buffer: Option<(usize, String)> = None;
    for (at, line) in text.split('\n').enumerate() {
        let started = line.contains("=\"") && !stops_multiline(line, true);
        let (begin, entry) = match buffer.take() {
            Some((begin, mut entry)) => {
                entry.push('\n');
                entry.push_str(line);
                (begin, entry)
            }
            None if started => (at, line.to_owned()),
            None => {
                php_entry(line, at + 1, &mut entries)?;
                continue;
            }
        };
        if stops_multiline(line, started) {
            php_entry(&entry, begin + 1, &mut entries)?;
        } else {
            buffer = Some((begin, entry));
        }
    }
    match buffer {
        None => Ok(entries),
        // The library drops the open value and all that follows without a word; that is what a torn file looks like.
        Some((begin, _)) => Err(EnvError {
            line: begin + 1,
            what: "a quote that is not closed; all keys from here on are lost",
        }),
    }
}

/// The library's rule: enough quotes on the line that no backslash stands before.
fn stops_multiline(line: &str, started: bool) -> bool {
    if line == "\"" {
        return true;
    }
    let line = line.replace("\\\\", "");
    let quotes = line
        .as_bytes()
        .windows(2)
        .filter(|pair| pair[0] != b'\\' && pair[1] == b'"')
        .count();
    quotes > usize::from(started)
}

fn php_trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r', '\0', '\x0B'])
}

fn is_php_blank(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

fn php_entry(
    entry: &str,
    line: usize,
    entries: &mut BTreeMap<String, String>,
) -> Result<(), EnvError> {
    let trimmed = php_trim(entry);
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok(());
    }
    let fail = |what| EnvError { line, what };
    let (name, value) = trimmed.split_once('=').unwrap_or((trimmed, ""));
    let name = php_name(php_trim(name)).ok_or_else(|| fail("the name of a key is not valid"))?;
    let value = php_value(php_trim(value)).map_err(fail)?;
    entries.insert(name, value);
    Ok(())
}

fn php_name(name: &str) -> Option<String> {
    // The length is the library's: it refuses `export A`, and so does an application that uses it.
    let name = name
        .strip_prefix("export")
        .filter(|rest| name.chars().count() > 8 && rest.starts_with(is_php_blank))
        .map_or(name, |rest| rest.trim_start_matches(is_php_blank));
    let quoted = |quote: char| name.strip_prefix(quote)?.strip_suffix(quote);
    let name = quoted('"').or_else(|| quoted('\'')).unwrap_or(name);
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    (!name.is_empty() && name.chars().all(good)).then(|| name.to_owned())
}

fn php_value(text: &str) -> Result<String, &'static str> {
    enum At {
        Initial,
        Plain,
        Single,
        Double,
        Escape,
        Blank,
        Comment,
    }
    let mut value = String::with_capacity(text.len());
    let mut at = At::Initial;
    for character in text.chars() {
        at = match (at, character) {
            (At::Initial, '\'') => At::Single,
            (At::Initial, '"') => At::Double,
            (At::Initial | At::Plain | At::Blank, '#') | (At::Comment, _) => At::Comment,
            (At::Initial | At::Plain, c) if is_php_blank(c) => At::Blank,
            (At::Initial | At::Plain, c) => {
                value.push(c);
                At::Plain
            }
            (At::Single, '\'') | (At::Double, '"') => At::Blank,
            (At::Double, '\\') => At::Escape,
            (At::Single, c) => {
                value.push(c);
                At::Single
            }
            (At::Double, c) => {
                value.push(c);
                At::Double
            }
            (At::Escape, c) => {
                value.push(match c {
                    '"' | '\\' | '$' => c,
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'f' => '\x0C',
                    'v' => '\x0B',
                    _ => return Err("an escape that PHP does not know"),
                });
                At::Double
            }
            (At::Blank, c) if is_php_blank(c) => At::Blank,
            (At::Blank, _) => return Err("text after a blank in a value without quotes"),
        };
    }
    match at {
        At::Single | At::Double | At::Escape => Err("a quote that is not closed"),
        At::Initial | At::Plain | At::Blank | At::Comment => Ok(value),
    }
}

// --- Node --------------------------------------------------------------------------------------------------------

fn node(text: &str) -> BTreeMap<String, String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut rest = text.as_str();
    let mut entries = BTreeMap::new();
    while !rest.is_empty() {
        let line_end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        match node_entry(rest) {
            Some((name, value, length)) => {
                entries.insert(name, value);
                rest = &rest[length..];
            }
            None => rest = &rest[line_end..],
        }
    }
    entries
}

/// Blanks as JavaScript's `\s` sees them, within the line.
fn trim_blanks(text: &str) -> &str {
    text.trim_start_matches(|c: char| c != '\n' && (c.is_whitespace() || c == '\u{FEFF}'))
}

/// One assignment at the start of the text, and how many bytes it takes with the rest of its line.
fn node_entry(text: &str) -> Option<(String, String, usize)> {
    let rest = trim_blanks(text);
    let rest = rest
        .strip_prefix("export")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .map_or(rest, trim_blanks);
    let name_end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')))
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(name_end);
    if name.is_empty() {
        return None;
    }
    let rest = match trim_blanks(rest).strip_prefix('=') {
        Some(rest) => rest,
        // `KEY: value`, with the colon directly behind the key and a blank behind that.
        None => rest
            .strip_prefix(':')
            .filter(|rest| rest.starts_with([' ', '\t']))?,
    };
    let (value, rest) = node_quoted(rest).unwrap_or_else(|| {
        let end = rest.find(['#', '\n']).unwrap_or(rest.len());
        let value = rest[..end].trim_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}');
        let value = strip_quotes(value).unwrap_or(value);
        (value.to_owned(), &rest[end..])
    });
    let rest = &rest[rest.find('\n').map_or(rest.len(), |at| at + 1)..];
    Some((name.to_owned(), value, text.len() - rest.len()))
}

fn strip_quotes(value: &str) -> Option<&str> {
    ['\'', '"', '`']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
}

/// A quoted value that ends its line, but for a comment. It may span lines.
fn node_quoted(text: &str) -> Option<(String, &str)> {
    let rest = trim_blanks(text);
    let quote = rest
        .chars()
        .next()
        .filter(|c| matches!(c, '\'' | '"' | '`'))?;
    let inner = &rest[1..];
    let (mut escaped, mut candidates) = (false, Vec::new());
    for (at, c) in inner.char_indices() {
        if c == quote {
            candidates.push(at);
            if !escaped {
                break;
            }
        }
        escaped = c == '\\' && !escaped;
        if candidates.len() > 1_000 {
            return None;
        }
    }
    // Preferred is the first quote without a backslash; where the line goes on behind it, an escaped one.
    candidates.into_iter().rev().find_map(|at| {
        let after = &inner[at + 1..];
        let behind = trim_blanks(after);
        if !(behind.is_empty() || behind.starts_with(['\n', '#'])) {
            return None;
        }
        let value = &inner[..at];
        let value = if quote == '"' {
            value.replace("\\n", "\n").replace("\\r", "\r")
        } else {
            value.to_owned()
        };
        Some((value, after))
    })
}

#[cfg(test)]
#[path = "env_text_tests.rs"]
mod tests;
