//! Retention: what is over and older than it needs to be is removed, a bounded number of rows at a time.
//!
//! Never removed: the audit log, anything open or left to a person, backups (the vault decides about those), the last
//! transition of a breaker, and the present state of anything.

use sqlx::SqliteConnection;

use super::script::{Script, Value, failed, maybe_text, row};
use crate::seam::StoreError;

/// What may go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// Rows older than this, in wall milliseconds.
    pub(super) before_ms: i64,
}

/// Rows of one table removed in one transaction, so that a long absence does not stall the writer.
pub(super) const BATCH: i64 = 500;

/// Ids that go are remembered by the highest, so that later ones stay greater.
const STATEMENTS: &[(&str, &str)] = &[
    (
        "SELECT max(id) FROM (SELECT id FROM heal WHERE ended_ms < ? AND waits = 0 LIMIT ?)",
        "DELETE FROM heal WHERE id IN (SELECT id FROM heal WHERE ended_ms < ? AND waits = 0 LIMIT ?)",
    ),
    (
        "SELECT max(id) FROM (SELECT id FROM incident WHERE state = 'CLOSED' AND changed_ms < ? LIMIT ?)",
        "DELETE FROM incident WHERE id IN
            (SELECT id FROM incident WHERE state = 'CLOSED' AND changed_ms < ? LIMIT ?)",
    ),
    (
        "SELECT max(id) FROM (SELECT id FROM approval WHERE ended_ms < ? LIMIT ?)",
        "DELETE FROM approval WHERE id IN (SELECT id FROM approval WHERE ended_ms < ? LIMIT ?)",
    ),
    (
        "SELECT max(id) FROM (SELECT id FROM hold WHERE ended_ms < ? LIMIT ?)",
        "DELETE FROM hold WHERE id IN (SELECT id FROM hold WHERE ended_ms < ? LIMIT ?)",
    ),
    (
        "SELECT NULL WHERE ? = ?",
        "DELETE FROM check_change WHERE seq IN (SELECT seq FROM check_change WHERE at_ms < ? LIMIT ?)",
    ),
    (
        "SELECT NULL WHERE ? = ?",
        "DELETE FROM breaker_event WHERE seq IN
            (SELECT seq FROM breaker_event AS old WHERE at_ms < ? AND EXISTS
                (SELECT 1 FROM breaker_event AS later WHERE later.app = old.app AND later.seq > old.seq) LIMIT ?)",
    ),
    (
        "SELECT NULL WHERE ? = ?",
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE sent_ms < ? LIMIT ?)",
    ),
];

/// Removes one batch of every kind within the open transaction; returns how many rows went, without those that hang on
/// them.
pub(super) async fn run(conn: &mut SqliteConnection, cut: &Cut) -> Result<u64, StoreError> {
    let mut removed = 0;
    for (highest, delete) in STATEMENTS {
        let values: [Value; 2] = [cut.before_ms.into(), BATCH.into()];
        let found = row(conn, highest, values.clone()).await?;
        if let Some(found) = found
            && let Some(id) = maybe_text(&found, 0)?
        {
            let mut mark = Script::default();
            mark.add(
                "INSERT INTO mark (name, value) VALUES ('last_id', ?)
                 ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                [id.into()],
            );
            mark.run(conn).await.map_err(failed("prune"))?;
        }
        let mut script = Script::default();
        script.add(delete, values);
        removed += script.run(conn).await.map_err(failed("prune"))?;
    }
    Ok(removed)
}
