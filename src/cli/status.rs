//! `healerctl status`: the first thing an operator types.

use std::fmt::Write as _;

use serde::Serialize;

use super::client::Client;
use super::incidents;
use super::output::{CliError, Output, code};
use super::{approvals, table};
use crate::control::wire::{ApplicationSummary, Approval, Heal, Incident, Status};
use crate::model::counted;
use crate::telemetry::redact::escape;

/// Most applications that are named; the sick ones come first.
const APPS_MAX: usize = 40;

/// Everything that is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    #[serde(flatten)]
    status: Status,
    list: Vec<ApplicationSummary>,
    incidents: Vec<Incident>,
    heals: Vec<Heal>,
    approvals: Vec<Approval>,
}

/// Asks and shows.
pub(super) async fn run(client: &Client, json: bool) -> Result<Output, CliError> {
    let open = [("open", "true".to_owned())];
    let seen = Seen {
        status: client.get("/status", &[]).await?,
        list: client.get("/applications", &[]).await?,
        incidents: client.get("/incidents", &open).await?,
        heals: client.get("/heals", &open).await?,
        approvals: client.get("/approvals", &open).await?,
    };
    let code = if is_unhealthy(&seen) {
        code::UNHEALTHY
    } else {
        code::FINE
    };
    Ok(Output::of(json, &seen, || text(&seen)).exit(code))
}

fn is_unhealthy(seen: &Seen) -> bool {
    seen.list.iter().any(super::apps::is_sick)
        || seen.incidents.iter().any(super::incidents::is_trouble)
}

fn text(seen: &Seen) -> String {
    let status = &seen.status;
    let mut text = format!(
        "healerd {}, up {}, {}\n",
        escape(&status.version),
        table::seconds(status.uptime_seconds),
        health(status)
    );
    if let Some(reason) = &status.observing {
        // Writing to a String cannot fail.
        writeln!(text, "Nothing starts by itself: {}", escape(reason)).ok();
    }
    for mode in status
        .modes
        .iter()
        .filter(|mode| mode.application_id.is_none())
    {
        writeln!(
            text,
            "Mode {} for everything, set by {} at {}: {}",
            mode.healing_mode,
            escape(&mode.owner),
            mode.since,
            escape(&mode.reason)
        )
        .ok();
    }
    text.push('\n');
    let mut apps: Vec<&ApplicationSummary> = seen.list.iter().collect();
    apps.sort_by_key(|app| (!super::apps::is_sick(app), &app.application_id));
    let hidden = apps.len().saturating_sub(APPS_MAX);
    apps.truncate(APPS_MAX);
    text.push_str(&super::apps::list(apps.into_iter()));
    if hidden > 0 {
        writeln!(text, "… and {hidden} more: `healerctl apps`").ok();
    }
    if !seen.incidents.is_empty() {
        text.push_str("\nOpen incidents\n");
        text.push_str(&incidents::lines(&seen.incidents));
    }
    if !seen.heals.is_empty() {
        text.push_str("\nHeals under way\n");
        text.push_str(&super::heals::list(&seen.heals));
    }
    if !seen.approvals.is_empty() {
        text.push_str("\nWaiting for approval\n");
        text.push_str(&approvals::list(&seen.approvals));
        text.push_str("  next: `healerctl approve ID` shows the whole and asks\n");
    }
    if !status.holds.is_empty() {
        text.push_str("\nHolds\n");
        text.push_str(&super::hold::list(&status.holds));
        text.push_str("  next: `healerctl resume SCOPE` lets automation go on\n");
    }
    text
}

fn health(status: &Status) -> String {
    let mut words = vec![counted(status.applications, "application")];
    words.extend(
        status
            .health
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(word, count)| format!("{count} {}", escape(word))),
    );
    if status.applications_held > 0 {
        words.push(format!("{} held", status.applications_held));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn what_is_sick_comes_first_and_says_what_comes_next() {
        let seen = Seen {
            status: made_up::status(),
            list: made_up::apps(),
            incidents: vec![made_up::incident()],
            heals: vec![made_up::heal()],
            approvals: vec![made_up::approval()],
        };
        assert!(is_unhealthy(&seen));
        insta::assert_snapshot!(text(&seen));
    }

    #[test]
    fn a_cured_incident_that_is_only_watched_is_no_trouble() {
        let watched = Incident {
            state: crate::model::incident::IncidentState::Watching,
            ..made_up::incident()
        };
        let mut seen = Seen {
            status: made_up::status(),
            list: made_up::apps()
                .into_iter()
                .filter(|app| app.health == "HEALTHY")
                .collect(),
            incidents: vec![watched],
            heals: Vec::new(),
            approvals: Vec::new(),
        };
        assert!(!is_unhealthy(&seen));
        assert!(text(&seen).contains("Open incidents"), "it is still shown");
        seen.incidents.push(made_up::incident());
        assert!(is_unhealthy(&seen));
    }

    #[test]
    fn a_quiet_fleet_is_short_and_fine() {
        let mut status = made_up::status();
        status.holds.clear();
        status.modes.clear();
        status.observing = None;
        status.applications_held = 0;
        let seen = Seen {
            status,
            list: made_up::apps()
                .into_iter()
                .filter(|app| app.health == "HEALTHY")
                .map(|app| ApplicationSummary { held: None, ..app })
                .collect(),
            incidents: Vec::new(),
            heals: Vec::new(),
            approvals: Vec::new(),
        };
        assert!(!is_unhealthy(&seen));
        insta::assert_snapshot!(text(&seen));
    }
}
