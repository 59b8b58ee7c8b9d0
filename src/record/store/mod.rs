//! The real store: `SQLite`, one writer, a few readers.
//!
//! `state.db` in the state directory, write-ahead log, `synchronous=FULL`: what was answered with success survives a loss
//! of power. One task writes ([`writer`]) and groups what waits into one commit; readers stand apart. The store checks
//! what it can check without knowing policy: versions, legal moves, connected transitions, audit rows. It decides nothing.
//!
//! It asks no clock: moments come with the calls. Limits on waiting are the runtime's timers and can be taken away, so
//! that a simulated clock does not fire them.

mod approvals;
mod backups;
mod breakers;
mod checks;
mod guards;
mod heals;
mod incidents;
mod job;
mod known;
mod lock;
mod notices;
mod open;
mod prune;
mod readers;
mod restart;
mod script;
mod stops;
mod writer;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make and break files, start programs and read the real clock"
)]
mod tests;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::Connection as _;
use tokio::sync::{mpsc, oneshot};

pub use open::{OpenError, unfit};

use crate::model::approval::Approval;
use crate::model::backup::BackupRow;
use crate::model::breaker::BreakerTransition;
use crate::model::heal::{Event, Heal};
use crate::model::id::{ApprovalId, HealId, IncidentId};
use crate::model::incident::Incident;
use crate::model::name::{AppName, HostName};
use crate::model::time::Moment;
use crate::seam::store::{AuditRow, GuardRows, OutboxRow, Query, Restart};
use crate::seam::{BoxFuture, Changes, Store, StoreError};
use readers::{Reader, Readers};
use script::{failed, int, parse, refused, row, rows, text};
use writer::{Task, Writer};

/// Rows of one answer, whatever is asked for.
const ANSWER_MAX: u32 = 10_000;

/// Bounds of the store, and the spans that decide which rows it hands out.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Jobs that wait for the writer.
    pub queue: usize,
    /// Jobs of one commit.
    pub group_max: usize,
    pub readers: usize,
    /// How long a caller waits for room in the queue or for a reader; nothing was written when it runs out. `None`: for
    /// ever, for simulated clocks.
    pub queue_wait: Option<Duration>,
    /// How long a caller waits for the answer to what the writer has taken; what was written is unknown when it runs out.
    pub answer_wait: Option<Duration>,
    /// How long `SQLite` waits for a lock that another program holds on the file.
    pub busy_wait: Duration,
    /// Age of the oldest start or cure that guards are shown.
    pub history_of_guards: Duration,
    /// A notice with the key and event of one younger than this is left away.
    pub notice_repeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 1_000,
            group_max: 100,
            readers: 3,
            queue_wait: Some(Duration::from_secs(30)),
            answer_wait: Some(Duration::from_mins(1)),
            busy_wait: Duration::from_secs(5),
            history_of_guards: Duration::from_hours(24),
            notice_repeat: Duration::from_hours(4),
        }
    }
}

impl Limits {
    /// Without any timer: for a runtime whose clock is simulated.
    #[must_use]
    pub fn without_timers(mut self) -> Self {
        self.queue_wait = None;
        self.answer_wait = None;
        self
    }
}

/// Durable state in one directory.
#[derive(Debug)]
pub struct SqliteStore {
    queue: mpsc::Sender<Task>,
    readers: Readers,
    limits: Limits,
    /// The moment of the newest call, for rows that are asked for without one.
    latest: Mutex<Moment>,
}

impl SqliteStore {
    /// Opens the state in `dir` and makes it when there is none. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the directory is unsafe or in use, the state is from a later version, or `SQLite` refuses.
    pub async fn open(dir: &Path, at: &Moment) -> Result<Self, OpenError> {
        Self::open_with(dir, at, Limits::default()).await
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub async fn open_with(dir: &Path, at: &Moment, limits: Limits) -> Result<Self, OpenError> {
        let opened = open::open(dir, at, &limits).await?;
        Ok(Self::start(opened, at, limits))
    }

    fn start(opened: open::Opened, at: &Moment, limits: Limits) -> Self {
        let (queue, tasks) = mpsc::channel(limits.queue.max(1));
        let writer = Writer {
            connection: opened.writer,
            head: opened.head,
            known: known::Known::default(),
            limits: limits.clone(),
            lock: opened.lock,
        };
        tokio::spawn(writer.run(tasks));
        Self {
            queue,
            readers: Readers::new(opened.readers),
            limits,
            latest: Mutex::new(at.clone()),
        }
    }

    /// Removes what ended longer than `keep` ago (history is kept 90 days by default), in short transactions; returns
    /// how many rows went. The audit log stays, and so does everything that is open.
    ///
    /// A `now` far ahead of the last audited change is a clock that lies: then that change's day counts as now.
    ///
    /// # Errors
    /// When the store is closed or a statement fails; what was removed before stays removed.
    pub async fn prune(&self, now: &Moment, keep: Duration) -> Result<u64, StoreError> {
        const DAY_MS: i64 = 86_400_000;
        let newest = {
            let mut reader = self.reader().await?;
            row(
                reader.connection()?,
                "SELECT at_ms FROM audit ORDER BY seq DESC LIMIT 1",
                [],
            )
            .await?
            .map(|row| int(&row, 0))
            .transpose()?
        };
        let Some(newest) = newest else {
            return Ok(0);
        };
        let now_ms = now.wall_ms.min(newest.saturating_add(DAY_MS));
        let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let cut = prune::Cut {
            before_ms: now_ms.saturating_sub(keep_ms),
        };
        let mut removed = 0;
        loop {
            let batch = self.ask(|answer| Task::Prune { cut, answer }).await?;
            removed += batch;
            if batch == 0 {
                return Ok(removed);
            }
        }
    }

    async fn ask<T>(
        &self,
        task: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Task,
    ) -> Result<T, StoreError> {
        let room = within(self.limits.queue_wait, self.queue.reserve())
            .await
            .ok_or_else(|| refused("queue a write", "the writer is too far behind"))?
            .map_err(|_| StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        room.send(task(answer));
        match within(self.limits.answer_wait, answered).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(unknown("the writer ended before it answered")),
            None => Err(unknown("the writer does not answer")),
        }
    }

    async fn reader(&self) -> Result<Reader<'_>, StoreError> {
        self.readers.get(self.limits.queue_wait).await
    }

    fn saw(&self, at: &Moment) {
        at.clone_into(&mut self.latest.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn latest(&self) -> Moment {
        self.latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// An outcome that nobody can tell.
fn unknown(why: &'static str) -> StoreError {
    StoreError::CommitUnknown(why.into())
}

/// `None` when the limit runs out first.
async fn within<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}

fn bounded(mut query: Query) -> Query {
    query.limit = query.limit.min(ANSWER_MAX);
    query
}

impl Store for SqliteStore {
    fn apply(&self, changes: Changes) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.saw(&changes.at);
            let changes = Box::new(changes);
            self.ask(|answer| Task::Apply { changes, answer }).await
        })
    }

    fn restart(&self) -> BoxFuture<'_, Result<Restart, StoreError>> {
        Box::pin(async move {
            let now = self.latest();
            let mut reader = self.reader().await?;
            let mut transaction = reader.connection()?.begin().await.map_err(failed("read"))?;
            restart::read(&mut transaction, &now).await
        })
    }

    fn guard_rows<'a>(
        &'a self,
        app: &'a AppName,
        host: &'a HostName,
    ) -> BoxFuture<'a, Result<GuardRows, StoreError>> {
        Box::pin(async move {
            let now = self.latest();
            let mut reader = self.reader().await?;
            let mut transaction = reader.connection()?.begin().await.map_err(failed("read"))?;
            guards::read(&mut transaction, app, host, &now, &self.limits).await
        })
    }

    fn heal(&self, id: HealId) -> BoxFuture<'_, Result<Option<Heal>, StoreError>> {
        Box::pin(async move { heals::get(self.reader().await?.connection()?, id).await })
    }

    fn heal_events(&self, id: HealId) -> BoxFuture<'_, Result<Vec<(Moment, Event)>, StoreError>> {
        Box::pin(async move { heals::events(self.reader().await?.connection()?, id).await })
    }

    fn heals(&self, query: Query) -> BoxFuture<'_, Result<Vec<Heal>, StoreError>> {
        Box::pin(
            async move { heals::list(self.reader().await?.connection()?, &bounded(query)).await },
        )
    }

    fn incident(&self, id: IncidentId) -> BoxFuture<'_, Result<Option<Incident>, StoreError>> {
        Box::pin(async move { incidents::get(self.reader().await?.connection()?, id).await })
    }

    fn incidents(&self, query: Query) -> BoxFuture<'_, Result<Vec<Incident>, StoreError>> {
        Box::pin(async move {
            incidents::list(self.reader().await?.connection()?, &bounded(query)).await
        })
    }

    fn approval(&self, id: ApprovalId) -> BoxFuture<'_, Result<Option<Approval>, StoreError>> {
        Box::pin(async move { approvals::get(self.reader().await?.connection()?, id).await })
    }

    fn approvals(&self, query: Query) -> BoxFuture<'_, Result<Vec<Approval>, StoreError>> {
        Box::pin(async move {
            approvals::list(self.reader().await?.connection()?, &bounded(query)).await
        })
    }

    fn backups(&self, query: Query) -> BoxFuture<'_, Result<Vec<BackupRow>, StoreError>> {
        Box::pin(
            async move { backups::list(self.reader().await?.connection()?, &bounded(query)).await },
        )
    }

    fn breaker_history<'a>(
        &'a self,
        app: &'a AppName,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<BreakerTransition>, StoreError>> {
        Box::pin(async move {
            let limit = limit.min(ANSWER_MAX);
            breakers::history(self.reader().await?.connection()?, app, limit).await
        })
    }

    fn audit(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        Box::pin(async move {
            rows(
                self.reader().await?.connection()?,
                "SELECT seq, at_ms, actor, verb, object, detail, hash FROM audit WHERE seq > ? ORDER BY seq LIMIT ?",
                [after.into(), i64::from(limit.min(ANSWER_MAX)).into()],
            )
            .await?
            .iter()
            .map(|row| {
                Ok(AuditRow {
                    seq: int(row, 0)?,
                    at_wall_ms: int(row, 1)?,
                    actor: text(row, 2)?.to_owned(),
                    verb: text(row, 3)?.to_owned(),
                    object: text(row, 4)?.to_owned(),
                    detail: parse(text(row, 5)?, "audit detail")?,
                    hash: text(row, 6)?.to_owned(),
                })
            })
            .collect()
        })
    }

    fn audit_head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        Box::pin(async move {
            row(
                self.reader().await?.connection()?,
                "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1",
                [],
            )
            .await?
            .map(|row| Ok((int(&row, 0)?, text(&row, 1)?.to_owned())))
            .transpose()
        })
    }

    fn outbox<'a>(&'a self, now: &'a Moment) -> BoxFuture<'a, Result<Vec<OutboxRow>, StoreError>> {
        Box::pin(async move { notices::due(self.reader().await?.connection()?, now).await })
    }

    fn touch(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.ask(|answer| Task::Touch { answer }).await })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.readers.close().await;
            if let Err(error) = self.ask(|answer| Task::Close { answer }).await {
                tracing::debug!(%error, "store was closed before");
            }
        })
    }
}
