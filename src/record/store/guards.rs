//! What guards look at, read on one connection within one transaction.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Limits;
use super::script::{bodies, body, int, rows_of_each, text, word};
use super::stops::mode_scope;
use super::{approvals, breakers};
use crate::model::name::{AppName, HostName};
use crate::model::stop::Hold;
use crate::model::time::Moment;
use crate::seam::StoreError;
use crate::seam::store::{GuardRows, StartRow};

/// Starts read at most; far above any budget, so that a guard that misses older ones denies already.
const STARTS_MAX: i64 = 2_000;

/// Cures of one app read at most.
const CURES_MAX: i64 = 200;

/// All of it at once, because each question of its own is a hop to the database's thread; so a heal's start waits for one.
///
/// Starts are those inside the window: within this boot the boot clock tells, else the wall clock; one that lies in the
/// future counts.
const QUERIES: &str = "
SELECT body, 0 FROM hold WHERE ended_ms IS NULL ORDER BY id;
SELECT body, 1 FROM mode_override WHERE scope IN ('all', ?) ORDER BY scope;
SELECT version, body, 2 FROM breaker WHERE app = ?;
SELECT body, 3 FROM lease ORDER BY key;
SELECT id, app, host, action, unattended, started_boot, started_boot_ms, started_ms, 4 FROM heal
 WHERE started_ms IS NOT NULL AND CASE WHEN started_boot = ? THEN started_boot_ms > ? ELSE started_ms > ? END
 ORDER BY id DESC LIMIT ?;
SELECT action, json_extract(body, '$.moved'), 5 FROM heal WHERE app = ? AND state = 'Cured' ORDER BY id DESC LIMIT ?;
SELECT body, 6 FROM bar WHERE app = ? ORDER BY action;
SELECT version, body, 7 FROM approval WHERE app = ? AND ended_ms IS NULL ORDER BY id";

/// All rows a guard may ask for about this app on this host, as of `now`.
///
/// Holds are those that cover the target, in force or run out (the guard tells by the clock); leases and starts are the
/// whole daemon's; the rest is the app's.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    app: &AppName,
    host: &HostName,
    now: &Moment,
    limits: &Limits,
) -> Result<GuardRows, StoreError> {
    let window_ms = i64::try_from(limits.history_of_guards.as_millis()).unwrap_or(i64::MAX);
    let [holds, modes, breaker, leases, starts, good, bars, approvals] = rows_of_each(
        conn,
        QUERIES,
        [
            mode_scope(Some(app)).into(),
            app.as_str().into(),
            now.boot_id.as_str().into(),
            now.boot_ms.saturating_sub(window_ms).into(),
            now.wall_ms.saturating_sub(window_ms).into(),
            STARTS_MAX.into(),
            app.as_str().into(),
            CURES_MAX.into(),
            app.as_str().into(),
            app.as_str().into(),
        ],
    )
    .await?;
    let mut holds: Vec<Hold> = bodies(&holds, 0, "hold")?;
    holds.retain(|hold| hold.scope.covers(app, host));
    let mut cures = Vec::new();
    for row in &good {
        let ended: Moment = body(row, 1, "heal's end")?;
        if !now.is_past(&ended, limits.history_of_guards) {
            cures.push((word(text(row, 0)?, "heal's action")?, ended));
        }
    }
    Ok(GuardRows {
        holds,
        modes: bodies(&modes, 0, "mode override")?,
        breaker: breaker.first().map(breakers::read).transpose()?,
        leases: bodies(&leases, 0, "lease")?,
        starts: starts.iter().rev().map(start).collect::<Result<_, _>>()?,
        cures,
        bars: bodies(&bars, 0, "bar")?,
        approvals: approvals
            .iter()
            .map(approvals::read)
            .collect::<Result<_, _>>()?,
    })
}

fn start(row: &SqliteRow) -> Result<StartRow, StoreError> {
    Ok(StartRow {
        heal: word(text(row, 0)?, "heal's id")?,
        app: word(text(row, 1)?, "heal's app")?,
        host: word(text(row, 2)?, "heal's host")?,
        action: word(text(row, 3)?, "heal's action")?,
        at: Moment {
            boot_id: text(row, 5)?.to_owned(),
            boot_ms: int(row, 6)?,
            wall_ms: int(row, 7)?,
        },
        unattended: int(row, 4)? != 0,
    })
}
