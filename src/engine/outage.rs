//! What is told of a host that cannot be seen, is in doubt, or is another machine: its beginning once and its end once,
//! for all the apps that are on it.

use super::desk::Desk;
use crate::decide::incident::{IN_DOUBT, NOT_OURS, OTHER_MACHINE, Update};
use crate::model::incident::{Incident, IncidentKind, IncidentState};
use crate::model::time::Moment;
use crate::seam::Write;

fn is_about_host(incident: &Incident) -> bool {
    incident.kind == IncidentKind::Unknown && incident.check.is_none()
}

/// Key and title of the notice about a new incident. A host that cannot be seen is told once for all its apps.
pub(super) fn opened_words(desk: &Desk, incident: &Incident, name: &str) -> (String, String) {
    if !is_about_host(incident) {
        return (
            format!("incident:{}", incident.id),
            format!("{}: {name} is {}", incident.app, incident.status),
        );
    }
    let host = &desk.app.host;
    let key = desk.shared.outage(host, &incident.id.to_string());
    if incident.message.starts_with(IN_DOUBT) {
        (
            format!("{key}:doubt"),
            format!("{host}: its identity is in doubt, nothing is tried there"),
        )
    } else if incident.message.starts_with(NOT_OURS) {
        (
            format!("{key}:not-ours"),
            format!("{host}: another daemon looks after it, nothing is tried there"),
        )
    } else if incident.message.starts_with(OTHER_MACHINE) {
        (
            format!("{key}:other"),
            format!("{host} is another machine than the one that was adopted"),
        )
    } else {
        (key, format!("{host} cannot be seen"))
    }
}

/// Is this incident, which was closed, the end of an outage? Not when another kind of it goes on.
pub(super) fn is_over(incident: &Incident, updated: &Update) -> bool {
    let goes_on = updated
        .incidents
        .iter()
        .any(|other| is_about_host(other) && other.state != IncidentState::Closed);
    is_about_host(incident) && !goes_on && updated.blind.rounds == 0
}

/// The notice that a host can be worked with again.
pub(super) fn seen_again(desk: &Desk, incident: &Incident, now: &Moment) -> Write {
    let host = &desk.app.host;
    let key = desk.shared.seen_again(host, &incident.id.to_string());
    desk.notice(
        "host_seen",
        format!("{key}:over"),
        format!("{host} can be seen again"),
        format!("It is over what was told before: {}", incident.message),
        now,
    )
}
