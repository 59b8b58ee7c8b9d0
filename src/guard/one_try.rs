//! One try per action and incident; a trial, and a cure that did not last, begin again.

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    if input.trial || !input.incident.tried.contains(&input.action.name) {
        return Ok(());
    }
    Err(deny(
        GuardName::OneTry,
        format!(
            "\"{}\" was tried for this incident already.",
            input.action.name
        ),
        &[("incident", input.incident.id.to_string())],
        None,
    ))
}
