//! A durable stop that somebody set.

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let held = input
        .rows
        .holds
        .iter()
        .find(|hold| hold.scope.covers(&input.app.name, &input.app.host));
    match held {
        None => Ok(()),
        Some(hold) => Err(deny(
            GuardName::Hold,
            format!(
                "Held by {} ({}): {}. `healerctl resume {}` lifts it.",
                hold.owner,
                hold.scope.to_text(),
                hold.reason,
                hold.scope.to_text()
            ),
            &[
                ("scope", hold.scope.to_text()),
                ("since", hold.since.to_text()),
            ],
            None,
        )),
    }
}
