//! Room for the backup and for what the action writes, here and there.

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    if !input.action.writes_files() {
        return Ok(());
    }
    let Some(room) = input.room else {
        return Err(deny(
            GuardName::Room,
            "It is not known how much room there is.".to_owned(),
            &[],
            None,
        ));
    };
    let needed = room
        .estimate
        .saturating_add(input.app.policy.backup.room_bytes);
    for (place, free) in [("vault", room.vault_free), ("target", room.target_free)] {
        if free < needed {
            let message = format!(
                "Not enough room on the {place}: {free} bytes are free, {needed} are needed."
            );
            return Err(deny(
                GuardName::Room,
                message,
                &[("free", free.to_string()), ("needed", needed.to_string())],
                None,
            ));
        }
    }
    Ok(())
}
