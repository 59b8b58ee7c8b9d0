//! What guards look at, read on one connection within one transaction.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Limits;
use super::script::{bodies, body, int, rows, text, word};
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
    let mut holds: Vec<Hold> = bodies(
        &rows(
            conn,
            "SELECT body FROM hold WHERE ended_ms IS NULL ORDER BY id",
            [],
        )
        .await?,
        0,
        "hold",
    )?;
    holds.retain(|hold| hold.scope.covers(app, host));
    let modes = bodies(
        &rows(
            conn,
            "SELECT body FROM mode_override WHERE scope IN ('all', ?) ORDER BY scope",
            [mode_scope(Some(app)).into()],
        )
        .await?,
        0,
        "mode override",
    )?;
    let breaker = breakers::get(conn, app).await?;
    let leases = bodies(
        &rows(conn, "SELECT body FROM lease ORDER BY key", []).await?,
        0,
        "lease",
    )?;
    let starts = starts(conn, now, limits).await?;
    let mut cures = Vec::new();
    for row in rows(
        conn,
        "SELECT action, json_extract(body, '$.moved') FROM heal WHERE app = ? AND state = 'Cured'
         ORDER BY id DESC LIMIT ?",
        [app.as_str().into(), CURES_MAX.into()],
    )
    .await?
    {
        let ended: Moment = body(&row, 1, "heal's end")?;
        if now.is_past(&ended, limits.history_of_guards) {
            continue;
        }
        cures.push((word(text(&row, 0)?, "heal's action")?, ended));
    }
    let bars = bodies(
        &rows(
            conn,
            "SELECT body FROM bar WHERE app = ? ORDER BY action",
            [app.as_str().into()],
        )
        .await?,
        0,
        "bar",
    )?;
    let approvals = rows(
        conn,
        "SELECT version, body FROM approval WHERE app = ? AND ended_ms IS NULL ORDER BY id",
        [app.as_str().into()],
    )
    .await?
    .iter()
    .map(approvals::read)
    .collect::<Result<_, _>>()?;
    Ok(GuardRows {
        holds,
        modes,
        breaker,
        leases,
        starts,
        cures,
        bars,
        approvals,
    })
}

/// Starts inside the window, oldest first. Within this boot the boot clock tells, else the wall clock; one that lies in
/// the future counts.
async fn starts(
    conn: &mut SqliteConnection,
    now: &Moment,
    limits: &Limits,
) -> Result<Vec<StartRow>, StoreError> {
    let window_ms = i64::try_from(limits.history_of_guards.as_millis()).unwrap_or(i64::MAX);
    let mut found = rows(
        conn,
        "SELECT id, app, host, action, unattended, started_boot, started_boot_ms, started_ms FROM heal
         WHERE started_ms IS NOT NULL AND CASE WHEN started_boot = ? THEN started_boot_ms > ? ELSE started_ms > ? END
         ORDER BY id DESC LIMIT ?",
        [
            now.boot_id.as_str().into(),
            now.boot_ms.saturating_sub(window_ms).into(),
            now.wall_ms.saturating_sub(window_ms).into(),
            STARTS_MAX.into(),
        ],
    )
    .await?;
    found.reverse();
    found.iter().map(start).collect()
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
