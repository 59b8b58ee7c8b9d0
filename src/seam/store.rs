//! Durable state.
//!
//! One call of [`Store::apply`] is one transaction: all writes, their journal rows, their audit rows, or nothing. What
//! is changed bears a version and is compared before it is set. A [`Gate`] is asked inside the transaction on the rows
//! just read, so that a guard that denies writes nothing.

use serde::{Deserialize, Serialize};

use super::BoxFuture;
use super::notify::Notice;
use crate::model::approval::Approval;
use crate::model::backup::BackupRow;
use crate::model::breaker::{Breaker, BreakerTransition};
use crate::model::check::CheckResult;
use crate::model::heal::{Event, Heal};
use crate::model::id::{ApprovalId, BackupId, HealId, HoldId, IncidentId};
use crate::model::incident::Incident;
pub use crate::model::ledger::{Bar, GuardRows, Lease, StartRow};
use crate::model::name::{ActionName, AppName, CheckName, HostName};
use crate::model::reason::Denied;
use crate::model::stop::{Hold, ModeOverride, Mute};
use crate::model::time::Moment;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A row is no longer the one that was read, or a key is taken. Nothing was written.
    #[error("{what} was changed meanwhile")]
    Conflict { what: String },
    /// The gate denied. Nothing was written.
    #[error("{0}")]
    Denied(Denied),
    /// Nothing was written.
    #[error("the store refused: {operation}")]
    Failed {
        operation: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Whether it was written is not known: the caller stops deciding, and the daemon exits.
    #[error("the outcome of a commit is unknown")]
    CommitUnknown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A stored row cannot be read back.
    #[error("a stored {what} cannot be read: {reason}")]
    Damaged { what: &'static str, reason: String },
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}

/// Asked inside the transaction, on rows just read.
pub type Gate = Box<dyn FnOnce(&GuardRows) -> Result<(), Denied> + Send>;

/// One transaction.
pub struct Changes {
    pub at: Moment,
    /// Who causes it: `healerd`, or a person as `name(uid)`.
    pub actor: String,
    pub writes: Vec<Write>,
    pub audits: Vec<AuditEntry>,
    /// With the app and host whose rows it wants.
    pub gate: Option<(AppName, HostName, Gate)>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes")
            .field("actor", &self.actor)
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}

impl Changes {
    /// An empty transaction.
    pub fn new(at: Moment, actor: &str) -> Self {
        Self {
            at,
            actor: actor.to_owned(),
            writes: Vec::new(),
            audits: Vec::new(),
            gate: None,
        }
    }

    /// Adds a write.
    #[must_use]
    pub fn write(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }

    /// Adds an audit row.
    #[must_use]
    pub fn audit(mut self, verb: &str, object: &str, detail: serde_json::Value) -> Self {
        self.audits.push(AuditEntry {
            verb: verb.to_owned(),
            object: object.to_owned(),
            detail,
        });
        self
    }
}

/// What the audit log will say beside time and actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Past tense: `heal_admitted`, `approval_granted` …
    pub verb: String,
    /// `app:shop`, `heal:01j…`.
    pub object: String,
    pub detail: serde_json::Value,
}

/// One change of one row. Versions in the values are those last read; 0 means a new row. The store writes version + 1.
#[derive(Debug, Clone)]
pub enum Write {
    Heal {
        heal: Box<Heal>,
        event: Option<Event>,
    },
    Incident {
        incident: Box<Incident>,
        note: String,
    },
    Breaker {
        breaker: Box<Breaker>,
        transitions: Vec<BreakerTransition>,
    },
    Approval(Box<Approval>),
    Backup(Box<BackupRow>),
    BackupRemoved(BackupId),
    /// Keeps a backup while a heal or a person needs it.
    Pin {
        backup: BackupId,
        by: String,
        pinned: bool,
    },
    /// Takes `key` for a heal; a key held by another heal is a conflict.
    LeaseTaken(Lease),
    /// Gives it back; only the holder's own.
    LeaseReleased {
        key: String,
        heal: HealId,
    },
    Hold(Hold),
    HoldEnded {
        id: HoldId,
    },
    Mute(Mute),
    MuteEnded {
        app: AppName,
        check: CheckName,
    },
    Mode(ModeOverride),
    ModeCleared {
        app: Option<AppName>,
    },
    Due {
        app: AppName,
        due: Moment,
    },
    /// Results that changed since the last ones stored.
    Checks {
        app: AppName,
        results: Vec<CheckResult>,
    },
    /// An undone action is not tried again by itself on the same evidence.
    Bar(Bar),
    BarLifted {
        app: AppName,
        action: ActionName,
    },
    Notice(Notice),
    NoticeSent {
        id: i64,
    },
    NoticeFailed {
        id: i64,
        again: Moment,
    },
    /// Small facts of the daemon itself: install id, starts, clock high-water mark.
    Setting {
        key: String,
        value: String,
    },
}

/// Everything the engine needs to go on where it stopped.
#[derive(Debug, Clone, Default)]
pub struct Restart {
    /// All that are not closed.
    pub incidents: Vec<Incident>,
    /// All that have not ended, and those that a person must still decide.
    pub heals: Vec<Heal>,
    pub breakers: Vec<Breaker>,
    /// Pending and granted ones, and those rejected or expired within 7 days.
    pub approvals: Vec<Approval>,
    pub holds: Vec<Hold>,
    pub mutes: Vec<Mute>,
    pub modes: Vec<ModeOverride>,
    pub due: Vec<(AppName, Moment)>,
    pub checks: Vec<(AppName, CheckResult)>,
    pub bars: Vec<Bar>,
    pub leases: Vec<Lease>,
    /// Highest fence token per host.
    pub fences: Vec<(HostName, u64)>,
    pub backups: Vec<BackupRow>,
    pub settings: Vec<(String, String)>,
    /// Highest raw id of anything stored.
    pub last_id: u128,
}

/// Which rows a list wants.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub app: Option<AppName>,
    /// Only what is not over.
    pub open_only: bool,
    /// Newest first, at most this many.
    pub limit: u32,
}

/// One row of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRow {
    pub seq: i64,
    pub at_wall_ms: i64,
    pub actor: String,
    pub verb: String,
    pub object: String,
    pub detail: serde_json::Value,
    /// Hex BLAKE3 over the row before and this one.
    pub hash: String,
}

/// One notice that waits for delivery.
#[derive(Debug, Clone)]
pub struct OutboxRow {
    pub id: i64,
    pub notice: Notice,
    pub attempts: u32,
}

/// Durable state behind one trait, so that fleets can share another one later.
pub trait Store: Send + Sync {
    /// One transaction; see [`Changes`].
    fn apply(&self, changes: Changes) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Everything that is unfinished.
    fn restart(&self) -> BoxFuture<'_, Result<Restart, StoreError>>;

    /// What guards look at, outside of a transaction: for planning and for people.
    fn guard_rows<'a>(
        &'a self,
        app: &'a AppName,
        host: &'a HostName,
    ) -> BoxFuture<'a, Result<GuardRows, StoreError>>;

    fn heal(&self, id: HealId) -> BoxFuture<'_, Result<Option<Heal>, StoreError>>;
    fn heal_events(&self, id: HealId) -> BoxFuture<'_, Result<Vec<(Moment, Event)>, StoreError>>;
    fn heals(&self, query: Query) -> BoxFuture<'_, Result<Vec<Heal>, StoreError>>;
    fn incident(&self, id: IncidentId) -> BoxFuture<'_, Result<Option<Incident>, StoreError>>;
    fn incidents(&self, query: Query) -> BoxFuture<'_, Result<Vec<Incident>, StoreError>>;
    fn approval(&self, id: ApprovalId) -> BoxFuture<'_, Result<Option<Approval>, StoreError>>;
    fn approvals(&self, query: Query) -> BoxFuture<'_, Result<Vec<Approval>, StoreError>>;
    fn backups(&self, query: Query) -> BoxFuture<'_, Result<Vec<BackupRow>, StoreError>>;
    fn breaker_history<'a>(
        &'a self,
        app: &'a AppName,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<BreakerTransition>, StoreError>>;
    /// Rows after `seq`, oldest first.
    fn audit(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>>;
    /// Sequence and hash of the newest audit row.
    fn audit_head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>>;
    /// Notices that are due for delivery.
    fn outbox<'a>(&'a self, now: &'a Moment) -> BoxFuture<'a, Result<Vec<OutboxRow>, StoreError>>;

    /// A real commit, to prove that the store is alive.
    fn touch(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Drains the writer and closes; later calls are refused.
    fn close(&self) -> BoxFuture<'_, ()>;
}
