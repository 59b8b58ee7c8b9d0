//! The seams of the real parts, with a note of when each call began and ended.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use healer_agent::protocol::{Answer, Request, WitnessState};
use healer_agent::tree::Digest;
use healerd::model::approval::Approval;
use healerd::model::backup::{BackupManifest, BackupRow};
use healerd::model::breaker::BreakerTransition;
use healerd::model::heal::{Event, Heal, HealState};
use healerd::model::id::{ApprovalId, BackupId, HealId, IncidentId};
use healerd::model::incident::Incident;
use healerd::model::name::{AppName, HostName};
use healerd::model::time::Moment;
use healerd::seam::store::{AuditRow, GuardRows, OutboxRow, Query, Restart};
use healerd::seam::vault::{BlobSink, BlobSource, Hold, WarmIndex};
use healerd::seam::{
    BoxFuture, Call, Changes, Host, HostError, Reply, Store, StoreError, Vault, VaultError, Write,
};
use tokio::sync::Notify;

/// The commit that admits a heal.
pub(crate) const ADMITTED: &str = "commit of the heal";
/// The request that starts an action, and its answer.
pub(crate) const STARTED: &str = "agent: start";
/// The answer that says how the action ended.
pub(crate) const ENDED: &str = "agent: ended";

/// One call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noted {
    pub(crate) what: &'static str,
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
}

/// Calls in the order in which they ended.
#[derive(Debug, Default)]
pub(crate) struct Log {
    noted: Mutex<Vec<Noted>>,
    more: Notify,
}

impl Log {
    fn note(&self, what: &'static str, begin: Instant) {
        let end = Instant::now();
        self.noted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Noted { what, begin, end });
        self.more.notify_one();
    }

    /// Everything noted since the last time.
    pub(crate) fn take(&self) -> Vec<Noted> {
        std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when such a call is among the notes.
    pub(crate) async fn wait_for(&self, what: &str) {
        loop {
            let is_there = self
                .noted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .any(|one| one.what == what);
            if is_there {
                return;
            }
            self.more.notified().await;
        }
    }

    async fn timed<T>(&self, what: &'static str, work: impl Future<Output = T>) -> T {
        let begin = Instant::now();
        let done = work.await;
        self.note(what, begin);
        done
    }
}

/// A host whose calls are noted.
pub(crate) struct WatchedHost(pub(crate) Arc<dyn Host>, pub(crate) Arc<Log>);

const fn name_of(request: &Request) -> &'static str {
    match request {
        Request::Hello { .. } => "agent: hello",
        Request::Round { .. } => "agent: round",
        Request::List { .. } => "agent: list",
        Request::Read { .. } | Request::ReadMany { .. } => "agent: read",
        Request::Start(_) => STARTED,
        Request::Look { .. } => "agent: look",
        Request::Room { .. } => "agent: room",
        Request::Output { .. }
        | Request::Effects { .. }
        | Request::CancelAction { .. }
        | Request::Settle { .. }
        | Request::Stage { .. }
        | Request::Undo { .. }
        | Request::Forget { .. }
        | Request::Cancel { .. } => "agent: other",
    }
}

impl Host for WatchedHost {
    fn name(&self) -> &HostName {
        self.0.name()
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<Reply, HostError>> {
        Box::pin(async move {
            let (what, begin) = (name_of(&call.request), Instant::now());
            let reply = self.0.call(call).await;
            let ended = matches!(
                &reply,
                Ok(Reply {
                    answer: Answer::Witness(WitnessState::Finished(_)),
                    ..
                })
            );
            self.1.note(if ended { ENDED } else { what }, begin);
            reply
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}

/// A vault whose calls are noted.
pub(crate) struct WatchedVault(pub(crate) Arc<dyn Vault>, pub(crate) Arc<Log>);

struct WatchedSink(Box<dyn BlobSink>, Arc<Log>);

impl BlobSink for WatchedSink {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), VaultError>> {
        let Self(sink, log) = self;
        Box::pin(async move { log.timed("vault: write", sink.write(bytes)).await })
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(Digest, u64), VaultError>> {
        let Self(sink, log) = *self;
        Box::pin(async move { log.timed("vault: finish", sink.finish()).await })
    }
}

impl Vault for WatchedVault {
    fn begin(&self) -> BoxFuture<'_, Result<Box<dyn BlobSink>, VaultError>> {
        Box::pin(async move {
            let sink = self.1.timed("vault: begin", self.0.begin()).await?;
            let sink: Box<dyn BlobSink> = Box::new(WatchedSink(sink, Arc::clone(&self.1)));
            Ok(sink)
        })
    }

    fn open(&self, digest: Digest) -> BoxFuture<'_, Result<Box<dyn BlobSource>, VaultError>> {
        Box::pin(self.1.timed("vault: open", self.0.open(digest)))
    }

    fn has(&self, digest: Digest) -> BoxFuture<'_, Result<bool, VaultError>> {
        Box::pin(self.1.timed("vault: has", self.0.has(digest)))
    }

    fn missing(&self, digests: Vec<Digest>) -> BoxFuture<'_, Result<HashSet<Digest>, VaultError>> {
        Box::pin(self.1.timed("vault: missing", self.0.missing(digests)))
    }

    fn hold(&self) -> Hold {
        self.0.hold()
    }

    fn commit(&self, manifest: Arc<BackupManifest>) -> BoxFuture<'_, Result<(), VaultError>> {
        Box::pin(self.1.timed("vault: commit", self.0.commit(manifest)))
    }

    fn manifest(&self, id: BackupId) -> BoxFuture<'_, Result<BackupManifest, VaultError>> {
        Box::pin(self.1.timed("vault: manifest", self.0.manifest(id)))
    }

    fn verify(&self, id: BackupId) -> BoxFuture<'_, Result<(), VaultError>> {
        Box::pin(self.1.timed("vault: verify", self.0.verify(id)))
    }

    fn confirm(&self, id: BackupId, looked: Vec<Digest>) -> BoxFuture<'_, Result<(), VaultError>> {
        Box::pin(self.1.timed("vault: confirm", self.0.confirm(id, looked)))
    }

    fn unchanged(&self, digests: Vec<Digest>) -> BoxFuture<'static, Vec<Digest>> {
        self.0.unchanged(digests)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BackupId>, VaultError>> {
        self.0.list()
    }

    fn remove(&self, id: BackupId) -> BoxFuture<'_, Result<u64, VaultError>> {
        self.0.remove(id)
    }

    fn warm_index<'a>(&'a self, app: &'a AppName) -> BoxFuture<'a, WarmIndex> {
        Box::pin(self.1.timed("vault: warm index", self.0.warm_index(app)))
    }

    fn keep_warm_index<'a>(&'a self, app: &'a AppName, index: &'a WarmIndex) -> BoxFuture<'a, ()> {
        Box::pin(
            self.1
                .timed("vault: warm index kept", self.0.keep_warm_index(app, index)),
        )
    }

    fn room(&self) -> BoxFuture<'_, Result<(u64, u64), VaultError>> {
        Box::pin(self.1.timed("vault: room", self.0.room()))
    }
}

/// A store whose commits and guard rows are noted.
pub(crate) struct WatchedStore(pub(crate) Arc<dyn Store>, pub(crate) Arc<Log>);

fn what_of(changes: &Changes) -> &'static str {
    let state = changes.writes.iter().find_map(|write| {
        if let Write::Heal { heal, .. } = write {
            Some(&heal.state)
        } else {
            None
        }
    });
    match state {
        Some(HealState::Admitted) => ADMITTED,
        Some(HealState::Protected { .. }) => "commit: protected",
        Some(HealState::Acting { .. }) => "commit: acting",
        _ => "commit: other",
    }
}

impl Store for WatchedStore {
    fn apply(&self, changes: Changes) -> BoxFuture<'_, Result<(), StoreError>> {
        let what = what_of(&changes);
        Box::pin(self.1.timed(what, self.0.apply(changes)))
    }

    fn restart(&self) -> BoxFuture<'_, Result<Restart, StoreError>> {
        self.0.restart()
    }

    fn guard_rows<'a>(
        &'a self,
        app: &'a AppName,
        host: &'a HostName,
    ) -> BoxFuture<'a, Result<GuardRows, StoreError>> {
        Box::pin(
            self.1
                .timed("store: guard rows", self.0.guard_rows(app, host)),
        )
    }

    fn heal(&self, id: HealId) -> BoxFuture<'_, Result<Option<Heal>, StoreError>> {
        self.0.heal(id)
    }

    fn heal_events(&self, id: HealId) -> BoxFuture<'_, Result<Vec<(Moment, Event)>, StoreError>> {
        self.0.heal_events(id)
    }

    fn heals(&self, query: Query) -> BoxFuture<'_, Result<Vec<Heal>, StoreError>> {
        self.0.heals(query)
    }

    fn incident(&self, id: IncidentId) -> BoxFuture<'_, Result<Option<Incident>, StoreError>> {
        self.0.incident(id)
    }

    fn incidents(&self, query: Query) -> BoxFuture<'_, Result<Vec<Incident>, StoreError>> {
        self.0.incidents(query)
    }

    fn approval(&self, id: ApprovalId) -> BoxFuture<'_, Result<Option<Approval>, StoreError>> {
        self.0.approval(id)
    }

    fn approvals(&self, query: Query) -> BoxFuture<'_, Result<Vec<Approval>, StoreError>> {
        self.0.approvals(query)
    }

    fn backups(&self, query: Query) -> BoxFuture<'_, Result<Vec<BackupRow>, StoreError>> {
        self.0.backups(query)
    }

    fn breaker_history<'a>(
        &'a self,
        app: &'a AppName,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<BreakerTransition>, StoreError>> {
        self.0.breaker_history(app, limit)
    }

    fn audit(&self, after: i64, limit: u32) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        self.0.audit(after, limit)
    }

    fn audit_head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        self.0.audit_head()
    }

    fn outbox<'a>(&'a self, now: &'a Moment) -> BoxFuture<'a, Result<Vec<OutboxRow>, StoreError>> {
        self.0.outbox(now)
    }

    fn touch(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.touch()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}
