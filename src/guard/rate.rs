//! Most unattended actions per app, host and daemon in a day.

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    if input.trial {
        return Ok(());
    }
    let rate = &input.app.policy.rate;
    let recent: Vec<_> = input
        .rows
        .starts
        .iter()
        .filter(|start| {
            start.unattended
                && start.heal != input.heal
                && !input.now.is_past(&start.at, rate.window)
        })
        .collect();
    let of_app = recent
        .iter()
        .filter(|start| start.app == input.app.name)
        .count();
    let of_host = recent
        .iter()
        .filter(|start| start.host == input.app.host)
        .count();
    for (what, count, limit) in [
        ("application", of_app, rate.per_app),
        ("host", of_host, rate.per_host),
        ("daemon", recent.len(), rate.per_daemon),
    ] {
        if count >= limit as usize {
            let again = recent
                .iter()
                .map(|start| input.now.remaining(&start.at, rate.window))
                .min();
            return Err(deny(
                GuardName::Rate,
                format!(
                    "This {what} has had {count} unattended actions lately; at most {limit} are allowed."
                ),
                &[("count", count.to_string()), ("limit", limit.to_string())],
                again.map(|wait| input.now.plus(wait)),
            ));
        }
    }
    Ok(())
}
