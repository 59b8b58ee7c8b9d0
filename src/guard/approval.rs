//! HIGH and CRITICAL need a granted, unexpired, unused approval of entitled persons, for exactly this action.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{GuardInput, deny};
use crate::model::approval::{Approval, ApprovalState, Requester};
use crate::model::heal::Origin;
use crate::model::policy::ApprovalPolicy;
use crate::model::reason::{Denial, GuardName};
use crate::model::time::Moment;
use crate::model::word::Risk;

pub(super) fn admits(input: &GuardInput<'_>) -> Result<(), Denial> {
    let refuse = |why: &str| {
        Err(deny(
            GuardName::Approval,
            format!(
                "\"{}\" ({}) cannot start: {why}.",
                input.action.name, input.action.risk
            ),
            &[("risk", input.action.risk.to_string())],
            None,
        ))
    };
    let id = match input.origin {
        Origin::Unattended | Origin::Requested(_) => {
            return match input.action.risk {
                Risk::Low | Risk::Medium => Ok(()),
                Risk::High | Risk::Critical => refuse("it needs an approval"),
            };
        }
        Origin::Rollback { .. } => return Ok(()),
        Origin::Approved(id) => id,
    };
    let Some(approval) = input
        .rows
        .approvals
        .iter()
        .find(|approval| approval.id == *id)
    else {
        return refuse("its approval is not there");
    };
    match approval.state {
        ApprovalState::Granted => {}
        ApprovalState::Pending => return refuse("its approval is still pending"),
        ApprovalState::Used => return refuse("its approval was used already"),
        ApprovalState::Rejected => return refuse("its approval was rejected"),
        ApprovalState::Expired => return refuse("its approval expired"),
        ApprovalState::Stale => return refuse("what was approved has changed"),
    }
    if approval.bound.digest() != approval.digest || !same_plan(input, approval) {
        return refuse("what was approved has changed");
    }
    if execution_expired(approval, input.now) {
        return refuse("the time to execute its approval is over");
    }
    if !enough_votes(approval, &input.app.policy.approval) {
        return refuse("entitled persons have not granted it");
    }
    Ok(())
}

/// Is what is about to run what was approved?
fn same_plan(input: &GuardInput<'_>, approval: &Approval) -> bool {
    let bound = &approval.bound;
    let evidence_holds = input
        .look
        .is_some_and(|(round, _)| round.evidence().about(&approval.checks) == bound.evidence);
    let host_holds = input
        .host
        .as_ref()
        .is_some_and(|host| host.machine_id == bound.machine_id);
    bound.app == input.app.name
        && bound.host == input.app.host
        && bound.action == *input.action
        && input
            .look
            .is_none_or(|(round, _)| round.roots == bound.roots)
        && (evidence_holds || input.look.is_none())
        && (host_holds || input.host.is_none())
}

/// Is the time to execute over? It stood still for `paused_ms`.
pub fn execution_expired(approval: &Approval, now: &Moment) -> bool {
    let Some(granted) = &approval.granted else {
        return true;
    };
    let limit = Duration::from_millis(
        approval
            .execute_within_ms
            .saturating_add(approval.paused_ms),
    );
    now.is_past(granted, limit)
}

/// Do the votes suffice: HIGH one approver, CRITICAL two different persons, never the requester, unless the
/// configuration says `persons = "one"`.
pub fn enough_votes(approval: &Approval, policy: &ApprovalPolicy) -> bool {
    let requester = match &approval.bound.requester {
        Requester::Daemon => None,
        Requester::Person(person) => Some(person.uid),
    };
    let voters: BTreeSet<_> = approval
        .votes
        .iter()
        .filter(|vote| vote.approve && (policy.one_person || Some(vote.person.uid) != requester))
        .map(|vote| vote.person.uid)
        .collect();
    let needed = match approval.bound.action.risk {
        Risk::Low | Risk::Medium | Risk::High => 1,
        Risk::Critical if policy.one_person => 1,
        Risk::Critical => 2,
    };
    voters.len() >= needed
}
