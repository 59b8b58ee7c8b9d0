//! `healerctl incidents`: open symptoms, what comes next for each, and closing one.

use super::args::{Reason, Which};
use super::client::Client;
use super::output::{CliError, Output, code};
use super::{ask, ids, table};
use crate::control::wire::{Done, Incident, ReasonRequest};
use crate::model::incident::IncidentState;
use crate::telemetry::redact::escape;

/// Lists them.
pub(super) async fn all(
    client: &Client,
    json: bool,
    which: &Which,
    all: bool,
) -> Result<Output, CliError> {
    let mut query = super::query(which)?;
    if !all {
        query.push(("open", "true".to_owned()));
    }
    let incidents: Vec<Incident> = client.get("/incidents", &query).await?;
    let code = if incidents.iter().any(is_trouble) && !all {
        code::UNHEALTHY
    } else {
        code::FINE
    };
    let output = Output::of(json, &incidents, || {
        if incidents.is_empty() {
            "No open incident.\n".to_owned()
        } else {
            lines(&incidents)
        }
    });
    Ok(output.exit(code))
}

/// Is somebody wanted, or something being done? One that was cured, or went by itself, and is only watched, is none.
pub(super) fn is_trouble(incident: &Incident) -> bool {
    match incident.state {
        IncidentState::Open | IncidentState::Healing | IncidentState::Escalated => true,
        IncidentState::Watching | IncidentState::Closed => false,
    }
}

/// Closes one.
pub(super) async fn close(
    client: &Client,
    json: bool,
    id: &str,
    why: &Reason,
) -> Result<Output, CliError> {
    let incident = find(client, id).await?;
    let request = ReasonRequest {
        reason: ask::reason(why)?,
    };
    let done: Done = client
        .post(
            &format!("/incidents/{}/close", incident.incident_id),
            &request,
        )
        .await?;
    Ok(super::done(json, &done))
}

/// One incident by the beginning of its id.
pub(super) async fn find(client: &Client, given: &str) -> Result<Incident, CliError> {
    let known: Vec<Incident> = client.get("/incidents", &super::all_rows()).await?;
    let id = ids::resolve(
        "incident",
        "healerctl incidents --all",
        given,
        known.iter().map(|incident| incident.incident_id.as_str()),
    )?;
    known
        .into_iter()
        .find(|incident| incident.incident_id == id)
        .ok_or_else(|| CliError::new(code::FAILED, "unknown", "the incident is gone"))
}

/// Incidents with what comes next below each.
pub(super) fn lines(incidents: &[Incident]) -> String {
    let length = ids::shown_length(
        incidents
            .iter()
            .map(|incident| incident.incident_id.as_str()),
    );
    let table = table::rows(
        [
            "INCIDENT", "APP", "CHECK", "STATE", "STATUS", "SEVERITY", "OPENED", "MESSAGE",
        ],
        incidents.iter().map(|incident| {
            [
                ids::short(&incident.incident_id, length),
                incident.application_id.clone(),
                incident
                    .check_name
                    .clone()
                    .unwrap_or_else(|| incident.kind.to_string()),
                incident.state.to_string(),
                incident.status.to_string(),
                incident.severity.to_string(),
                incident.opened.clone(),
                incident.message.clone(),
            ]
        }),
        "",
    );
    let mut text = String::new();
    let mut rows = table.lines();
    if let Some(header) = rows.next() {
        text.push_str(header);
        text.push('\n');
    }
    for (row, incident) in rows.zip(incidents) {
        text.push_str(row);
        text.push('\n');
        if let Some(next) = &incident.next {
            text.push_str("  next: ");
            text.push_str(&escape(next));
            text.push('\n');
        }
    }
    text
}

/// All about one.
pub(super) fn whole(incident: &Incident) -> String {
    let mut text = table::fields([
        ("incident", Some(incident.incident_id.clone())),
        ("application", Some(incident.application_id.clone())),
        ("check", incident.check_name.clone()),
        ("kind", Some(incident.kind.to_string())),
        ("state", Some(incident.state.to_string())),
        (
            "status",
            Some(format!("{} {}", incident.status, incident.severity)),
        ),
        ("message", table::some(&incident.message)),
        ("opened", Some(incident.opened.clone())),
        (
            "persisted",
            Some(table::seconds(incident.persisted_seconds)),
        ),
        ("well since", incident.well_since.clone()),
        ("tried", table::some(&table::joined(&incident.tried))),
        ("closed by", incident.closed_by.clone()),
        ("next", incident.next.clone()),
    ]);
    text.push_str(&table::list("heals", incident.heals.clone()));
    text
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn each_incident_says_what_comes_next() {
        let mut other = made_up::incident();
        other.check_name = None;
        other.next = None;
        insta::assert_snapshot!(lines(&[made_up::incident(), other]));
    }

    #[test]
    fn one_incident_is_shown_whole() {
        insta::assert_snapshot!(whole(&made_up::incident()));
    }
}
