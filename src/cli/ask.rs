//! Asks whoever sits at the terminal. Where nobody does, nothing is asked and nothing is assumed.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use super::args::Reason;
use super::output::{CliError, code, tell};

/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Is there somebody to ask?
pub(super) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// The reason that was given, or is asked for now.
///
/// # Errors
/// When there is none, and nobody to ask.
pub(super) fn reason(why: &Reason) -> Result<String, CliError> {
    let given = match &why.reason {
        Some(reason) => reason.clone(),
        None if is_interactive() => line("reason: "),
        None => String::new(),
    };
    let given = given.trim();
    if given.is_empty() {
        return Err(CliError::usage("a reason is needed, and none was given")
            .hint("add --reason \"why you do it\"; it is kept in the audit log"));
    }
    Ok(given.to_owned())
}

/// Shows `preview` and asks `question`; only `yes` is a yes.
///
/// # Errors
/// When the answer is no, or there is nobody to ask; `unattended` says what to give on the command line instead.
pub(super) fn confirm(preview: &str, question: &str, unattended: &str) -> Result<(), CliError> {
    tell(preview);
    if !is_interactive() {
        return Err(
            CliError::usage("this must be confirmed, and there is no terminal to ask at")
                .hint(unattended.to_owned()),
        );
    }
    let answer = line(&format!("{question} [yes/no] "));
    if matches!(answer.trim(), "yes" | "y" | "YES" | "Yes") {
        Ok(())
    } else {
        Err(CliError::new(
            code::FAILED,
            "not_confirmed",
            "not confirmed; nothing was done",
        ))
    }
}

fn line(question: &str) -> String {
    tell(question);
    let mut text = String::new();
    let read = std::io::stdin()
        .lock()
        .take(ANSWER_BYTES_MAX)
        .read_line(&mut text);
    // An answer that cannot be read is none.
    if read.is_err() { String::new() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_reason_is_none() {
        let error = reason(&Reason {
            reason: Some("  ".to_owned()),
        })
        .unwrap_err();
        assert_eq!(error.exit, code::USAGE);
        assert_eq!(
            reason(&Reason {
                reason: Some(" deploy ".to_owned())
            })
            .unwrap(),
            "deploy"
        );
    }
}
