//! The machine must be the one that was adopted.

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let Some(host) = &input.host else {
        let message = format!("It is not known which machine {} is.", input.app.host);
        return Err(deny(GuardName::HostIdentity, message, &[], None));
    };
    match &host.adopted_machine_id {
        Some(adopted) if *adopted == host.machine_id && !adopted.is_empty() => Ok(()),
        adopted => Err(deny(
            GuardName::HostIdentity,
            format!(
                "{} is another machine than the one that was adopted; only observing until `healerctl adopt {}`.",
                input.app.host, input.app.host
            ),
            &[
                ("machine_id", host.machine_id.clone()),
                (
                    "adopted",
                    adopted.clone().unwrap_or_else(|| "none".to_owned()),
                ),
            ],
            None,
        )),
    }
}
