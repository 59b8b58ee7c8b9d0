//! Heals and their journal.
//!
//! A stored heal moves only as [`HealState::next`] says: the event is applied to the stored state again, and a result
//! that differs from the state to be written is refused.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::job::Job;
use super::known::{Ahead, NotRead};
use super::script::{
    Rows, body, conflict, damaged, int, integer, json, refused, row, rows, text, word,
};
use crate::model::heal::{Event, Heal, HealState, Origin};
use crate::model::id::HealId;
use crate::model::time::Moment;
use crate::seam::StoreError;
use crate::seam::store::Query;

const WHAT: &str = "write a heal";

/// No two of a group are about one heal: who changes a heal again reads it again, and so after what was gathered.
///
/// The version is compared in the statement itself: a row that is not as the writer remembered it would get none, which
/// the schema refuses, and so the whole transaction goes back.
static MOVES: Rows = Rows {
    one: "UPDATE heal SET state = ?, version = CASE version WHEN ? THEN ? END, moved_ms = ?,
            started_ms = coalesce(started_ms, ?), started_boot = coalesce(started_boot, ?),
            started_boot_ms = coalesce(started_boot_ms, ?), ended_ms = ?, waits = ?, body = ? WHERE id = ?",
    many: "UPDATE heal SET state = new.value ->> 0,
            version = CASE version WHEN new.value ->> 1 THEN new.value ->> 2 END, moved_ms = new.value ->> 3,
            started_ms = coalesce(started_ms, new.value ->> 4),
            started_boot = coalesce(started_boot, new.value ->> 5),
            started_boot_ms = coalesce(started_boot_ms, new.value ->> 6), ended_ms = new.value ->> 7,
            waits = new.value ->> 8, body = new.value ->> 9
         FROM json_each(?) AS new WHERE heal.id = new.value ->> 10",
};

static EVENTS: Rows = Rows {
    one: "INSERT INTO heal_event (heal, at_ms, actor, event, state, at, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
    many: "INSERT INTO heal_event (heal, at_ms, actor, event, state, at, body)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
         FROM json_each(?) ORDER BY key",
};

/// Begins the transaction and reads heals ahead in one call.
const BEGIN_AND_READ: &str = "BEGIN IMMEDIATE;
SELECT version, body, id FROM heal WHERE id IN (SELECT value FROM json_each(?))";

pub(super) async fn write(
    job: &mut Job<'_>,
    heal: &Heal,
    event: Option<&Event>,
) -> Result<(), StoreError> {
    let id = heal.id.to_string();
    let stored = match job.read_ahead(heal.id) {
        Ok(Ahead::Known(known)) => Some(*known),
        Ok(Ahead::Row(row)) => Some(read(&row)?),
        Ok(Ahead::Absent) => None,
        Err(NotRead) => job
            .row(
                "heal",
                "SELECT version, body FROM heal WHERE id = ?",
                [id.as_str().into()],
            )
            .await?
            .map(|row| read(&row))
            .transpose()?,
    };
    if stored.as_ref().map_or(0, |heal| heal.version) != heal.version {
        return Err(conflict(format!("heal {id}")));
    }
    let start = HealState::Admitted;
    legal(
        stored.as_ref().map_or(&start, |heal| &heal.state),
        heal,
        event,
        job.at,
    )?;
    let counts_only = match event {
        None | Some(Event::Looked { .. }) => true,
        Some(_) => false,
    };
    if stored.is_none() || !counts_only {
        job.must_be_audited(WHAT);
    }
    let mut next = heal.clone();
    next.version += 1;
    match &stored {
        None => insert(job, &next).await?,
        Some(stored) => update(job, stored, &next)?,
    }
    if let Some(event) = event {
        job.add_row(
            "heal_event",
            &EVENTS,
            [
                id.into(),
                job.at.wall_ms.into(),
                job.actor.into(),
                event.name().into(),
                heal.state.name().into(),
                json(&heal.moved)?.into(),
                json(event)?.into(),
            ],
        );
    }
    Ok(())
}

/// Begins the transaction and gives the rows of these heals, for [`super::job::Group`]; `ids` is a JSON array.
pub(super) async fn begin_and_read(
    conn: &mut SqliteConnection,
    ids: String,
) -> Result<Vec<(HealId, SqliteRow)>, StoreError> {
    rows(conn, BEGIN_AND_READ, [ids.into()])
        .await?
        .into_iter()
        .map(|row| Ok((word(text(&row, 2)?, "heal id")?, row)))
        .collect()
}

fn legal(
    stored: &HealState,
    heal: &Heal,
    event: Option<&Event>,
    at: &Moment,
) -> Result<(), StoreError> {
    let Some(event) = event else {
        return if *stored == heal.state {
            Ok(())
        } else {
            Err(refused(
                WHAT,
                format!(
                    "it would go from {} to {} without an event",
                    stored.name(),
                    heal.state.name()
                ),
            ))
        };
    };
    let mut reached = None;
    for moment in [&heal.moved, at] {
        let next = stored
            .next(event.clone(), moment)
            .map_err(|illegal| refused(WHAT, illegal.to_string()))?;
        if next == heal.state {
            return Ok(());
        }
        reached = Some(next);
    }
    Err(refused(
        WHAT,
        format!(
            "{} leads from {} to {}, which is not the {} to be written",
            event.name(),
            stored.name(),
            reached.as_ref().map_or("nothing", HealState::name),
            heal.state.name()
        ),
    ))
}

async fn insert(job: &mut Job<'_>, heal: &Heal) -> Result<(), StoreError> {
    let fence = integer(heal.fence.0, WHAT)?;
    let host = heal.host.as_str();
    let highest = job
        .row(
            "fence",
            "SELECT token FROM fence WHERE host = ?",
            [host.into()],
        )
        .await?
        .map(|row| int(&row, 0))
        .transpose()?;
    if highest.is_some_and(|highest| fence <= highest) {
        return Err(conflict(format!("the fence token of host {host}")));
    }
    job.add(
        "fence",
        "INSERT INTO fence (host, token) VALUES (?, ?) ON CONFLICT (host) DO UPDATE SET token = excluded.token",
        [host.into(), fence.into()],
    );
    let started = started(heal);
    job.add(
        "heal",
        "INSERT INTO heal (id, app, host, state, version, fence, origin, action, incident, unattended, admitted_ms,
            moved_ms, started_ms, started_boot, started_boot_ms, ended_ms, waits, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            heal.id.to_string().into(),
            heal.app.as_str().into(),
            host.into(),
            heal.state.name().into(),
            integer(heal.version, WHAT)?.into(),
            fence.into(),
            origin(&heal.origin).into(),
            heal.action.name.as_str().into(),
            heal.incident.to_string().into(),
            heal.origin.is_unattended().into(),
            heal.admitted.wall_ms.into(),
            heal.moved.wall_ms.into(),
            started.map(|at| at.wall_ms).into(),
            started.map(|at| at.boot_id.as_str()).into(),
            started.map(|at| at.boot_ms).into(),
            ended(heal).into(),
            waits(&heal.state).into(),
            json(heal)?.into(),
        ],
    );
    Ok(())
}

fn update(job: &mut Job<'_>, stored: &Heal, heal: &Heal) -> Result<(), StoreError> {
    let same = stored.app == heal.app
        && stored.host == heal.host
        && stored.fence == heal.fence
        && stored.origin == heal.origin
        && stored.action == heal.action
        && stored.incident == heal.incident
        && stored.admitted == heal.admitted;
    if !same {
        return Err(refused(
            WHAT,
            "what a heal was admitted as cannot change afterwards",
        ));
    }
    let started = started(heal);
    job.add_row(
        "heal",
        &MOVES,
        [
            heal.state.name().into(),
            integer(stored.version, WHAT)?.into(),
            integer(heal.version, WHAT)?.into(),
            heal.moved.wall_ms.into(),
            started.map(|at| at.wall_ms).into(),
            started.map(|at| at.boot_id.as_str()).into(),
            started.map(|at| at.boot_ms).into(),
            ended(heal).into(),
            waits(&heal.state).into(),
            json(heal)?.into(),
            heal.id.to_string().into(),
        ],
    );
    Ok(())
}

fn origin(origin: &Origin) -> &'static str {
    match origin {
        Origin::Unattended => "unattended",
        Origin::Requested(_) => "requested",
        Origin::Approved(_) => "approved",
        Origin::Rollback { .. } => "rollback",
    }
}

/// The moment of its start, when this is the write that starts it.
fn started(heal: &Heal) -> Option<&Moment> {
    matches!(heal.state, HealState::Acting { .. }).then_some(&heal.moved)
}

fn ended(heal: &Heal) -> Option<i64> {
    heal.state.is_end().then_some(heal.moved.wall_ms)
}

/// Over, but left to a person.
fn waits(state: &HealState) -> bool {
    matches!(
        state,
        HealState::Kept { decided: None, .. }
            | HealState::UndoBlocked { .. }
            | HealState::UndoFailed { .. }
    )
}

/// Columns: version, body.
pub(super) fn read(row: &SqliteRow) -> Result<Heal, StoreError> {
    let heal: Heal = body(row, 1, "heal")?;
    if u64::try_from(int(row, 0)?) != Ok(heal.version) {
        return Err(damaged("heal", "its version is not the one of its row"));
    }
    Ok(heal)
}

pub(super) async fn get(
    conn: &mut SqliteConnection,
    id: HealId,
) -> Result<Option<Heal>, StoreError> {
    row(
        conn,
        "SELECT version, body FROM heal WHERE id = ?",
        [id.to_string().into()],
    )
    .await?
    .map(|row| read(&row))
    .transpose()
}

pub(super) async fn list(
    conn: &mut SqliteConnection,
    query: &Query,
) -> Result<Vec<Heal>, StoreError> {
    let limit = i64::from(query.limit);
    let found = match (&query.app, query.open_only) {
        (Some(app), open_only) => {
            rows(
                conn,
                "SELECT version, body FROM heal WHERE app = ? AND (? = 0 OR ended_ms IS NULL OR waits = 1)
                 ORDER BY id DESC LIMIT ?",
                [app.as_str().into(), open_only.into(), limit.into()],
            )
            .await?
        }
        (None, true) => {
            rows(
                conn,
                "SELECT version, body FROM heal WHERE ended_ms IS NULL OR waits = 1 ORDER BY id DESC LIMIT ?",
                [limit.into()],
            )
            .await?
        }
        (None, false) => {
            rows(
                conn,
                "SELECT version, body FROM heal ORDER BY id DESC LIMIT ?",
                [limit.into()],
            )
            .await?
        }
    };
    found.iter().map(read).collect()
}

pub(super) async fn events(
    conn: &mut SqliteConnection,
    id: HealId,
) -> Result<Vec<(Moment, Event)>, StoreError> {
    rows(
        conn,
        "SELECT at, body FROM heal_event WHERE heal = ? ORDER BY seq",
        [id.to_string().into()],
    )
    .await?
    .iter()
    .map(|row| Ok((body(row, 0, "heal event")?, body(row, 1, "heal event")?)))
    .collect()
}
