//! From a plan's item, a granted approval or a person's wish to an admitted heal.

use std::collections::BTreeMap;

use serde_json::json;

use super::desk::{Desk, EngineError};
use super::gate::Facts;
use super::known_good;
use super::life::Wake;
use super::outage;
use crate::decide::incident::{IncidentChange, Update};
use crate::guard::breaker;
use crate::model::action::ResolvedAction;
use crate::model::approval::{Approval, ApprovalState};
use crate::model::breaker::BreakerState;
use crate::model::check::Round;
use crate::model::heal::{Heal, HealState, Origin};
use crate::model::id::{HealId, IncidentId};
use crate::model::incident::{Incident, IncidentKind, IncidentState};
use crate::model::ledger::Lease;
use crate::model::name::{ActionName, CheckName};
use crate::model::plan::{ParamValue, Params, PlanItem};
use crate::model::reason::{Denied, GuardName};
use crate::model::time::Moment;
use crate::model::word::{MatchKind, Risk, Status};
use crate::seam::{Changes, Write};
use crate::telemetry::redact;

/// What is to be healed, whoever asks.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub origin: Origin,
    pub action: ResolvedAction,
    pub matched: MatchKind,
    pub checks: Vec<CheckName>,
}

/// Fills an action in from the latest results. Its risk is never below `risk`.
///
/// # Errors
/// A sentence that says what is missing.
pub(super) async fn resolve(
    desk: &Desk,
    name: &ActionName,
    checks: &[CheckName],
    params: &Params,
    round: &Round,
    risk: Risk,
) -> Result<ResolvedAction, String> {
    let action = desk
        .stack
        .resolve(name, checks, &round.results, &desk.app, params)
        .map_err(|error| error.to_string())?;
    if let Some(name) = secret_among(&action.params) {
        return Err(format!(
            "parameter `{name}` holds a secret, and what runs is kept in the record; leave it where the application reads it"
        ));
    }
    let action = ResolvedAction {
        risk: action.risk.max(risk),
        ..action
    };
    known_good::fill(desk, action).await
}

/// A parameter that the redactor would hide, by its name or by its value. Heals, approvals and audit rows hold all
/// parameters for good, so none of them may be a secret.
fn secret_among(params: &Params) -> Option<&str> {
    let is_secret = |name: &str, text: &str| {
        let whole = format!("{name}={text}");
        redact::hide(&whole) != whole
    };
    params
        .iter()
        .find(|(name, value)| match value {
            ParamValue::Unknown | ParamValue::Int(_) => false,
            ParamValue::Text(text) => is_secret(name, text),
            // A path is what somebody named a file, and no reason to leave the file as it is.
            ParamValue::List(list) => list.iter().any(|text| {
                let is_path = text.contains('/') && !text.contains("://");
                is_secret(name, if is_path { "x" } else { text })
            }),
        })
        .map(|(name, _)| name.as_str())
}

/// Admits the first item of the plan that every guard lets through; keeps the reasons of the others.
pub(super) async fn next(desk: &mut Desk) -> Result<Option<Wake>, EngineError> {
    if let Some(wake) = granted(desk).await? {
        return Ok(Some(wake));
    }
    if desk.shared.observing().is_some() || is_busy(desk) {
        return Ok(None);
    }
    let items = desk.plan.auto_heal.clone();
    for item in items {
        let Some(incident) = incident_of(desk, &item.checks).cloned() else {
            continue;
        };
        let Some(look) = desk.look.clone() else {
            return Ok(None);
        };
        let evidence = look.round.evidence().about(&item.checks);
        if super::proposals::is_rejected(desk, &item.action, &evidence) {
            let line = format!("{}: a person rejected it on this evidence", item.action);
            desk.next.insert(incident.id, line);
            continue;
        }
        let action = match resolve(
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
                tracing::info!(app = %desk.app.name, action = %item.action, %reason, "action cannot be resolved");
                desk.next
                    .insert(incident.id, format!("{}: {reason}", item.action));
                continue;
            }
        };
        let ask = Ask {
            origin: Origin::Unattended,
            action,
            matched: item.matched,
            checks: item.checks.clone(),
        };
        match admit(desk, ask, &incident).await? {
            Ok(heal) => {
                desk.next
                    .insert(incident.id, format!("{} is running", heal.action.name));
                return Ok(Some(Wake::Now));
            }
            Err(denied) => tell_denied(desk, &item, &incident, &denied).await?,
        }
    }
    Ok(None)
}

/// A symptom whose remedies are all used up goes to a person, and people are told once. A half-open breaker's trial
/// may still take it.
pub(super) async fn escalate(desk: &mut Desk) -> Result<(), EngineError> {
    let now = desk.now();
    let used_up: Vec<_> = desk
        .incidents
        .iter()
        .filter(|incident| incident.state == IncidentState::Open && !incident.tried.is_empty())
        .filter(|incident| {
            let beyond = |check: &CheckName| {
                desk.plan
                    .cannot_heal
                    .iter()
                    .any(|cannot| cannot.check == *check)
            };
            incident.check.as_ref().is_some_and(beyond)
        })
        .cloned()
        .collect();
    for incident in used_up {
        let name = incident
            .check
            .as_ref()
            .map_or("the host", CheckName::as_str);
        let title = format!("{}: no remedy is left for {name}", desk.app.name);
        let text = format!("{} Tried: {}.", incident.message, list(&incident.tried));
        let object = format!("incident:{}", incident.id);
        let detail = json!({"app": incident.app, "check": incident.check, "tried": incident.tried});
        let notice = desk.notice("escalated", object.clone(), title, text, &now);
        let escalated = Incident {
            state: IncidentState::Escalated,
            ..incident
        };
        let changes = desk
            .changes(&now)
            .write(Write::Incident {
                incident: Box::new(escalated),
                note: "no remedy is left: a person must look".to_owned(),
            })
            .write(notice)
            .audit("incident_escalated", &object, detail);
        desk.commit(changes).await?;
    }
    Ok(())
}

fn list(actions: &[ActionName]) -> String {
    actions
        .iter()
        .map(ActionName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Admits what persons granted.
pub(super) async fn granted(desk: &mut Desk) -> Result<Option<Wake>, EngineError> {
    if desk.shared.observing().is_some() {
        return Ok(None);
    }
    let ready = desk
        .approvals
        .iter()
        .find(|approval| approval.state == ApprovalState::Granted)
        .cloned();
    let Some(approval) = ready else {
        return Ok(None);
    };
    if is_busy(desk) {
        return Ok(None);
    }
    let incident = approval.incident.and_then(|id| desk.incident(id)).cloned();
    let Some(incident) = incident else {
        super::proposals::end(
            desk,
            &approval,
            ApprovalState::Stale,
            "its incident is over",
        )
        .await?;
        return Ok(None);
    };
    let ask = Ask {
        origin: Origin::Approved(approval.id),
        action: approval.bound.action.clone(),
        matched: approval.bound.matched,
        checks: approval.checks.clone(),
    };
    match admit(desk, ask, &incident).await? {
        Ok(_) => Ok(Some(Wake::Now)),
        Err(denied) => {
            let waits = denied.shown().to_owned();
            if approval.waits_for.as_deref() != Some(&waits) {
                let now = desk.now();
                let waiting = Approval {
                    waits_for: Some(waits.clone()),
                    ..approval.clone()
                };
                let changes = desk
                    .changes(&now)
                    .write(Write::Approval(Box::new(waiting)))
                    .audit(
                        "approval_waits",
                        &format!("approval:{}", approval.id),
                        json!({"for": waits}),
                    );
                desk.commit(changes).await?;
            }
            Ok(Some(Wake::At(desk.now().plus(desk.app.policy.timing.look))))
        }
    }
}

/// Is a heal in the way? One that soaks is not, once it gave its lease back because the app is still down.
pub(super) fn is_busy(desk: &Desk) -> bool {
    desk.heals.iter().any(|heal| {
        let steps_aside = matches!(heal.state, HealState::Soaking { .. }) && desk.is_down();
        !heal.state.is_end() && !steps_aside
    })
}

/// What is said to whoever asks meanwhile: which heal is in the way, and until when where that is known.
pub(super) fn busy_until(desk: &Desk) -> String {
    let mut heals = desk.heals.iter().filter(|heal| !heal.state.is_end());
    let Some(heal) = heals.next() else {
        return "`healerctl heals` shows it; try again when it has ended.".to_owned();
    };
    if let HealState::Soaking { since, looks, .. } = &heal.state {
        let blind = std::time::Duration::from_millis(looks.blind_ms);
        let until = since.plus(desk.app.policy.timing.soak + blind).to_text();
        return format!(
            "{} has helped, and is watched until {until} whether that lasts; try again then, or `healerctl heals {}` shows it.",
            heal.action.name, heal.id
        );
    }
    format!(
        "{} is {}: `healerctl heals {}` shows it; try again when it has ended.",
        heal.action.name,
        heal.state.name(),
        heal.id
    )
}

/// The incident that an item would heal: the worst one of its checks that is not being healed.
fn incident_of<'a>(desk: &'a Desk, checks: &[CheckName]) -> Option<&'a Incident> {
    let trial = desk.breaker.state == BreakerState::HalfOpen;
    desk.incidents
        .iter()
        .filter(|incident| incident.kind == IncidentKind::Symptom)
        .filter(|incident| {
            incident
                .check
                .as_ref()
                .is_some_and(|check| checks.contains(check))
        })
        .filter(|incident| match incident.state {
            IncidentState::Open => true,
            IncidentState::Escalated => trial,
            IncidentState::Healing | IncidentState::Watching | IncidentState::Closed => false,
        })
        .max_by_key(|incident| incident.severity)
}

/// Asks the guards and, when all admit, writes the heal with its leases.
pub(super) async fn admit(
    desk: &mut Desk,
    ask: Ask,
    incident: &Incident,
) -> Result<Result<Heal, Denied>, EngineError> {
    let now = desk.now();
    let id = HealId::from_raw(desk.world.new_id());
    let trial = desk.breaker.state == BreakerState::HalfOpen
        && desk.breaker.trial.is_none()
        && !matches!(ask.origin, Origin::Rollback { .. });
    let round = desk.look.as_ref().map(|look| look.round.clone());
    let linked = desk
        .incidents
        .iter()
        .filter(|other| {
            other.id != incident.id
                && matches!(other.state, IncidentState::Open | IncidentState::Escalated)
        })
        .filter(|other| {
            other
                .check
                .as_ref()
                .is_some_and(|check| ask.checks.contains(check))
        })
        .map(|other| other.id)
        .collect();
    let heal = Heal {
        id,
        app: desk.app.name.clone(),
        host: desk.app.host.clone(),
        origin: ask.origin,
        matched: ask.matched,
        incident: incident.id,
        linked,
        evidence: round
            .as_ref()
            .map(|round| round.evidence().about(&ask.checks))
            .unwrap_or_default(),
        before: round
            .as_ref()
            .map(|round| {
                round
                    .results
                    .iter()
                    .map(|result| (result.check.clone(), result.status))
                    .collect()
            })
            .unwrap_or_default(),
        checks: ask.checks,
        roots: round.map(|round| round.roots).unwrap_or_default(),
        machine: desk.shared.machine(&desk.app.host).0,
        mode: Some(desk.mode()),
        trial,
        fence: desk.shared.next_fence(&desk.app.host),
        admitted: now.clone(),
        state: HealState::Admitted,
        moved: now.clone(),
        message: format!("{} is admitted", ask.action.name),
        action: ask.action,
        version: 0,
    };
    let rows = desk.world.store.guard_rows(&heal.app, &heal.host).await?;
    let facts = Facts::before_admission(desk, &heal, incident).await;
    if let Err(denied) = facts.ask_before_admission(&rows) {
        return Ok(Err(denied));
    }
    let (app_lease, _) = desk.lease_keys();
    let mut changes = desk
        .changes(&now)
        .write(Write::Heal { heal: Box::new(heal.clone()), event: None })
        .write(Write::LeaseTaken(Lease { key: app_lease, heal: id, since: now.clone() }))
        .audit(
            "heal_admitted",
            &format!("heal:{id}"),
            json!({
                "app": heal.app, "action": heal.action.name, "risk": heal.action.risk, "match": heal.matched,
                "origin": heal.origin, "incident": heal.incident, "trial": heal.trial, "evidence": heal.evidence,
            }),
        );
    for touched in desk
        .incidents
        .iter()
        .filter(|known| known.id == incident.id || heal.linked.contains(&known.id))
    {
        let healing = Incident {
            state: IncidentState::Healing,
            heals: touched.heals.iter().copied().chain([id]).collect(),
            ..touched.clone()
        };
        let note = format!("{} is admitted (heal {id})", heal.action.name);
        changes = changes.write(Write::Incident {
            incident: Box::new(healing),
            note,
        });
    }
    if trial
        && let Some(reserved) =
            breaker::reserve_trial(&desk.breaker, id, &desk.app.policy.breaker, &now)
    {
        changes = changes.write(Write::Breaker {
            breaker: Box::new(reserved),
            transitions: Vec::new(),
        });
    }
    healer_agent::crash::point("engine.before.admitted");
    match desk.commit(changes).await {
        Ok(()) => {}
        // Another desk took the lease first: a denial like any other.
        Err(EngineError::Store(error @ crate::seam::StoreError::Conflict { .. })) => {
            return Ok(Err(Denied(vec![crate::model::reason::Denial {
                guard: GuardName::Lease,
                message: error.to_string(),
                facts: Vec::new(),
                again_at: Some(now.plus(desk.app.policy.timing.look)),
            }])));
        }
        Err(error) => return Err(error),
    }
    healer_agent::crash::point("engine.after.admitted");
    tracing::info!(
        app = %heal.app, heal_id = %id, action = %heal.action.name, risk = %heal.action.risk, "heal admitted"
    );
    desk.tell("heal", format!("{} admitted", heal.action.name), Some(id));
    Ok(Ok(desk.heal(id).cloned().unwrap_or(heal)))
}

/// Keeps why an item does not run now, and tells people once when the app is down because of it.
async fn tell_denied(
    desk: &mut Desk,
    item: &PlanItem,
    incident: &Incident,
    denied: &Denied,
) -> Result<(), EngineError> {
    let now = desk.now();
    let again = denied
        .0
        .iter()
        .filter_map(|denial| denial.again_at.clone())
        .max_by_key(|again| again.boot_ms);
    let blocked = denied.0.iter().any(|denial| denial.again_at.is_none());
    let when = match (&again, blocked) {
        (Some(again), false) => format!(" at {}", again.to_text()),
        _ => String::new(),
    };
    for denial in &denied.0 {
        desk.metrics.denied(denial.guard);
    }
    let line = format!("{}{when}: {}", item.action, denied.shown());
    if desk.next.get(&incident.id) != Some(&line) {
        tracing::info!(app = %desk.app.name, action = %item.action, guard = %denied.guard(), reason = denied.shown(), "heal denied");
    }
    desk.next.insert(incident.id, line);
    if let (Some(again), false) = (again, blocked) {
        let look = now.plus(desk.app.policy.timing.look);
        let sooner = if again.boot_ms < look.boot_ms {
            again
        } else {
            look
        };
        desk.ask_again = Some(sooner);
    }
    // Waiting for dwell is the ordinary course; every other denial of an app that is down is told, once per guard.
    let word = denied.guard().to_string();
    let ordinary = denied
        .0
        .iter()
        .all(|denial| denial.guard == GuardName::Dwell);
    if !desk.is_down() || ordinary || incident.told.as_deref() == Some(&word) {
        return Ok(());
    }
    let Some(current) = desk.incident(incident.id).cloned() else {
        return Ok(());
    };
    let told = Incident {
        told: Some(word.clone()),
        ..current
    };
    let title = format!(
        "{} is down and {} may not start",
        desk.app.name, item.action
    );
    let key = format!("denied:{}:{}", incident.id, word);
    let detail = json!({"action": item.action, "guards": denied.0});
    let changes = desk
        .changes(&now)
        .write(Write::Incident {
            incident: Box::new(told),
            note: format!("denied: {}", denied.shown()),
        })
        .write(desk.notice("denied", key, title, denied.shown().to_owned(), &now))
        .audit("heal_denied", &desk.object(), detail);
    desk.commit(changes).await
}

/// What a round did to incidents, as writes: rows, notes, audit, recurrences taken back from the breaker, notices.
pub(super) fn incident_writes(
    desk: &Desk,
    updated: &Update,
    mut changes: Changes,
    now: &Moment,
) -> Changes {
    let mut breaker = desk.breaker.clone();
    let mut transitions = Vec::new();
    let mut rows: Vec<Incident> = updated
        .incidents
        .iter()
        .filter(|incident| desk.incident(incident.id) != Some(incident))
        .cloned()
        .collect();
    let mut notes: BTreeMap<IncidentId, &'static str> = BTreeMap::new();
    for change in &updated.changes {
        let id = change.id();
        let Some(incident) = rows.iter_mut().find(|incident| incident.id == id) else {
            continue;
        };
        let object = format!("incident:{id}");
        let name = incident
            .check
            .as_ref()
            .map_or("the host", CheckName::as_str)
            .to_owned();
        let (verb, note) = match change {
            IncidentChange::Opened(_) => {
                desk.metrics.incident_opened(incident.kind);
                if incident.status == Status::Fail || incident.kind == IncidentKind::Unknown {
                    let (key, title) = outage::opened_words(desk, incident, &name);
                    changes = changes.write(desk.notice(
                        "incident_opened",
                        key,
                        title,
                        incident.message.clone(),
                        now,
                    ));
                }
                ("incident_opened", "opened")
            }
            IncidentChange::Recurred { cured_by, .. } => {
                if let Some(heal) = cured_by {
                    let by = desk.by(Some(*heal), now);
                    let cured = breaker
                        .cures
                        .iter()
                        .find(|cure| cure.heal == *heal)
                        .map(|cure| cure.action.clone());
                    let step = breaker::recur(&breaker, id, *heal, &desk.app.policy.breaker, by);
                    breaker = step.breaker;
                    transitions.extend(step.transitions);
                    incident
                        .tried
                        .retain(|action| Some(action) != cured.as_ref());
                    let title = format!("{}: {name} is back after a cure", incident.app);
                    let key = format!("recurred:{id}:{}", now.wall_ms);
                    changes = changes.write(desk.notice(
                        "recurred",
                        key,
                        title,
                        incident.message.clone(),
                        now,
                    ));
                    ("cure_taken_back", "back: the cure did not last")
                } else {
                    ("incident_recurred", "back")
                }
            }
            IncidentChange::Gone(_) => (
                "incident_gone",
                "gone by itself; watching whether it comes back",
            ),
            IncidentChange::Closed(_) => ("incident_closed", "closed: it stayed away"),
            IncidentChange::Changed(_) => ("incident_changed", "changed"),
        };
        notes.insert(id, note);
        let detail = json!({
            "app": incident.app, "check": incident.check, "kind": incident.kind, "status": incident.status,
            "message": incident.message,
        });
        changes = changes.audit(verb, &object, detail);
    }
    changes = outage::ended_or_left(desk, updated, changes, now);
    for incident in rows {
        let note = notes
            .get(&incident.id)
            .copied()
            .unwrap_or("looked at")
            .to_owned();
        changes = changes.write(Write::Incident {
            incident: Box::new(incident),
            note,
        });
    }
    if breaker != desk.breaker {
        let detail = json!({"why": "a cure did not last", "state": breaker.state});
        changes = changes.audit("breaker_fed", &desk.object(), detail);
        changes = changes.write(Write::Breaker {
            breaker: Box::new(breaker),
            transitions,
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_holds_a_secret_is_found_by_its_name_or_by_its_value() {
        let text = |text: &str| ParamValue::Text(text.to_owned());
        let list = |text: &str| ParamValue::List(vec!["config.php".to_owned(), text.to_owned()]);
        for (name, value, secret) in [
            ("path", text("wp-content/debug.log"), false),
            ("paths", list("storage/framework/cache/data/ab"), false),
            ("paths", list("wp-content/uploads/token=x.jpg"), false),
            ("plugin", text("password-protected"), false),
            ("number", ParamValue::Int(7), false),
            ("token", ParamValue::Unknown, false),
            ("db_password", text("tweety"), true),
            ("note", text("DB_PASSWORD=tweety"), true),
            ("paths", list("mysql://shop:tweety@db/shop"), true),
            (
                "note",
                text("ghp_0123456789abcdefghijABCDEFGHIJ012345"),
                true,
            ),
        ] {
            let found = secret_among(&Params::from([(name.to_owned(), value)])).is_some();
            assert_eq!(found, secret, "{name}");
        }
    }
}
