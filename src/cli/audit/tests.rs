use tempfile::TempDir;

use super::*;
use crate::model::time::Moment;
use crate::record::store::SqliteStore;
use crate::seam::{Changes, Store as _};

fn at(wall_ms: i64) -> Moment {
    Moment {
        boot_id: "boot".to_owned(),
        boot_ms: wall_ms,
        wall_ms,
    }
}

/// A closed state with `rows` audit rows.
async fn state(rows: i64) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &at(0)).await.unwrap();
    let mut changes = Changes::new(at(1), "alice(1000)");
    for number in 0..rows {
        let detail = serde_json::json!({ "number": number, "text": "line\nbreak \u{1b}[31m" });
        changes = changes.audit("held", "app:shop", detail);
    }
    store.apply(changes).await.unwrap();
    store.close().await;
    let path = dir.path().join("state.db");
    (dir, path)
}

/// Changes the log as somebody would who owns the file.
async fn tamper(path: &Path, sql: &'static str) {
    let mut raw = SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    sqlx::raw_sql(
        "DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_is_never_deleted;
         DROP TRIGGER audit_grows_at_its_end",
    )
    .execute(&mut raw)
    .await
    .unwrap();
    sqlx::raw_sql(sql).execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
}

#[tokio::test]
async fn an_untouched_log_is_whole() {
    for rows in [0, 1, 500] {
        let (_dir, path) = state(rows).await;
        let report = verify(&path, None).await.unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(report.rows, u64::try_from(rows).unwrap());
        assert_eq!(report.head.map_or(0, |head| head.seq), rows);
        assert!(!report.compared);
        let head = report.head;
        assert!(verify(&path, head).await.unwrap().is_whole());
    }
}

#[tokio::test]
async fn every_kind_of_tampering_is_located() {
    for (case, sql, want) in [
        (
            "a column changed",
            "UPDATE audit SET actor = 'bob(1001)' WHERE seq = 7",
            AuditFault::Changed { seq: 7 },
        ),
        (
            "white space in the detail",
            "UPDATE audit SET detail = detail || ' ' WHERE seq = 3",
            AuditFault::Changed { seq: 3 },
        ),
        (
            "a hash changed",
            "UPDATE audit SET hash = replace(hash, substr(hash, 1, 1), CASE substr(hash, 1, 1) WHEN '0' THEN '1' ELSE '0' END)
             WHERE seq = 20",
            AuditFault::Changed { seq: 20 },
        ),
        (
            "text moved to the next column",
            "UPDATE audit SET verb = 'hel', object = 'dapp:shop' WHERE seq = 1",
            AuditFault::Changed { seq: 1 },
        ),
        (
            "one row removed",
            "DELETE FROM audit WHERE seq = 12",
            AuditFault::Removed { seq: 12, next: 13 },
        ),
        (
            "the first rows removed",
            "DELETE FROM audit WHERE seq < 4",
            AuditFault::Removed { seq: 1, next: 4 },
        ),
        (
            "one removed and the gap closed",
            "DELETE FROM audit WHERE seq = 12; UPDATE audit SET seq = -seq WHERE seq > 12;
             UPDATE audit SET seq = -seq - 1 WHERE seq < 0",
            AuditFault::Changed { seq: 12 },
        ),
        (
            "two rows swapped",
            "UPDATE audit SET seq = -5 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = 9;
             UPDATE audit SET seq = 9 WHERE seq = -5",
            AuditFault::Reordered { seq: 5, found: 9 },
        ),
        (
            "one put in between",
            "UPDATE audit SET seq = -seq WHERE seq > 10; UPDATE audit SET seq = -seq + 1 WHERE seq < 0;
             INSERT INTO audit SELECT 11, at_ms, actor, verb, object, detail, hash FROM audit WHERE seq = 2",
            AuditFault::Reordered { seq: 11, found: 12 },
        ),
    ] {
        let (_dir, path) = state(30).await;
        tamper(&path, sql).await;
        let report = verify(&path, None).await.unwrap();
        assert_eq!(report.fault, Some(want), "{case}");
        let head = report.head.map_or(0, |head| head.seq);
        assert_eq!(u64::try_from(head).unwrap(), report.rows, "{case}");
    }
}

#[tokio::test]
async fn a_cut_tail_is_seen_only_against_a_known_head() {
    let (_dir, path) = state(30).await;
    let head = verify(&path, None).await.unwrap().head.unwrap();
    tamper(&path, "DELETE FROM audit WHERE seq > 20").await;
    let alone = verify(&path, None).await.unwrap();
    assert!(alone.is_whole() && !alone.compared);
    let compared = verify(&path, Some(head)).await.unwrap();
    assert_eq!(
        compared.fault,
        Some(AuditFault::Cut {
            known: 30,
            last: 20
        })
    );
}

#[tokio::test]
async fn a_log_written_anew_is_not_the_known_one() {
    let (_dir, path) = state(30).await;
    let known = KnownHead {
        seq: 8,
        hash: Link::START,
    };
    let report = verify(&path, Some(known)).await.unwrap();
    assert_eq!(report.fault, Some(AuditFault::Replaced { seq: 8 }));
}

#[tokio::test]
async fn rows_that_are_still_in_the_write_ahead_log_count() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), &at(0)).await.unwrap();
    store
        .apply(Changes::new(at(1), "healerd").audit("started", "daemon", serde_json::json!({})))
        .await
        .unwrap();
    let copy = tempfile::tempdir().unwrap();
    for name in ["state.db", "state.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let report = verify(&copy.path().join("state.db"), None).await.unwrap();
    assert_eq!(report.rows, 1);
}

#[tokio::test]
async fn a_copy_stays_as_it_is() {
    let (dir, path) = state(5).await;
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let before = (names(), std::fs::read(&path).unwrap());
    verify(&path, None).await.unwrap();
    assert_eq!((names(), std::fs::read(&path).unwrap()), before);
}

#[tokio::test]
async fn what_is_no_state_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    assert!(matches!(
        verify(&path, None).await,
        Err(AuditError::Open { .. })
    ));
    assert!(!path.exists());
    std::fs::write(&path, "text ".repeat(1_000)).unwrap();
    assert!(verify(&path, None).await.is_err());
}

#[tokio::test]
async fn a_value_of_another_type_is_reported_not_a_panic() {
    let (_dir, path) = state(5).await;
    tamper(
        &path,
        "CREATE TABLE loose AS SELECT * FROM audit; DROP TABLE audit; ALTER TABLE loose RENAME TO audit;
         UPDATE audit SET actor = x'ff00ff' WHERE seq = 3",
    )
    .await;
    let report = verify(&path, None).await.unwrap();
    assert_eq!(report.fault, Some(AuditFault::Unreadable { after: 2 }));
}

#[test]
fn a_head_reads_back_and_nothing_else_does() {
    let head = KnownHead {
        seq: 12,
        hash: Link::START,
    };
    assert_eq!(head.to_string().parse(), Ok(head));
    for text in ["", "12", "12:", "0:", ":ab", "12:ZZ", "-1:00"] {
        assert_eq!(text.parse::<KnownHead>(), Err(KnownHeadError), "{text}");
    }
}
