//! The real store, through a door that a dying process slams.

use std::sync::Arc;

use healerd::model::approval::Approval;
use healerd::model::backup::BackupRow;
use healerd::model::breaker::BreakerTransition;
use healerd::model::heal::{Event, Heal};
use healerd::model::id::{ApprovalId, HealId, IncidentId};
use healerd::model::incident::Incident;
use healerd::model::ledger::GuardRows;
use healerd::model::name::{AppName, HostName};
use healerd::model::time::Moment;
use healerd::record::store::SqliteStore;
use healerd::seam::store::{AuditRow, OutboxRow, Query, Restart};
use healerd::seam::{BoxFuture, Changes, Store, StoreError};

use super::crash::Fuse;

/// `SQLite` below, a fuse above.
#[derive(Debug)]
pub(crate) struct SimStore {
    pub(crate) inner: Arc<SqliteStore>,
    pub(crate) fuse: Arc<Fuse>,
}

/// Readings are no effects: they fail only once the process is dead.
macro_rules! read {
    ($self:ident, $call:expr) => {{
        let dead = $self.fuse.is_dead();
        Box::pin(async move {
            if dead {
                Err(StoreError::Closed)
            } else {
                $call.await
            }
        })
    }};
}

impl Store for SimStore {
    fn apply(&self, changes: Changes) -> BoxFuture<'_, Result<(), StoreError>> {
        let name = changes
            .audits
            .first()
            .map_or("store.apply".to_owned(), |audit| {
                format!("store.{}", audit.verb)
            });
        Box::pin(async move {
            let Some(dies) = self.fuse.enter(&name) else {
                return Err(StoreError::Closed);
            };
            let done = self.inner.apply(changes).await;
            if dies {
                Err(StoreError::CommitUnknown("the process died".into()))
            } else {
                done
            }
        })
    }

    fn restart(&self) -> BoxFuture<'_, Result<Restart, StoreError>> {
        read!(self, self.inner.restart())
    }

    fn guard_rows<'a>(
        &'a self,
        app: &'a AppName,
        host: &'a HostName,
    ) -> BoxFuture<'a, Result<GuardRows, StoreError>> {
        read!(self, self.inner.guard_rows(app, host))
    }

    fn heal(&self, id: HealId) -> BoxFuture<'_, Result<Option<Heal>, StoreError>> {
        read!(self, self.inner.heal(id))
    }

    fn heal_events(&self, id: HealId) -> BoxFuture<'_, Result<Vec<(Moment, Event)>, StoreError>> {
        read!(self, self.inner.heal_events(id))
    }

    fn heals(&self, query: Query) -> BoxFuture<'_, Result<Vec<Heal>, StoreError>> {
        read!(self, self.inner.heals(query))
    }

    fn incident(&self, id: IncidentId) -> BoxFuture<'_, Result<Option<Incident>, StoreError>> {
        read!(self, self.inner.incident(id))
    }

    fn incidents(&self, query: Query) -> BoxFuture<'_, Result<Vec<Incident>, StoreError>> {
        read!(self, self.inner.incidents(query))
    }

    fn approval(&self, id: ApprovalId) -> BoxFuture<'_, Result<Option<Approval>, StoreError>> {
        read!(self, self.inner.approval(id))
    }

    fn approvals(&self, query: Query) -> BoxFuture<'_, Result<Vec<Approval>, StoreError>> {
        read!(self, self.inner.approvals(query))
    }

    fn backups(&self, query: Query) -> BoxFuture<'_, Result<Vec<BackupRow>, StoreError>> {
        read!(self, self.inner.backups(query))
    }

    fn breaker_history<'a>(
        &'a self,
        app: &'a AppName,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<BreakerTransition>, StoreError>> {
        read!(self, self.inner.breaker_history(app, limit))
    }

    fn audit(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        read!(self, self.inner.audit(after, limit))
    }

    fn audit_head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        read!(self, self.inner.audit_head())
    }

    fn outbox<'a>(&'a self, now: &'a Moment) -> BoxFuture<'a, Result<Vec<OutboxRow>, StoreError>> {
        read!(self, self.inner.outbox(now))
    }

    fn touch(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        read!(self, self.inner.touch())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
