//! The one writer: a task that owns the only writing connection.
//!
//! It drains its queue into one transaction (`BEGIN IMMEDIATE`, all jobs, `COMMIT`) and answers only after the commit. What
//! can go wrong:
//!
//! - a job is refused (conflict, denial): it leaves nothing behind, the others stand;
//! - a statement of a job fails (broken constraint), or `SQLite` rolls the whole transaction back (disk full, I/O error):
//!   all is rolled back, and jobs whose gate was not asked yet run again, each alone; a gate is asked once, so a job whose
//!   gate already answered is told that nothing was written;
//! - the commit fails: what is on disk is unknown, every job of the transaction is told so, and the writer never writes
//!   again. No retry on the same handle: a failed fsync may have dropped the pages it was to write.

use std::sync::Arc;

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::Limits;
use super::job::{self, Ended, Group, Head};
use super::known::Known;
use super::lock::Lock;
use super::prune::{self, Cut};
use super::script::{Sent, failed, refused};
use crate::seam::{Changes, StoreError};

/// Begins a transaction that will write.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked for.
pub(super) enum Task {
    Apply {
        changes: Box<Changes>,
        answer: Answer<()>,
    },
    /// A real commit, and nothing else.
    Touch {
        answer: Answer<()>,
    },
    Prune {
        cut: Cut,
        answer: Answer<u64>,
    },
    Close {
        answer: Answer<()>,
    },
    /// Statements of a test, to bring the database into a bad state.
    #[cfg(test)]
    Raw {
        sql: &'static str,
        answer: Answer<()>,
    },
}

/// A job of the group, and whom to tell.
struct Waiting {
    work: Work,
    answer: Answer<()>,
}

enum Work {
    Changes(Box<Changes>),
    Touch,
}

/// How a job of a group came out, before the commit.
enum Fate {
    Written {
        /// Was a gate asked? Then it cannot run again.
        asked: bool,
    },
    Refused(StoreError),
    NotRun,
}

/// The commit failed; nothing may be written any more.
struct Broken;

/// One cause, told to several.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct Shared(Arc<sqlx::Error>);

pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) head: Head,
    pub(super) known: Known,
    pub(super) limits: Limits,
    /// Held until the last statement was sent.
    pub(super) lock: Arc<Lock>,
}

impl Writer {
    /// Works until it is closed, dropped by every sender, or broken by a failed commit.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Task>) {
        let mut closed = None;
        while closed.is_none() {
            let Some(first) = queue.recv().await else {
                break;
            };
            let mut group = Vec::new();
            let mut other = None;
            let mut next = Some(first);
            while let Some(task) = next.take() {
                match task {
                    Task::Apply { changes, answer } => group.push(Waiting {
                        work: Work::Changes(changes),
                        answer,
                    }),
                    Task::Touch { answer } => group.push(Waiting {
                        work: Work::Touch,
                        answer,
                    }),
                    Task::Prune { .. } | Task::Close { .. } => {
                        other = Some(task);
                        break;
                    }
                    #[cfg(test)]
                    Task::Raw { sql, answer } => {
                        let done = sqlx::raw_sql(sql).execute(&mut self.connection).await;
                        tell(answer, done.map(|_| ()).map_err(failed("test")));
                    }
                }
                if group.len() < self.limits.group_max {
                    next = queue.try_recv().ok();
                }
            }
            if !group.is_empty() && self.write(group).await.is_err() {
                break;
            }
            match other {
                Some(Task::Prune { cut, answer }) => {
                    if self.prune(&cut, answer).await.is_err() {
                        break;
                    }
                }
                Some(Task::Close { answer }) => closed = Some(answer),
                Some(Task::Apply { .. } | Task::Touch { .. }) | None => {}
                #[cfg(test)]
                Some(Task::Raw { .. }) => {}
            }
        }
        queue.close();
        while let Ok(task) = queue.try_recv() {
            refuse(task);
        }
        let ended = self.connection.close().await.map_err(failed("close"));
        drop(self.lock);
        if let Some(answer) = closed {
            tell(answer, ended);
        }
    }

    /// One transaction for all.
    async fn write(&mut self, mut group: Vec<Waiting>) -> Result<(), Broken> {
        let ahead = self.known.take(group.iter().filter_map(Waiting::changes));
        let mut shared = match Group::begin(&mut self.connection, ahead).await {
            Ok(shared) => shared,
            Err(error) => {
                let shared = Shared(Arc::new(error));
                for waiting in group {
                    tell(waiting.answer, Err(not_begun(&shared)));
                }
                return Ok(());
            }
        };
        let before = self.head;
        let mut fates = Vec::with_capacity(group.len());
        let mut lost = false;
        for waiting in &mut group {
            if lost {
                fates.push(Fate::NotRun);
                continue;
            }
            let asked = waiting.work.has_gate();
            fates.push(match self.one(&mut waiting.work, &mut shared).await {
                Ended::Written => Fate::Written { asked },
                Ended::Refused(error) => Fate::Refused(error),
                Ended::Lost(error) => {
                    lost = true;
                    Fate::Refused(error)
                }
                Ended::NotRun => {
                    lost = true;
                    Fate::NotRun
                }
            });
        }
        let committed = if lost {
            None
        } else {
            match shared.commit(&mut self.connection).await {
                Sent::Committed => Some(Ok(())),
                Sent::CommitFailed(error) => Some(Err(error)),
                Sent::Failed(error) => {
                    tracing::debug!(%error, jobs = group.len(), "each job is written alone");
                    None
                }
            }
        };
        if let Some(committed) = committed {
            return answer(committed, group.into_iter().zip(fates), &mut self.known);
        }
        self.roll_back(before).await;
        self.again(group, fates).await
    }

    /// After a transaction that `SQLite` rolled back.
    async fn again(&mut self, group: Vec<Waiting>, fates: Vec<Fate>) -> Result<(), Broken> {
        let mut closed: Option<Shared> = None;
        for (mut waiting, fate) in group.into_iter().zip(fates) {
            match fate {
                Fate::Refused(error) => tell(waiting.answer, Err(error)),
                Fate::Written { asked: true } => tell(
                    waiting.answer,
                    Err(refused(
                        "write",
                        "the transaction was rolled back after the guards were asked",
                    )),
                ),
                Fate::Written { asked: false } | Fate::NotRun => {
                    // One that waited in vain for a lock on the file waited for all.
                    if closed.is_none()
                        && let Err(error) = begin(&mut self.connection).await
                    {
                        closed = Some(Shared(Arc::new(error)));
                    }
                    if let Some(error) = &closed {
                        tell(waiting.answer, Err(not_begun(error)));
                        continue;
                    }
                    let before = self.head;
                    match self.one(&mut waiting.work, &mut Group::of_one()).await {
                        Ended::Written => {
                            let fate = Fate::Written { asked: false };
                            let committed = execute(&mut self.connection, "COMMIT").await;
                            let job = std::iter::once((waiting, fate));
                            answer(committed, job, &mut self.known)?;
                        }
                        Ended::Refused(error) | Ended::Lost(error) => {
                            self.roll_back(before).await;
                            tell(waiting.answer, Err(error));
                        }
                        // Nobody is before it; were it so, nothing was written.
                        Ended::NotRun => {
                            self.roll_back(before).await;
                            tell(waiting.answer, Err(refused("write", "it was not run")));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn one(&mut self, work: &mut Work, group: &mut Group) -> Ended {
        match work {
            Work::Changes(changes) => {
                job::run(
                    &mut self.connection,
                    &mut self.head,
                    group,
                    changes,
                    &self.limits,
                )
                .await
            }
            Work::Touch => job::touch(&mut self.connection, group).await,
        }
    }

    /// Fails only when `SQLite` has rolled back by itself.
    async fn roll_back(&mut self, head: Head) {
        self.head = head;
        if let Err(error) = execute(&mut self.connection, "ROLLBACK").await {
            tracing::debug!(%error, "nothing left to roll back");
        }
    }

    async fn prune(&mut self, cut: &Cut, answer: Answer<u64>) -> Result<(), Broken> {
        if let Err(error) = begin(&mut self.connection).await {
            tell(answer, Err(failed("begin a transaction")(error)));
            return Ok(());
        }
        match prune::run(&mut self.connection, cut).await {
            Err(error) => {
                let head = self.head;
                self.roll_back(head).await;
                tell(answer, Err(error));
                Ok(())
            }
            Ok(removed) => match execute(&mut self.connection, "COMMIT").await {
                Ok(()) => {
                    tell(answer, Ok(removed));
                    Ok(())
                }
                Err(error) => {
                    tell(answer, Err(StoreError::CommitUnknown(Box::new(error))));
                    Err(Broken)
                }
            },
        }
    }
}

/// Tells each job what became of it.
fn answer(
    committed: Result<(), sqlx::Error>,
    jobs: impl Iterator<Item = (Waiting, Fate)>,
    known: &mut Known,
) -> Result<(), Broken> {
    if let Err(error) = committed {
        let shared = Shared(Arc::new(error));
        tracing::error!(error = %shared, "commit failed");
        for (waiting, _) in jobs {
            tell(
                waiting.answer,
                Err(StoreError::CommitUnknown(Box::new(shared.clone()))),
            );
        }
        return Err(Broken);
    }
    for (waiting, fate) in jobs {
        let result = match fate {
            Fate::Written { .. } => Ok(()),
            Fate::Refused(error) => Err(error),
            Fate::NotRun => Err(refused("write", "it was not run")),
        };
        let written = result.is_ok();
        tell(waiting.answer, result);
        if let (Work::Changes(changes), true) = (waiting.work, written) {
            known.committed(*changes);
        }
    }
    Ok(())
}

impl Waiting {
    fn changes(&self) -> Option<&Changes> {
        match &self.work {
            Work::Changes(changes) => Some(changes),
            Work::Touch => None,
        }
    }
}

impl Work {
    fn has_gate(&self) -> bool {
        match self {
            Self::Changes(changes) => changes.gate.is_some(),
            Self::Touch => false,
        }
    }
}

fn not_begun(cause: &Shared) -> StoreError {
    StoreError::Failed {
        operation: "begin a transaction",
        source: Box::new(cause.clone()),
    }
}

pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    execute(connection, BEGIN).await
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(sql).execute(connection).await.map(|_| ())
}

/// A caller that stopped listening does not change what was written.
fn tell<T>(answer: Answer<T>, result: Result<T, StoreError>) {
    answer.send(result).ok();
}

fn refuse(task: Task) {
    match task {
        Task::Apply { answer, .. } | Task::Touch { answer } | Task::Close { answer } => {
            tell(answer, Err(StoreError::Closed));
        }
        Task::Prune { answer, .. } => tell(answer, Err(StoreError::Closed)),
        #[cfg(test)]
        Task::Raw { answer, .. } => tell(answer, Err(StoreError::Closed)),
    }
}
