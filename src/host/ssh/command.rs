//! The few command lines that a login shell on a host is given, and the quoting of what they name.
//!
//! Pure. No shell ever sees data: commands are constants, and the only variable part is the path of a program that we
//! put there ourselves or that the operator wrote down. sh, bash, dash, zsh, csh and fish read these lines alike.

use std::path::Path;

use crate::model::host::{Become, ROOT_STATE};

/// Printed before the facts, so that whatever start-up files print before it is skipped.
pub(super) const MARKER: &str = "healerd-facts";

/// Asks for the kernel's and the machine's name.
pub(super) const FACTS: &str = "echo healerd-facts; uname -s; uname -m";

/// A word that every shell takes as it is.
///
/// # Errors
/// When shells differ about one of its characters.
pub(super) fn quote(word: &str) -> Result<String, String> {
    if let Some(bad) = word
        .chars()
        .find(|c| c.is_control() || matches!(c, '\\' | '!'))
    {
        return Err(format!(
            "{word:?} holds {bad:?}, which login shells read differently"
        ));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Ok(word.to_owned());
    }
    Ok(format!("'{}'", word.replace('\'', r"'\''")))
}

/// Starts the pushed agent of an application's user.
///
/// # Errors
/// When a path cannot be quoted.
pub(super) fn app_agent(program: &str, state: &str) -> Result<String, String> {
    Ok(format!(
        "exec {} --identity app --state {}",
        quote(program)?,
        quote(state)?
    ))
}

/// Starts the root agent; the same words belong into sudoers.
///
/// # Errors
/// When the program's path is not text or cannot be quoted.
pub(super) fn root_agent(r#become: &Become) -> Result<String, String> {
    let program = program(&r#become.program)?;
    Ok(format!(
        "exec sudo -n {program} --identity root --state {ROOT_STATE}"
    ))
}

fn program(path: &Path) -> Result<String, String> {
    let text = path
        .to_str()
        .ok_or_else(|| format!("{} is not text", path.display()))?;
    quote(text)
}

/// Kernel and machine out of what [`FACTS`] printed; `None` when the marker or what follows it is missing.
pub(super) fn facts(output: &str) -> Option<(String, String)> {
    let mut lines = output.lines().map(str::trim);
    lines.find(|line| line.ends_with(MARKER))?;
    let mut word = || {
        lines.next().filter(|word| {
            !word.is_empty()
                && word.len() <= 32
                && word
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        })
    };
    Some((word()?.to_owned(), word()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_is_one_word_to_every_shell() {
        for (word, want) in [
            ("/home/shop/a-b_c.d", "/home/shop/a-b_c.d"),
            ("", "''"),
            ("/home/my shop", "'/home/my shop'"),
            ("/home/o'brien", r"'/home/o'\''brien'"),
            ("$(reboot)`id`;&|<>*?~#", "'$(reboot)`id`;&|<>*?~#'"),
            ("/home/müller", "'/home/müller'"),
        ] {
            assert_eq!(quote(word).unwrap(), want);
        }
        for word in ["a\nb", "a\0b", "a\\b", "wow!", "\u{1b}"] {
            assert!(quote(word).is_err(), "{word:?}");
        }
    }

    #[test]
    fn commands_are_constant_but_for_their_paths() {
        assert_eq!(
            app_agent("/home/a b/healer-agent", "/home/a b/s").unwrap(),
            "exec '/home/a b/healer-agent' --identity app --state '/home/a b/s'"
        );
        let become_root = Become {
            program: "/usr/sbin/healer-agent".into(),
        };
        assert_eq!(
            root_agent(&become_root).unwrap(),
            "exec sudo -n /usr/sbin/healer-agent --identity root --state /var/lib/healerd-agent"
        );
    }

    #[test]
    fn chatter_before_the_facts_is_skipped() {
        let want = Some(("Linux".to_owned(), "x86_64".to_owned()));
        for output in [
            "healerd-facts\nLinux\nx86_64\n",
            "Welcome!\nhealerd\nhealerd-facts\r\nLinux\r\nx86_64\r\nBye\n",
            "no newlinehealerd-facts\nLinux\nx86_64",
        ] {
            assert_eq!(facts(output), want, "{output:?}");
        }
        for output in [
            "",
            "healerd-facts",
            "healerd-facts\nLinux",
            "Linux\nx86_64",
            "healerd-facts\nsh: uname: not found\nx",
        ] {
            assert_eq!(facts(output), None, "{output:?}");
        }
    }
}
