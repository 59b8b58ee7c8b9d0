//! Votes for and against what waits for approval.

use serde_json::json;

use super::super::admit;
use super::super::desk::Desk;
use super::super::handle::{OpError, OpErrorKind, unknown};
use super::super::proposals;
use super::heal::close_request;
use super::{Done, Stop, by_person, conflict, diagnose};
use crate::guard::approval::enough_votes;
use crate::model::Digest;
use crate::model::approval::{Approval, ApprovalState, Person, Requester, Vote};
use crate::model::id::ApprovalId;
use crate::seam::Write;

fn pending(desk: &Desk, id: ApprovalId) -> Done<Approval> {
    let approval = desk
        .approval(id)
        .ok_or_else(|| unknown("approval", &id.to_string(), "healerctl approvals"))?;
    match approval.state {
        ApprovalState::Pending => Ok(approval.clone()),
        ApprovalState::Granted
        | ApprovalState::Used
        | ApprovalState::Rejected
        | ApprovalState::Expired
        | ApprovalState::Stale => Err(conflict(
            "decided",
            format!("Approval {id} is {} already.", approval.state),
            "`healerctl approvals` shows those that wait.",
        )),
    }
}

/// A vote. The digest must be the one that was shown; the requester's own vote does not count.
pub(super) async fn approve(
    desk: &mut Desk,
    id: ApprovalId,
    digest: Digest,
    reason: String,
    person: Person,
) -> Done<Approval> {
    let approval = pending(desk, id)?;
    let policy = desk.app.policy.approval.clone();
    if digest != approval.digest || approval.bound.digest() != approval.digest {
        refused_vote(desk, &approval, &person, "another digest").await?;
        return Err(conflict(
            "stale",
            "What you saw is not what is proposed now.",
            format!("Look again: `healerctl approve {id}`."),
        ));
    }
    if reason.trim().chars().count() < policy.reason_characters_min as usize {
        return Err(Stop::Refused(OpError::new(
            OpErrorKind::Invalid,
            "reason_too_short",
            format!(
                "A reason of at least {} characters is needed; this one has {}.",
                policy.reason_characters_min,
                reason.trim().chars().count()
            ),
            "Say why, in a few words: `--reason \"…\"`.",
        )));
    }
    let own = matches!(&approval.bound.requester, Requester::Person(requester) if requester.uid == person.uid);
    if own && !policy.one_person {
        refused_vote(desk, &approval, &person, "the requester's own vote").await?;
        return Err(Stop::Refused(OpError::new(
            OpErrorKind::Forbidden,
            "own_request",
            "Who asked for an action cannot approve it.",
            "Another approver must, or `[approval] persons = \"one\"` must say in so many words that one person may.",
        )));
    }
    if approval
        .votes
        .iter()
        .any(|vote| vote.person.uid == person.uid)
    {
        return Err(conflict(
            "voted",
            "You have voted already.",
            "Another approver must vote.",
        ));
    }
    // The world as it is now must still be the one that is approved.
    diagnose(desk).await?;
    // Its time may be over without a turn having told so: right after a start, or while the round was made.
    proposals::expire(desk).await?;
    proposals::stale_now(desk).await?;
    let approval = pending(desk, id)?;
    let now = desk.now();
    let mut voted = approval.clone();
    voted.votes.push(Vote {
        person: person.clone(),
        approve: true,
        reason: reason.clone(),
        at: now.clone(),
    });
    if enough_votes(&voted, &policy) {
        voted.state = ApprovalState::Granted;
        voted.granted = Some(now.clone());
    }
    let state = voted.state;
    let changes = by_person(desk, &person, &now).write(Write::Approval(Box::new(voted))).audit(
        if state == ApprovalState::Granted { "approval_granted" } else { "approval_voted" },
        &format!("approval:{id}"),
        json!({"app": desk.app.name, "action": approval.bound.action.name, "reason": reason, "digest": digest}),
    );
    desk.commit(changes).await?;
    desk.tell(
        "approval",
        format!(
            "{} {state} by {}",
            approval.bound.action.name,
            person.to_text()
        ),
        None,
    );
    admit::granted(desk).await?;
    Ok(desk.approval(id).cloned().unwrap_or(approval))
}

/// A refused attempt is audited too.
async fn refused_vote(
    desk: &mut Desk,
    approval: &Approval,
    person: &Person,
    why: &str,
) -> Done<()> {
    let now = desk.now();
    let changes = by_person(desk, person, &now).audit(
        "approval_vote_refused",
        &format!("approval:{}", approval.id),
        json!({"why": why}),
    );
    Ok(desk.commit(changes).await?)
}

pub(super) async fn reject(
    desk: &mut Desk,
    id: ApprovalId,
    reason: String,
    person: Person,
) -> Done<Approval> {
    let approval = pending(desk, id)?;
    let now = desk.now();
    let mut rejected = approval.clone();
    rejected.votes.push(Vote {
        person: person.clone(),
        approve: false,
        reason: reason.clone(),
        at: now.clone(),
    });
    rejected.state = ApprovalState::Rejected;
    rejected.ended = Some(now.clone());
    let changes = by_person(desk, &person, &now)
        .write(Write::Approval(Box::new(rejected)))
        .audit(
            "approval_rejected",
            &format!("approval:{id}"),
            json!({"app": desk.app.name, "action": approval.bound.action.name, "reason": reason}),
        );
    desk.commit(changes).await?;
    if let Some(incident) = approval.incident.and_then(|id| desk.incident(id)).cloned() {
        close_request(desk, &incident).await?;
    }
    Ok(desk.approval(id).cloned().unwrap_or(approval))
}
