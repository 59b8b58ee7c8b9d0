//! What is told of a host that cannot be seen, is in doubt, or is another machine: its beginning once and its end once,
//! for all the apps that are on it. The end is told when the last of them sees it again; an app that is left behind is
//! told by its name.
//!
//! Whose the records on a host are is a matter of each login user, and told of each app.

use super::desk::Desk;
use crate::decide::incident::{IN_DOUBT, IncidentChange, NOT_OURS, OTHER_MACHINE, Update};
use crate::model::incident::{Incident, IncidentKind, IncidentState};
use crate::model::time::Moment;
use crate::seam::{Changes, Write};

/// Stands in an incident for: it was told that its app is left behind.
const TOLD_LEFT_BEHIND: &str = "left_behind";

fn is_about_host(incident: &Incident) -> bool {
    incident.kind == IncidentKind::Unknown && incident.check.is_none()
}

fn is_not_ours(incident: &Incident) -> bool {
    incident.message.starts_with(NOT_OURS)
}

/// Does it say, as long as it is open, that its app cannot see its host?
pub(super) fn is_away(incident: &Incident) -> bool {
    is_about_host(incident) && incident.state != IncidentState::Closed && !is_not_ours(incident)
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
    if is_not_ours(incident) {
        return (
            not_ours_key(incident),
            format!(
                "{} on {host}: another daemon looks after the records of {} there; nothing is tried for it",
                incident.app, desk.app.user
            ),
        );
    }
    let key = desk.shared.outage(host, &incident.id.to_string());
    if incident.message.starts_with(IN_DOUBT) {
        (
            format!("{key}:doubt"),
            format!("{host}: its identity is in doubt, nothing is tried there"),
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

fn not_ours_key(incident: &Incident) -> String {
    format!("not-ours:{}:{}", incident.app, incident.id)
}

/// Adds what a round means for the host: that it can be worked with again, or that this app is left behind.
pub(super) fn ended_or_left(
    desk: &Desk,
    updated: &Update,
    mut changes: Changes,
    now: &Moment,
) -> Changes {
    let (app, host) = (&desk.app.name, &desk.app.host);
    let seen = updated.blind.rounds == 0;
    let open = updated
        .incidents
        .iter()
        .find(|incident| is_about_host(incident) && incident.state != IncidentState::Closed);
    // Not the end when another kind of it goes on.
    let ended = closed_by(updated).filter(|_| seen && open.is_none());
    if let Some(incident) = ended.filter(|incident| is_not_ours(incident)) {
        changes = changes.write(ours_again(desk, incident, now));
    }
    let over = ended.filter(|incident| !is_not_ours(incident));
    // The first rounds that fail say nothing yet.
    if seen || open.is_some() {
        let is_away = open.is_some_and(is_away);
        if let Some(incident) = desk.shared.note_away(app, host, is_away, over) {
            changes = changes.write(seen_again(desk, &incident, now));
        }
    }
    match open {
        None if seen => desk.shared.seen_beside(app, host, ended.is_some()),
        Some(incident) if !seen && is_away(incident) => {
            let behind = desk.shared.failed_again(app);
            let is_new = desk.incident(incident.id) != Some(incident);
            if behind && !is_new && incident.told.is_none() {
                changes = left_behind(desk, incident, changes, now);
            }
        }
        Some(_) | None => {}
    }
    changes
}

/// The incident about the host that this round closed.
fn closed_by(updated: &Update) -> Option<&Incident> {
    updated.incidents.iter().find(|incident| {
        let change = IncidentChange::Closed(incident.id);
        is_about_host(incident) && updated.changes.contains(&change)
    })
}

/// The notice that a host can be worked with again.
fn seen_again(desk: &Desk, incident: &Incident, now: &Moment) -> Write {
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

/// The notice that an app is no longer another daemon's.
fn ours_again(desk: &Desk, incident: &Incident, now: &Moment) -> Write {
    desk.notice(
        "host_seen",
        format!("{}:over", not_ours_key(incident)),
        format!("{} on {} can be seen again", incident.app, desk.app.host),
        format!("It is over what was told before: {}", incident.message),
        now,
    )
}

/// Tells, once, that an app cannot see its host although others of its apps can.
fn left_behind(desk: &Desk, incident: &Incident, changes: Changes, now: &Moment) -> Changes {
    let host = &desk.app.host;
    let reason = desk.unseen_reason.as_ref().unwrap_or(&incident.message);
    let told = Incident {
        told: Some(TOLD_LEFT_BEHIND.to_owned()),
        ..incident.clone()
    };
    changes
        .write(Write::Incident {
            incident: Box::new(told),
            note: "told that it alone is left".to_owned(),
        })
        .write(desk.notice(
            "incident_opened",
            format!("host:{host}:{}:left", incident.id),
            format!(
                "{} still cannot be seen, though {host} can be seen again for another application",
                incident.app
            ),
            format!("Nothing is tried for it: {reason}"),
            now,
        ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::shared::{AppFacts, Shared};
    use super::*;
    use crate::guard::mode::Modes;
    use crate::model::id::IncidentId;
    use crate::model::name::{AppName, HostName};
    use crate::model::word::{HealingMode, Severity, Status};
    use crate::seam::store::Restart;

    fn now() -> Moment {
        Moment {
            boot_id: "boot".to_owned(),
            boot_ms: 0,
            wall_ms: 0,
        }
    }

    fn name(name: &str) -> AppName {
        name.parse().unwrap()
    }

    fn web1() -> HostName {
        "web1".parse().unwrap()
    }

    /// The incident about the host of this app.
    fn about_host(app: &str, id: u128, message: &str) -> Incident {
        Incident {
            id: IncidentId::from_raw(id),
            app: name(app),
            check: None,
            kind: IncidentKind::Unknown,
            state: IncidentState::Open,
            status: Status::Error,
            severity: Severity::Medium,
            message: message.to_owned(),
            opened: now(),
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

    /// Apps `a` and `b` on one host and `c` on another, after a start with these incidents.
    fn started(incidents: Vec<Incident>) -> Shared {
        let shared = Shared::default();
        let restart = Restart {
            incidents,
            ..Restart::default()
        };
        shared.load(&restart, &now());
        let modes = Modes {
            mode: HealingMode::FullAuto,
            max_mode: HealingMode::FullAuto,
            is_own: false,
        };
        let facts = |host: &str| AppFacts {
            host: host.parse().unwrap(),
            modes,
        };
        let apps = BTreeMap::from([
            (name("a"), facts("web1")),
            (name("b"), facts("web1")),
            (name("c"), facts("web2")),
        ]);
        shared.configure(apps, modes);
        shared
    }

    #[test]
    fn the_end_is_told_when_the_last_app_of_the_host_comes_back() {
        let shared = started(Vec::new());
        let (a, b, host) = (name("a"), name("b"), web1());
        let of_a = about_host("a", 1, "not seen for 3 rounds");
        let of_b = about_host("b", 2, "not seen for 3 rounds");
        let of_c = "web2".parse().unwrap();
        assert_eq!(shared.note_away(&name("c"), &of_c, true, None), None);
        for app in [&a, &b] {
            assert_eq!(shared.note_away(app, &host, true, None), None);
        }
        assert!(!shared.failed_again(&b), "the host is away for both");
        assert_eq!(shared.note_away(&a, &host, false, Some(&of_a)), None);
        shared.seen_beside(&a, &host, true);
        assert!(!shared.failed_again(&b), "its round may have begun before");
        assert!(shared.failed_again(&b));
        let over = shared.note_away(&b, &host, false, Some(&of_b));
        assert_eq!(over, Some(of_b));
        assert_eq!(shared.note_away(&a, &host, false, None), None, "once");
    }

    #[test]
    fn what_was_withheld_is_told_when_the_last_app_is_away_for_another_reason() {
        let shared = started(Vec::new());
        let (a, b, host) = (name("a"), name("b"), web1());
        let of_a = about_host("a", 1, "not seen for 3 rounds");
        for app in [&a, &b] {
            assert_eq!(shared.note_away(app, &host, true, None), None);
        }
        assert_eq!(shared.note_away(&a, &host, false, Some(&of_a)), None);
        // Its records are another daemon's: the host itself was seen.
        assert_eq!(shared.note_away(&b, &host, false, None), Some(of_a));
    }

    #[test]
    fn an_app_that_was_away_before_a_start_is_left_behind_only_beside_others() {
        let incidents = vec![
            about_host("a", 1, "not seen for 3 rounds"),
            about_host("b", 2, "not seen for 3 rounds"),
        ];
        let shared = started(incidents.clone());
        let (a, b, host) = (name("a"), name("b"), web1());
        assert!(!shared.failed_again(&b));
        assert_eq!(
            shared.note_away(&a, &host, false, Some(&incidents[0])),
            None
        );
        shared.seen_beside(&a, &host, false);
        assert!(!shared.failed_again(&b));
        assert!(shared.failed_again(&b));
        // The host goes away for all of them.
        assert_eq!(shared.note_away(&a, &host, true, None), None);
        assert!(!shared.failed_again(&b));
    }

    #[test]
    fn records_of_another_daemon_keep_no_host_away() {
        let not_ours = about_host("b", 2, &format!("{NOT_OURS}: it is web1 of another"));
        assert!(!is_away(&not_ours));
        let shared = started(vec![not_ours]);
        let of_a = about_host("a", 1, "not seen for 3 rounds");
        assert_eq!(shared.note_away(&name("a"), &web1(), true, None), None);
        let over = shared.note_away(&name("a"), &web1(), false, Some(&of_a));
        assert_eq!(over, Some(of_a));
    }
}
