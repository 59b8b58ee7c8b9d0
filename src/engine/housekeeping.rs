//! What is done for all apps together, every few seconds: ended holds, notices, retention, the audit head, a real
//! commit that proves the store alive.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::desk::EngineError;
use super::handle::Handle;
use crate::model::id::BackupId;
use crate::protect::retention;
use crate::seam::store::Query;
use crate::seam::{Changes, Notifier, StoreError, Write};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::notify;
use crate::telemetry::sd::Progress;

const EVERY: Duration = Duration::from_secs(5);
const RETENTION_EVERY: Duration = Duration::from_secs(3600);

/// Runs until stopped.
pub(super) async fn keep(
    handle: Handle,
    metrics: Arc<Metrics>,
    progress: Arc<Progress>,
    notifier: Option<Arc<dyn Notifier>>,
    fatal: mpsc::Sender<EngineError>,
    mut stop: watch::Receiver<bool>,
) {
    let clock = Arc::clone(&handle.world.clock);
    let mut retained = clock.now();
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            () = clock.sleep_until(clock.now().plus(EVERY).boot_ms) => {}
        }
        if let Err(error) = once(&handle, &metrics, &progress, notifier.as_deref()).await {
            if matches!(error, EngineError::Fatal(_)) {
                drop(fatal.try_send(error)); // one is enough: the daemon exits
                return;
            }
            tracing::warn!(reason = %error, "housekeeping failed and is tried again");
        }
        if clock.now().is_past(&retained, RETENTION_EVERY) {
            retained = clock.now();
            if let Err(error) = retain(&handle).await {
                tracing::warn!(reason = %error, "old backups could not be removed");
            }
        }
    }
}

async fn once(
    handle: &Handle,
    metrics: &Metrics,
    progress: &Progress,
    notifier: Option<&dyn Notifier>,
) -> Result<(), EngineError> {
    let world = &handle.world;
    handle.shared.end_timed_holds(world).await?;
    world.store.touch().await?;
    progress.store();
    if let Some((sequence, _)) = world.store.audit_head().await? {
        metrics.audit_head(sequence);
    }
    if let Ok((_, held)) = world.vault.room().await {
        metrics.vault_bytes(held);
    }
    if let Some(notifier) = notifier {
        notify::deliver(world, notifier).await?;
    }
    Ok(())
}

/// Removes what retention lets go: first the row, then the bytes.
async fn retain(handle: &Handle) -> Result<(), StoreError> {
    let world = &handle.world;
    let now = world.clock.now();
    for app in handle.apps() {
        let query = Query { app: Some(app.name.clone()), open_only: false, limit: 100_000 };
        let rows = world.store.backups(query).await?;
        let needed: BTreeSet<BackupId> = app.heals.iter().filter_map(|heal| heal.state.backup()).collect();
                for backup in retention::retain(&rows, &now, &app.backup_policy, &needed) {
            let changes = Changes::new(now.clone(), "healerd")
                .write(Write::BackupRemoved(backup))
                .audit("backup_removed", &format!("app:{}", app.name), json!({"backup": backup, "why": "retention"}));
            world.store.apply(changes).await?;
            if let Err(error) = world.vault.remove(backup).await {
                tracing::warn!(%backup, reason = %error, "the bytes of an old backup stay until the next sweep");
            }
        }
    }
    Ok(())
}
