//! Settings of a config text, as far as keys and values can be told without running it.
//!
//! Pure and tolerant: the texts are often torn, because that is the symptom. Only equality of values matters here, so
//! values are unquoted but nothing is expanded; what is no plain literal is compared as it is written.

/// How a config text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// `.env` as PHP applications read it.
    PhpEnv,
    /// `.env` as Node applications read it.
    NodeEnv,
    /// `wp-config.php`: `define(…)` and `$table_prefix`.
    WpConfig,
    /// Nothing in it can be told apart by key.
    Opaque,
}

impl Dialect {
    /// The dialect of a file, by its name and whether the stack runs on PHP.
    pub fn of(file_name: &str, php: bool) -> Self {
        match file_name {
            "wp-config.php" => Self::WpConfig,
            name if name == ".env" || name.starts_with(".env.") => {
                if php {
                    Self::PhpEnv
                } else {
                    Self::NodeEnv
                }
            }
            _ => Self::Opaque,
        }
    }
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    /// The text ends within this value, so that it may be only the beginning of it.
    pub(super) torn: bool,
}

/// Every setting, in the order of the text.
pub(super) fn read(text: &[u8], dialect: Dialect) -> Vec<Setting> {
    match dialect {
        Dialect::PhpEnv => env(text, false),
        Dialect::NodeEnv => env(text, true),
        Dialect::WpConfig => php(text),
        Dialect::Opaque => Vec::new(),
    }
}

/// Both readers take `KEY=value` lines, quotes that may span lines, `#` comments and an `export` in front. Node's also
/// takes `KEY: value` and backticks.
fn env(text: &[u8], node: bool) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    while !rest.is_empty() {
        let end = line_end(rest);
        let line = &rest[..end];
        let after_line = &rest[(end + 1).min(rest.len())..];
        let Some((key, at)) = env_key(line, node) else {
            rest = after_line;
            continue;
        };
        let value = &rest[at..];
        let blank = value
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        let quoted = &value[blank..];
        match quoted.first() {
            Some(quote @ (b'"' | b'\'')) => {
                let (value, used, closed) = quoted_text(&quoted[1..], *quote, *quote == b'"');
                let at_end = at + blank + 1 + used;
                settings.push(Setting {
                    key,
                    value,
                    torn: !closed,
                });
                rest = rest_of_line(rest, at_end);
            }
            Some(b'`') if node => {
                let (value, used, closed) = quoted_text(&quoted[1..], b'`', false);
                settings.push(Setting {
                    key,
                    value,
                    torn: !closed,
                });
                rest = rest_of_line(rest, at + blank + 1 + used);
            }
            _ => {
                let plain = &line[at..];
                settings.push(Setting {
                    key,
                    value: bare(plain, node),
                    torn: end == rest.len(),
                });
                rest = after_line;
            }
        }
    }
    settings
}

fn line_end(text: &[u8]) -> usize {
    text.iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(text.len())
}

fn rest_of_line(text: &[u8], at: usize) -> &[u8] {
    let rest = &text[at.min(text.len())..];
    &rest[(line_end(rest) + 1).min(rest.len())..]
}

/// The key of a line, and where its value begins.
fn env_key(line: &[u8], node: bool) -> Option<(String, usize)> {
    let at = line
        .iter()
        .position(|byte| *byte == b'=' || (node && *byte == b':'))?;
    let key = std::str::from_utf8(&line[..at]).ok()?.trim();
    let key = key
        .strip_prefix("export")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .map_or(key, str::trim_start);
    let fits = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    fits.then(|| (key.to_owned(), at + 1))
}

/// An unquoted value: up to a comment, without blanks around it. PHP's reader wants a blank before the `#`.
fn bare(text: &[u8], node: bool) -> Vec<u8> {
    let mut end = text.len();
    for (at, byte) in text.iter().enumerate() {
        let blank_before = at == 0 || matches!(text[at - 1], b' ' | b'\t');
        if *byte == b'#' && (node || blank_before) {
            end = at;
            break;
        }
    }
    text[..end].trim_ascii().to_vec()
}

/// Content of a quoted text that began before, bytes used with its closing quote, and whether that was there.
fn quoted_text(text: &[u8], quote: u8, escapes: bool) -> (Vec<u8>, usize, bool) {
    let mut value = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match *byte {
            b'\\' if escapes || text.get(at + 1) == Some(&quote) => {
                match text.get(at + 1) {
                    Some(b'n') if escapes => value.push(b'\n'),
                    Some(b'r') if escapes => value.push(b'\r'),
                    Some(b't') if escapes => value.push(b'\t'),
                    Some(other) => value.push(*other),
                    None => return (value, text.len(), false),
                }
                at += 2;
            }
            byte if byte == quote => return (value, at + 1, true),
            byte => {
                value.push(byte);
                at += 1;
            }
        }
    }
    (value, text.len(), false)
}

/// `define( 'KEY', value )` and `$table_prefix = value` outside of comments.
fn php(text: &[u8]) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if let Some(skipped) = comment(rest) {
            at += skipped;
        } else if let Some((setting, used)) = define(rest, at == 0 || !word(text[at - 1])) {
            settings.push(setting);
            at += used;
        } else if let Some((setting, used)) = table_prefix(rest) {
            settings.push(setting);
            at += used;
        } else if let Some(quote @ (b'"' | b'\'')) = rest.first() {
            at += 1 + quoted_text(&rest[1..], *quote, true).1;
        } else {
            at += 1;
        }
    }
    settings
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn comment(text: &[u8]) -> Option<usize> {
    if text.starts_with(b"/*") {
        let end = text[2..].windows(2).position(|pair| pair == b"*/");
        return Some(end.map_or(text.len(), |end| end + 4));
    }
    (text.starts_with(b"//") || text.starts_with(b"#")).then(|| line_end(text).max(1))
}

fn blanks(text: &[u8]) -> usize {
    text.iter()
        .take_while(|byte| byte.is_ascii_whitespace())
        .count()
}

fn define(text: &[u8], word_begins: bool) -> Option<(Setting, usize)> {
    let name = text.get(..6)?;
    if !word_begins || !name.eq_ignore_ascii_case(b"define") {
        return None;
    }
    let mut at = 6 + blanks(&text[6..]);
    if text.get(at) != Some(&b'(') {
        return None;
    }
    at += 1;
    at += blanks(&text[at..]);
    let quote = *text.get(at).filter(|byte| matches!(byte, b'"' | b'\''))?;
    let (key, used, closed) = quoted_text(&text[at + 1..], quote, false);
    at += 1 + used;
    at += blanks(&text[at.min(text.len())..]);
    if !closed || text.get(at) != Some(&b',') {
        return None;
    }
    let key = String::from_utf8(key).ok()?;
    let (value, used, torn) = expression(&text[at + 1..], b')');
    Some((Setting { key, value, torn }, at + 1 + used))
}

fn table_prefix(text: &[u8]) -> Option<(Setting, usize)> {
    const NAME: &[u8] = b"$table_prefix";
    let rest = text.strip_prefix(NAME)?;
    let at = NAME.len() + blanks(rest);
    if text.get(at) != Some(&b'=') || text.get(at + 1) == Some(&b'=') {
        return None;
    }
    let (value, used, torn) = expression(&text[at + 1..], b';');
    let setting = Setting {
        key: "table_prefix".to_owned(),
        value,
        torn,
    };
    Some((setting, at + 1 + used))
}

/// A value up to `end` on its own level: a plain quoted text without its quotes, anything else as it is written.
/// Gives the bytes used and whether the text ended before.
fn expression(text: &[u8], end: u8) -> (Vec<u8>, usize, bool) {
    let start = blanks(text);
    let mut at = start;
    let mut depth = 0_u32;
    let mut literal: Option<(Vec<u8>, usize)> = None;
    while let Some(byte) = text.get(at) {
        match *byte {
            byte if byte == end && depth == 0 => {
                let written = text[start..at].trim_ascii();
                let value = match literal {
                    Some((value, length)) if length == written.len() => value,
                    _ => written.to_vec(),
                };
                return (value, at + 1, false);
            }
            quote @ (b'"' | b'\'') => {
                let (value, used, closed) = quoted_text(&text[at + 1..], quote, quote == b'"');
                if !closed && at == start {
                    return (value, text.len(), true);
                }
                if at == start {
                    literal = Some((value, used + 1));
                }
                at += 1 + used;
            }
            byte => {
                match byte {
                    b'(' | b'[' => depth += 1,
                    b')' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                at += 1;
            }
        }
    }
    // Cut off behind a whole literal: its value is known to the end.
    match literal {
        Some((value, _)) => (value, text.len(), true),
        None => (text[start..].trim_ascii().to_vec(), text.len(), true),
    }
}
