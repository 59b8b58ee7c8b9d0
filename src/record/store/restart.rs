//! Everything the engine needs to go on where it stopped.

use sqlx::SqliteConnection;

use super::script::{bodies, body, damaged, int, maybe_text, row, rows, text, word};
use super::{approvals, backups, breakers, heals};
use crate::model::id::HealId;
use crate::model::time::Moment;
use crate::seam::StoreError;
use crate::seam::store::Restart;

/// For so long a rejected or expired proposal is not made again.
const REFUSAL_LASTS_MS: i64 = 7 * 86_400_000;

pub(super) async fn read(conn: &mut SqliteConnection, now: &Moment) -> Result<Restart, StoreError> {
    let incidents = bodies(
        &rows(
            conn,
            "SELECT body FROM incident WHERE state <> 'CLOSED' ORDER BY id",
            [],
        )
        .await?,
        0,
        "incident",
    )?;
    let heals = rows(
        conn,
        "SELECT version, body FROM heal WHERE ended_ms IS NULL OR waits = 1 ORDER BY id",
        [],
    )
    .await?
    .iter()
    .map(heals::read)
    .collect::<Result<_, _>>()?;
    let breakers = rows(conn, "SELECT version, body FROM breaker ORDER BY app", [])
        .await?
        .iter()
        .map(breakers::read)
        .collect::<Result<_, _>>()?;
    let approvals = rows(
        conn,
        "SELECT version, body FROM approval WHERE ended_ms IS NULL
            OR (state IN ('REJECTED', 'EXPIRED') AND ended_ms > ?) ORDER BY id",
        [now.wall_ms.saturating_sub(REFUSAL_LASTS_MS).into()],
    )
    .await?
    .iter()
    .map(approvals::read)
    .collect::<Result<_, _>>()?;
    let holds = bodies(
        &rows(
            conn,
            "SELECT body FROM hold WHERE ended_ms IS NULL ORDER BY id",
            [],
        )
        .await?,
        0,
        "hold",
    )?;
    let mutes = bodies(
        &rows(conn, "SELECT body FROM mute ORDER BY app, check_name", []).await?,
        0,
        "mute",
    )?;
    let modes = bodies(
        &rows(conn, "SELECT body FROM mode_override ORDER BY scope", []).await?,
        0,
        "mode override",
    )?;
    let due = rows(conn, "SELECT app, body FROM due ORDER BY app", [])
        .await?
        .iter()
        .map(|row| Ok((word(text(row, 0)?, "due app")?, body(row, 1, "due time")?)))
        .collect::<Result<_, StoreError>>()?;
    let checks = rows(
        conn,
        "SELECT app, body FROM check_last ORDER BY app, check_name",
        [],
    )
    .await?
    .iter()
    .map(|row| {
        Ok((
            word(text(row, 0)?, "checked app")?,
            body(row, 1, "check result")?,
        ))
    })
    .collect::<Result<_, StoreError>>()?;
    let bars = bodies(
        &rows(conn, "SELECT body FROM bar ORDER BY app, action", []).await?,
        0,
        "bar",
    )?;
    let leases = bodies(
        &rows(conn, "SELECT body FROM lease ORDER BY key", []).await?,
        0,
        "lease",
    )?;
    let fences = rows(conn, "SELECT host, token FROM fence ORDER BY host", [])
        .await?
        .iter()
        .map(|row| {
            let token =
                u64::try_from(int(row, 1)?).map_err(|error| damaged("fence token", error))?;
            Ok((word(text(row, 0)?, "fenced host")?, token))
        })
        .collect::<Result<_, StoreError>>()?;
    let settings = rows(conn, "SELECT key, value FROM setting ORDER BY key", [])
        .await?
        .iter()
        .map(|row| Ok((text(row, 0)?.to_owned(), text(row, 1)?.to_owned())))
        .collect::<Result<_, StoreError>>()?;
    Ok(Restart {
        incidents,
        heals,
        breakers,
        approvals,
        holds,
        mutes,
        modes,
        due,
        checks,
        bars,
        leases,
        fences,
        backups: backups::all(conn).await?,
        settings,
        last_id: last_id(conn).await?,
    })
}

/// Ids of all kinds share one form and one order.
async fn last_id(conn: &mut SqliteConnection) -> Result<u128, StoreError> {
    let found = row(
        conn,
        "SELECT max(id) FROM (
            SELECT max(id) AS id FROM heal UNION ALL SELECT max(id) FROM incident
            UNION ALL SELECT max(id) FROM approval UNION ALL SELECT max(id) FROM backup
            UNION ALL SELECT max(id) FROM hold UNION ALL SELECT value FROM mark WHERE name = 'last_id')",
        [],
    )
    .await?;
    match found.as_ref().map(|row| maybe_text(row, 0)).transpose()? {
        Some(Some(id)) => word::<HealId>(id, "id").map(HealId::raw),
        Some(None) | None => Ok(0),
    }
}
