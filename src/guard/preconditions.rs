//! The action's own `requires`.

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let why = match input.preconditions {
        Some(true) => return Ok(()),
        Some(false) => "do not hold",
        None => "cannot be decided",
    };
    Err(deny(
        GuardName::Preconditions,
        format!("The preconditions of \"{}\" {why}.", input.action.name),
        &[],
        None,
    ))
}
