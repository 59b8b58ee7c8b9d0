//! Healing mode × risk, and how the action was matched.

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};

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
