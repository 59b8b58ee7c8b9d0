//! Incidents from results: one symptom on one application, from its first bad look until it has stayed away.
//!
//! Pure. What heals do to an incident (Healing, Escalated, a cure) is the engine's; here only looks move it. A single
//! PASS ends the dwell and begins the watch: acting on a symptom that was just seen gone would be wrong, and if it
//! comes back within the recurrence window it is the same incident with its tries, so nothing is forgotten by
//! flapping. Closing takes the whole window. ERROR and an unseen host neither count nor reset: they pause.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::check::{CheckResult, Round};
use crate::model::host::NOT_TRIED;
use crate::model::id::{HealId, IncidentId};
use crate::model::incident::{Incident, IncidentKind, IncidentState};
use crate::model::name::{AppName, CheckName};
use crate::model::policy::Timing;
use crate::model::time::Moment;
use crate::model::word::{Severity, Status};

/// How the message of an incident begins that is about a host which does not prove to be the right one.
pub const IN_DOUBT: &str = "its identity is in doubt";

/// The same of a host that proves to be the right one and is another machine all the same: a copy, or a new one with the
/// old one's keys.
pub const OTHER_MACHINE: &str = "it is another machine than the one that was adopted";

/// How it begins when the records of the host belong to another daemon.
pub const NOT_OURS: &str = "another daemon looks after it";

/// Stands between what was found at first and why it cannot be seen now.
const NOW: &str = "; now ";

/// What a message says beside numbers and waits, which are others with every look.
fn essence(message: &str) -> String {
    let is_number = |character: char| character.is_ascii_digit() || character == '.';
    message
        .split(NOT_TRIED)
        .next()
        .unwrap_or_default()
        .replace(is_number, "")
}

/// What could not be seen, carried from round to round beside the incidents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blind {
    /// Since when a check is ERROR without a break.
    pub errors: BTreeMap<CheckName, Moment>,
    /// Rounds in a row that did not reach the host.
    pub rounds: u32,
}

/// Which machine answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine<'a> {
    /// The one that was adopted.
    Adopted,
    /// Another one, and what to say of it; begins with [`OTHER_MACHINE`].
    Other(&'a str),
    /// That could not be learned.
    Unknown,
}

/// One look at an application.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    Round {
        round: &'a Round,
        /// Checks that this round was to ask. One of them without a result does not apply, so its symptom is gone;
        /// one that was not asked says nothing.
        asked: &'a BTreeSet<CheckName>,
        /// That another one answers is told at once, as a doubt is; it is over only when the right one has answered.
        machine: Machine<'a>,
    },
    /// The host could not be reached.
    Unseen {
        reason: &'a str,
        /// How to say what no waiting makes clearer ([`IN_DOUBT`], [`NOT_OURS`]): that is told at once.
        at_once: Option<&'static str>,
    },
}

/// What happened to an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentChange {
    Opened(IncidentId),
    /// Back within the recurrence window. With a heal, that heal's cure is taken back, and its action may be tried
    /// again.
    Recurred {
        id: IncidentId,
        cured_by: Option<HealId>,
    },
    /// Gone by itself; watched from now on.
    Gone(IncidentId),
    Closed(IncidentId),
    /// Status, severity or message of an open one changed.
    Changed(IncidentId),
}

impl IncidentChange {
    /// The incident it happened to.
    pub const fn id(&self) -> IncidentId {
        match self {
            Self::Opened(id)
            | Self::Recurred { id, .. }
            | Self::Gone(id)
            | Self::Closed(id)
            | Self::Changed(id) => *id,
        }
    }
}

/// Incidents after a look, and what became of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Update {
    pub incidents: Vec<Incident>,
    pub blind: Blind,
    pub changes: Vec<IncidentChange>,
}

/// Takes in one look.
///
/// `incidents` are those of this application that are not closed; `new_id` makes ids. REQUEST incidents are left as
/// they are. Muted checks still open incidents: a mute keeps actions away, not knowledge.
pub fn update(
    app: &AppName,
    incidents: Vec<Incident>,
    blind: Blind,
    seen: Seen<'_>,
    now: &Moment,
    timing: &Timing,
    new_id: &mut dyn FnMut() -> IncidentId,
) -> Update {
    let mut update = Update {
        incidents,
        blind,
        changes: Vec::new(),
    };
    match seen {
        Seen::Unseen { reason, at_once } => {
            update.unseen(app, reason, at_once, now, timing, new_id);
        }
        Seen::Round {
            round,
            asked,
            machine,
        } => {
            update.blind.rounds = 0;
            let known = update.about_host().is_some_and(is_other_machine);
            if machine == Machine::Adopted || !known {
                update.close_unknown(|check| check.is_none());
            }
            match (machine, known) {
                (Machine::Other(message), false) => {
                    update.open_unknown(app, None, message.to_owned(), now, new_id);
                }
                // It can be seen again, and is the other one still.
                (Machine::Other(message), true) => {
                    update.tell_again(|check| check.is_none(), |_| message.to_owned());
                }
                (Machine::Adopted | Machine::Unknown, _) => {}
            }
            for result in &round.results {
                update.result(app, result, now, timing, new_id);
            }
            let answered: BTreeSet<_> = round.results.iter().map(|result| &result.check).collect();
            for check in asked.iter().filter(|check| !answered.contains(check)) {
                update.well(check, now, timing);
            }
        }
    }
    update
}

impl Update {
    fn unseen(
        &mut self,
        app: &AppName,
        reason: &str,
        at_once: Option<&'static str>,
        now: &Moment,
        timing: &Timing,
        new_id: &mut dyn FnMut() -> IncidentId,
    ) {
        self.blind.rounds = self.blind.rounds.saturating_add(1);
        for incident in &mut self.incidents {
            incident.last_bad = None;
        }
        let known = self
            .about_host()
            .map(|incident| at_once.is_some_and(|words| incident.message.starts_with(words)));
        match known {
            // A host that was away and is in doubt now is news of another kind.
            Some(false) if at_once.is_some() => self.close_unknown(|check| check.is_none()),
            Some(_) => return self.still_unseen(reason, at_once),
            None => {}
        }
        let message = if let Some(words) = at_once {
            format!("{words}: {reason}")
        } else if self.blind.rounds >= timing.unknown_rounds {
            format!("not seen for {} rounds: {reason}", self.blind.rounds)
        } else {
            return;
        };
        self.open_unknown(app, None, message, now, new_id);
    }

    /// It goes on, and its cause may have become another one. What was in doubt stays so until the right one answers:
    /// there the cause of now stands behind what was found then.
    fn still_unseen(&mut self, reason: &str, at_once: Option<&'static str>) {
        let rounds = self.blind.rounds;
        self.tell_again(
            |check| check.is_none(),
            |message| {
                let was_at_once = [IN_DOUBT, OTHER_MACHINE, NOT_OURS]
                    .iter()
                    .any(|words| message.starts_with(words));
                match at_once {
                    Some(words) => format!("{words}: {reason}"),
                    None if was_at_once => {
                        let first = message.split(NOW).next().unwrap_or_default();
                        format!("{first}{NOW}{reason}")
                    }
                    None => format!("not seen for {rounds} rounds: {reason}"),
                }
            },
        );
    }

    /// Gives an open incident about something unknown the words of now, where they are others.
    fn tell_again(
        &mut self,
        about: impl Fn(Option<&CheckName>) -> bool,
        words: impl Fn(&str) -> String,
    ) {
        for incident in &mut self.incidents {
            if incident.kind != IncidentKind::Unknown
                || incident.state == IncidentState::Closed
                || !about(incident.check.as_ref())
            {
                continue;
            }
            let message = words(&incident.message);
            if essence(&message) != essence(&incident.message) {
                incident.message = message;
                self.changes.push(IncidentChange::Changed(incident.id));
            }
        }
    }

    /// The incident of the host itself.
    fn about_host(&self) -> Option<&Incident> {
        self.incidents.iter().find(|incident| {
            incident.kind == IncidentKind::Unknown
                && incident.check.is_none()
                && incident.state != IncidentState::Closed
        })
    }

    fn result(
        &mut self,
        app: &AppName,
        result: &CheckResult,
        now: &Moment,
        timing: &Timing,
        new_id: &mut dyn FnMut() -> IncidentId,
    ) {
        if result.status != Status::Error {
            self.blind.errors.remove(&result.check);
            self.close_unknown(|check| check == Some(&result.check));
        }
        match result.status {
            Status::Error => self.dark(app, result, now, timing, new_id),
            Status::Pass => self.well(&result.check, now, timing),
            Status::Warn | Status::Fail => self.bad(app, result, now, timing, new_id),
        }
    }

    fn dark(
        &mut self,
        app: &AppName,
        result: &CheckResult,
        now: &Moment,
        timing: &Timing,
        new_id: &mut dyn FnMut() -> IncidentId,
    ) {
        for incident in self.symptoms(&result.check) {
            incident.last_bad = None;
        }
        let since = self
            .blind
            .errors
            .entry(result.check.clone())
            .or_insert_with(|| now.clone())
            .clone();
        let is_known = self.incidents.iter().any(|incident| {
            incident.kind == IncidentKind::Unknown && incident.check.as_ref() == Some(&result.check)
        });
        if is_known {
            let of_this = |check: Option<&CheckName>| check == Some(&result.check);
            self.tell_again(of_this, |_| result.message.clone());
        } else if now.is_past(&since, timing.unknown_after) {
            self.open_unknown(
                app,
                Some(result.check.clone()),
                result.message.clone(),
                now,
                new_id,
            );
        }
    }

    fn bad(
        &mut self,
        app: &AppName,
        result: &CheckResult,
        now: &Moment,
        timing: &Timing,
        new_id: &mut dyn FnMut() -> IncidentId,
    ) {
        let mut changes = Vec::new();
        // A watch that is over before the symptom came back was a cure; what comes now is new.
        for incident in self.symptoms(&result.check) {
            if watch_is_over(incident, now, timing) {
                incident.state = IncidentState::Closed;
                changes.push(IncidentChange::Closed(incident.id));
            }
        }
        if let Some(incident) = self.symptoms(&result.check).next() {
            if incident.state == IncidentState::Watching {
                changes.push(IncidentChange::Recurred {
                    id: incident.id,
                    cured_by: incident.cured_by.take(),
                });
                incident.state = IncidentState::Open;
                incident.well_since = None;
                (incident.looks, incident.persisted_ms, incident.last_bad) = (0, 0, None);
                incident.told = None;
            } else if (incident.status, incident.severity, &incident.message)
                != (result.status, result.severity, &result.message)
            {
                changes.push(IncidentChange::Changed(incident.id));
            }
            incident.status = result.status;
            incident.severity = result.severity;
            incident.message.clone_from(&result.message);
            count(incident, now, timing);
        } else {
            let mut incident = blank(app, new_id(), now);
            incident.check = Some(result.check.clone());
            incident.status = result.status;
            incident.severity = result.severity;
            incident.message.clone_from(&result.message);
            count(&mut incident, now, timing);
            changes.push(IncidentChange::Opened(incident.id));
            self.incidents.push(incident);
        }
        self.changes.extend(changes);
    }

    fn well(&mut self, check: &CheckName, now: &Moment, timing: &Timing) {
        let mut changes = Vec::new();
        for incident in self.symptoms(check) {
            match incident.state {
                IncidentState::Open | IncidentState::Escalated => {
                    incident.state = IncidentState::Watching;
                    incident.well_since = Some(now.clone());
                    changes.push(IncidentChange::Gone(incident.id));
                }
                IncidentState::Watching if watch_is_over(incident, now, timing) => {
                    incident.state = IncidentState::Closed;
                    changes.push(IncidentChange::Closed(incident.id));
                }
                // Healing: the heal's own verdict moves it on; a look must not take its symptom away.
                IncidentState::Healing | IncidentState::Watching | IncidentState::Closed => {}
            }
            (incident.looks, incident.persisted_ms, incident.last_bad) = (0, 0, None);
        }
        self.blind.errors.remove(check);
        self.changes.extend(changes);
    }

    fn symptoms(&mut self, check: &CheckName) -> impl Iterator<Item = &mut Incident> {
        self.incidents.iter_mut().filter(move |incident| {
            incident.kind == IncidentKind::Symptom
                && incident.state != IncidentState::Closed
                && incident.check.as_ref() == Some(check)
        })
    }

    fn open_unknown(
        &mut self,
        app: &AppName,
        check: Option<CheckName>,
        message: String,
        now: &Moment,
        new_id: &mut dyn FnMut() -> IncidentId,
    ) {
        let mut incident = blank(app, new_id(), now);
        incident.kind = IncidentKind::Unknown;
        incident.check = check;
        incident.status = Status::Error;
        incident.severity = Severity::Medium;
        incident.message = message;
        self.changes.push(IncidentChange::Opened(incident.id));
        self.incidents.push(incident);
    }

    /// What can be seen again is no longer unknown; nothing needs to be watched for that.
    fn close_unknown(&mut self, about: impl Fn(Option<&CheckName>) -> bool) {
        for incident in &mut self.incidents {
            if incident.kind == IncidentKind::Unknown
                && incident.state != IncidentState::Closed
                && about(incident.check.as_ref())
            {
                incident.state = IncidentState::Closed;
                self.changes.push(IncidentChange::Closed(incident.id));
            }
        }
    }
}

/// Is it about a host that is another machine than the one that was adopted?
pub fn is_other_machine(incident: &Incident) -> bool {
    incident.kind == IncidentKind::Unknown
        && incident.check.is_none()
        && incident.message.starts_with(OTHER_MACHINE)
}

fn watch_is_over(incident: &Incident, now: &Moment, timing: &Timing) -> bool {
    incident.state == IncidentState::Watching
        && incident
            .well_since
            .as_ref()
            .is_some_and(|since| now.is_past(since, timing.recurrence))
}

/// One more bad look. Only the span between two bad looks is sure; more than a dwell at once is no better evidence
/// than a dwell, and a clock may lie across boots.
fn count(incident: &mut Incident, now: &Moment, timing: &Timing) {
    incident.looks = incident.looks.saturating_add(1);
    if let Some(last) = &incident.last_bad {
        let span = now.since(last, timing.dwell);
        incident.persisted_ms = incident
            .persisted_ms
            .saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    }
    incident.last_bad = Some(now.clone());
}

fn blank(app: &AppName, id: IncidentId, now: &Moment) -> Incident {
    Incident {
        id,
        app: app.clone(),
        check: None,
        kind: IncidentKind::Symptom,
        state: IncidentState::Open,
        status: Status::Error,
        severity: Severity::Medium,
        message: String::new(),
        opened: now.clone(),
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

#[cfg(test)]
#[path = "incident_tests.rs"]
mod tests;
