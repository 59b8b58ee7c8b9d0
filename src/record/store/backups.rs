//! Rows about backups, and the pins that keep them.
//!
//! A backup is pinned while anybody pins it. The field `pinned` of a row speaks for one pinner among others, named
//! [`ITSELF`]: setting it pins an unpinned backup, clearing it lifts that one pin, and what heals pinned stays.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::job::Job;
use super::script::{body, conflict, int, json, rows};
use crate::model::backup::BackupRow;
use crate::model::id::BackupId;
use crate::seam::StoreError;
use crate::seam::store::Query;

/// The pinner behind a row's own `pinned`.
const ITSELF: &str = "row";

/// A backup read again and found as it was needs no audit row.
pub(super) async fn write(job: &mut Job<'_>, backup: &BackupRow) -> Result<(), StoreError> {
    let id = backup.id.to_string();
    let pinned = is_pinned(job, &id).await?;
    let stored: Option<BackupRow> = job
        .row(
            "backup",
            "SELECT body FROM backup WHERE id = ?",
            [id.as_str().into()],
        )
        .await?
        .map(|row| body(&row, 0, "backup"))
        .transpose()?;
    let read_again = stored.is_some_and(|stored| {
        BackupRow {
            verified: backup.verified.clone(),
            ..stored
        } == *backup
    });
    if !read_again {
        job.must_be_audited("write a backup");
    }
    job.add(
        "backup",
        "INSERT INTO backup (id, kind, app, host, heal, damaged, taken_ms, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET damaged = excluded.damaged, body = excluded.body",
        [
            id.as_str().into(),
            backup.kind.as_str().into(),
            backup.app.as_str().into(),
            backup.host.as_str().into(),
            backup.heal.map(|heal| heal.to_string()).into(),
            backup.damaged.is_some().into(),
            backup.taken.wall_ms.into(),
            json(backup)?.into(),
        ],
    );
    if backup.pinned && !pinned {
        add_pin(job, &id, ITSELF);
    } else if !backup.pinned {
        lift_pin(job, &id, ITSELF);
    }
    Ok(())
}

/// Refused while anybody pins it.
pub(super) async fn remove(job: &mut Job<'_>, id: BackupId) -> Result<(), StoreError> {
    let id = id.to_string();
    job.must_be_audited("remove a backup");
    if is_pinned(job, &id).await? {
        return Err(conflict(format!("the pin of backup {id}")));
    }
    if !exists(job, &id).await? {
        return Err(conflict(format!("backup {id}")));
    }
    job.add(
        "mark",
        "INSERT INTO mark (name, value) VALUES ('last_id', ?)
         ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        [id.as_str().into()],
    );
    job.add(
        "backup",
        "DELETE FROM backup WHERE id = ?",
        [id.as_str().into()],
    );
    Ok(())
}

/// Pinning twice is pinning once; so is lifting.
pub(super) async fn pin(
    job: &mut Job<'_>,
    id: BackupId,
    by: &str,
    pinned: bool,
) -> Result<(), StoreError> {
    let id = id.to_string();
    job.must_be_audited("pin a backup");
    if !pinned {
        lift_pin(job, &id, by);
        return Ok(());
    }
    if !exists(job, &id).await? {
        return Err(conflict(format!("backup {id}")));
    }
    add_pin(job, &id, by);
    Ok(())
}

fn add_pin(job: &mut Job<'_>, id: &str, by: &str) {
    job.add(
        "backup_pin",
        "INSERT INTO backup_pin (backup, by, at_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [id.into(), by.into(), job.at.wall_ms.into()],
    );
}

fn lift_pin(job: &mut Job<'_>, id: &str, by: &str) {
    job.add(
        "backup_pin",
        "DELETE FROM backup_pin WHERE backup = ? AND by = ?",
        [id.into(), by.into()],
    );
}

async fn exists(job: &mut Job<'_>, id: &str) -> Result<bool, StoreError> {
    let found = job
        .row("backup", "SELECT 1 FROM backup WHERE id = ?", [id.into()])
        .await?;
    Ok(found.is_some())
}

async fn is_pinned(job: &mut Job<'_>, id: &str) -> Result<bool, StoreError> {
    let found = job
        .row(
            "backup_pin",
            "SELECT 1 FROM backup_pin WHERE backup = ? LIMIT 1",
            [id.into()],
        )
        .await?;
    Ok(found.is_some())
}

/// Columns: is it pinned, body.
fn read(row: &SqliteRow) -> Result<BackupRow, StoreError> {
    let mut backup: BackupRow = body(row, 1, "backup")?;
    backup.pinned = int(row, 0)? != 0;
    Ok(backup)
}

/// `open_only` leaves out the damaged ones.
pub(super) async fn list(
    conn: &mut SqliteConnection,
    query: &Query,
) -> Result<Vec<BackupRow>, StoreError> {
    let (open_only, limit) = (query.open_only, i64::from(query.limit));
    let found = match &query.app {
        Some(app) => {
            rows(
                conn,
                "SELECT EXISTS (SELECT 1 FROM backup_pin WHERE backup = id), body FROM backup
                 WHERE app = ? AND (? = 0 OR damaged = 0) ORDER BY id DESC LIMIT ?",
                [app.as_str().into(), open_only.into(), limit.into()],
            )
            .await?
        }
        None => {
            rows(
                conn,
                "SELECT EXISTS (SELECT 1 FROM backup_pin WHERE backup = id), body FROM backup
                 WHERE ? = 0 OR damaged = 0 ORDER BY id DESC LIMIT ?",
                [open_only.into(), limit.into()],
            )
            .await?
        }
    };
    found.iter().map(read).collect()
}

/// Every backup, oldest first.
pub(super) async fn all(conn: &mut SqliteConnection) -> Result<Vec<BackupRow>, StoreError> {
    rows(
        conn,
        "SELECT EXISTS (SELECT 1 FROM backup_pin WHERE backup = id), body FROM backup ORDER BY id",
        [],
    )
    .await?
    .iter()
    .map(read)
    .collect()
}
