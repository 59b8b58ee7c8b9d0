//! Nothing unattended right after the host's start or a deploy.

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};
use crate::model::time::duration_text;

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let grace = input.app.policy.timing.grace;
    if let Some(deployed) = input.deployed {
        let remaining = input.now.remaining(deployed, grace);
        if !remaining.is_zero() {
            return Err(deny(
                GuardName::Grace,
                format!(
                    "The application's paths changed; {} of grace remain.",
                    duration_text(remaining)
                ),
                &[("deployed", deployed.to_text())],
                Some(input.now.plus(remaining)),
            ));
        }
    }
    let Some(host) = &input.host else {
        let message = "It is not known how long the host has been up.".to_owned();
        return Err(deny(GuardName::Grace, message, &[], None));
    };
    let remaining = grace.saturating_sub(host.uptime);
    if remaining.is_zero() {
        return Ok(());
    }
    Err(deny(
        GuardName::Grace,
        format!(
            "The host started {} ago; {} of grace remain.",
            duration_text(host.uptime),
            duration_text(remaining)
        ),
        &[("uptime_ms", host.uptime.as_millis().to_string())],
        Some(input.now.plus(remaining)),
    ))
}
