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
        Some(stop) => Err(deny(
            GuardName::Hold,
            format!(
                "Held by {} ({}): {}. `healerctl resume {}` lifts it.",
                stop.owner,
                stop.scope.to_text(),
                stop.reason,
                stop.scope.to_text()
            ),
            &[
                ("scope", stop.scope.to_text()),
                ("since", stop.since.to_text()),
            ],
            None,
        )),
    }
}
