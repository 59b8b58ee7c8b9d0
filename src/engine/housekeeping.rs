//! What is done for all apps together, every few seconds: ended holds, notices, retention, the audit head, a real
//! commit that proves the store alive.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::desk::EngineError;
use super::handle::{AppView, Handle, Health};
use crate::model::breaker::BreakerState;
use crate::model::id::BackupId;
use crate::model::incident::IncidentState;
use crate::model::time::Moment;
use crate::model::word::HealingMode;
use crate::protect::retention;
use crate::seam::store::Query;
use crate::seam::{Changes, Notifier, StoreError, Write};
use crate::telemetry::metrics::{self, Metrics};
use crate::telemetry::outbox::{self, Told};
use crate::telemetry::sd::{Part, Progress};

const EVERY: Duration = Duration::from_secs(5);
const RETENTION_EVERY: Duration = Duration::from_hours(1);

/// How often the vault is counted, which reads a row for each backup.
const BACKUPS_EVERY: Duration = Duration::from_mins(1);

/// How often the head of the audit log is told to the journal, which whoever can write the database cannot rewrite.
const HEAD_EVERY: Duration = Duration::from_hours(1);

/// Runs until stopped.
pub(super) async fn keep(
    handle: Handle,
    metrics: Arc<Metrics>,
    progress: Arc<Progress>,
    notices: Option<(Arc<dyn Notifier>, Duration)>,
    fatal: mpsc::Sender<EngineError>,
    mut stop: watch::Receiver<bool>,
) {
    let clock = Arc::clone(&handle.world.clock);
    let mut retained = clock.now();
    let mut told = Told::default();
    let mut published: Option<Moment> = None;
    let mut counted: Option<Moment> = None;
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            () = clock.sleep_until(clock.now().plus(EVERY).boot_ms) => {}
        }
        if let Err(error) = once(&handle, &metrics, &progress, notices.as_ref(), &mut told).await {
            if matches!(error, EngineError::Fatal(_)) {
                drop(fatal.try_send(error)); // one is enough: the daemon exits
                return;
            }
            tracing::warn!(reason = %error, "housekeeping failed and is tried again");
        }
        let now = clock.now();
        if published
            .as_ref()
            .is_none_or(|last| now.is_past(last, HEAD_EVERY))
        {
            publish_head(&handle).await;
            published = Some(now);
        }
        let now = clock.now();
        if counted
            .as_ref()
            .is_none_or(|last| now.is_past(last, BACKUPS_EVERY))
        {
            counted = Some(now);
            if let Err(error) = count_backups(&handle, &metrics).await {
                tracing::warn!(reason = %error, "backups could not be counted");
            }
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
    notices: Option<&(Arc<dyn Notifier>, Duration)>,
    told: &mut Told,
) -> Result<(), EngineError> {
    let world = &handle.world;
    handle.end_timed_holds().await?;
    world.store.touch().await?;
    progress.advance(Part::Store);
    progress.advance(Part::Reaper);
    if is_at_rest(handle) {
        progress.advance(Part::Scheduler);
    }
    if let Some((sequence, hash)) = world.store.audit_head().await? {
        metrics.set_audit_head(sequence, &hash);
    }
    count(handle, metrics);
    if let Some((notifier, repeat)) = notices {
        outbox::deliver_due(
            world.clock.as_ref(),
            world.store.as_ref(),
            notifier.as_ref(),
            told,
            *repeat,
            metrics,
        )
        .await?;
    }
    Ok(())
}

/// With this line `healerctl audit verify --head` finds a log that was cut off.
async fn publish_head(handle: &Handle) {
    if let Ok(Some((sequence, hash))) = handle.world.store.audit_head().await {
        tracing::info!(head = format!("{sequence}:{hash}"), "audit head");
    }
}

/// Had no desk anything to do, so that the scheduler rightly stood still?
fn is_at_rest(handle: &Handle) -> bool {
    let apps = handle.apps();
    let now = handle.world.clock.now();
    let all_seated = handle
        .desks
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .keys()
        .all(|name| apps.iter().any(|app| app.name == *name));
    all_seated && apps.iter().all(|app| app.due.boot_ms > now.boot_ms)
}

/// Gauges over all apps, from the board.
fn count(handle: &Handle, metrics: &Metrics) {
    let apps = handle.apps();
    let sum =
        |wanted: &dyn Fn(&AppView) -> bool| apps.iter().filter(|app| wanted(app)).count() as u64;
    for (health, words) in [
        (metrics::Health::Healthy, &[Health::Healthy][..]),
        (
            metrics::Health::Degraded,
            &[Health::Degraded, Health::Healing],
        ),
        (metrics::Health::Down, &[Health::Down]),
        (metrics::Health::Unknown, &[Health::Unknown]),
    ] {
        metrics.set_apps(health, sum(&|app| words.contains(&app.health)));
    }
    for mode in HealingMode::ALL {
        metrics.set_apps_in_mode(*mode, sum(&|app| app.mode == *mode));
    }
    for state in BreakerState::ALL {
        metrics.set_breakers(
            *state,
            sum(&|app| app.breaker.circuit_breaker_state == *state),
        );
    }
    for state in IncidentState::ALL {
        let count = apps
            .iter()
            .flat_map(|app| &app.incidents)
            .filter(|incident| incident.state == *state)
            .count();
        metrics.set_incidents(*state, count as u64);
    }
    metrics.set_heals_in_flight(
        apps.iter()
            .flat_map(|app| &app.heals)
            .filter(|heal| !heal.state.is_end())
            .count() as u64,
    );
    let unseen: BTreeSet<_> = apps
        .iter()
        .filter(|app| app.unseen.is_some())
        .map(|app| &app.host)
        .collect();
    metrics.set_hosts_unreachable(unseen.len() as u64);
    metrics.set_holds(handle.holds().len() as u64);
    let now = handle.world.clock.now();
    let waiting: Vec<_> = apps.iter().flat_map(|app| &app.approvals).collect();
    let oldest = waiting
        .iter()
        .map(|since| now.since(since, Duration::from_hours(720)))
        .max();
    metrics.set_approvals(waiting.len() as u64, oldest.unwrap_or_default());
}

/// What lies in the vault.
async fn count_backups(handle: &Handle, metrics: &Metrics) -> Result<(), StoreError> {
    let query = Query {
        app: None,
        open_only: false,
        limit: 100_000,
    };
    let rows = handle.world.store.backups(query).await?;
    let now = handle.world.clock.now();
    let age = |moment: Option<&Moment>| {
        moment.map_or(Duration::ZERO, |moment| {
            now.since(moment, Duration::from_hours(3_650 * 24))
        })
    };
    metrics.set_backups(
        rows.iter().map(|row| row.stored_bytes).sum(),
        rows.len() as u64,
        age(rows
            .iter()
            .map(|row| &row.taken)
            .max_by_key(|taken| taken.wall_ms)),
        age(rows
            .iter()
            .map(|row| &row.verified)
            .min_by_key(|verified| verified.wall_ms)),
    );
    Ok(())
}

/// Removes what retention lets go: first the row, then the bytes.
async fn retain(handle: &Handle) -> Result<(), StoreError> {
    let world = &handle.world;
    let now = world.clock.now();
    for app in handle.apps() {
        let query = Query {
            app: Some(app.name.clone()),
            open_only: false,
            limit: 100_000,
        };
        let rows = world.store.backups(query).await?;
        let needed: BTreeSet<BackupId> = app
            .heals
            .iter()
            .filter_map(|heal| heal.state.backup())
            .collect();
        for backup in retention::retain(&rows, &now, &app.backup_policy, &needed) {
            let changes = Changes::new(now.clone(), "healerd")
                .write(Write::BackupRemoved(backup))
                .audit(
                    "backup_removed",
                    &format!("app:{}", app.name),
                    json!({"backup": backup, "why": "retention"}),
                );
            world.store.apply(changes).await?;
            if let Err(error) = world.vault.remove(backup).await {
                tracing::warn!(%backup, reason = %error, "the bytes of an old backup stay until the next sweep");
            }
        }
    }
    Ok(())
}
