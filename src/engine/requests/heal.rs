//! A person's heal: run at once, shown only, or put before an approver.

use serde_json::json;

use super::super::admit::{self, Ask};
use super::super::desk::Desk;
use super::super::handle::{HealAnswer, HealRequest, OpError, OpErrorKind, unknown};
use super::super::proposals::{self, Wish};
use super::{Done, Stop, by_person, code_of, conflict, diagnose};
use crate::model::action::ResolvedAction;
use crate::model::approval::{ApprovalState, Person, Requester};
use crate::model::heal::{Heal, HealState, Origin};
use crate::model::id::{HealId, IncidentId};
use crate::model::incident::{Incident, IncidentKind, IncidentState};
use crate::model::name::CheckName;
use crate::model::time::Moment;
use crate::model::word::{MatchKind, Risk, Severity, Status};
use crate::seam::Write;

/// A person's heal: LOW and MEDIUM in any mode, because a person asked; more needs an approval, which is created.
pub(super) async fn heal(
    desk: &mut Desk,
    request: HealRequest,
    person: Person,
) -> Done<HealAnswer> {
    if desk.stack.action(&request.action).is_none() {
        return Err(unknown(
            "action",
            request.action.as_str(),
            &format!("healerctl actions {}", desk.app.name),
        )
        .into());
    }
    diagnose(desk).await?;
    let Some(look) = desk.look.clone() else {
        return Err(conflict(
            "unseen",
            "Nothing is known of this application yet.",
            "Diagnose it first.",
        ));
    };
    let item = desk
        .plan
        .auto_heal
        .iter()
        .chain(&desk.plan.require_approval)
        .find(|item| item.action == request.action)
        .cloned();
    let params = if request.params.is_empty() {
        item.as_ref()
            .map(|item| item.params.clone())
            .unwrap_or_default()
    } else {
        request.params.clone()
    };
    let least = item.as_ref().map_or(Risk::Low, |item| item.risk);
    let checks = item.as_ref().map_or_else(
        || desk.stack.served_by(&request.action).to_vec(),
        |item| item.checks.clone(),
    );
    let action = admit::resolve(desk, &request.action, &checks, &params, &look.round, least)
        .await
        .map_err(|reason| {
            OpError::new(
                OpErrorKind::Conflict,
                "not_applicable",
                format!("`{}` cannot run so: {reason}.", request.action),
                format!("`healerctl checks {}` shows what is known.", desk.app.name),
            )
        })?;
    let matched = item
        .as_ref()
        .map_or(MatchKind::Declared, |item| item.matched);
    if request.dry_run {
        return Ok(HealAnswer::WouldRun {
            denials: would_be_denied(desk, &action, &checks, matched, &person).await?,
            action: Box::new(action),
        });
    }
    if admit::is_busy(desk) {
        return Err(conflict(
            "busy",
            format!("Another heal is working on {}.", desk.app.name),
            admit::busy_until(desk),
        ));
    }
    let incident = incident_for(desk, &checks, &request.reason, &person).await?;
    if action.risk >= Risk::High {
        return ask_approval(desk, action, matched, checks, &incident, &person).await;
    }
    let app = desk.app.name.clone();
    let ask = Ask {
        origin: Origin::Requested(person),
        action,
        matched,
        checks,
    };
    match admit::admit(desk, ask, &incident).await? {
        Ok(heal) => Ok(HealAnswer::Started(Box::new(heal))),
        Err(denied) => {
            close_request(desk, &incident).await?;
            Err(conflict(
                code_of(denied.guard()),
                denied.shown().to_owned(),
                format!(
                    "`healerctl actions {app}` tells what it needs; `healerctl status` shows breakers and holds."
                ),
            ))
        }
    }
}

async fn would_be_denied(
    desk: &Desk,
    action: &ResolvedAction,
    checks: &[CheckName],
    matched: MatchKind,
    person: &Person,
) -> Done<Vec<String>> {
    let rows = desk
        .world
        .store
        .guard_rows(&desk.app.name, &desk.app.host)
        .await?;
    let now = desk.now();
    let incident = new_request(desk, checks, "dry run", &now);
    let draft = Heal {
        id: HealId::from_raw(desk.world.new_id()),
        app: desk.app.name.clone(),
        host: desk.app.host.clone(),
        origin: Origin::Requested(person.clone()),
        action: action.clone(),
        matched,
        incident: incident.id,
        linked: Vec::new(),
        checks: checks.to_vec(),
        evidence: crate::model::check::Evidence::default(),
        before: Vec::new(),
        roots: Vec::new(),
        machine: desk.shared.machine(&desk.app.host).0,
        mode: Some(desk.mode()),
        trial: false,
        fence: crate::model::id::FenceToken(0),
        admitted: now.clone(),
        state: HealState::Admitted,
        moved: now,
        message: String::new(),
        version: 0,
    };
    let facts = super::super::gate::Facts::before_admission(desk, &draft, &incident).await;
    Ok(match facts.ask_before_admission(&rows) {
        Ok(()) => Vec::new(),
        Err(denied) => denied.0.into_iter().map(|denial| denial.message).collect(),
    })
}

/// The open incident of these checks, else a new one of kind REQUEST.
pub(super) async fn incident_for(
    desk: &mut Desk,
    checks: &[CheckName],
    reason: &str,
    person: &Person,
) -> Done<Incident> {
    let open = desk
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
                .is_some_and(|check| checks.contains(check))
        });
    if let Some(incident) = open {
        return Ok(incident.clone());
    }
    let now = desk.now();
    let incident = new_request(desk, checks, reason, &now);
    let changes = by_person(desk, person, &now)
        .write(Write::Incident {
            incident: Box::new(incident.clone()),
            note: format!("asked for: {reason}"),
        })
        .audit(
            "incident_opened",
            &format!("incident:{}", incident.id),
            json!({"app": incident.app, "kind": incident.kind}),
        );
    desk.commit(changes).await?;
    Ok(incident)
}

fn new_request(desk: &Desk, checks: &[CheckName], reason: &str, now: &Moment) -> Incident {
    Incident {
        id: IncidentId::from_raw(desk.world.new_id()),
        app: desk.app.name.clone(),
        check: checks.first().cloned(),
        kind: IncidentKind::Request,
        state: IncidentState::Open,
        status: Status::Pass,
        severity: Severity::Low,
        message: reason.to_owned(),
        opened: now.clone(),
        looks: 0,
        persisted_ms: 0,
        last_bad: None,
        tried: Vec::new(),
        heals: Vec::new(),
        well_since: None,
        cured_by: None,
        told: None,
        closed_by: None,
    }
}

/// A request that came to nothing leaves no open incident behind.
pub(super) async fn close_request(desk: &mut Desk, incident: &Incident) -> Done<()> {
    if incident.kind != IncidentKind::Request {
        return Ok(());
    }
    let now = desk.now();
    let closed = Incident {
        state: IncidentState::Closed,
        closed_by: Some("healerd".to_owned()),
        ..incident.clone()
    };
    let changes = desk
        .changes(&now)
        .write(Write::Incident {
            incident: Box::new(closed),
            note: "the request was refused".to_owned(),
        })
        .audit(
            "incident_closed",
            &format!("incident:{}", incident.id),
            json!({"why": "the request was refused"}),
        );
    Ok(desk.commit(changes).await?)
}

async fn ask_approval(
    desk: &mut Desk,
    action: ResolvedAction,
    matched: MatchKind,
    checks: Vec<CheckName>,
    incident: &Incident,
    person: &Person,
) -> Done<HealAnswer> {
    let message = format!(
        "Healing action \"{}\" requires manual approval. Risk level: {}, Healing mode: {}. Please review and approve this action before execution.",
        action.name,
        action.risk,
        desk.mode()
    );
    let known = desk
        .approvals
        .iter()
        .find(|approval| {
            approval.state == ApprovalState::Pending && approval.bound.action == action
        })
        .cloned();
    let approval = if let Some(approval) = known {
        Some(approval)
    } else {
        let look = desk.look.clone();
        let evidence = look
            .map(|look| look.round.evidence().about(&checks))
            .unwrap_or_default();
        let wish = Wish {
            reason: format!("{} asked for {}.", person.to_text(), action.name),
            action,
            matched,
            checks,
            requester: Requester::Person(person.clone()),
            incident: incident.id,
            evidence,
        };
        proposals::create(desk, wish).await?
    };
    let Some(approval) = approval else {
        return Err(conflict(
            "approvals_full",
            "No approval could be created.",
            "Decide about those that wait first.",
        ));
    };
    let mut refusal = OpError::new(
        OpErrorKind::Conflict,
        "needs_approval",
        message,
        format!(
            "`healerctl approve {}` shows what it would do and approves it.",
            approval.id
        ),
    );
    refusal.approval = Some(Box::new(approval));
    Err(Stop::Refused(refusal))
}
