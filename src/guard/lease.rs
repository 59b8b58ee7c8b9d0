//! One heal per app, and one whose processes run per host.

use super::{GuardInput, deny};
use crate::model::reason::{Denial, GuardName};

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let keys = [
        format!("app:{}", input.app.name),
        format!("host:{}", input.app.host),
    ];
    let taken = input
        .rows
        .leases
        .iter()
        .find(|lease| keys.contains(&lease.key) && lease.heal != input.heal);
    match taken {
        None => Ok(()),
        Some(lease) => Err(deny(
            GuardName::Lease,
            format!("Another heal ({}) is working on {}.", lease.heal, lease.key),
            &[
                ("lease", lease.key.clone()),
                ("since", lease.since.to_text()),
            ],
            None,
        )),
    }
}
