//! Which checks a round asks.

use std::collections::BTreeSet;

use super::desk::Desk;
use super::{gate, known_good};
use crate::catalogue::Check;
use crate::decide::incident::{IN_DOUBT, NOT_OURS};
use crate::model::approval::{Approval, ApprovalState};
use crate::model::check::Round;
use crate::model::heal::{Heal, Origin};
use crate::model::incident::IncidentState;
use crate::model::name::{CheckName, HostName};
use crate::model::word::HealingMode;
use crate::observe::{self, Asked, Known, ObserveError, Starting};
use crate::seam::HostError;
use crate::telemetry::metrics::Success;
use crate::telemetry::redact;
use std::time::Duration;

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

/// Why there is no round.
#[derive(Debug, Clone)]
pub(super) struct Unseen {
    pub(super) reason: String,
    /// What no waiting makes clearer, in the words that an incident begins with.
    pub(super) at_once: Option<&'static str>,
}

impl From<HostError> for Unseen {
    fn from(error: HostError) -> Self {
        Self {
            at_once: match &error {
                HostError::Untrusted { .. } => Some(IN_DOUBT),
                HostError::NotOurs { .. } => Some(NOT_OURS),
                HostError::Unreachable { .. }
                | HostError::Unknown { .. }
                | HostError::Refused { .. }
                | HostError::Protocol { .. } => None,
            },
            reason: error.to_string(),
        }
    }
}

impl From<ObserveError> for Unseen {
    fn from(error: ObserveError) -> Self {
        match error {
            ObserveError::Host(error) => error.into(),
            error @ ObserveError::NoHost(_) => Self {
                reason: error.to_string(),
                at_once: None,
            },
        }
    }
}

/// May a look by the clock start the application? What it does when it is started may write; so only where an action
/// could follow: not under a hold, in MANUAL only for what a person has approved. What a person asked for, he asked for;
/// what he only approved stands still under a hold.
fn starting(desk: &Desk) -> Starting {
    let granted = |approval: &Approval| approval.state == ApprovalState::Granted;
    let held = desk
        .shared
        .held(&desk.app.name, &desk.app.host, &desk.now())
        .is_some();
    let asked_for = |heal: &Heal| {
        let counts = match heal.origin {
            Origin::Requested(_) | Origin::Rollback { .. } => true,
            Origin::Approved(_) => !held,
            Origin::Unattended => false,
        };
        counts && !heal.state.is_end()
    };
    let stopped = held || desk.shared.observing().is_some();
    let mode = desk.mode().min(desk.app.policy.max_mode);
    let could_follow = mode != HealingMode::Manual || desk.approvals.iter().any(granted);
    if desk.heals.iter().any(asked_for) || (could_follow && !stopped) {
        Starting::Allowed
    } else {
        Starting::Spared
    }
}

/// Would the application be started on another machine than the one that was adopted, or on one that nobody knows? Such a
/// one is only looked at.
async fn starts_elsewhere(desk: &Desk, asked: &BTreeSet<CheckName>) -> bool {
    let starts = |check: &Check| !check.starts_app.is_empty() && asked.contains(&check.name);
    if !desk.stack.checks.iter().any(starts) {
        return false;
    }
    let host = &desk.app.host;
    if *host != HostName::local() && !desk.shared.is_adopted(host) {
        // The machine that is there at the first look is the one that is adopted.
        desk.shared
            .host_facts(&desk.world, host, desk.login())
            .await;
    }
    gate::elsewhere(desk, None, true).await.is_some()
}

/// Makes a round of these checks, and notes when the expensive ones were asked.
///
/// # Errors
/// Why the host cannot be seen.
pub(super) async fn round(
    desk: &mut Desk,
    which: Which<'_>,
) -> Result<(Round, BTreeSet<CheckName>), Unseen> {
    let starting = starting(desk);
    make(desk, which, starting).await
}

/// As [`round`], when a person asks.
///
/// # Errors
/// As [`round`].
pub(super) async fn for_person(
    desk: &mut Desk,
    which: Which<'_>,
) -> Result<(Round, BTreeSet<CheckName>), Unseen> {
    make(desk, which, Starting::Allowed).await
}

async fn make(
    desk: &mut Desk,
    which: Which<'_>,
    starting: Starting,
) -> Result<(Round, BTreeSet<CheckName>), Unseen> {
    let now = desk.now();
    let periods = desk.check_every.clone();
    let disabled = desk.app.policy.disabled_checks.clone();
    let asked_at = desk.asked_at.clone();
    // What is bad is looked at again with every round, until it is decided.
    let open: BTreeSet<CheckName> = desk
        .incidents
        .iter()
        .filter(|incident| matches!(incident.state, IncidentState::Open | IncidentState::Healing))
        .filter_map(|incident| incident.check.clone())
        .collect();
    let wanted = |check: &Check| {
        let enabled = !disabled.contains(&check.name);
        enabled
            && match (which, periods.get(&check.name).copied().or(check.every)) {
                (Which::All, _) | (_, None) => true,
                (Which::Cheap, Some(_)) => false,
                (Which::Proving(proves), Some(_)) => proves.contains(&check.name),
                (Which::Due, Some(_)) if open.contains(&check.name) => true,
                (Which::Due, Some(every)) => asked_at
                    .get(&check.name)
                    .is_none_or(|at| now.is_past(at, every)),
            }
    };
    let timeout = desk.app.policy.timing.round_timeout;
    let asked: BTreeSet<CheckName> = desk
        .stack
        .checks
        .iter()
        .filter(|check| wanted(check))
        .map(|check| check.name.clone())
        .collect();
    let is_elsewhere =
        starting == Starting::Allowed && Box::pin(starts_elsewhere(desk, &asked)).await;
    let starting = if is_elsewhere {
        Starting::Spared
    } else {
        starting
    };
    let choice = |check: &Check| asked.contains(&check.name);
    known_good::settings(desk).await;
    let none = Known::default();
    let asked_with = Asked {
        starting,
        known: desk.known.as_ref().map_or(&none, |(_, known)| known),
        timeout,
    };
    let round = observe::round(&desk.world, &desk.app, &desk.stack, &choice, &asked_with).await;
    let took = Duration::from_millis(u64::try_from(desk.now().boot_ms - now.boot_ms).unwrap_or(0));
    desk.metrics.round_ended(
        if round.is_ok() {
            Success::Ok
        } else {
            Success::Failed
        },
        took,
    );
    let mut round = round?;
    for result in &mut round.results {
        // It may hold lines of a log: it is stored, audited and sent as a notice.
        result.message = redact::hide(&result.message);
    }
    for check in desk.stack.checks.iter().filter(|check| choice(check)) {
        desk.asked_at.insert(check.name.clone(), now.clone());
    }
    Ok((round, asked))
}
