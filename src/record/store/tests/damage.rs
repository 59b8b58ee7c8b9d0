//! A damaged row is an error that names it, never a panic and never an absence.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, SqliteConnection};
use tempfile::TempDir;

use super::fixture::*;
use crate::model::id::HealId;
use crate::seam::store::Query;
use crate::seam::{Store as _, StoreError};

/// The file behind a store, for those who tamper.
pub(super) async fn raw(dir: &TempDir) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(dir.path().join("state.db"))
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_damaged_row_is_named_by_every_reader() {
    for (case, sql) in [
        ("cut off", "UPDATE heal SET body = substr(body, 1, 40)"),
        ("empty", "UPDATE heal SET body = ''"),
        ("of another version", "UPDATE heal SET version = 7"),
        (
            "unknown state",
            "UPDATE heal SET body = replace(body, '\"admitted\"', '\"dancing\"')",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir).await;
        store
            .apply(changes(0).write(heal_write(&heal(10, 1), None)))
            .await
            .unwrap();
        sqlx::query(sql)
            .execute(&mut raw(&dir).await)
            .await
            .unwrap();
        let id = HealId::from_raw(10);
        let query = Query {
            limit: 5,
            ..Query::default()
        };
        assert!(
            matches!(
                store.heal(id).await,
                Err(StoreError::Damaged { what: "heal", .. })
            ),
            "{case}"
        );
        assert!(
            matches!(store.heals(query).await, Err(StoreError::Damaged { .. })),
            "{case}"
        );
        assert!(
            matches!(store.restart().await, Err(StoreError::Damaged { .. })),
            "{case}"
        );
        let mut next = heal(10, 1);
        next.version = 1;
        assert!(
            matches!(
                store.apply(changes(1).write(heal_write(&next, None))).await,
                Err(StoreError::Damaged { .. })
            ),
            "{case}"
        );
        store.touch().await.unwrap();
    }
}
