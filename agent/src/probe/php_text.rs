//! A PHP file's constants, as far as they can be told without running it.
//!
//! Pure and tolerant. Only what is a plain literal on the outermost level is a value; what depends on a condition, a
//! call or another file is there and not understood, and is never guessed. It also says whether the file surely breaks
//! off: an open string, comment or bracket, or an end in mid-statement. A file that passes may still not be PHP.

use std::collections::BTreeMap;
use std::fmt;

/// A value as it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Int(i64),
    Bool(bool),
    Null,
    /// Not a plain literal, or only set under a condition.
    Unclear,
}

/// Where and how a file surely is no whole PHP file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken {
    /// From 1.
    pub(super) line: usize,
    pub(super) what: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PhpText {
    /// Constants by name, and variables of the outermost level by `$name`. PHP keeps the first of equal constants.
    pub(super) values: BTreeMap<String, Value>,
    /// The literal ends of what is included or required, `None` for what is not literal.
    pub(super) includes: Vec<Option<String>>,
    pub(super) broken: Option<Broken>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Word(String),
    Variable(String),
    /// A quoted text; without its value where it holds variables.
    Text(Option<String>),
    Number(Option<i64>),
    Mark(u8),
    /// `?>` ends a statement as `;` does.
    Close,
}

#[derive(Debug, Clone)]
struct Token {
    kind: Kind,
    at: usize,
}

/// Does a file surely break off, whatever it defines?
pub(super) fn breaks_off(text: &[u8]) -> bool {
    let (tokens, torn) = Lexer { text, at: 0 }.tokens();
    torn.or_else(|| unbalanced(&tokens)).is_some()
}

/// Reads a file.
pub(super) fn read(text: &[u8]) -> PhpText {
    let (tokens, torn) = Lexer { text, at: 0 }.tokens();
    let broken = torn.or_else(|| unbalanced(&tokens));
    let mut found = PhpText {
        broken: broken.map(|(at, what)| Broken {
            line: text[..at.min(text.len())]
                .split(|byte| *byte == b'\n')
                .count(),
            what,
        }),
        ..PhpText::default()
    };
    collect(&tokens, &mut found);
    found
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

/// A place and what is wrong there.
type Torn = (usize, &'static str);

impl Lexer<'_> {
    fn rest(&self) -> &[u8] {
        &self.text[self.at.min(self.text.len())..]
    }

    fn starts(&self, with: &[u8]) -> bool {
        self.rest()
            .get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with))
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> String {
        let rest = self.rest();
        let length = rest.iter().take_while(|byte| wanted(**byte)).count();
        let taken = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length;
        taken
    }

    fn tokens(mut self) -> (Vec<Token>, Option<Torn>) {
        let mut tokens = Vec::new();
        if !self.open_tag() {
            return (tokens, Some((0, "there is no PHP in it")));
        }
        while self.at < self.text.len() {
            let at = self.at;
            if self.starts(b"?>") {
                self.at += 2;
                tokens.push(Token {
                    kind: Kind::Close,
                    at,
                });
                if !self.open_tag() {
                    break;
                }
                continue;
            }
            match self.token() {
                Ok(Some(kind)) => tokens.push(Token { kind, at }),
                Ok(None) => {}
                Err(what) => return (tokens, Some((at, what))),
            }
        }
        (tokens, None)
    }

    /// Goes behind the next opening tag.
    fn open_tag(&mut self) -> bool {
        while self.at < self.text.len() {
            for tag in [b"<?php".as_slice(), b"<?="] {
                if self.starts(tag) {
                    self.at += tag.len();
                    return true;
                }
            }
            self.at += 1;
        }
        false
    }

    fn token(&mut self) -> Result<Option<Kind>, &'static str> {
        let Some(first) = self.rest().first().copied() else {
            return Ok(None);
        };
        if first.is_ascii_whitespace() {
            self.at += 1;
            return Ok(None);
        }
        if self.starts(b"/*") {
            let end = self.rest()[2..].windows(2).position(|pair| pair == b"*/");
            self.at += end.ok_or("a comment does not end")? + 4;
            return Ok(None);
        }
        if self.starts(b"//") || (first == b'#' && !self.starts(b"#[")) {
            while self.at < self.text.len() && !self.starts(b"\n") && !self.starts(b"?>") {
                self.at += 1;
            }
            return Ok(None);
        }
        if self.starts(b"<<<") {
            return self.heredoc();
        }
        Ok(Some(match first {
            b'\'' | b'"' | b'`' => {
                self.at += 1;
                let text = self.quoted(first)?;
                Kind::Text(text.filter(|_| first != b'`'))
            }
            b'$' => {
                self.at += 1;
                Kind::Variable(self.take_while(is_word))
            }
            byte if byte.is_ascii_digit() => {
                let digits = self.take_while(|byte| is_word(byte) || byte == b'.');
                // A leading zero is octal: rare enough not to be understood.
                let plain = digits == "0" || !digits.starts_with('0');
                Kind::Number(digits.replace('_', "").parse().ok().filter(|_| plain))
            }
            byte if is_word(byte) => Kind::Word(self.take_while(is_word)),
            byte => {
                self.at += 1;
                Kind::Mark(byte)
            }
        }))
    }

    /// A text up to its closing quote, behind the opening one.
    fn quoted(&mut self, quote: u8) -> Result<Option<String>, &'static str> {
        let (mut bytes, mut plain) = (Vec::new(), true);
        loop {
            let rest = self.rest();
            match (rest.first().copied(), rest.get(1).copied()) {
                (None, _) | (Some(b'\\'), None) => return Err("a text does not end"),
                (Some(byte), _) if byte == quote => {
                    self.at += 1;
                    let text = String::from_utf8(bytes).ok();
                    return Ok(text.filter(|_| plain));
                }
                (Some(b'\\'), Some(next)) => {
                    self.at += 2;
                    match (quote, next) {
                        (_, b'\\') => bytes.push(next),
                        (_, next) if next == quote => bytes.push(next),
                        (b'\'', _) => bytes.extend([b'\\', next]),
                        (_, b'n') => bytes.push(b'\n'),
                        (_, b't') => bytes.push(b'\t'),
                        (_, b'r') => bytes.push(b'\r'),
                        (_, b'$') => bytes.push(b'$'),
                        (_, b'0'..=b'9' | b'x' | b'u' | b'e' | b'v' | b'f') => plain = false,
                        (_, next) => bytes.extend([b'\\', next]),
                    }
                }
                (Some(byte), next) => {
                    let begins = next.is_some_and(|next| is_word(next) || next == b'{');
                    if quote != b'\''
                        && ((byte == b'$' && begins) || (byte == b'{' && next == Some(b'$')))
                    {
                        plain = false;
                    }
                    bytes.push(byte);
                    self.at += 1;
                }
            }
        }
    }

    fn heredoc(&mut self) -> Result<Option<Kind>, &'static str> {
        let start = self.at;
        self.at += 3;
        self.take_while(|byte| byte == b' ' || byte == b'\t');
        let quote = self.rest().first().copied();
        let quoted = matches!(quote, Some(b'\'' | b'"'));
        self.at += usize::from(quoted);
        let label = self.take_while(is_word);
        if label.is_empty() {
            // Shifts, not a text.
            self.at = start + 1;
            return Ok(Some(Kind::Mark(b'<')));
        }
        self.at += usize::from(quoted);
        loop {
            let rest = self.rest();
            let next = rest
                .iter()
                .position(|byte| *byte == b'\n')
                .ok_or("a text does not end")?;
            self.at += next + 1;
            self.take_while(|byte| byte == b' ' || byte == b'\t');
            if self.starts(label.as_bytes())
                && !self.rest().get(label.len()).copied().is_some_and(is_word)
            {
                self.at += label.len();
                return Ok(Some(Kind::Text(None)));
            }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// An open or surplus bracket, or an end in mid-statement.
fn unbalanced(tokens: &[Token]) -> Option<Torn> {
    let mut open: Vec<(u8, usize)> = Vec::new();
    for token in tokens {
        let Kind::Mark(mark) = token.kind else {
            continue;
        };
        let opening = match mark {
            b'(' | b'[' | b'{' => {
                open.push((mark, token.at));
                continue;
            }
            b')' => b'(',
            b']' => b'[',
            b'}' => b'{',
            _ => continue,
        };
        match open.pop() {
            Some((last, _)) if last == opening => {}
            _ => return Some((token.at, "a bracket closes that was not opened")),
        }
    }
    if let Some((_, at)) = open.last() {
        return Some((*at, "a bracket is not closed"));
    }
    match tokens.last() {
        None
        | Some(Token {
            kind: Kind::Close | Kind::Mark(b';' | b'}' | b':'),
            ..
        }) => None,
        Some(last) => Some((last.at, "it ends in the middle of a statement")),
    }
}

/// Goes through the statements and notes what they define and include.
fn collect(tokens: &[Token], found: &mut PhpText) {
    let (mut depth, mut conditional) = (0_usize, false);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let before = at
            .checked_sub(1)
            .and_then(|at| tokens.get(at))
            .map(|token| &token.kind);
        match &token.kind {
            Kind::Mark(b'{') => depth += 1,
            Kind::Mark(b'}') => {
                depth = depth.saturating_sub(1);
                conditional = false;
            }
            Kind::Mark(b';') | Kind::Close => conditional = false,
            Kind::Word(word) if !is_member(before) => {
                let sure = depth == 0 && !conditional;
                let word = word.to_ascii_lowercase();
                match word.as_str() {
                    "if" | "else" | "elseif" | "for" | "foreach" | "while" | "switch"
                    | "function" | "class" | "do" | "try" | "catch" => conditional = true,
                    "define" => {
                        if let Some((name, value)) = define(&tokens[at + 1..]) {
                            let value = if sure { value } else { Value::Unclear };
                            found.values.entry(name).or_insert(value);
                        }
                    }
                    "const" => {
                        if let Some((name, value)) = constant(&tokens[at + 1..]) {
                            let value = if sure { value } else { Value::Unclear };
                            found.values.entry(name).or_insert(value);
                        }
                    }
                    "include" | "include_once" | "require" | "require_once" => {
                        found.includes.push(last_text(&tokens[at + 1..]));
                    }
                    _ => {}
                }
            }
            Kind::Variable(name)
                if depth == 0 && is_assignment(&tokens[at + 1..]) && starts_statement(before) =>
            {
                let value = match expression(&tokens[at + 2..], b";") {
                    value if !conditional => value,
                    _ => Value::Unclear,
                };
                // Of variables the last one counts.
                found.values.insert(format!("${name}"), value);
            }
            Kind::Word(_) | Kind::Variable(_) | Kind::Text(_) | Kind::Number(_) | Kind::Mark(_) => {
            }
        }
        at += 1;
    }
}

/// Does what follows belong to an object, a class or a declaration?
fn is_member(before: Option<&Kind>) -> bool {
    match before {
        Some(Kind::Mark(mark)) => matches!(mark, b'>' | b':'),
        Some(Kind::Word(word)) => matches!(word.as_str(), "function" | "new"),
        _ => false,
    }
}

fn starts_statement(before: Option<&Kind>) -> bool {
    matches!(
        before,
        None | Some(Kind::Close | Kind::Mark(b';' | b'}' | b')' | b':'))
    )
}

fn is_assignment(tokens: &[Token]) -> bool {
    let kind = |at: usize| tokens.get(at).map(|token| &token.kind);
    kind(0) == Some(&Kind::Mark(b'=')) && !matches!(kind(1), Some(Kind::Mark(b'=' | b'>')))
}

/// `( 'NAME', value )` behind `define`.
fn define(tokens: &[Token]) -> Option<(String, Value)> {
    let kind = |at: usize| tokens.get(at).map(|token| &token.kind);
    match (kind(0)?, kind(1)?, kind(2)?) {
        (Kind::Mark(b'('), Kind::Text(Some(name)), Kind::Mark(b',')) => {
            let value = expression(tokens.get(3..)?, b"),");
            Some((name.clone(), value))
        }
        _ => None,
    }
}

/// `NAME = value` behind `const`.
fn constant(tokens: &[Token]) -> Option<(String, Value)> {
    match (&tokens.first()?.kind, &tokens.get(1)?.kind) {
        (Kind::Word(name), Kind::Mark(b'=')) => {
            Some((name.clone(), expression(tokens.get(2..)?, b";,")))
        }
        _ => None,
    }
}

/// A value that is one literal, up to one of these marks.
fn expression(tokens: &[Token], ends: &[u8]) -> Value {
    let is_end = |token: Option<&Token>| match token.map(|token| &token.kind) {
        Some(Kind::Mark(mark)) => ends.contains(mark),
        Some(Kind::Close) => ends.contains(&b';'),
        _ => false,
    };
    let (sign, tokens) = match tokens.first().map(|token| &token.kind) {
        Some(Kind::Mark(b'-')) => (-1, &tokens[1..]),
        _ => (1, tokens),
    };
    if !is_end(tokens.get(1)) {
        return Value::Unclear;
    }
    match (tokens.first().map(|token| &token.kind), sign) {
        (Some(Kind::Text(Some(text))), 1) => Value::Text(text.clone()),
        (Some(Kind::Number(Some(number))), sign) => Value::Int(number.saturating_mul(sign)),
        (Some(Kind::Word(word)), 1) => match word.to_ascii_lowercase().as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ => Value::Unclear,
        },
        _ => Value::Unclear,
    }
}

/// The last literal of a statement, if the statement ends with one.
fn last_text(tokens: &[Token]) -> Option<String> {
    let end = tokens
        .iter()
        .position(|token| matches!(token.kind, Kind::Mark(b';') | Kind::Close))?;
    tokens[..end]
        .iter()
        .rev()
        .find_map(|token| match &token.kind {
            Kind::Mark(b')') => None,
            Kind::Text(text) => Some(text.clone()),
            _ => Some(None),
        })?
}

#[cfg(test)]
#[path = "php_text_tests.rs"]
mod tests;
