//! The daemon's store, opened read-only beside the running daemon.

use std::path::Path;

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tokio::runtime::Runtime;

/// One heal as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heal {
    pub(super) id: String,
    pub(super) action: String,
    /// `Cured`, `Undone`, `Aborted` …
    pub(super) state: String,
    /// `unattended`, `approved`, `requested`, `rollback`.
    pub(super) origin: String,
    pub(super) is_over: bool,
    pub(super) message: String,
}

/// What waits for a person, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Approval {
    pub(super) id: String,
    pub(super) action: String,
    /// `PENDING`, `GRANTED`, `USED` …
    pub(super) state: String,
}

/// A reader that never writes.
#[derive(Debug)]
pub(super) struct Journal {
    runtime: Runtime,
    pool: SqlitePool,
}

impl Journal {
    pub(super) fn open(state_dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let options = SqliteConnectOptions::new()
            .filename(state_dir.join("state.db"))
            .read_only(true);
        let pool = {
            let _inside = runtime.enter();
            SqlitePoolOptions::new()
                .max_connections(1)
                .connect_lazy_with(options)
        };
        Self { runtime, pool }
    }

    /// All heals of an application, oldest first.
    pub(super) fn heals(&self, app: &str) -> Vec<Heal> {
        type Row = (String, String, String, String, Option<i64>, String);
        let rows: Vec<Row> = self
            .runtime
            .block_on(
                sqlx::query_as(
                    "SELECT id, action, state, origin, ended_ms, body FROM heal WHERE app = ? ORDER BY id",
                )
                .bind(app)
                .fetch_all(&self.pool),
            )
            .expect("the store can be read");
        rows.into_iter()
            .map(|(id, action, state, origin, ended, body)| {
                let body: Value = serde_json::from_str(&body).expect("bodies are JSON");
                Heal {
                    id,
                    action,
                    state,
                    origin,
                    is_over: ended.is_some(),
                    message: body["message"].as_str().unwrap_or_default().to_owned(),
                }
            })
            .collect()
    }

    /// The states that a heal went through, each as often as it was entered anew.
    pub(super) fn states(&self, heal: &str) -> Vec<String> {
        let mut states: Vec<String> = self
            .runtime
            .block_on(
                sqlx::query_scalar("SELECT state FROM heal_event WHERE heal = ? ORDER BY seq")
                    .bind(heal)
                    .fetch_all(&self.pool),
            )
            .expect("the store can be read");
        states.dedup();
        states
    }

    /// All approvals of an application, oldest first.
    pub(super) fn approvals(&self, app: &str) -> Vec<Approval> {
        let rows: Vec<(String, String, String)> = self
            .runtime
            .block_on(
                sqlx::query_as("SELECT id, action, state FROM approval WHERE app = ? ORDER BY id")
                    .bind(app)
                    .fetch_all(&self.pool),
            )
            .expect("the store can be read");
        rows.into_iter()
            .map(|(id, action, state)| Approval { id, action, state })
            .collect()
    }

    /// Status and message of a check, as last stored.
    pub(super) fn check(&self, app: &str, check: &str) -> Option<(String, String)> {
        self.runtime
            .block_on(
                sqlx::query_as(
                    "SELECT status, message FROM check_last WHERE app = ? AND check_name = ?",
                )
                .bind(app)
                .bind(check)
                .fetch_optional(&self.pool),
            )
            .expect("the store can be read")
    }

    /// Everything that a check has said, oldest first: status and message.
    pub(super) fn history(&self, app: &str, check: &str) -> Vec<(String, String)> {
        self.runtime
            .block_on(
                sqlx::query_as(
                    "SELECT status, message FROM check_change WHERE app = ? AND check_name = ? ORDER BY seq",
                )
                .bind(app)
                .bind(check)
                .fetch_all(&self.pool),
            )
            .expect("the store can be read")
    }

    /// All checks of an application as last stored, by name.
    pub(super) fn checks(&self, app: &str) -> Vec<(String, String, String)> {
        self.runtime
            .block_on(
                sqlx::query_as(
                    "SELECT check_name, status, message FROM check_last WHERE app = ? ORDER BY check_name",
                )
                .bind(app)
                .fetch_all(&self.pool),
            )
            .expect("the store can be read")
    }

    /// When the next round is due; every round writes another one.
    pub(super) fn due(&self, app: &str) -> Option<i64> {
        self.runtime
            .block_on(
                sqlx::query_scalar("SELECT due_ms FROM due WHERE app = ?")
                    .bind(app)
                    .fetch_optional(&self.pool),
            )
            .expect("the store can be read")
    }

    /// Backups of a kind (`heal`, `known_good` …).
    pub(super) fn backups(&self, app: &str, kind: &str) -> i64 {
        self.runtime
            .block_on(
                sqlx::query_scalar("SELECT count(*) FROM backup WHERE app = ? AND kind = ?")
                    .bind(app)
                    .bind(kind)
                    .fetch_one(&self.pool),
            )
            .expect("the store can be read")
    }

    /// Incidents that are not closed.
    pub(super) fn unclosed(&self, app: &str) -> i64 {
        self.runtime
            .block_on(
                sqlx::query_scalar(
                    "SELECT count(*) FROM incident WHERE app = ? AND state <> 'CLOSED'",
                )
                .bind(app)
                .fetch_one(&self.pool),
            )
            .expect("the store can be read")
    }

    /// Incidents of what could not be seen, closed ones too.
    pub(super) fn unknowns(&self, app: &str) -> i64 {
        self.runtime
            .block_on(
                sqlx::query_scalar(
                    "SELECT count(*) FROM incident WHERE app = ? AND kind = 'UNKNOWN'",
                )
                .bind(app)
                .fetch_one(&self.pool),
            )
            .expect("the store can be read")
    }

    /// Symptoms that are cured and may still come back and take their cure back.
    pub(super) fn watched(&self, app: &str) -> i64 {
        self.runtime
            .block_on(
                sqlx::query_scalar(
                    "SELECT count(*) FROM incident WHERE app = ? AND state = 'WATCHING'",
                )
                .bind(app)
                .fetch_one(&self.pool),
            )
            .expect("the store can be read")
    }
}
