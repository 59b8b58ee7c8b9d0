//! A pause after a good heal, per app and per action.

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};
use crate::model::time::duration_text;

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let timing = &input.app.policy.timing;
    let longest = input
        .rows
        .cures
        .iter()
        .map(|(action, at)| {
            let pause = if *action == input.action.name {
                timing.pause_action
            } else {
                timing.pause
            };
            input.now.remaining(at, pause)
        })
        .max()
        .unwrap_or_default();
    if longest.is_zero() {
        return Ok(());
    }
    Err(deny(
        GuardName::Pause,
        format!(
            "A heal of this application just succeeded; the next may start in {}.",
            duration_text(longest)
        ),
        &[],
        Some(input.now.plus(longest)),
    ))
}
