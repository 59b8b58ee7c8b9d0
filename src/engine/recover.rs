//! At a start: what the store remembers becomes desks, before anything new is decided.
//!
//! Recovery mints no proof from a row. An unfinished heal goes on in its own state: Admitted and Protected earn their
//! backup and permit again, Acting is in doubt until the witness has settled it. One whose last arrow is older than a
//! verdict may take is neither undone nor continued alone: where nothing had started it is given up and the symptom is
//! decided afresh, everything else waits for a person.

use serde_json::json;

use super::desk::{Desk, EngineError};
use super::life::AWAY;
use crate::model::approval::Approval;
use crate::model::breaker::{Breaker, Cure, Failure, Forced, Recurrence, Trial};
use crate::model::heal::{Event, Heal, HealState};
use crate::model::incident::Incident;
use crate::model::reason::GuardName;
use crate::model::stop::Mute;
use crate::model::time::Moment;
use crate::seam::World;

/// Stored moments, brought to this boot's clock.
pub(super) trait Anchor {
    /// The same, on `now`'s clocks.
    fn anchored(self, now: &Moment) -> Self;
}

fn anchor(moment: &mut Option<Moment>, now: &Moment) {
    if let Some(known) = moment {
        *known = known.anchored(now);
    }
}

impl Anchor for Breaker {
    fn anchored(mut self, now: &Moment) -> Self {
        anchor(&mut self.opened, now);
        anchor(&mut self.clean_since, now);
        self.trial = self.trial.map(|trial| Trial {
            since: trial.since.anchored(now),
            ..trial
        });
        self.forced = self.forced.map(|forced| Forced {
            since: forced.since.anchored(now),
            ..forced
        });
        let fail = |failure: Failure| Failure {
            at: failure.at.anchored(now),
            ..failure
        };
        self.failures = self.failures.into_iter().map(fail).collect();
        self.cures = self
            .cures
            .into_iter()
            .map(|cure| Cure {
                at: cure.at.anchored(now),
                answered: cure.answered.into_iter().map(fail).collect(),
                ..cure
            })
            .collect();
        self.recurrences = self
            .recurrences
            .into_iter()
            .map(|past| Recurrence {
                at: past.at.anchored(now),
                ..past
            })
            .collect();
        self
    }
}

impl Anchor for Heal {
    fn anchored(mut self, now: &Moment) -> Self {
        self.admitted = self.admitted.anchored(now);
        self.moved = self.moved.anchored(now);
        if let HealState::Settling { since, .. }
        | HealState::Verifying { since, .. }
        | HealState::Soaking { since, .. } = &mut self.state
        {
            *since = since.anchored(now);
        }
        self
    }
}

impl Anchor for Incident {
    fn anchored(mut self, now: &Moment) -> Self {
        self.opened = self.opened.anchored(now);
        // Time that nobody looked is not time that the symptom surely persisted.
        self.last_bad = None;
        anchor(&mut self.well_since, now);
        self
    }
}

impl Anchor for Approval {
    fn anchored(mut self, now: &Moment) -> Self {
        self.created = self.created.anchored(now);
        anchor(&mut self.granted, now);
        anchor(&mut self.ended, now);
        self
    }
}

impl Anchor for Mute {
    fn anchored(mut self, now: &Moment) -> Self {
        self.since = self.since.anchored(now);
        self
    }
}

/// First thing on each desk, and after every long standstill: heals that are too old to go on alone do not.
pub(super) async fn unfinished(desk: &mut Desk) -> Result<(), EngineError> {
    let now = desk.now();
    // Without a stored breaker every heal is denied: a new app gets one before anything else.
    if desk.breaker.version == 0 {
        let breaker = Box::new(desk.breaker.clone());
        let changes = desk
            .changes(&now)
            .write(crate::seam::Write::Breaker {
                breaker,
                transitions: Vec::new(),
            })
            .audit(
                "application_adopted",
                &desk.object(),
                json!({"stack": desk.app.stack, "path": desk.app.target.root}),
            );
        desk.commit(changes).await?;
    }
    for heal in desk
        .heals
        .clone()
        .into_iter()
        .filter(|heal| !heal.state.is_end())
    {
        tracing::info!(app = %heal.app, heal_id = %heal.id, state = heal.state.name(), "unfinished heal found");
        if now.is_past(&heal.moved, super::life::longest(desk, &heal)) {
            found_late(desk, &heal, &now).await?;
        }
    }
    Ok(())
}

/// A heal whose last arrow is older than a verdict may take.
async fn found_late(desk: &mut Desk, heal: &Heal, now: &Moment) -> Result<(), EngineError> {
    let event = match heal.state {
        // Nothing had started, so nothing is lost; what was seen before the absence decides nothing any more.
        HealState::Admitted | HealState::Protected { .. } => Event::Denied {
            guard: GuardName::Freshness,
            message: AWAY.to_owned(),
        },
        // Only the witness can say; what it says is kept for a person.
        HealState::Acting { .. } | HealState::InDoubt { .. } => {
            desk.found_late.insert(heal.id, now.clone());
            return Ok(());
        }
        HealState::Settling { .. }
        | HealState::Verifying { .. }
        | HealState::Soaking { .. }
        | HealState::Undoing { .. } => Event::DeadlinePassed {
            reason: AWAY.to_owned(),
        },
        // Undone already: only a look is missing, and it changes nothing.
        HealState::Rechecking { .. }
        | HealState::Cured { .. }
        | HealState::NotCured { .. }
        | HealState::Kept { .. }
        | HealState::Undone { .. }
        | HealState::UndoBlocked { .. }
        | HealState::UndoFailed { .. }
        | HealState::Aborted { .. } => return Ok(()),
    };
    super::life::step(desk, heal, event, AWAY).await
}

/// Counts this start. Three starts that were not preceded by an orderly end, within ten minutes, mean: observe only.
pub(super) async fn count_start(
    world: &World,
    settings: &[(String, String)],
) -> Result<Option<String>, EngineError> {
    const WINDOW_MS: i64 = 600_000;
    const CRASHES_MAX: usize = 3;
    let now = world.clock.now();
    let stored = settings
        .iter()
        .find(|(key, _)| key == "crashes")
        .map_or("[]", |(_, value)| value);
    let mut starts: Vec<i64> = serde_json::from_str(stored).unwrap_or_default();
    starts.retain(|start| (0..WINDOW_MS).contains(&(now.wall_ms - start)));
    starts.push(now.wall_ms);
    let text = serde_json::to_string(&starts).unwrap_or_default();
    let changes = crate::seam::Changes::new(now, "healerd")
        .write(crate::seam::Write::Setting {
            key: "crashes".to_owned(),
            value: text,
        })
        .audit("started", "daemon", json!({"unclean": starts.len() - 1}));
    world.store.apply(changes).await?;
    Ok((starts.len() > CRASHES_MAX).then(|| {
        format!(
            "the daemon ended unexpectedly {} times within ten minutes",
            starts.len() - 1
        )
    }))
}

/// An orderly end: the starts counted so far were no crashes.
pub(super) async fn count_orderly_end(world: &World) -> Result<(), EngineError> {
    let changes = crate::seam::Changes::new(world.clock.now(), "healerd")
        .write(crate::seam::Write::Setting {
            key: "crashes".to_owned(),
            value: "[]".to_owned(),
        })
        .audit("stopped", "daemon", json!({}));
    Ok(world.store.apply(changes).await?)
}
