//! Which checks a round asks.

use std::time::Duration;

use super::desk::Desk;
use crate::catalogue::Check;
use crate::model::name::CheckName;
use crate::observe;
use crate::model::check::Round;

/// A choice of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which<'a> {
    /// Those without a period of their own, and those whose period is over.
    Due,
    /// Those without a period of their own: cheap enough for every look.
    Cheap,
    /// The cheap ones, and those that must prove a cure.
    Proving(&'a [CheckName]),
    All,
}

/// Makes a round of these checks, and notes when the expensive ones were asked.
///
/// # Errors
/// A sentence, when the host cannot be seen.
pub(super) async fn round(desk: &mut Desk, which: Which<'_>) -> Result<Round, String> {
    let now = desk.now();
    let disabled = desk.app.policy.disabled_checks.clone();
    let asked = desk.asked.clone();
    let wanted = |check: &Check| {
        let enabled = !disabled.contains(&check.name);
        enabled
            && match (which, check.every) {
                (Which::All, _) | (_, None) => true,
                (Which::Cheap, Some(_)) => false,
                (Which::Proving(proves), Some(_)) => proves.contains(&check.name),
                (Which::Due, Some(every)) => asked.get(&check.name).is_none_or(|at| now.is_past(at, every)),
            }
    };
    let timeout: Duration = desk.app.policy.timing.round_timeout;
    let round = observe::round(&desk.world, &desk.app, &desk.stack, &wanted, timeout).await;
    let round = round.map_err(|error| error.to_string())?;
    for check in desk.stack.checks.iter().filter(|check| check.every.is_some() && wanted(check)) {
        desk.asked.insert(check.name.clone(), now.clone());
    }
    Ok(round)
}
