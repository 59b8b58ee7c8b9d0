//! What is promised, and whether it held: one line each, as it is found out.

use crate::cli::output::print_line;
use crate::telemetry::redact::escape;

/// Counts what held and what did not.
#[derive(Debug, Default)]
pub(super) struct Promises {
    held: usize,
    broken: Vec<String>,
}

impl Promises {
    /// Tells whether a promise held.
    pub(super) fn claim(&mut self, claim: &str, holds: bool) {
        self.claim_with(claim, if holds { Ok(()) } else { Err(String::new()) });
    }

    /// The same with what was found instead.
    pub(super) fn claim_with(&mut self, claim: &str, found: Result<(), String>) {
        match found {
            Ok(()) => {
                self.held += 1;
                say(&format!("    ✓ {claim}"));
            }
            Err(found) => {
                self.broken.push(claim.to_owned());
                let found = if found.is_empty() {
                    String::new()
                } else {
                    format!(" — {}", escape(&found))
                };
                say(&format!("    ✗ {claim}{found}"));
            }
        }
    }

    /// Did every one hold, and was there any?
    pub(super) fn all_held(&self) -> bool {
        self.broken.is_empty() && self.held > 0
    }

    /// One sentence about all of them.
    pub(super) fn summary(&self) -> String {
        if self.all_held() {
            format!("All {} promises held.", self.held)
        } else {
            format!(
                "{} of {} promises were broken: {}.",
                self.broken.len(),
                self.held + self.broken.len(),
                self.broken.join("; ")
            )
        }
    }
}

/// One line of the story.
pub(super) fn say(line: &str) {
    // Who stopped reading does not stop the clean-up.
    let _is_read = print_line(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_promise_is_enough() {
        let mut promises = Promises::default();
        assert!(!promises.all_held());
        promises.claim("a", true);
        assert!(promises.all_held());
        promises.claim_with("b", Err("c".to_owned()));
        assert!(!promises.all_held());
        assert_eq!(promises.summary(), "1 of 2 promises were broken: b.");
    }
}
