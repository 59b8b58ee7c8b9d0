//! What a person sets by hand on one application: its breaker, mutes, and the end of an incident.

use std::time::Duration;

use serde_json::json;

use super::super::desk::Desk;
use super::super::handle::unknown;
use super::{Done, by_person, conflict};
use crate::guard::breaker::{self, By};
use crate::model::approval::Person;
use crate::model::breaker::{Forced, ForcedState};
use crate::model::id::IncidentId;
use crate::model::incident::{Incident, IncidentState};
use crate::model::name::CheckName;
use crate::model::stop::Mute;
use crate::seam::Write;

pub(super) async fn reset_breaker(desk: &mut Desk, reason: String, person: &Person) -> Done<()> {
    let now = desk.now();
    let actor = person.to_text();
    let step = breaker::reset(
        &desk.breaker,
        &reason,
        By {
            actor: &actor,
            heal: None,
            now: &now,
            draw: 500,
        },
    );
    let changes = by_person(desk, person, &now)
        .write(Write::Breaker {
            breaker: Box::new(step.breaker),
            transitions: step.transitions,
        })
        .audit("breaker_reset", &desk.object(), json!({"reason": reason}));
    Ok(desk.commit(changes).await?)
}

pub(super) async fn force_breaker(
    desk: &mut Desk,
    state: Option<ForcedState>,
    reason: String,
    length: Option<Duration>,
    person: &Person,
) -> Done<()> {
    let now = desk.now();
    let forced = state.map(|how| Forced {
        how,
        owner: person.to_text(),
        reason: reason.clone(),
        since: now.clone(),
        for_ms: length.map(|length| u64::try_from(length.as_millis()).unwrap_or(u64::MAX)),
    });
    let breaker = breaker::force(&desk.breaker, forced);
    let changes = by_person(desk, person, &now)
        .write(Write::Breaker {
            breaker: Box::new(breaker),
            transitions: Vec::new(),
        })
        .audit(
            "breaker_forced",
            &desk.object(),
            json!({"state": state, "reason": reason}),
        );
    desk.commit(changes).await?;
    let word = state.map_or_else(
        || "no longer forced".to_owned(),
        |how| format!("forced {how}"),
    );
    let text = format!("{word} by {}: {reason}", person.to_text());
    desk.tell("breaker", text, None);
    Ok(())
}

pub(super) async fn mute(
    desk: &mut Desk,
    check: CheckName,
    length: Duration,
    reason: String,
    person: &Person,
) -> Done<()> {
    if desk.stack.check(&check).is_none() {
        return Err(unknown(
            "check",
            check.as_str(),
            &format!("healerctl checks {}", desk.app.name),
        )
        .into());
    }
    let now = desk.now();
    let mute = Mute {
        app: desk.app.name.clone(),
        check: check.clone(),
        owner: person.to_text(),
        reason: reason.clone(),
        since: now.clone(),
        for_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
    };
    let changes = by_person(desk, person, &now)
        .write(Write::Mute(mute))
        .audit(
            "muted",
            &desk.object(),
            json!({"check": check, "reason": reason}),
        );
    Ok(desk.commit(changes).await?)
}

pub(super) async fn unmute(
    desk: &mut Desk,
    check: CheckName,
    why: Option<String>,
    person: &Person,
) -> Done<()> {
    if !desk.mutes.iter().any(|mute| mute.check == check) {
        return Err(unknown("mute of check", check.as_str(), "healerctl status").into());
    }
    let now = desk.now();
    let write = Write::MuteEnded {
        app: desk.app.name.clone(),
        check: check.clone(),
    };
    let changes = by_person(desk, person, &now).write(write).audit(
        "unmuted",
        &desk.object(),
        json!({"check": check, "reason": why}),
    );
    Ok(desk.commit(changes).await?)
}

pub(super) async fn close_incident(
    desk: &mut Desk,
    id: IncidentId,
    reason: String,
    person: &Person,
) -> Done<()> {
    let Some(incident) = desk.incident(id).cloned() else {
        return Err(conflict(
            "closed",
            format!("Incident {id} is closed already."),
            "`healerctl incidents` shows the open ones.",
        ));
    };
    if incident.state == IncidentState::Healing {
        return Err(conflict(
            "busy",
            "A heal is working on it.",
            "`healerctl heals` shows it.",
        ));
    }
    let now = desk.now();
    let closed = Incident {
        state: IncidentState::Closed,
        closed_by: Some(person.to_text()),
        ..incident
    };
    let changes = by_person(desk, person, &now)
        .write(Write::Incident {
            incident: Box::new(closed),
            note: format!("closed by a person: {reason}"),
        })
        .audit(
            "incident_closed",
            &format!("incident:{id}"),
            json!({"reason": reason}),
        );
    desk.commit(changes).await?;
    desk.forget_ended();
    Ok(())
}
