//! The outbox: notices that wait for delivery.
//!
//! A notice with the key and event of the newest one of its key is a repeat, and left away while that one is younger
//! than [`super::Limits::notice_repeat`].

use sqlx::SqliteConnection;

use super::job::Job;
use super::script::{body, damaged, int, json, rows, text};
use crate::model::time::Moment;
use crate::seam::StoreError;
use crate::seam::notify::Notice;
use crate::seam::store::OutboxRow;

/// Notices handed out at once.
const BATCH: i64 = 100;

pub(super) async fn add(job: &mut Job<'_>, notice: &Notice) -> Result<(), StoreError> {
    let newest = job
        .row(
            "outbox",
            "SELECT event, body FROM outbox WHERE key = ? ORDER BY id DESC LIMIT 1",
            [notice.key.as_str().into()],
        )
        .await?;
    if let Some(row) = newest {
        let told: Notice = body(&row, 1, "notice")?;
        if text(&row, 0)? == notice.event && !notice.at.is_past(&told.at, job.limits.notice_repeat)
        {
            return Ok(());
        }
    }
    job.add(
        "outbox",
        "INSERT INTO outbox (key, event, due_ms, due_boot, due_boot_ms, attempts, body) VALUES (?, ?, ?, ?, ?, 0, ?)",
        [
            notice.key.as_str().into(),
            notice.event.as_str().into(),
            notice.at.wall_ms.into(),
            notice.at.boot_id.as_str().into(),
            notice.at.boot_ms.into(),
            json(notice)?.into(),
        ],
    );
    Ok(())
}

pub(super) fn sent(job: &mut Job<'_>, id: i64) {
    job.add(
        "outbox",
        "UPDATE outbox SET sent_ms = ? WHERE id = ? AND sent_ms IS NULL",
        [job.at.wall_ms.into(), id.into()],
    );
}

pub(super) fn failed(job: &mut Job<'_>, id: i64, again: &Moment) {
    job.add(
        "outbox",
        "UPDATE outbox SET attempts = attempts + 1, due_ms = ?, due_boot = ?, due_boot_ms = ?
         WHERE id = ? AND sent_ms IS NULL",
        [
            again.wall_ms.into(),
            again.boot_id.as_str().into(),
            again.boot_ms.into(),
            id.into(),
        ],
    );
}

/// Due ones, oldest first, a hundred at most. One from another boot that would be due only in more than a day was set
/// by a clock that lied: it is due now.
pub(super) async fn due(
    conn: &mut SqliteConnection,
    now: &Moment,
) -> Result<Vec<OutboxRow>, StoreError> {
    rows(
        conn,
        "SELECT id, attempts, body FROM outbox WHERE sent_ms IS NULL
         AND CASE WHEN due_boot = ? THEN due_boot_ms <= ? ELSE due_ms NOT BETWEEN ? + 1 AND ? + 86400000 END
         ORDER BY id LIMIT ?",
        [
            now.boot_id.as_str().into(),
            now.boot_ms.into(),
            now.wall_ms.into(),
            now.wall_ms.into(),
            BATCH.into(),
        ],
    )
    .await?
    .iter()
    .map(|row| {
        Ok(OutboxRow {
            id: int(row, 0)?,
            notice: body(row, 2, "notice")?,
            attempts: u32::try_from(int(row, 1)?)
                .map_err(|error| damaged("notice's attempts", error))?,
        })
    })
    .collect()
}
