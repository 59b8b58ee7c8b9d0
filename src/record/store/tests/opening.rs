//! What is refused at the door, and what is kept before a migration.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

use super::damage::raw;
use super::fixture::*;
use crate::record::store::open::{OpenError, open_with as open_migrated};
use crate::record::store::{Limits, SqliteStore};
use crate::seam::Store as _;

async fn refusal(dir: &Path) -> OpenError {
    SqliteStore::open(dir, &at(0)).await.unwrap_err()
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_told_who_is_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let refused = refusal(dir.path()).await;
    assert!(
        matches!(refused, OpenError::Locked { pid: Some(pid), .. } if pid == std::process::id()),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("is in use by process"));
    store.close().await;
    open(&dir).await;
}

#[tokio::test]
async fn the_lock_outlives_a_store_that_was_dropped_with_work_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    // Queued but never awaited to the end.
    let mut work = Box::pin(store.apply(changes(1)));
    assert!(
        std::future::poll_fn(|context| std::task::Poll::Ready(
            work.as_mut().poll(context).is_pending()
        ))
        .await
    );
    drop(work);
    drop(store);
    let again = loop {
        match SqliteStore::open(dir.path(), &at(0)).await {
            Ok(again) => break again,
            Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(again.audit_head().await.unwrap().unwrap().0, 1);
}

#[tokio::test]
async fn loose_rights_are_refused_with_the_command_that_mends_them() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).await.close().await;
    let database = dir.path().join("state.db");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&database), 0o600);
    for (path, loose, tight) in [
        (dir.path(), 0o777, 0o755),
        (dir.path(), 0o770, 0o750),
        (&database, 0o640, 0o600),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(loose)).unwrap();
        let refused = refusal(dir.path()).await;
        assert!(
            refused.to_string().contains("gives others too much"),
            "{refused}"
        );
        assert_eq!(
            refused.advice(),
            format!("chmod {tight:o} '{}'", path.display())
        );
        fs::set_permissions(path, fs::Permissions::from_mode(tight)).unwrap();
    }
    open(&dir).await;
}

#[tokio::test]
async fn a_new_directory_is_made_closed_and_a_wrong_kind_of_file_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state");
    SqliteStore::open(&dir, &at(0)).await.unwrap().close().await;
    assert_eq!(
        fs::metadata(&dir).unwrap().permissions().mode() & 0o7777,
        0o711
    );

    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(refusal(&file).await, OpenError::Unsafe { .. }));
    let linked = parent.path().join("linked");
    fs::create_dir(&linked).unwrap();
    fs::set_permissions(&linked, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(dir.join("state.db"), linked.join("state.db")).unwrap();
    assert!(matches!(
        refusal(&linked).await,
        OpenError::Io {
            operation: "open",
            ..
        }
    ));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    fs::write(
        &path,
        "not a database, but long enough to be taken for one".repeat(50),
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = refusal(dir.path()).await;
    assert!(matches!(refused, OpenError::Database { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_database_of_a_later_version_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).await.close().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9000, 'later', 1, x'00', 0)",
    )
    .execute(&mut raw(&dir).await)
    .await
    .unwrap();
    let refused = refusal(dir.path()).await;
    assert!(
        matches!(
            refused,
            OpenError::Future {
                found: 9000,
                known: 1,
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(refused.advice().contains("install the later version"));
}

fn later(migrations: &[(i64, &'static str)]) -> Migrator {
    let first = include_str!("../../../../migrations/0001_create_state.sql");
    let all = std::iter::once((1, first)).chain(migrations.iter().copied());
    Migrator::with_migrations(
        all.map(|(version, sql)| {
            Migration::new(
                version,
                "create state".into(),
                MigrationType::Simple,
                sql.into_sql_str(),
                false,
            )
        })
        .collect(),
    )
}

fn copies(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".before-"))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_state_is_copied_before_a_migration_and_the_last_three_copies_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    store.apply(changes(1)).await.unwrap();
    store.close().await;
    assert_eq!(
        copies(dir.path()),
        Vec::<String>::new(),
        "a new state has no past"
    );
    let mut migrations = Vec::new();
    for (version, sql) in [
        (2, "CREATE TABLE two (x INTEGER) STRICT"),
        (3, "CREATE TABLE three (x INTEGER) STRICT"),
        (4, "CREATE TABLE four (x INTEGER) STRICT"),
        (5, "CREATE TABLE five (x INTEGER) STRICT"),
    ] {
        migrations.push((version, sql));
        let opened = open_migrated(
            dir.path(),
            &at(version),
            &Limits::default(),
            &later(&migrations),
        )
        .await
        .unwrap();
        drop(opened);
    }
    let copies = copies(dir.path());
    let ends: Vec<_> = copies
        .iter()
        .map(|name| name.rsplit('.').next().unwrap())
        .collect();
    assert_eq!(ends, ["before-0003", "before-0004", "before-0005"]);
    let old = dir.path().join(&copies[0]);
    assert_eq!(
        fs::metadata(&old).unwrap().permissions().mode() & 0o7777,
        0o600
    );

    // The copy is a whole state of its own: version 2, with what was in it.
    let restored = tempfile::tempdir().unwrap();
    fs::copy(&old, restored.path().join("state.db")).unwrap();
    let mut copy = raw(&restored).await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM audit")
        .fetch_one(&mut copy)
        .await
        .unwrap();
    let version: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(&mut copy)
        .await
        .unwrap();
    assert_eq!((rows, version), (1, 2));
}

#[tokio::test]
async fn a_migration_that_fails_leaves_the_state_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    store.apply(changes(1)).await.unwrap();
    store.close().await;
    let broken = later(&[(
        2,
        "CREATE TABLE two (x INTEGER); CREATE TABLE audit (x INTEGER)",
    )]);
    let failed = open_migrated(dir.path(), &at(2), &Limits::default(), &broken).await;
    assert!(matches!(failed, Err(OpenError::Migrate { .. })));
    let store = open(&dir).await;
    assert_eq!(store.audit_head().await.unwrap().unwrap().0, 1);
}

#[tokio::test]
async fn the_writer_syncs_every_commit_into_a_write_ahead_log() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open_migrated(dir.path(), &at(0), &Limits::default(), &later(&[]))
        .await
        .unwrap();
    let mut writer = opened.writer;
    for (pragma, want) in [
        ("PRAGMA journal_mode", "wal"),
        ("PRAGMA synchronous", "2"),
        ("PRAGMA foreign_keys", "1"),
        ("PRAGMA trusted_schema", "0"),
    ] {
        let row = sqlx::query(pragma).fetch_one(&mut writer).await.unwrap();
        let found = sqlx::Row::try_get::<String, _>(&row, 0)
            .or_else(|_| sqlx::Row::try_get::<i64, _>(&row, 0).map(|value| value.to_string()))
            .unwrap();
        assert_eq!(found, want, "{pragma}");
    }
}

#[tokio::test]
async fn every_table_checks_its_types() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).await.close().await;
    let loose: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM pragma_table_list
         WHERE schema = 'main' AND type = 'table' AND NOT strict AND name NOT LIKE '\\_sqlx%' ESCAPE '\\'
            AND name NOT LIKE 'sqlite%'",
    )
    .fetch_all(&mut raw(&dir).await)
    .await
    .unwrap();
    assert_eq!(loose, Vec::<String>::new());
}
