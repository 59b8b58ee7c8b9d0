//! One [`Changes`] inside the open transaction of the writer.
//!
//! A job asks its gate first, then compares each write with the row it changes, then hands over its statements. Refused
//! before that, it leaves nothing behind. Statements of jobs without a gate are gathered over the group and travel
//! together ([`Group`]); when one of them fails, the group is rolled back and each job runs alone. A job with a gate, or
//! one that must read what it has just written, stands in a savepoint of its own: a gate can be asked only once, so its
//! job must not depend on others.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::known::{Ahead, NotRead};
use super::script::{Rows, Script, Sent, Value, conflict, failed, json, refused, row};
use super::{
    Limits, approvals, backups, breakers, checks, guards, heals, incidents, notices, stops,
};
use crate::model::id::HealId;
use crate::model::time::Moment;
use crate::record::audit::{Columns, Link};
use crate::seam::{Changes, StoreError, Write};

static AUDIT: Rows = Rows {
    one: "INSERT INTO audit (seq, at_ms, actor, verb, object, detail, hash) VALUES (?, ?, ?, ?, ?, ?, ?)",
    many: "INSERT INTO audit (seq, at_ms, actor, verb, object, detail, hash)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
         FROM json_each(?) ORDER BY key",
};

/// Sequence and hash of the newest audit row, as the writer will have committed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: i64,
    pub(super) link: Link,
}

/// How a job left the transaction.
pub(super) enum Ended {
    /// Its statements stand in the transaction.
    Written,
    /// Taken back; the transaction goes on.
    Refused(StoreError),
    /// `SQLite` rolled the whole transaction back.
    Lost(StoreError),
    /// Statements of jobs before it failed: the transaction must be rolled back, and this job can run again.
    NotRun,
}

/// What the jobs of one transaction share, so that a hop to the database's thread serves all of them.
#[derive(Default)]
pub(super) struct Group {
    /// Is the transaction still to be begun? It is by the first that needs it, and else in one call with its commit.
    closed: bool,
    /// What is known of heals. It is taken out when it is first used, so that whoever comes after a write reads the row
    /// again.
    ahead: BTreeMap<HealId, Ahead>,
    /// Statements of jobs before, sent before anything is read that they change, and at the end.
    script: Script,
    /// Tables that they change.
    pending: BTreeSet<&'static str>,
    /// Does every job send its own? Then none can be taken down by another.
    apart: bool,
    /// The transaction could not be begun, or the statements of some job failed, and nobody knows of which.
    failed: bool,
}

impl Group {
    /// A transaction of one job.
    pub(super) fn of_one() -> Self {
        Self {
            apart: true,
            ..Self::default()
        }
    }

    /// A transaction of these jobs, whose heals are known or read ahead in the call that begins it.
    pub(super) async fn begin(
        conn: &mut SqliteConnection,
        (mut ahead, unknown): (BTreeMap<HealId, Ahead>, Vec<HealId>),
    ) -> Result<Self, sqlx::Error> {
        if unknown.is_empty() {
            return Ok(Self {
                closed: true,
                ahead,
                ..Self::default()
            });
        }
        if let Ok(ids) = json(&unknown) {
            if let Ok(found) = heals::begin_and_read(conn, ids).await {
                ahead.extend(found.into_iter().map(|(id, row)| (id, Ahead::Row(row))));
                return Ok(Self {
                    ahead,
                    ..Self::default()
                });
            }
            // What cannot be read now is read, and reported, by the job itself.
            if let Err(error) = sqlx::query("ROLLBACK").execute(&mut *conn).await {
                tracing::debug!(%error, "the transaction was not begun");
            }
        }
        super::writer::begin(conn).await?;
        Ok(Self::default())
    }

    /// Begins the transaction if nobody did so before.
    pub(super) async fn open(&mut self, conn: &mut SqliteConnection) -> Result<(), StoreError> {
        if self.closed {
            super::writer::begin(conn).await.map_err(|error| {
                self.failed = true;
                failed("begin a transaction")(error)
            })?;
            self.closed = false;
        }
        Ok(())
    }

    /// Sends what was gathered. After an error the transaction must be rolled back.
    pub(super) async fn send(&mut self, conn: &mut SqliteConnection) -> Result<(), StoreError> {
        if self.script.is_empty() {
            return Ok(());
        }
        self.open(conn).await?;
        self.pending.clear();
        let script = std::mem::take(&mut self.script);
        script
            .run_together(conn)
            .await
            .map(|_| ())
            .map_err(|error| {
                self.failed = true;
                failed("write")(error)
            })
    }

    /// Sends what was gathered and commits, in one call, which begins the transaction too if that was not done yet.
    pub(super) async fn commit(self, conn: &mut SqliteConnection) -> Sent {
        if self.closed && self.script.is_empty() {
            return Sent::Committed;
        }
        let begin = self.closed.then_some(super::writer::BEGIN);
        self.script.commit(conn, begin).await
    }
}

/// A job at work.
pub(super) struct Job<'c> {
    conn: &'c mut SqliteConnection,
    group: &'c mut Group,
    script: Script,
    /// Has it a gate, and so a savepoint of its own?
    gated: bool,
    /// Was the savepoint opened, as far as we know?
    opened: bool,
    /// Tables with statements that are not sent yet.
    pending: BTreeSet<&'static str>,
    pub(super) at: &'c Moment,
    pub(super) actor: &'c str,
    pub(super) limits: &'c Limits,
    /// The first write that may not stand without an audit row.
    to_audit: Option<&'static str>,
}

/// Runs `changes` in the transaction that is open on `conn`. Asks the gate, if there is one, and consumes it.
pub(super) async fn run(
    conn: &mut SqliteConnection,
    head: &mut Head,
    group: &mut Group,
    changes: &mut Changes,
    limits: &Limits,
) -> Ended {
    if changes.gate.is_some()
        && (group.send(conn).await.is_err() || group.open(conn).await.is_err())
    {
        return Ended::NotRun;
    }
    let gate = changes.gate.take();
    let before = *head;
    let mut job = Job {
        conn,
        group,
        script: Script::default(),
        gated: gate.is_some(),
        opened: false,
        pending: BTreeSet::new(),
        at: &changes.at,
        actor: &changes.actor,
        limits,
        to_audit: None,
    };
    let result = async {
        if let Some((app, host, gate)) = gate {
            let rows = guards::read(job.conn, &app, &host, job.at, limits).await?;
            // A guard that fails denies: whatever it panicked about, nothing may be written behind it.
            std::panic::catch_unwind(AssertUnwindSafe(|| gate(&rows)))
                .map_err(|_| refused("ask the guards", "a guard panicked"))?
                .map_err(StoreError::Denied)?;
        }
        for write in &changes.writes {
            apply(&mut job, write).await?;
        }
        if let (Some(what), true) = (job.to_audit, changes.audits.is_empty()) {
            return Err(refused(
                what,
                "a change without an audit row is not written",
            ));
        }
        for entry in &changes.audits {
            let detail = json(&entry.detail)?;
            append(&mut job, head, &entry.verb, &entry.object, detail)?;
        }
        job.close().await
    }
    .await;
    let Err(error) = result else {
        return Ended::Written;
    };
    *head = before;
    if job.group.failed {
        return Ended::NotRun;
    }
    if job.opened && !job.take_back().await {
        return Ended::Lost(error);
    }
    Ended::Refused(error)
}

fn append(
    job: &mut Job<'_>,
    head: &mut Head,
    verb: &str,
    object: &str,
    detail: String,
) -> Result<(), StoreError> {
    let seq = head
        .seq
        .checked_add(1)
        .ok_or_else(|| refused("append to the audit log", "it is full"))?;
    let columns = Columns {
        seq,
        at_ms: job.at.wall_ms,
        actor: job.actor,
        verb,
        object,
        detail: &detail,
    };
    let link = head.link.next(&columns);
    job.add_row(
        "audit",
        &AUDIT,
        [
            seq.into(),
            job.at.wall_ms.into(),
            job.actor.into(),
            verb.into(),
            object.into(),
            detail.into(),
            link.to_hex().into(),
        ],
    );
    *head = Head { seq, link };
    Ok(())
}

/// Compares one write with what is stored, and adds its statements.
///
/// What needs no audit row is decided here and in the modules of the subjects: due times, check results, notices and
/// settings never do; heals, incidents, breakers, approvals and backups do unless the write only counts (a look, a pause,
/// a verification that found nothing); everything else does.
async fn apply(job: &mut Job<'_>, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::Heal { heal, event } => heals::write(job, heal, event.as_ref()).await,
        Write::Incident { incident, note } => incidents::write(job, incident, note).await,
        Write::Breaker {
            breaker,
            transitions,
        } => breakers::write(job, breaker, transitions).await,
        Write::Approval(approval) => approvals::write(job, approval).await,
        Write::Backup(backup) => backups::write(job, backup).await,
        Write::BackupRemoved(id) => backups::remove(job, *id).await,
        Write::Pin { backup, by, pinned } => backups::pin(job, *backup, by, *pinned).await,
        Write::LeaseTaken(lease) => stops::take_lease(job, lease).await,
        Write::LeaseReleased { key, heal } => {
            stops::release_lease(job, key, *heal);
            Ok(())
        }
        Write::Hold(hold) => stops::hold(job, hold).await,
        Write::HoldEnded { id } => stops::end_hold(job, *id).await,
        Write::Mute(mute) => stops::mute(job, mute),
        Write::MuteEnded { app, check } => {
            stops::end_mute(job, app, check);
            Ok(())
        }
        Write::Mode(mode) => stops::mode(job, mode),
        Write::ModeCleared { app } => {
            stops::clear_mode(job, app.as_ref());
            Ok(())
        }
        Write::Due { app, due } => checks::due(job, app, due),
        Write::Checks { app, results } => checks::results(job, app, results),
        Write::Bar(bar) => stops::bar(job, bar),
        Write::BarLifted { app, action } => {
            stops::lift_bar(job, app, action);
            Ok(())
        }
        Write::Notice(notice) => notices::add(job, notice).await,
        Write::NoticeSent { id } => {
            notices::sent(job, *id);
            Ok(())
        }
        Write::NoticeFailed { id, again } => {
            notices::failed(job, *id, again);
            Ok(())
        }
        Write::Setting { key, value } => {
            job.add(
                "setting",
                "INSERT INTO setting (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [key.as_str().into(), value.as_str().into()],
            );
            Ok(())
        }
    }
}

impl Job<'_> {
    /// Adds a statement that changes `table`.
    pub(super) fn add<const N: usize>(
        &mut self,
        table: &'static str,
        sql: &'static str,
        values: [Value; N],
    ) {
        self.pending.insert(table);
        self.script.add(sql, values);
    }

    /// Adds a row to `table`, by a statement that can take many.
    pub(super) fn add_row<const N: usize>(
        &mut self,
        table: &'static str,
        rows: &'static Rows,
        values: [Value; N],
    ) {
        self.pending.insert(table);
        self.script.add_row(rows, values);
    }

    /// Reads one row of `table`, after the statements of this job that change it.
    pub(super) async fn row<const N: usize>(
        &mut self,
        table: &'static str,
        sql: &'static str,
        values: [Value; N],
    ) -> Result<Option<SqliteRow>, StoreError> {
        if self.pending.contains(table) {
            self.send().await?;
        } else if self.group.pending.contains(table) {
            self.group.send(self.conn).await?;
        }
        self.group.open(self.conn).await?;
        row(self.conn, sql, values).await
    }

    /// What is known of a heal, if that was not used yet.
    pub(super) fn read_ahead(&mut self, heal: HealId) -> Result<Ahead, NotRead> {
        self.group.ahead.remove(&heal).ok_or(NotRead)
    }

    /// This write may not stand without an audit row.
    pub(super) fn must_be_audited(&mut self, what: &'static str) {
        self.to_audit.get_or_insert(what);
    }

    async fn send(&mut self) -> Result<(), StoreError> {
        if self.script.is_empty() {
            return Ok(());
        }
        self.group.send(self.conn).await?;
        self.group.open(self.conn).await?;
        let mut script = Script::default();
        if !std::mem::replace(&mut self.opened, true) {
            script.add("SAVEPOINT job", []);
        }
        script.append(std::mem::take(&mut self.script));
        self.pending.clear();
        script.run(self.conn).await.map(|_| ()).map_err(|error| {
            let taken = error
                .as_database_error()
                .filter(|error| error.is_unique_violation())
                .map(|error| error.message().to_owned());
            taken.map_or_else(|| failed("write")(error), conflict)
        })
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        if self.script.is_empty() && !self.opened {
            return Ok(());
        }
        if self.opened || self.gated || self.group.apart {
            self.script.add("RELEASE job", []);
            return self.send().await;
        }
        self.group.script.append(std::mem::take(&mut self.script));
        self.group.pending.append(&mut self.pending);
        Ok(())
    }

    /// Back to the savepoint. False when there is none any more: then `SQLite` has rolled everything back.
    async fn take_back(&mut self) -> bool {
        let mut script = Script::default();
        script.add("ROLLBACK TO job", []);
        script.add("RELEASE job", []);
        script.run(self.conn).await.is_ok()
    }
}

/// Writes a counter, so that the commit is a real one.
pub(super) async fn touch(conn: &mut SqliteConnection, group: &mut Group) -> Ended {
    if let Err(error) = group.open(conn).await {
        return Ended::Lost(error);
    }
    let mut script = Script::default();
    script.add(
        "INSERT INTO mark (name, value) VALUES ('touched', '1')
         ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)",
        [],
    );
    match script.run(conn).await {
        Ok(_) => Ended::Written,
        // A failed statement takes back itself; whether the transaction still stands is asked by its next savepoint.
        Err(error) => Ended::Lost(failed("write")(error)),
    }
}
