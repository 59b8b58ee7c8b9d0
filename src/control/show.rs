//! The model's values as the wire shows them. Every free text passes the redactor here, and nowhere else.

mod host;
mod plan;
mod rows;

pub(super) use host::{finding, host, offer};
pub(super) use plan::{check, plan, stops};
pub(super) use rows::{
    action, approval, audit, backup, dry_run, event, hold, incident, mode, mute, preview,
    transition,
};

use std::time::Duration;

use serde_json::Value;

use super::wire;
use crate::engine::handle::AppView;
use crate::guard::breaker::status::BreakerStatus;
use crate::model::heal::{AbortCause, Event, Heal, HealState, Origin, Outcome, UndoReport};
use crate::model::name::AppName;
use crate::model::time::Moment;
use crate::telemetry::redact;

/// Longest text that is shown, in bytes.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// A free text, without secrets and without anything that moves a terminal.
pub(super) fn text(text: &str) -> String {
    redact::clean(text, TEXT_BYTES_MAX)
}

pub(super) fn texts(list: &[String]) -> Vec<String> {
    list.iter().map(|one| text(one)).collect()
}

/// Free JSON; a value whose key tells of a secret is hidden whole.
pub(super) fn json(value: &Value) -> Value {
    match value {
        Value::String(found) => Value::String(text(found)),
        Value::Array(list) => list.iter().map(json).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (text(key), under(key, value)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn under(key: &str, value: &Value) -> Value {
    match value {
        Value::String(_) if is_secret(key) => Value::String("[redacted]".to_owned()),
        Value::String(_)
        | Value::Array(_)
        | Value::Object(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_) => json(value),
    }
}

/// Would the redactor hide what stands behind this key?
pub(super) fn is_secret(key: &str) -> bool {
    let line = format!("{key}=\"shown\"");
    redact::hide(&line) != line
}

pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

/// The moment a length of time after another, as text.
pub(super) fn later(since: &Moment, ms: u64) -> String {
    since.plus(Duration::from_millis(ms)).to_text()
}

pub(super) fn names<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// An application in a list.
pub(super) fn summary(view: &AppView) -> wire::ApplicationSummary {
    wire::ApplicationSummary {
        application_id: view.name.to_string(),
        host: view.host.to_string(),
        stack: view.stack.to_string(),
        health: view.health.as_str().to_owned(),
        held: view.held.as_ref().map(hold),
        healing_mode: view.mode,
        mode_origin: text(&view.mode_origin),
        circuit_breaker_state: view.breaker.circuit_breaker_state,
        circuit_breaker_forced: view.breaker.forced.as_deref().map(text),
        bad: view
            .results
            .iter()
            .filter(|result| result.status.is_bad())
            .map(|result| result.check.to_string())
            .collect(),
        incidents_open: view.incidents.len() as u64,
        heals: view
            .heals
            .iter()
            .filter(|heal| !heal.state.is_end())
            .map(|heal| heal.id.to_string())
            .collect(),
        looked: view.looked.as_ref().map(Moment::to_text),
        unseen: view.unseen.as_deref().map(text),
    }
}

/// An application, whole.
pub(super) fn application(view: &AppView, parent: Option<&AppName>) -> wire::Application {
    wire::Application {
        summary: summary(view),
        path: text(&view.path),
        url: view.url.as_deref().map(text),
        user: text(&view.user),
        parent: parent.map(ToString::to_string),
        circuit_breaker: breaker(&view.breaker),
        checks: view.results.iter().map(check).collect(),
        plan: plan(view),
        incidents: view
            .incidents
            .iter()
            .map(|row| incident(row, Some(view)))
            .collect(),
        mutes: view.mutes.iter().map(mute).collect(),
        due: view.due.to_text(),
    }
}

/// Results and plan.
pub(super) fn diagnosis(view: &AppView) -> wire::Diagnosis {
    wire::Diagnosis {
        application_id: view.name.to_string(),
        health: view.health.as_str().to_owned(),
        looked: view.looked.as_ref().map(Moment::to_text),
        unseen: view.unseen.as_deref().map(text),
        results: view.results.iter().map(check).collect(),
        plan: plan(view),
    }
}

/// A breaker's status.
pub(super) fn breaker(status: &BreakerStatus) -> wire::BreakerStatus {
    wire::BreakerStatus {
        circuit_breaker_state: status.circuit_breaker_state,
        consecutive_failures: status.consecutive_failures,
        max_retries: status.max_retries,
        last_circuit_breaker_open: status.last_circuit_breaker_open.clone(),
        circuit_breaker_reset_at: status.circuit_breaker_reset_at.clone(),
        remaining_minutes: status.remaining_minutes,
        can_heal: status.can_heal,
        reason: text(&status.reason),
    }
}

/// A heal; `view` is its application as it is now, when it is still configured.
pub(super) fn heal(heal: &Heal, view: Option<&AppView>, parent: Option<&AppName>) -> wire::Heal {
    use crate::model::breaker::BreakerState;
    use crate::model::word::HealingMode;
    // A subdomain's heal is told under its parent, as it was asked for.
    let (application, subdomain) = match parent {
        Some(parent) => (parent.to_string(), Some(heal.app.to_string())),
        None => (heal.app.to_string(), None),
    };
    wire::Heal {
        application_id: application,
        action_name: heal.action.name.to_string(),
        subdomain,
        success: heal
            .state
            .is_end()
            .then_some(matches!(heal.state, HealState::Cured { .. })),
        message: text(&heal.message),
        details: details(heal, view),
        risk_level: heal.action.risk,
        healing_mode: heal
            .mode
            .or_else(|| view.map(|view| view.mode))
            .unwrap_or(HealingMode::Manual),
        backup_id: heal.state.backup().map(|id| id.to_string()),
        circuit_breaker_state: view.map_or(BreakerState::Closed, |view| {
            view.breaker.circuit_breaker_state
        }),
        heal_id: heal.id.to_string(),
        state: heal.state.name().to_owned(),
    }
}

fn details(heal: &Heal, view: Option<&AppView>) -> wire::HealDetails {
    let (origin, person, approval) = match &heal.origin {
        Origin::Unattended => ("unattended", None, None),
        Origin::Requested(person) => ("requested", Some(person), None),
        Origin::Approved(id) => ("approved", None, Some(id)),
        Origin::Rollback { person, .. } => ("rollback", Some(person), None),
    };
    wire::HealDetails {
        host: heal.host.to_string(),
        origin: origin.to_owned(),
        person: person.map(|person| text(&person.to_text())),
        approval_id: approval.map(ToString::to_string),
        incident_id: heal.incident.to_string(),
        checks: names(&heal.checks),
        trial: heal.trial,
        admitted: heal.admitted.to_text(),
        moved: heal.moved.to_text(),
        ended: heal.state.is_end(),
        waits_for_person: waits_for_person(&heal.state),
        held: view
            .filter(|_| !heal.state.is_end())
            .and_then(|view| view.held.as_ref())
            .map(hold),
        waits_for: view
            .filter(|_| !heal.state.is_end())
            .and_then(|view| view.waits.get(&heal.id))
            .map(|waits| text(waits)),
        outcome: heal
            .state
            .course()
            .map(|course| outcome(&course.outcome).to_owned()),
        reason: why(&heal.state).map(text),
        undo: undo_report(&heal.state).map(|report| wire::UndoReport {
            restored: report.restored,
            already: report.already,
            kept: texts(&report.kept),
            failed: texts(&report.failed),
            blocked: texts(&report.blocked),
        }),
        journal: Vec::new(),
    }
}

fn waits_for_person(state: &HealState) -> bool {
    match state {
        HealState::Kept { decided, .. } => decided.is_none(),
        HealState::UndoBlocked { .. } => true,
        HealState::Admitted
        | HealState::Protected { .. }
        | HealState::Acting { .. }
        | HealState::InDoubt { .. }
        | HealState::Settling { .. }
        | HealState::Verifying { .. }
        | HealState::Soaking { .. }
        | HealState::Undoing { .. }
        | HealState::Rechecking { .. }
        | HealState::Cured { .. }
        | HealState::NotCured { .. }
        | HealState::Undone { .. }
        | HealState::UndoFailed { .. }
        | HealState::Aborted { .. } => false,
    }
}

const fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Failed(_) => "failed",
        Outcome::TimedOut => "timed_out",
        Outcome::Cancelled => "cancelled",
        Outcome::Interrupted => "interrupted",
    }
}

fn why(state: &HealState) -> Option<&str> {
    match state {
        HealState::Undoing { reason, .. }
        | HealState::Rechecking { reason, .. }
        | HealState::Undone { reason, .. }
        | HealState::UndoBlocked { reason, .. }
        | HealState::UndoFailed { reason, .. } => Some(reason.text()),
        HealState::NotCured { reason, .. } | HealState::Kept { reason, .. } => Some(reason),
        HealState::Aborted { cause } => Some(match cause {
            AbortCause::BackupFailed(message)
            | AbortCause::TargetChanged(message)
            | AbortCause::NeverRan(message)
            | AbortCause::Denied { message, .. } => message,
            AbortCause::SymptomGone => "the symptom was gone",
        }),
        HealState::Admitted
        | HealState::Protected { .. }
        | HealState::Acting { .. }
        | HealState::InDoubt { .. }
        | HealState::Settling { .. }
        | HealState::Verifying { .. }
        | HealState::Soaking { .. }
        | HealState::Cured { .. } => None,
    }
}

fn undo_report(state: &HealState) -> Option<&UndoReport> {
    match state {
        HealState::Rechecking { report, .. }
        | HealState::Undone { report, .. }
        | HealState::UndoBlocked { report, .. }
        | HealState::UndoFailed { report, .. } => Some(report),
        HealState::Admitted
        | HealState::Protected { .. }
        | HealState::Acting { .. }
        | HealState::InDoubt { .. }
        | HealState::Settling { .. }
        | HealState::Verifying { .. }
        | HealState::Soaking { .. }
        | HealState::Undoing { .. }
        | HealState::Cured { .. }
        | HealState::NotCured { .. }
        | HealState::Kept { .. }
        | HealState::Aborted { .. } => None,
    }
}

/// One line of a heal's journal.
pub(super) fn journal(at: &Moment, event: &Event) -> wire::JournalLine {
    let detail = match event {
        Event::BackupVerified { backup } => backup.map(|id| id.to_string()),
        Event::BackupFailed { message }
        | Event::TargetChanged { message }
        | Event::NeverRan { message }
        | Event::WitnessUnreadable { message } => Some(message.clone()),
        Event::Denied { guard, message } => Some(format!("{guard}: {message}")),
        Event::Ended {
            outcome: ended,
            wrote,
        } => {
            let changed = if *wrote {
                "changed files"
            } else {
                "changed no file"
            };
            let said = match ended {
                Outcome::Failed(said) => format!(": {said}"),
                Outcome::Done | Outcome::TimedOut | Outcome::Cancelled | Outcome::Interrupted => {
                    String::new()
                }
            };
            Some(format!("{}, {changed}{said}", outcome(ended)))
        }
        Event::EndedLate {
            outcome: ended,
            reason,
            ..
        } => Some(format!("{}; {reason}", outcome(ended))),
        Event::Looked { looks } => Some(format!(
            "look {}: well {}, down {}",
            looks.made, looks.well, looks.down
        )),
        Event::FoundBad { reason } => Some(reason.text().to_owned()),
        Event::DeadlinePassed { reason } => Some(reason.clone()),
        Event::UndoEnded { report } => Some(format!(
            "restored {}, kept {}, failed {}, blocked {}",
            report.restored,
            report.kept.len(),
            report.failed.len(),
            report.blocked.len()
        )),
        Event::Decided {
            undo,
            person,
            reason,
        } => {
            let word = if *undo { "undo" } else { "keep" };
            Some(format!("{word}, {}: {reason}", person.to_text()))
        }
        Event::SymptomGone
        | Event::BackupStale
        | Event::IntentWritten
        | Event::OutcomeUnknown
        | Event::SettleOver
        | Event::FoundWell
        | Event::SoakOver
        | Event::Rechecked => None,
    };
    wire::JournalLine {
        at: at.to_text(),
        event: event.name().to_owned(),
        detail: detail.as_deref().map(text),
    }
}
