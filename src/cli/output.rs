//! What a command answers: text for both streams and an exit code, printed in one place.

use std::io::Write as _;

use serde::Serialize;

/// Exit codes of `healerctl` that are shared by its commands.
pub mod code {
    /// All is fine.
    pub const FINE: u8 = 0;
    /// It failed.
    pub const FAILED: u8 = 1;
    /// The command line, or a word in it, is wrong.
    pub const USAGE: u8 = 2;
}

/// The whole answer of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    pub code: u8,
    /// Data.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

/// An error as people and programs read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CliError {
    /// Stable word.
    pub code: &'static str,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Exit code.
    #[serde(skip)]
    pub exit: u8,
}

#[derive(Serialize)]
struct Wrapped<'a> {
    error: &'a CliError,
}

impl Output {
    /// Data alone.
    pub const fn fine(stdout: String) -> Self {
        Self {
            code: code::FINE,
            stdout,
            stderr: String::new(),
        }
    }

    /// An error: always as text on the error stream; with `json` also as an object where the data would have been, so
    /// that a program that reads one stream gets an object either way.
    pub fn error(error: &CliError, json: bool) -> Self {
        let mut stderr = format!("error: {}\n", error.message);
        if let Some(hint) = &error.hint {
            for line in hint.lines() {
                stderr.push_str("  hint: ");
                stderr.push_str(line);
                stderr.push('\n');
            }
        }
        Self {
            code: error.exit,
            stdout: if json {
                json_text(&Wrapped { error })
            } else {
                String::new()
            },
            stderr,
        }
    }

    /// Writes both streams. A reader that went away is no error of ours.
    pub fn print(&self) -> u8 {
        let wrote = std::io::stdout()
            .write_all(self.stdout.as_bytes())
            .and_then(|()| std::io::stdout().flush());
        let told = std::io::stderr().write_all(self.stderr.as_bytes());
        let is_gone = |result: std::io::Result<()>| {
            result.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe)
        };
        if is_gone(wrote) || is_gone(told) {
            code::FAILED
        } else {
            self.code
        }
    }
}

/// A value as JSON for programs and people, with a final newline.
pub fn json_text(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).map_or_else(
        |error| format!("{{\"error\":{{\"code\":\"internal\",\"message\":\"{error}\"}}}}\n"),
        |text| text + "\n",
    )
}
