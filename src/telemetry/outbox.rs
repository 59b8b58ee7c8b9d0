//! Delivers the durable outbox: each notice until it arrived, with back-off, one matter once per repeat time.
//!
//! Which notices there are is decided where their cause is; here they are only sent. What was sent is noted in the store;
//! the matters of the last hours are remembered in memory alone, so that a restart repeats one at worst.

use std::collections::BTreeMap;
use std::time::Duration;

use super::metrics::{Metrics, Success};
use crate::model::time::Moment;
use crate::seam::{Changes, Clock, Notifier, Store, StoreError, World, Write};

/// Pause between two looks into the outbox.
const LOOK: Duration = Duration::from_secs(5);

/// First pause after a failure; doubles up to the longest.
const BACK_OFF: Duration = Duration::from_secs(30);
const BACK_OFF_MAX: Duration = Duration::from_hours(1);

/// A notice that did not arrive within this is dropped, so that a dead receiver does not fill the disk.
const GIVE_UP: Duration = Duration::from_hours(24 * 7);

/// Failures in one look after which the receiver is left alone until the next one.
const FAILURES_MAX: u32 = 3;

/// Matters that are remembered.
const KEYS_MAX: usize = 10_000;

/// When each matter was told last.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<String, Moment>);

impl Told {
    /// Was the matter told within `repeat` before now? The very notice told then is another one only by its event.
    fn is_repeat(&self, key: &str, now: &Moment, repeat: Duration) -> bool {
        self.0.get(key).is_some_and(|at| !now.is_past(at, repeat))
    }

    fn remember(&mut self, key: &str, now: &Moment, repeat: Duration) {
        self.0.retain(|_, at| !now.is_past(at, repeat));
        if self.0.len() < KEYS_MAX {
            self.0.insert(key.to_owned(), now.clone());
        }
    }
}

/// Pause before the next attempt after so many failed ones.
pub fn back_off(attempts: u32) -> Duration {
    BACK_OFF
        .saturating_mul(1_u32.checked_shl(attempts).unwrap_or(u32::MAX))
        .min(BACK_OFF_MAX)
}

/// One look into the outbox; answers how many notices it delivered. `repeat` is `[notify] repeat`.
///
/// # Errors
/// Of the store; a notice that did not arrive is none.
pub async fn deliver_due(
    clock: &dyn Clock,
    store: &dyn Store,
    notifier: &dyn Notifier,
    told: &mut Told,
    repeat: Duration,
    metrics: &Metrics,
) -> Result<u32, StoreError> {
    let now = clock.now();
    let rows = store.outbox(&now).await?;
    metrics.set_notices_waiting(rows.len() as u64);
    let (mut delivered, mut failed) = (0, 0);
    for row in rows {
        let now = clock.now();
        let key = format!("{}\n{}", row.notice.event, row.notice.key);
        let write = if told.is_repeat(&key, &now, repeat) {
            Write::NoticeSent { id: row.id }
        } else if failed >= FAILURES_MAX {
            continue;
        } else {
            match notifier.send(&row.notice).await {
                Ok(()) => {
                    delivered += 1;
                    metrics.notice(Success::Ok);
                    told.remember(&key, &now, repeat);
                    Write::NoticeSent { id: row.id }
                }
                Err(error) => {
                    failed += 1;
                    metrics.notice(Success::Failed);
                    let again_in = back_off(row.attempts);
                    tracing::warn!(event = row.notice.event, reason = %error, attempts = row.attempts + 1, "notice not delivered");
                    if now.is_past(&row.notice.at, GIVE_UP) {
                        tracing::error!(
                            event = row.notice.event,
                            title = row.notice.title,
                            "notice given up"
                        );
                        Write::NoticeSent { id: row.id }
                    } else {
                        Write::NoticeFailed {
                            id: row.id,
                            again: clock.now().plus(again_in),
                        }
                    }
                }
            }
        };
        let changes = Changes::new(clock.now(), "healerd").write(write);
        store.apply(changes).await?;
    }
    Ok(delivered)
}

/// Delivers until the store fails, which ends the daemon.
pub async fn deliver(
    world: &World,
    notifier: &dyn Notifier,
    repeat: Duration,
    metrics: &Metrics,
) -> StoreError {
    let mut told = Told::default();
    let look_ms = i64::try_from(LOOK.as_millis()).unwrap_or(5000);
    loop {
        if let Err(error) = deliver_due(
            &*world.clock,
            &*world.store,
            notifier,
            &mut told,
            repeat,
            metrics,
        )
        .await
        {
            return error;
        }
        world
            .clock
            .sleep_until(world.clock.now().boot_ms.saturating_add(look_ms))
            .await;
    }
}
