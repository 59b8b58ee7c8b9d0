//! Check results and what follows from them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{names, seconds, text, texts};
use crate::control::wire;
use crate::engine::handle::AppView;
use crate::model::breaker::BreakerState;
use crate::model::check::CheckResult;
use crate::model::plan::{CannotHeal, ParamValue, Params, PlanItem};
use crate::model::{Fact, Facts};

/// A check's result.
pub(in crate::control) fn check(result: &CheckResult) -> wire::CheckResult {
    wire::CheckResult {
        check_name: result.check.to_string(),
        category: result.category,
        status: result.status,
        severity: result.severity,
        message: text(&result.message),
        details: details(&result.facts),
        suggested_fix: result.suggested_fix.as_deref().map(text),
        execution_time: result.execution_ms,
        about: result.about,
        availability: result.availability,
    }
}

fn details(facts: &BTreeMap<String, Facts>) -> Value {
    let probes = facts.iter().map(|(probe, facts)| {
        let facts: Map<_, _> = facts
            .iter()
            .map(|(name, fact)| (text(name), named(name, fact)))
            .collect();
        (text(probe), Value::Object(facts))
    });
    Value::Object(probes.collect())
}

fn named(name: &str, fact: &Fact) -> Value {
    match fact {
        Fact::Text(_) if super::is_secret(name) => Value::String("[redacted]".to_owned()),
        Fact::Text(_)
        | Fact::Unknown(_)
        | Fact::Absent
        | Fact::Bool(_)
        | Fact::Int(_)
        | Fact::List(_)
        | Fact::Map(_)
        | Fact::Secret { .. } => shown(fact),
    }
}

fn shown(fact: &Fact) -> Value {
    match fact {
        Fact::Unknown(reason) => json!({ "unknown": text(reason) }),
        Fact::Absent => Value::Null,
        Fact::Bool(value) => (*value).into(),
        Fact::Int(value) => (*value).into(),
        Fact::Text(value) => text(value).into(),
        Fact::List(list) => list.iter().map(shown).collect(),
        Fact::Map(map) => map
            .iter()
            .map(|(name, fact)| (text(name), named(name, fact)))
            .collect(),
        Fact::Secret { length } => json!({ "secretLength": length }),
    }
}

/// What keeps anything from starting on an application, whatever its plan says.
pub(in crate::control) fn stops(view: &AppView) -> Vec<wire::Stop> {
    let app = &view.name;
    let mut stops = Vec::new();
    let breaker = &view.breaker;
    if !breaker.can_heal {
        stops.push(wire::Stop {
            by: "breaker".to_owned(),
            refuses_persons: !breaker.admits_persons,
            reason: text(&breaker.reason),
            next: if breaker.forced.is_some() {
                format!("`healerctl breaker {app} force none` lifts that")
            } else if breaker.circuit_breaker_state == BreakerState::HalfOpen {
                format!("`healerctl heals --app {app}` shows the trial")
            } else {
                format!(
                    "`healerctl breaker {app} history` shows what led there; `healerctl breaker {app} reset` clears it"
                )
            },
        });
    }
    if let Some(hold) = &view.held {
        let scope = hold.scope.to_text();
        stops.push(wire::Stop {
            by: "hold".to_owned(),
            refuses_persons: false,
            reason: text(&format!("{scope} is held by {}: {}", hold.owner, hold.reason)),
            next: format!(
                "`healerctl resume {scope}` lets automation go on; what a person asks for runs all the same"
            ),
        });
    }
    if let Some(reason) = &view.observing {
        stops.push(wire::Stop {
            by: "daemon".to_owned(),
            refuses_persons: false,
            reason: text(&format!("Nothing starts by itself: {reason}")),
            next: "`healerctl resume all` lets it go on".to_owned(),
        });
    }
    stops
}

/// An application's plan.
pub(in crate::control) fn plan(view: &AppView) -> wire::Plan {
    let cannot = |item: &CannotHeal| {
        let result = view
            .results
            .iter()
            .find(|result| result.check == item.check);
        wire::CannotHeal {
            check_name: item.check.to_string(),
            category: result.map(|result| result.category),
            status: item.status,
            severity: result.map(|result| result.severity),
            message: result.map(|result| text(&result.message)),
            suggested_fix: result
                .and_then(|result| result.suggested_fix.as_deref())
                .map(text),
            reason: text(&item.reason),
        }
    };
    wire::Plan {
        auto_heal: view.plan.auto_heal.iter().map(item).collect(),
        require_approval: view.plan.require_approval.iter().map(item).collect(),
        cannot_heal: view.plan.cannot_heal.iter().map(cannot).collect(),
        summary: text(&view.plan.summary()),
        not_looked: not_looked(view),
        stops: stops(view),
    }
}

/// Before the first look there is no plan, which is not the same as nothing to do.
fn not_looked(view: &AppView) -> Option<String> {
    let due = view.due.to_text();
    match (&view.looked, &view.unseen) {
        (Some(_), _) => None,
        (None, Some(reason)) => Some(format!(
            "Nothing could be looked at yet ({}); it is tried again at {due}.",
            text(reason)
        )),
        (None, None) => Some(format!(
            "Nothing was looked at yet; the first look is due at {due}. `healerctl diagnose {}` looks now.",
            view.name
        )),
    }
}

fn item(item: &PlanItem) -> wire::PlanItem {
    wire::PlanItem {
        action_name: item.action.to_string(),
        params: params(&item.params),
        risk_level: item.risk,
        matched: item.matched,
        checks: names(&item.checks),
        status: item.status,
        severity: item.severity,
        unavailable: item.unavailable,
        reason: text(&item.reason),
        alternatives: names(&item.alternatives),
        write_set: texts(&item.writes),
        estimated_seconds: seconds(item.estimate),
    }
}

/// Parameters; one that is not known yet is null.
pub(super) fn params(params: &Params) -> BTreeMap<String, Value> {
    let value = |name: &str, value: &ParamValue| match value {
        ParamValue::Unknown => Value::Null,
        ParamValue::Int(value) => (*value).into(),
        ParamValue::Text(_) if super::is_secret(name) => Value::String("[redacted]".to_owned()),
        ParamValue::Text(value) => text(value).into(),
        ParamValue::List(list) => texts(list).into(),
    };
    params
        .iter()
        .map(|(name, found)| (name.clone(), value(name, found)))
        .collect()
}
