//! What a command answers: text for both streams and an exit code, printed in one place.
//!
//! An answer for programs is one JSON object with the number of its schema: an object of the control API with its own
//! fields beside it, a list in `items`, an error in `error`. Foreign text was escaped by whoever made a table of it;
//! here only colour is added, and only where a terminal is looked at.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

/// Exit codes of `healerctl`.
pub mod code {
    /// All is fine.
    pub const FINE: u8 = 0;
    /// It failed.
    pub const FAILED: u8 = 1;
    /// The command line, or a word in it, is wrong.
    pub const USAGE: u8 = 2;
    /// Something unhealthy was found.
    pub const UNHEALTHY: u8 = 3;
    /// A guard refused, or an approval is needed.
    pub const REFUSED: u8 = 4;
    /// No daemon answers.
    pub const UNREACHABLE: u8 = 5;
    /// The caller's role does not allow it.
    pub const PERMISSION: u8 = 6;
}

/// Number of the schema of answers for programs; it grows when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// The whole answer of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    pub code: u8,
    /// Data.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
    /// Is the data for people, so that its words may be coloured?
    pub for_people: bool,
}

/// An error as people and programs read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CliError {
    /// Stable word.
    pub code: Cow<'static, str>,
    pub message: String,
    /// What stands behind it, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The approval that was created or is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Box<Value>>,
    /// Exit code.
    #[serde(skip)]
    pub exit: u8,
}

impl CliError {
    /// An error without causes and hint.
    pub fn new(exit: u8, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            approval: None,
            exit,
        }
    }

    /// A word of the command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(code::USAGE, "usage", message)
    }

    /// With what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With everything that `error` and its sources say.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            if text != self.message && self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }
}

#[derive(Serialize)]
struct Wrapped<'a> {
    schema: u32,
    error: &'a CliError,
}

impl Output {
    /// Data alone.
    pub const fn fine(stdout: String) -> Self {
        Self {
            code: code::FINE,
            stdout,
            stderr: String::new(),
            for_people: false,
        }
    }

    /// Data for people.
    pub const fn people(stdout: String) -> Self {
        Self {
            code: code::FINE,
            stdout,
            stderr: String::new(),
            for_people: true,
        }
    }

    /// The same data for programs or for people.
    pub fn of(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> Self {
        if json {
            Self::fine(versioned(value))
        } else {
            Self::people(text())
        }
    }

    /// With another exit code.
    #[must_use]
    pub const fn exit(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// An error: always as text on the error stream; with `json` also as an object where the data would have been, so
    /// that a program that reads one stream gets an object either way.
    pub fn error(error: &CliError, json: bool) -> Self {
        let mut stderr = format!("error: {}\n", ended(&error.message));
        for cause in &error.causes {
            writeln!(stderr, "  cause: {}", ended(cause)).ok();
        }
        if let Some(hint) = &error.hint {
            for line in hint.lines() {
                writeln!(stderr, "  hint: {}", ended(line)).ok();
            }
        }
        Self {
            code: error.exit,
            stdout: if json {
                json_text(&Wrapped {
                    schema: SCHEMA,
                    error,
                })
            } else {
                String::new()
            },
            stderr,
            for_people: false,
        }
    }

    /// Writes both streams. A reader that went away is no error of ours.
    pub fn print(&self) -> u8 {
        let out = std::io::stdout();
        let coloured = self.for_people && has_colour(&out);
        let text = if coloured {
            Cow::Owned(paint(&self.stdout))
        } else {
            Cow::Borrowed(self.stdout.as_str())
        };
        let mut out = out.lock();
        let wrote = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        let told = std::io::stderr().write_all(self.stderr.as_bytes());
        if is_lost(&wrote) || is_lost(&told) {
            code::FAILED
        } else {
            self.code
        }
    }
}

/// Writes a line of a stream that has no end at once. False: nobody reads any more.
pub fn print_line(line: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}

/// Writes a question or a note for whoever sits at the terminal, without ending the line.
pub fn tell(text: &str) {
    let mut out = std::io::stderr().lock();
    // Who cannot be told cannot answer either, and no answer is a refusal.
    write!(out, "{text}").and_then(|()| out.flush()).ok();
}

/// Tells an error with its causes, for a program that has nothing else to say.
pub fn fail(error: &dyn std::error::Error, hint: &str) -> std::process::ExitCode {
    let mut told = CliError::new(code::FAILED, "failed", error.to_string());
    if let Some(cause) = error.source() {
        told = told.caused_by(cause);
    }
    if !hint.is_empty() {
        told = told.hint(hint);
    }
    Output::error(&told, false).print().into()
}

fn is_lost(result: &std::io::Result<()>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe)
}

fn has_colour(out: &std::io::Stdout) -> bool {
    match anstream::AutoStream::choice(out) {
        anstream::ColorChoice::Always | anstream::ColorChoice::AlwaysAnsi => true,
        anstream::ColorChoice::Auto | anstream::ColorChoice::Never => false,
    }
}

/// A message without the full stop that sentences of the daemon end in.
fn ended(text: &str) -> &str {
    text.strip_suffix('.').unwrap_or(text)
}

/// Colours the words of the closed sets, wherever they stand alone.
fn paint(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 256);
    for piece in
        text.split_inclusive(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
    {
        let word = piece
            .trim_end_matches(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        let colour = match word {
            "FAIL" | "ERROR" | "DOWN" | "CRITICAL" | "OPEN" => Some(anstyle::AnsiColor::Red),
            "WARN" | "DEGRADED" | "UNKNOWN" | "HALF_OPEN" | "HIGH" | "HELD" => {
                Some(anstyle::AnsiColor::Yellow)
            }
            "PASS" | "HEALTHY" | "CLOSED" => Some(anstyle::AnsiColor::Green),
            _ => None,
        };
        if let Some(colour) = colour {
            let style = anstyle::Style::new().fg_color(Some(colour.into()));
            write!(out, "{style}{word}{style:#}").ok();
            out.push_str(&piece[word.len()..]);
        } else {
            out.push_str(piece);
        }
    }
    out
}

/// A value with the number of its schema: an object's fields stand beside it, everything else in `items`.
pub fn versioned(value: &impl Serialize) -> String {
    let mut object = Map::from_iter([("schema".to_owned(), Value::from(SCHEMA))]);
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => object.extend(fields),
        Ok(
            other @ (Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)),
        ) => {
            object.insert("items".to_owned(), other);
        }
        Err(error) => {
            object.insert("error".to_owned(), error.to_string().into());
        }
    }
    json_text(&object)
}

/// A value as JSON for programs and people, with a final newline. Control characters that JSON itself lets pass are
/// escaped, for a terminal obeys them.
pub fn json_text(value: &impl Serialize) -> String {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            let mut out = String::with_capacity(text.len() + 1);
            for letter in text.chars() {
                // A line feed stands only between values here; inside a text it is escaped already.
                if letter.is_control() && letter != '\n' {
                    write!(out, "\\u{:04x}", u32::from(letter)).ok();
                } else {
                    out.push(letter);
                }
            }
            out.push('\n');
            out
        }
        Err(error) => {
            format!("{{\"error\":{{\"code\":\"internal\",\"message\":\"{error}\"}}}}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_text_and_with_json_also_an_object() {
        let error = CliError::new(code::REFUSED, "breaker_open", "Circuit breaker is open.")
            .caused_by(&std::io::Error::other("three failures"))
            .hint("look: `healerctl breaker shop`");
        let output = Output::error(&error, true);
        assert_eq!(output.code, 4);
        assert_eq!(
            output.stderr,
            "error: Circuit breaker is open\n  cause: three failures\n  hint: look: `healerctl breaker shop`\n"
        );
        let value: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["error"]["code"], "breaker_open");
        assert_eq!(Output::error(&error, false).stdout, "");
    }

    #[test]
    fn objects_keep_their_fields_and_lists_stand_in_items() {
        let object: Value = serde_json::from_str(&versioned(&serde_json::json!({"a": 1}))).unwrap();
        assert_eq!(object, serde_json::json!({"schema": 1, "a": 1}));
        let list: Value = serde_json::from_str(&versioned(&[1, 2])).unwrap();
        assert_eq!(list, serde_json::json!({"schema": 1, "items": [1, 2]}));
    }

    #[test]
    fn no_control_character_reaches_a_terminal_through_json() {
        let text = json_text(&"\u{1b}[31m\u{9b}0m\u{7f}\n");
        assert!(text.trim_end().chars().all(|letter| !letter.is_control()));
        let back: String = serde_json::from_str(&text).unwrap();
        assert_eq!(back, "\u{1b}[31m\u{9b}0m\u{7f}\n");
    }

    #[test]
    fn only_whole_words_are_coloured() {
        assert_eq!(paint("FAILED not_FAIL\n"), "FAILED not_FAIL\n");
        assert_eq!(paint("FAIL x\n"), "\u{1b}[31mFAIL\u{1b}[0m x\n");
    }
}
