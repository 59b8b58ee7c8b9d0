//! Breakers and their transitions.
//!
//! Transitions connect end to end: the first begins in the stored state, each next where the one before it ended, the
//! last ends in the state to be written. A trigger holds the rows to the same.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::job::Job;
use super::script::{bodies, body, conflict, damaged, int, integer, json, refused, rows};
use crate::model::breaker::{Breaker, BreakerState, BreakerTransition};
use crate::model::name::AppName;
use crate::seam::StoreError;

const WHAT: &str = "write a breaker";

pub(super) async fn write(
    job: &mut Job<'_>,
    breaker: &Breaker,
    transitions: &[BreakerTransition],
) -> Result<(), StoreError> {
    let app = breaker.app.as_str();
    let stored = job
        .row(
            "breaker",
            "SELECT version, body FROM breaker WHERE app = ?",
            [app.into()],
        )
        .await?
        .map(|row| read(&row))
        .transpose()?;
    if stored.as_ref().map_or(0, |stored| stored.version) != breaker.version {
        return Err(conflict(format!("the breaker of {app}")));
    }
    let stored = stored.unwrap_or_else(|| Breaker::new(breaker.app.clone()));
    connects(stored.state, breaker, transitions)?;
    if !only_decays(&stored, breaker) {
        job.must_be_audited(WHAT);
    }
    let mut next = breaker.clone();
    next.version += 1;
    job.add(
        "breaker",
        "INSERT INTO breaker (app, state, version, changed_ms, body) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (app) DO UPDATE SET state = excluded.state, version = excluded.version,
            changed_ms = excluded.changed_ms, body = excluded.body",
        [
            app.into(),
            next.state.as_str().into(),
            integer(next.version, WHAT)?.into(),
            job.at.wall_ms.into(),
            json(&next)?.into(),
        ],
    );
    for transition in transitions {
        job.add(
            "breaker_event",
            "INSERT INTO breaker_event (app, at_ms, from_state, to_state, body) VALUES (?, ?, ?, ?, ?)",
            [
                app.into(),
                transition.at.wall_ms.into(),
                transition.from.as_str().into(),
                transition.to.as_str().into(),
                json(transition)?.into(),
            ],
        );
    }
    Ok(())
}

fn connects(
    stored: BreakerState,
    breaker: &Breaker,
    transitions: &[BreakerTransition],
) -> Result<(), StoreError> {
    let mut state = stored;
    for transition in transitions {
        if transition.app != breaker.app {
            return Err(refused(WHAT, "a transition belongs to another app"));
        }
        if transition.from != state {
            return Err(refused(
                WHAT,
                format!(
                    "a transition begins in {}, the breaker is {state}",
                    transition.from
                ),
            ));
        }
        if !legal(transition.from, transition.to) {
            return Err(refused(
                WHAT,
                format!(
                    "a breaker cannot go from {} to {}",
                    transition.from, transition.to
                ),
            ));
        }
        state = transition.to;
    }
    if state == breaker.state {
        Ok(())
    } else {
        Err(refused(
            WHAT,
            format!(
                "its transitions end in {state}, the breaker in {}",
                breaker.state
            ),
        ))
    }
}

/// The legal table. CLOSED to CLOSED is a reset that forgets failures, OPEN to OPEN one more level; a trial begins only
/// from OPEN.
const fn legal(from: BreakerState, to: BreakerState) -> bool {
    match (from, to) {
        (_, BreakerState::Closed | BreakerState::Open)
        | (BreakerState::Open, BreakerState::HalfOpen) => true,
        (BreakerState::Closed | BreakerState::HalfOpen, BreakerState::HalfOpen) => false,
    }
}

/// Does nothing change but what time alone takes back?
fn only_decays(stored: &Breaker, breaker: &Breaker) -> bool {
    stored.state == breaker.state
        && stored.failures == breaker.failures
        && stored.trial == breaker.trial
        && stored.forced == breaker.forced
        && stored.half_open_cures == breaker.half_open_cures
        && stored.cooldown_ms == breaker.cooldown_ms
        && stored.level >= breaker.level
}

/// Columns: version, body.
pub(super) fn read(row: &SqliteRow) -> Result<Breaker, StoreError> {
    let breaker: Breaker = body(row, 1, "breaker")?;
    if u64::try_from(int(row, 0)?) != Ok(breaker.version) {
        return Err(damaged("breaker", "its version is not the one of its row"));
    }
    Ok(breaker)
}

/// Newest first.
pub(super) async fn history(
    conn: &mut SqliteConnection,
    app: &AppName,
    limit: u32,
) -> Result<Vec<BreakerTransition>, StoreError> {
    let found = rows(
        conn,
        "SELECT body FROM breaker_event WHERE app = ? ORDER BY seq DESC LIMIT ?",
        [app.as_str().into(), i64::from(limit).into()],
    )
    .await?;
    bodies(&found, 0, "breaker transition")
}
