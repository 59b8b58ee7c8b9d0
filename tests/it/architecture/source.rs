//! Reads Rust source as far as the direction of imports needs it: which paths does this text name, on which line?
//!
//! Comments, strings and whatever stands below `#[cfg(test)]` do not count. This is no parser: it knows tokens and
//! `use` groups, nothing else, and it does not see through macros or renamed imports.

use std::collections::BTreeSet;

/// A path as written, with groups taken apart: `use a::{b, c::D}` names `a::b` and `a::c::D`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
}

impl Named {
    /// Whether the path is `prefix` or something below it.
    pub(super) fn is_below(&self, prefix: &str) -> bool {
        let mut segments = self.segments.iter();
        prefix
            .split("::")
            .all(|part| segments.next().is_some_and(|segment| segment == part))
    }

    pub(super) fn text(&self) -> String {
        self.segments.join("::")
    }
}

/// What one file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// Every path of two segments or more, in order of lines.
    pub(super) paths: BTreeSet<Named>,
    /// Lines that hold `async` or `await`.
    pub(super) async_lines: Vec<usize>,
    /// Modules that exist only for tests and live in files of their own.
    pub(super) test_modules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

impl Source {
    pub(super) fn read(text: &str) -> Self {
        let mut source = Self::default();
        let tokens = source.without_tests(&tokens(&blank(text)));
        let mut at = 0;
        while at < tokens.len() {
            let token = &tokens[at];
            if token.text == "async" || token.text == "await" {
                source.async_lines.push(token.line);
            }
            let continues = at > 0 && (tokens[at - 1].text == "::" || tokens[at - 1].text == ".");
            if is_word(&token.text) && next_is(&tokens, at, "::") && !continues {
                let mut end = at;
                tree(&tokens, &mut end, &[], &mut source.paths);
                // A group was read whole; a plain path ends where it ends.
                at = end.max(at + 1);
            } else {
                at += 1;
            }
        }
        source
    }

    /// Drops each item that follows `#[cfg(test)]`, and remembers the names of those that are files.
    fn without_tests(&mut self, tokens: &[Token]) -> Vec<Token> {
        const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        let mut kept = Vec::with_capacity(tokens.len());
        let mut at = 0;
        while at < tokens.len() {
            let here = ATTRIBUTE
                .iter()
                .enumerate()
                .all(|(offset, want)| tokens.get(at + offset).is_some_and(|t| t.text == *want));
            if !here {
                kept.push(tokens[at].clone());
                at += 1;
                continue;
            }
            at += ATTRIBUTE.len();
            let item = at;
            let mut depth = 0_usize;
            while at < tokens.len() {
                match tokens[at].text.as_str() {
                    "{" | "[" | "(" => depth += 1,
                    "}" | "]" | ")" => depth = depth.saturating_sub(1),
                    _ => {}
                }
                let ends = match tokens[at].text.as_str() {
                    ";" | "}" => depth == 0,
                    _ => false,
                };
                at += 1;
                if ends {
                    break;
                }
            }
            let item = &tokens[item..at];
            if let Some(position) = item.iter().position(|t| t.text == "mod")
                && let [name, end, ..] = &item[position + 1..]
                && end.text == ";"
            {
                self.test_modules.push(name.text.clone());
            }
        }
        kept
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn next_is(tokens: &[Token], at: usize, want: &str) -> bool {
    tokens.get(at + 1).is_some_and(|t| t.text == want)
}

/// Reads one path, or one branch of a group, from `at`; leaves `at` behind it.
fn tree(tokens: &[Token], at: &mut usize, before: &[String], into: &mut BTreeSet<Named>) {
    let mut segments = before.to_vec();
    let line = tokens.get(*at).map_or(0, |t| t.line);
    while let Some(token) = tokens.get(*at) {
        if is_word(&token.text) || token.text == "*" {
            if token.text != "self" || segments.is_empty() {
                segments.push(token.text.clone());
            }
            *at += 1;
        } else if token.text == "{" {
            *at += 1;
            while let Some(token) = tokens.get(*at) {
                match token.text.as_str() {
                    "}" => {
                        *at += 1;
                        return;
                    }
                    "," => *at += 1,
                    _ => {
                        let start = *at;
                        tree(tokens, at, &segments, into);
                        if *at == start {
                            *at += 1;
                        }
                    }
                }
            }
            return;
        } else {
            break;
        }
        if tokens.get(*at).is_some_and(|t| t.text == "::") {
            *at += 1;
        } else {
            break;
        }
    }
    // `name as other`: the other name says nothing about where it comes from.
    if !before.is_empty() && tokens.get(*at).is_some_and(|t| t.text == "as") {
        *at = (*at + 2).min(tokens.len());
    }
    if segments.len() > 1 {
        into.insert(Named { line, segments });
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = if first.is_whitespace() {
                rest = &rest[first.len_utf8()..];
                continue;
            } else if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, tail) = rest.split_at(length);
            tokens.push(Token {
                line: number + 1,
                text: text.to_owned(),
            });
            rest = tail;
        }
    }
    tokens
}

/// The text with every comment, string and character literal turned into spaces; lines stay where they are.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => line_end(&chars, at),
            ('/', Some('*')) => block_end(&chars, at),
            ('"', _) => string_end(&chars, at),
            ('r', Some('"' | '#')) if !continues_word(&chars, at) => raw_end(&chars, at),
            ('\'', _) => character_end(&chars, at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(
                chars[at..end]
                    .iter()
                    .map(|c| if *c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    out
}

/// `br"…"` is a raw string, `for"` is not.
fn continues_word(chars: &[char], at: usize) -> bool {
    let word = |c: &char| c.is_alphanumeric() || *c == '_';
    match at.checked_sub(1).map(|before| &chars[before]) {
        Some('b') => at > 1 && word(&chars[at - 2]),
        Some(c) => word(c),
        None => false,
    }
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..]
        .iter()
        .position(|c| *c == '\n')
        .map_or(chars.len(), |length| at + length)
}

fn block_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut at = at + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of `r#"…"#`, or `at` itself where this is a raw identifier.
fn raw_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let mut end = at + 1 + hashes;
    if chars.get(end) != Some(&'"') {
        return at;
    }
    end += 1;
    while end < chars.len() {
        if chars[end] == '"'
            && chars[end + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes
        {
            return end + 1 + hashes;
        }
        end += 1;
    }
    chars.len()
}

/// The end of `'x'` or `'\n'`, or `at` itself where this is a lifetime.
fn character_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => chars[at + 3..]
            .iter()
            .position(|c| *c == '\'')
            .map_or(at, |length| at + 3 + length + 1),
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        Source::read(text)
            .paths
            .iter()
            .map(|path| format!("{}:{}", path.line, path.text()))
            .collect()
    }

    #[test]
    fn groups_are_taken_apart_and_keep_their_lines() {
        let text = "use crate::{\n    model::{self, App},\n    act as doing,\n};\nuse std::fs;";
        assert_eq!(
            named(text),
            [
                "2:crate::model",
                "2:crate::model::App",
                "3:crate::act",
                "5:std::fs"
            ]
        );
    }

    #[test]
    fn paths_inside_expressions_count() {
        assert_eq!(
            named("fn f() { let _ = crate::protect::vault::open::<u8>(std::env::var(\"x\")); }"),
            ["1:crate::protect::vault::open", "1:std::env::var"]
        );
    }

    #[test]
    fn comments_strings_and_characters_do_not_count() {
        let text = r##"
            // use crate::act;
            /* crate::act /* std::fs */ std::net */
            /// crate::act::go
            const A: &str = "crate::act \" std::fs";
            const B: &str = r#"crate::act " std::fs"#;
            const C: (char, char) = ('"', '\'');
            fn f<'a>(x: &'a str) -> &'a str { model::name(x) }
        "##;
        assert_eq!(named(text), ["8:model::name"]);
    }

    #[test]
    fn what_is_only_for_tests_does_not_count_and_its_files_are_named() {
        let text = "
            #[cfg(test)]
            mod tests { use crate::act; fn f() { std::fs::read(\"x\"); } }
            #[cfg(test)]
            mod laws;
            #[cfg(test)]
            use crate::record::Fake;
            use crate::model;
        ";
        let source = Source::read(text);
        assert_eq!(source.test_modules, ["laws"]);
        assert_eq!(named(text), ["8:crate::model"]);
    }

    #[test]
    fn async_is_found_by_line() {
        assert_eq!(
            Source::read("fn a() {}\nasync fn b() {\n  c().await\n}").async_lines,
            [2, 3]
        );
    }
}
