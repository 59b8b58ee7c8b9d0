//! What sudo on a host has said when it did not start the root agent, in words that say what to do there.
//!
//! Pure. sudo speaks the language of the host, so only what is unmistakable is told apart; all else gets the line that
//! sudoers must hold.

use super::error::LINES;
use crate::model::host::Become;

/// Why root's agent did not start there. `exit` is the status of the command line, `said` what it said, quoted.
pub(super) fn refusal(exit: u32, said: &str, root: &Become, user: &str) -> Option<String> {
    let program = root.program.display();
    if exit == 127 {
        return Some(format!(
            "sudo cannot be run there (\"{said}\"), and root operations go by it"
        ));
    }
    // sudo complains of much, and goes on: what the agent says tells that it was started.
    let mut lines = said.split(LINES);
    let is_agent = lines.clone().any(|line| line.starts_with("error: "));
    let is_sudo = lines.any(|line| line.starts_with("sudo: ") || line.starts_with("Sorry, user "));
    if is_agent || !is_sudo {
        return None;
    }
    if said.contains("command not found") {
        return Some(format!(
            "{program} is not there (\"{said}\"): install the agent of this release there, owned by root"
        ));
    }
    if said.contains("must have a tty") {
        return Some(format!(
            "sudo there wants a terminal (\"{said}\"); add with visudo: Defaults:{user} !requiretty"
        ));
    }
    Some(format!(
        "sudo there does not let `{user}` start the root agent without a password (\"{said}\"); add with visudo: {}",
        root.sudoers_line(user)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_what_to_do_there() {
        let root = Become {
            program: "/usr/local/libexec/healer-agent".into(),
        };
        let line = "add with visudo: shop ALL=(root) NOPASSWD: /usr/local/libexec/healer-agent \
                    --identity root --state /var/lib/healerd-agent";
        for (exit, said, want) in [
            (1, "sudo: a password is required", line),
            (1, "sudo: Ein Passwort ist notwendig", line),
            (
                1,
                "Sorry, user shop is not allowed to execute '/usr/local/libexec/healer-agent' as root on web1.",
                line,
            ),
            (
                1,
                "sudo: sorry, you must have a tty to run sudo",
                "add with visudo: Defaults:shop !requiretty",
            ),
            (
                1,
                "sudo: /usr/local/libexec/healer-agent: command not found",
                "/usr/local/libexec/healer-agent is not there",
            ),
            (
                127,
                "sh: 1: exec: sudo: not found",
                "sudo cannot be run there",
            ),
        ] {
            let told = refusal(exit, said, &root, "shop").unwrap();
            assert!(told.contains(want), "{said}: {told}");
            assert!(told.contains(said), "{told}");
        }
        for said in [
            "",
            "the allow list must be a regular file, says shop",
            "sudo: unable to resolve host web1 / error: cannot use the state directory /var/lib/healerd-agent",
        ] {
            assert_eq!(refusal(1, said, &root, "shop"), None, "{said}");
        }
    }
}
