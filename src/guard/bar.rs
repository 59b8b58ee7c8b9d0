//! Negative memory: what was undone here is not repeated on the same evidence.

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let barred = input.rows.bars.iter().find(|bar| {
        bar.app == input.app.name
            && bar.action == input.action.name
            && bar.version == input.action.version
            && (bar.cause == OUTSIDE || !input.trial && same_evidence(input, &bar.evidence))
    });
    match barred {
        None => Ok(()),
        Some(bar) => Err(deny(
            GuardName::Bar,
            format!(
                "\"{}\" was undone here on {} and nothing relevant has changed.",
                bar.action,
                bar.at.to_text()
            ),
            &[("cause", bar.cause.clone())],
            None,
        )),
    }
}

/// Cause of a bar that holds whatever the evidence, and for a trial too.
pub const OUTSIDE: &str = "outside_write_set";

fn same_evidence(input: &GuardInput<'_>, barred: &str) -> bool {
    let Some((round, _)) = input.look else {
        return true; // not known to be different
    };
    serde_json::to_string(&round.evidence().about(input.checks))
        .map_or(true, |present| present == barred)
}
