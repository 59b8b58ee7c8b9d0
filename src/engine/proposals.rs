//! Approvals as the daemon keeps them: proposing, expiring, going stale.

use std::time::Duration;

use serde_json::json;

use super::desk::{Desk, EngineError};
use super::{admit, known_good};
use crate::catalogue::action::RaiseWhen;
use crate::guard::approval::execution_expired;
use crate::model::action::ResolvedAction;
use crate::model::approval::{Approval, ApprovalState, Bound, Requester};
use crate::model::check::Evidence;
use crate::model::id::{ApprovalId, IncidentId};
use crate::model::incident::IncidentState;
use crate::model::name::{ActionName, CheckName};
use crate::model::plan::PlanItem;
use crate::model::word::{MatchKind, Risk, Status};
use crate::seam::Write;

/// Proposes what the plan wants asked, for FAIL items: one approval each, unless one is there or was ended lately on
/// the same evidence.
pub(super) async fn propose(desk: &mut Desk) -> Result<(), EngineError> {
    stale_now(desk).await?;
    let asked = desk.plan.require_approval.iter();
    // What only the engine can tell may raise a risk beyond what the plan took for it.
    let raised = desk
        .plan
        .auto_heal
        .iter()
        .filter(|item| may_be_raised(desk, item));
    let items: Vec<_> = asked
        .map(|item| (item, false))
        .chain(raised.map(|item| (item, true)))
        .filter(|(item, _)| item.status == Status::Fail)
        .map(|(item, only_raised)| (item.clone(), only_raised))
        .collect();
    for (item, only_raised) in items {
        let Some(look) = desk.look.clone() else {
            return Ok(());
        };
        let incident = desk
            .incidents
            .iter()
            .filter(|incident| {
                matches!(
                    incident.state,
                    IncidentState::Open | IncidentState::Escalated
                )
            })
            .find(|incident| {
                incident
                    .check
                    .as_ref()
                    .is_some_and(|check| item.checks.contains(check))
            })
            .cloned();
        let Some(incident) = incident else {
            continue;
        };
        let evidence = look.round.evidence().about(&item.checks);
        if is_known(desk, &item, &evidence) || dwells(desk, &incident) {
            continue;
        }
        let action = match admit::resolve(
            desk,
            &item.action,
            &item.checks,
            &item.params,
            &look.round,
            item.risk,
        )
        .await
        {
            Ok(action) => action,
            Err(reason) => {
                desk.next
                    .insert(incident.id, format!("{}: {reason}", item.action));
                continue;
            }
        };
        let mode = desk.mode().min(desk.app.policy.max_mode);
        if only_raised && mode.allows(action.risk) {
            continue;
        }
        let wish = Wish {
            action,
            matched: item.matched,
            checks: item.checks.clone(),
            reason: item.reason.clone(),
            requester: Requester::Daemon,
            incident: incident.id,
            evidence,
        };
        if create(desk, wish).await?.is_some() {
            desk.next.remove(&incident.id); // the approval itself says what comes next
        }
    }
    Ok(())
}

/// Does this action's risk depend on what no fact of a check tells?
fn may_be_raised(desk: &Desk, item: &PlanItem) -> bool {
    desk.stack.action(&item.action).is_some_and(|action| {
        action
            .raises
            .iter()
            .any(|raise| matches!(raise.when, RaiseWhen::Hook(_)))
    })
}

/// A proposal needs the same patience as an action: what goes by itself in a minute is no reason to wake a person.
fn dwells(desk: &Desk, incident: &crate::model::incident::Incident) -> bool {
    let timing = &desk.app.policy.timing;
    let (wanted, looks) = match incident.severity {
        crate::model::word::Severity::Critical => {
            (timing.dwell_critical, timing.dwell_critical_looks)
        }
        crate::model::word::Severity::Low
        | crate::model::word::Severity::Medium
        | crate::model::word::Severity::High => (timing.dwell, timing.dwell_looks),
    };
    Duration::from_millis(incident.persisted_ms) < wanted || incident.looks < looks
}

/// What is to be approved.
#[derive(Debug)]
pub(super) struct Wish {
    pub action: ResolvedAction,
    pub matched: MatchKind,
    pub checks: Vec<CheckName>,
    pub reason: String,
    pub requester: Requester,
    pub incident: IncidentId,
    pub evidence: Evidence,
}

/// Stores a pending approval; `None` when too many wait already, or the host is not known.
pub(super) async fn create(desk: &mut Desk, wish: Wish) -> Result<Option<Approval>, EngineError> {
    let policy = desk.app.policy.approval.clone();
    let pending = desk
        .approvals
        .iter()
        .filter(|approval| approval.state == ApprovalState::Pending)
        .count();
    if pending >= policy.pending_max as usize {
        tracing::warn!(app = %desk.app.name, action = %wish.action.name, "too many approvals wait already");
        return Ok(None);
    }
    let Some(host) = desk
        .shared
        .host_facts(&desk.world, &desk.app.host, desk.login())
        .await
    else {
        return Ok(None);
    };
    let shows = known_good::shows(desk, &wish.action).await;
    let now = desk.now();
    let within = match wish.action.risk {
        Risk::Critical => policy.decide_within_critical,
        Risk::Low | Risk::Medium | Risk::High => policy.decide_within,
    };
    let bound = Bound {
        app: desk.app.name.clone(),
        host: desk.app.host.clone(),
        machine_id: host.machine_id,
        roots: desk
            .look
            .as_ref()
            .map(|look| look.round.roots.clone())
            .unwrap_or_default(),
        matched: wish.matched,
        mode: desk.mode(),
        rules: rules(desk, &wish.action),
        evidence: wish.evidence,
        write_set: wish.action.writes_text(),
        known_good: Vec::new(),
        requester: wish.requester,
        expires_wall_ms: now.plus(within).wall_ms,
        action: wish.action,
    };
    let approval = Approval {
        id: ApprovalId::from_raw(desk.world.new_id()),
        digest: bound.digest(),
        bound,
        state: ApprovalState::Pending,
        created: now.clone(),
        decide_within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        votes: Vec::new(),
        granted: None,
        paused_ms: 0,
        execute_within_ms: u64::try_from(policy.execute_within.as_millis()).unwrap_or(u64::MAX),
        incident: Some(wish.incident),
        checks: wish.checks,
        reason: wish.reason,
        shows,
        waits_for: None,
        heal: None,
        ended: None,
        version: 0,
    };
    let title = format!(
        "{}: approve {}? ({})",
        desk.app.name, approval.bound.action.name, approval.bound.action.risk
    );
    let text = format!(
        "{} `healerctl approve {}` shows what it would do.",
        approval.reason, approval.id
    );
    let key = format!("approval:{}", approval.id);
    let detail = json!({
        "app": approval.bound.app, "action": approval.bound.action.name, "risk": approval.bound.action.risk,
        "digest": approval.digest, "requester": approval.bound.requester,
    });
    let changes = desk
        .changes(&now)
        .write(Write::Approval(Box::new(approval.clone())))
        .write(desk.notice("approval_needed", key, title, text, &now))
        .audit(
            "approval_requested",
            &format!("approval:{}", approval.id),
            detail,
        );
    desk.commit(changes).await?;
    desk.tell(
        "approval",
        format!(
            "{} waits for approval {}",
            approval.bound.action.name, approval.id
        ),
        None,
    );
    Ok(desk.approval(approval.id).cloned())
}

/// The policy's rules that touched the item, in words that change when the rules do.
fn rules(desk: &Desk, action: &ResolvedAction) -> Vec<String> {
    let policy = &desk.app.policy;
    let mut rules = vec![format!(
        "persons={}",
        if policy.approval.one_person {
            "one"
        } else {
            "two"
        }
    )];
    if policy.always_ask.contains(&action.name) {
        rules.push("always_ask".to_owned());
    }
    if policy.shared_resources {
        rules.push("shared_resources".to_owned());
    }
    for (_, risk) in policy
        .raised_risks
        .iter()
        .filter(|(name, _)| *name == action.name)
    {
        rules.push(format!("raised_risk={risk}"));
    }
    rules
}

/// What a person rejected on the same evidence lately does not run alone either, whatever the mode has become.
pub(super) fn is_rejected(desk: &Desk, action: &ActionName, evidence: &Evidence) -> bool {
    let remember = desk.app.policy.approval.remember;
    let now = desk.now();
    desk.approvals.iter().any(|approval| {
        approval.state == ApprovalState::Rejected
            && approval.bound.action.name == *action
            && approval.bound.evidence == *evidence
            && approval
                .ended
                .as_ref()
                .is_some_and(|ended| !now.is_past(ended, remember))
    })
}

/// How a proposal of this action on the same evidence ended lately, so that it is not made again.
pub(super) fn ended_lately(
    desk: &Desk,
    action: &ActionName,
    evidence: &Evidence,
) -> Option<ApprovalState> {
    let remember = desk.app.policy.approval.remember;
    let now = desk.now();
    desk.approvals
        .iter()
        .filter(|approval| {
            matches!(
                approval.state,
                ApprovalState::Rejected | ApprovalState::Expired
            )
        })
        .filter(|approval| {
            approval.bound.action.name == *action && approval.bound.evidence == *evidence
        })
        .rfind(|approval| {
            approval
                .ended
                .as_ref()
                .is_some_and(|ended| !now.is_past(ended, remember))
        })
        .map(|approval| approval.state)
}

/// Is there a proposal already, or was one ended lately on the same evidence?
fn is_known(desk: &Desk, item: &PlanItem, evidence: &Evidence) -> bool {
    let remember = desk.app.policy.approval.remember;
    let now = desk.now();
    desk.approvals
        .iter()
        .filter(|approval| approval.bound.action.name == item.action)
        .any(|approval| match approval.state {
            ApprovalState::Pending | ApprovalState::Granted => true,
            ApprovalState::Rejected | ApprovalState::Expired => {
                let recent = approval
                    .ended
                    .as_ref()
                    .is_some_and(|ended| !now.is_past(ended, remember));
                recent && approval.bound.evidence == *evidence
            }
            ApprovalState::Used | ApprovalState::Stale => false,
        })
}

/// Pending and granted approvals whose evidence is no longer what it was.
pub(super) async fn stale_now(desk: &mut Desk) -> Result<(), EngineError> {
    let Some(look) = desk.look.clone() else {
        return Ok(());
    };
    let present = look.round.evidence();
    let moved = |approval: &Approval| approval.bound.roots != look.round.roots;
    let open = desk.approvals.iter().filter(|approval| {
        matches!(
            approval.state,
            ApprovalState::Pending | ApprovalState::Granted
        )
    });
    let changed: Vec<_> = open
        .filter(|approval| {
            // A check that could not be determined says nothing; the approval waits for one that could.
            let sure = approval
                .checks
                .iter()
                .all(|check| look.round.status(check) != Status::Error);
            let other = present.about(&approval.checks) != approval.bound.evidence;
            moved(approval) || (sure && other)
        })
        .cloned()
        .collect();
    for approval in changed {
        let why = if moved(&approval) {
            "the application's paths lead somewhere else now"
        } else {
            "the evidence it was bound to has changed"
        };
        end(desk, &approval, ApprovalState::Stale, why).await?;
    }
    Ok(())
}

/// Ends an approval.
pub(super) async fn end(
    desk: &mut Desk,
    approval: &Approval,
    state: ApprovalState,
    why: &str,
) -> Result<(), EngineError> {
    let now = desk.now();
    let ended = Approval {
        state,
        ended: Some(now.clone()),
        waits_for: None,
        ..approval.clone()
    };
    let verb = match state {
        ApprovalState::Expired => "approval_expired",
        ApprovalState::Rejected => "approval_rejected",
        ApprovalState::Pending
        | ApprovalState::Granted
        | ApprovalState::Used
        | ApprovalState::Stale => "approval_stale",
    };
    let object = format!("approval:{}", approval.id);
    let mut changes = desk
        .changes(&now)
        .write(Write::Approval(Box::new(ended)))
        .audit(verb, &object, json!({"why": why}));
    if state == ApprovalState::Expired {
        let title = format!(
            "{}: approval of {} expired",
            desk.app.name, approval.bound.action.name
        );
        changes = changes.write(desk.notice(
            "approval_expired",
            object.clone(),
            title,
            why.to_owned(),
            &now,
        ));
    }
    desk.commit(changes).await?;
    desk.tell(
        "approval",
        format!("{} {state}: {why}", approval.bound.action.name),
        None,
    );
    Ok(())
}

/// Not decided, or not executed, in time. Expired stays expired.
pub(super) async fn expire(desk: &mut Desk) -> Result<(), EngineError> {
    pause(desk);
    let now = desk.now();
    let over: Vec<_> = desk
        .approvals
        .iter()
        .filter_map(|approval| match approval.state {
            ApprovalState::Pending => now
                .is_past(
                    &approval.created,
                    Duration::from_millis(approval.decide_within_ms),
                )
                .then(|| (approval.clone(), "nobody decided in time")),
            ApprovalState::Granted => execution_expired(approval, &now)
                .then(|| (approval.clone(), "it could not run in time")),
            ApprovalState::Used
            | ApprovalState::Rejected
            | ApprovalState::Expired
            | ApprovalState::Stale => None,
        })
        .collect();
    for (approval, why) in over {
        end(desk, &approval, ApprovalState::Expired, why).await?;
    }
    Ok(())
}

/// The time to execute stands still while only a lease or a hold delays it: counted from turn to turn.
fn pause(desk: &mut Desk) {
    let now = desk.now();
    let held = desk
        .shared
        .held(&desk.app.name, &desk.app.host, &now)
        .is_some();
    let busy = admit::is_busy(desk);
    let since = desk.last_turn.replace(now.clone());
    let Some(since) = since else {
        return;
    };
    if !held && !busy {
        return;
    }
    let passed = now.since(&since, Duration::from_hours(1)).as_millis();
    for approval in desk
        .approvals
        .iter_mut()
        .filter(|approval| approval.state == ApprovalState::Granted)
    {
        approval.paused_ms = approval
            .paused_ms
            .saturating_add(u64::try_from(passed).unwrap_or(0));
    }
}
