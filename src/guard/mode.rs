//! Healing mode × risk, and how the action was matched.

use super::{GuardInput, deny};
use crate::model::name::AppName;
use crate::model::reason::{Denial, GuardName};
use crate::model::stop::ModeOverride;
use crate::model::word::HealingMode;

/// A configured mode and its upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    pub mode: HealingMode,
    pub max_mode: HealingMode,
    /// Was `mode` written for this very app, as opposed to taken over from everything's? Without meaning for
    /// everything's own modes.
    pub is_own: bool,
}

/// The mode that counts for an app, and the one set at run time that it comes from.
///
/// What is said of the app counts before what is said of everything, and in each what was set at run time before what
/// is configured. One set at run time yields once the value that it was set against has changed in the configuration;
/// none goes above `max_mode`.
pub fn effective<'a>(
    app: &AppName,
    own: Modes,
    global: Modes,
    set: &'a [ModeOverride],
) -> (HealingMode, Option<&'a ModeOverride>) {
    let ceiling = own.max_mode.min(global.max_mode);
    let for_app = set
        .iter()
        .find(|set| set.app.as_ref() == Some(app) && set.configured == own.mode);
    let for_all = || {
        set.iter()
            .find(|set| set.app.is_none() && set.configured == global.mode)
    };
    let origin = match for_app {
        None if !own.is_own => for_all(),
        found => found,
    };
    (origin.map_or(own.mode, |set| set.mode).min(ceiling), origin)
}

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let facts = [
        ("mode", input.mode.to_string()),
        ("risk", input.action.risk.to_string()),
        ("match", input.matched.to_string()),
    ];
    if !input.mode.allows(input.action.risk) {
        let message = format!(
            "Healing action \"{}\" requires manual approval. Risk level: {}, Healing mode: {}.",
            input.action.name, input.action.risk, input.mode
        );
        return Err(deny(GuardName::Mode, message, &facts, None));
    }
    if !input.app.policy.unattended_matches.contains(&input.matched) {
        let message = format!(
            "\"{}\" was matched by {} only; such a match is a proposal for a person.",
            input.action.name, input.matched
        );
        return Err(deny(GuardName::Mode, message, &facts, None));
    }
    if input.app.policy.always_ask.contains(&input.action.name) {
        let message = format!(
            "The configuration says that \"{}\" always asks.",
            input.action.name
        );
        return Err(deny(GuardName::Mode, message, &facts, None));
    }
    Ok(())
}
