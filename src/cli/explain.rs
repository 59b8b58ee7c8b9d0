//! `healerctl explain`: all about one incident, heal, approval or check, and how they hang together.

use serde::Serialize;
use std::fmt::Write as _;

use super::client::Client;
use super::output::{CliError, Output, code};
use super::{approvals, apps, heals, ids, incidents, table};
use crate::control::wire::{Application, Approval, CheckResult, Heal, Incident, PlanItem};
use crate::model::name::{AppName, CheckName};
use crate::telemetry::redact::escape;

/// What an id stands for.
enum Found {
    Incident(Box<Incident>),
    Heal(String),
    Approval(String),
}

/// Everything that hangs together.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    #[serde(skip_serializing_if = "Option::is_none")]
    incident: Option<Incident>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    heals: Vec<Heal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<Approval>,
}

/// One check of an application and what follows from it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    check: CheckResult,
    items: Vec<PlanItem>,
    incidents: Vec<Incident>,
    cannot: Vec<String>,
}

/// Tells all.
pub(super) async fn run(client: &Client, json: bool, given: &str) -> Result<Output, CliError> {
    if let Some((app, check)) = given.split_once('/') {
        return one_check(client, json, app, check).await;
    }
    let whole = gather(client, find(client, given).await?).await?;
    Ok(Output::of(json, &whole, || text(&whole)))
}

async fn find(client: &Client, given: &str) -> Result<Found, CliError> {
    let query = super::all_rows();
    let incidents: Vec<Incident> = client.get("/incidents", &query).await?;
    let heals: Vec<Heal> = client.get("/heals", &query).await?;
    let approvals: Vec<Approval> = client.get("/approvals", &query).await?;
    let known = incidents
        .iter()
        .map(|incident| incident.incident_id.as_str())
        .chain(heals.iter().map(|heal| heal.heal_id.as_str()))
        .chain(
            approvals
                .iter()
                .map(|approval| approval.approval_id.as_str()),
        );
    let id = ids::resolve(
        "incident, heal or approval",
        "healerctl incidents --all`, `healerctl heals` and `healerctl approvals --all",
        given,
        known,
    )?;
    if let Some(incident) = incidents
        .into_iter()
        .find(|incident| incident.incident_id == id)
    {
        return Ok(Found::Incident(Box::new(incident)));
    }
    Ok(if heals.iter().any(|heal| heal.heal_id == id) {
        Found::Heal(id)
    } else {
        Found::Approval(id)
    })
}

/// Follows the ids from what was found to the rest of its story.
async fn gather(client: &Client, found: Found) -> Result<Whole, CliError> {
    let mut whole = Whole::default();
    match found {
        Found::Incident(incident) => {
            for id in &incident.heals {
                whole.heals.push(heals::find(client, id).await?);
            }
            let approval = whole
                .heals
                .iter()
                .find_map(|heal| heal.details.approval_id.clone());
            if let Some(id) = approval {
                whole.approval = Some(approvals::find(client, &id).await?);
            }
            whole.incident = Some(*incident);
        }
        Found::Heal(id) => {
            let heal = heals::find(client, &id).await?;
            if let Some(id) = &heal.details.approval_id {
                whole.approval = Some(approvals::find(client, id).await?);
            }
            if !heal.details.incident_id.is_empty() {
                // An old incident may have left the list; the heal's own story is still whole.
                whole.incident = incidents::find(client, &heal.details.incident_id)
                    .await
                    .ok();
            }
            whole.heals.push(heal);
        }
        Found::Approval(id) => {
            let approval = approvals::find(client, &id).await?;
            if let Some(id) = &approval.heal_id {
                whole.heals.push(heals::find(client, id).await?);
            }
            if let Some(id) = &approval.incident_id {
                whole.incident = incidents::find(client, id).await.ok();
            }
            whole.approval = Some(approval);
        }
    }
    Ok(whole)
}

fn text(whole: &Whole) -> String {
    let mut parts = Vec::new();
    if let Some(incident) = &whole.incident {
        parts.push(incidents::whole(incident));
    }
    if let Some(approval) = &whole.approval {
        parts.push(approvals::preview(approval));
    }
    parts.extend(whole.heals.iter().map(heals::whole));
    parts.join("\n")
}

async fn one_check(
    client: &Client,
    json: bool,
    app: &str,
    check: &str,
) -> Result<Output, CliError> {
    let app: AppName = ids::name(app)?;
    let check: CheckName = ids::name(check)?;
    let whole: Application = client.get(&format!("/applications/{app}"), &[]).await?;
    let checked = about(whole, check.as_str()).ok_or_else(|| {
        CliError::new(
            code::USAGE,
            "unknown",
            format!("`{app}` has no result of a check `{check}`"),
        )
        .hint(format!("`healerctl checks {app}` shows what there is"))
    })?;
    Ok(Output::of(json, &checked, || checked_text(&checked)))
}

fn about(app: Application, check: &str) -> Option<Checked> {
    let result = app
        .checks
        .into_iter()
        .find(|result| result.check_name == check)?;
    let is_about = |names: &[String]| names.iter().any(|name| name == check);
    Some(Checked {
        items: app
            .plan
            .auto_heal
            .into_iter()
            .chain(app.plan.require_approval)
            .filter(|item| is_about(&item.checks))
            .collect(),
        cannot: app
            .plan
            .cannot_heal
            .into_iter()
            .filter(|cannot| cannot.check_name == check)
            .map(|cannot| cannot.reason)
            .collect(),
        incidents: app
            .incidents
            .into_iter()
            .filter(|incident| incident.check_name.as_deref() == Some(check))
            .collect(),
        check: result,
    })
}

fn checked_text(checked: &Checked) -> String {
    let mut text = apps::results(std::slice::from_ref(&checked.check));
    if let Some(fix) = &checked.check.suggested_fix {
        writeln!(text, "suggested: {}", escape(fix)).ok();
    }
    let facts = facts(&checked.check.details);
    text.push_str(&table::list("facts", facts));
    text.push_str(&table::list(
        "what follows",
        checked.items.iter().map(|item| {
            format!(
                "{} ({}, {} match): {}",
                item.action_name, item.risk_level, item.matched, item.reason
            )
        }),
    ));
    text.push_str(&table::list(
        "why nothing can heal it",
        checked.cannot.clone(),
    ));
    for incident in &checked.incidents {
        text.push('\n');
        text.push_str(&incidents::whole(incident));
    }
    text
}

/// Facts by probe and name, one a line.
fn facts(details: &serde_json::Value) -> Vec<String> {
    let Some(probes) = details.as_object() else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (probe, facts) in probes {
        match facts.as_object() {
            Some(facts) => {
                lines.extend(
                    facts
                        .iter()
                        .map(|(name, value)| format!("{probe}.{name} = {value}")),
                );
            }
            None => lines.push(format!("{probe} = {facts}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn an_incident_is_told_with_its_heals_and_its_approval() {
        insta::assert_snapshot!(text(&Whole {
            incident: Some(made_up::incident()),
            heals: vec![made_up::heal()],
            approval: None,
        }));
    }

    #[test]
    fn a_check_is_told_with_its_facts_and_what_follows() {
        let results = made_up::results();
        let plan = made_up::plan();
        insta::assert_snapshot!(checked_text(&Checked {
            check: results[1].clone(),
            items: plan.auto_heal,
            incidents: vec![made_up::incident()],
            cannot: Vec::new(),
        }));
    }
}
