//! The symptom must have been seen again just now.

use std::time::Duration;

use super::{GuardInput, deny};
use crate::model::heal::Origin;
use crate::model::incident::IncidentKind;
use crate::model::reason::{Denial, GuardName};

/// A look older than this is not "just now".
pub const FRESH: Duration = Duration::from_mins(1);

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let refuse = |why: String| Err(deny(GuardName::Freshness, why, &[], None));
    let Some((round, at)) = input.look else {
        return refuse("The checks were not run again just before the start.".to_owned());
    };
    if input.now.is_past(at, FRESH) {
        return refuse("The last look is too old to act on.".to_owned());
    }
    // A person who asks where there is no symptom needs fresh results, not bad ones.
    if matches!(input.origin, Origin::Requested(_) | Origin::Approved(_))
        && input.incident.kind == IncidentKind::Request
    {
        return Ok(());
    }
    let bad = input
        .checks
        .iter()
        .find(|check| round.status(check).is_bad());
    match bad {
        Some(_) => Ok(()),
        None => refuse(format!(
            "The symptom of \"{}\" was not seen again.",
            input.action.name
        )),
    }
}
