//! What comes next for each open incident, in one line for people. It reads the desk and changes nothing.
//!
//! What the guards said of an action that runs alone is kept on the desk as it was said; everything else follows from
//! the plan, so that no line outlives what it was about.

use std::collections::BTreeMap;
use std::time::Duration;

use super::admit;
use super::desk::Desk;
use super::proposals;
use crate::decide::incident::{IN_DOUBT, OTHER_MACHINE};
use crate::model::approval::{Approval, ApprovalState};
use crate::model::host::NOT_TRIED;
use crate::model::id::IncidentId;
use crate::model::incident::{Incident, IncidentKind, IncidentState};
use crate::model::name::{ActionName, CheckName, HostName};
use crate::model::plan::PlanItem;
use crate::model::time::Moment;
use crate::model::word::{Risk, Status};

/// A line for every incident of which something can be said.
pub(super) fn lines(desk: &Desk, now: &Moment) -> BTreeMap<IncidentId, String> {
    desk.incidents
        .iter()
        .filter_map(|incident| Some((incident.id, line(desk, incident, now)?)))
        .collect()
}

fn line(desk: &Desk, incident: &Incident, now: &Moment) -> Option<String> {
    match incident.state {
        IncidentState::Open => open(desk, incident, now),
        IncidentState::Healing => Some(healing(desk, incident)),
        IncidentState::Watching => Some("well now; closed by itself if it stays so".to_owned()),
        IncidentState::Escalated => Some(format!(
            "a person must look, no remedy is left; `healerctl actions {}` shows what can be run by hand, `healerctl incidents close {}` closes it",
            desk.app.name, incident.id
        )),
        IncidentState::Closed => None,
    }
}

fn healing(desk: &Desk, incident: &Incident) -> String {
    let heal = desk
        .heals
        .iter()
        .rfind(|heal| incident.heals.contains(&heal.id));
    match heal {
        Some(heal) if !heal.state.is_end() => {
            let waits = desk.waits.get(&heal.id);
            format!(
                "{} is {}{}: `healerctl heals {}`",
                heal.action.name,
                heal.state.name(),
                waits.map_or_else(String::new, |why| format!(" and waits ({why})")),
                heal.id
            )
        }
        Some(heal) => format!(
            "{} was left for a person: `healerctl decide {} keep` or `undo`",
            heal.action.name, heal.id
        ),
        None => "a heal is working on it: `healerctl heals`".to_owned(),
    }
}

fn open(desk: &Desk, incident: &Incident, now: &Moment) -> Option<String> {
    let app = &desk.app.name;
    match incident.kind {
        IncidentKind::Symptom => {}
        IncidentKind::Unknown => {
            return Some(unknown(desk, incident));
        }
        IncidentKind::Request => return None,
    }
    let check = incident.check.as_ref()?;
    let mute = desk.mutes.iter().find(|mute| mute.check == *check);
    if let Some(mute) = mute.filter(|mute| !now.is_past(&mute.since, length(mute.for_ms))) {
        return Some(format!(
            "muted until {} by {}; `healerctl unmute {app} {check}` ends that",
            mute.since.plus(length(mute.for_ms)).to_text(),
            mute.owner
        ));
    }
    let of = |items: &[PlanItem]| -> Option<PlanItem> {
        items
            .iter()
            .find(|item| item.checks.contains(check))
            .cloned()
    };
    if let Some(item) = of(&desk.plan.auto_heal) {
        return Some(alone(desk, incident, &item));
    }
    if let Some(item) = of(&desk.plan.require_approval) {
        return Some(asks(desk, incident, &item, check));
    }
    let cannot = desk
        .plan
        .cannot_heal
        .iter()
        .find(|cannot| cannot.check == *check)?;
    let fix = desk
        .look
        .as_ref()
        .and_then(|look| look.round.result(check))
        .and_then(|result| result.suggested_fix.as_deref());
    Some(match fix {
        Some(fix) => format!("only observed, {}; by hand: {fix}", cannot.reason),
        None => format!("only observed, {}", cannot.reason),
    })
}

/// Nothing is done about what is not known; a person can find out what is the matter.
fn unknown(desk: &Desk, incident: &Incident) -> String {
    let (app, host) = (&desk.app.name, &desk.app.host);
    let due = desk.due.to_text();
    if incident.check.is_some() {
        return format!(
            "looked at again at {due}; nothing is done about what is not known, and `healerctl checks {app}` says why it is not"
        );
    }
    let message = incident.message.as_str();
    let command = if message.starts_with(OTHER_MACHINE) {
        format!("`healerctl adopt {host}`, if it is to be looked after")
    } else if message.starts_with(IN_DOUBT) {
        format!(
            "`healerctl host enrol {host}`, once its key was compared on the host's own console"
        )
    } else if *host == HostName::local() {
        format!("`healerctl checks {app}` says why it is not seen")
    } else {
        format!("`healerctl host doctor {host}` tries each step now and says which one fails")
    };
    let waits = desk
        .unseen_reason
        .as_ref()
        .is_some_and(|reason| reason.contains(NOT_TRIED));
    let when = if waits {
        format!(
            "the host is left alone for a while, and tried again by the first look after that (looks go on, the next at {due})"
        )
    } else {
        format!("looked at again at {due}")
    };
    format!("{when}; {command}")
}

const fn length(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// It runs without a person, once every guard lets it.
fn alone(desk: &Desk, incident: &Incident, item: &PlanItem) -> String {
    if let Some(approval) = waiting(desk, item) {
        return waits(approval);
    }
    if let Some(reason) = desk.shared.observing() {
        return format!("{}: nothing starts by itself, {reason}", item.action);
    }
    if admit::is_busy(desk) {
        return format!("{}, after the heal that is under way", item.action);
    }
    desk.next
        .get(&incident.id)
        .cloned()
        .unwrap_or_else(|| format!("{} runs by itself, once every guard admits it", item.action))
}

/// A person is needed: to decide about what was proposed, or to ask for it.
fn asks(desk: &Desk, incident: &Incident, item: &PlanItem, check: &CheckName) -> String {
    if let Some(approval) = waiting(desk, item) {
        return waits(approval);
    }
    let by_hand = by_hand(desk, &item.action, item.risk);
    let evidence = desk
        .look
        .as_ref()
        .map(|look| look.round.evidence().about(&item.checks))
        .unwrap_or_default();
    if let Some(ended) = proposals::ended_lately(desk, &item.action, &evidence) {
        return format!(
            "{} was {} and is not proposed again on the same evidence for a while; {by_hand}",
            item.action,
            match ended {
                ApprovalState::Rejected => "rejected",
                ApprovalState::Pending
                | ApprovalState::Granted
                | ApprovalState::Used
                | ApprovalState::Expired
                | ApprovalState::Stale => "not decided in time",
            }
        );
    }
    if let Some(said) = desk.next.get(&incident.id) {
        return said.clone();
    }
    let status = desk
        .look
        .as_ref()
        .map_or(incident.status, |look| look.round.status(check));
    match status {
        Status::Fail => format!(
            "{} is proposed to a person once it has lasted long enough; {by_hand}",
            item.action
        ),
        Status::Pass | Status::Warn | Status::Error => {
            format!("nothing runs and nothing is proposed by itself for a {status}; {by_hand}")
        }
    }
}

fn by_hand(desk: &Desk, action: &ActionName, risk: Risk) -> String {
    let does = match risk {
        Risk::Low | Risk::Medium => "runs it now",
        Risk::High | Risk::Critical => "asks for its approval now",
    };
    format!("`healerctl heal {} {action}` {does}", desk.app.name)
}

fn waiting<'a>(desk: &'a Desk, item: &PlanItem) -> Option<&'a Approval> {
    desk.approvals.iter().find(|approval| {
        approval.bound.action.name == item.action
            && matches!(
                approval.state,
                ApprovalState::Pending | ApprovalState::Granted
            )
    })
}

fn waits(approval: &Approval) -> String {
    let action = &approval.bound.action.name;
    match (&approval.state, &approval.waits_for) {
        (ApprovalState::Granted, Some(waits_for)) => {
            format!("{action} is approved and waits: {waits_for}")
        }
        (ApprovalState::Granted, None) => format!("{action} is approved and runs next"),
        (
            ApprovalState::Pending
            | ApprovalState::Used
            | ApprovalState::Rejected
            | ApprovalState::Expired
            | ApprovalState::Stale,
            _,
        ) => format!(
            "{action} waits for a person: `healerctl approve {id}` or `healerctl reject {id}`",
            id = approval.id
        ),
    }
}
