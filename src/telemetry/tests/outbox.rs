//! The outbox against a store in memory and a receiver that fails on demand.

use std::collections::VecDeque;

use super::super::metrics::Metrics;
use super::super::outbox::{Told, deliver_due};
use super::*;
use crate::model::approval::Approval;
use crate::model::backup::BackupRow;
use crate::model::breaker::BreakerTransition;
use crate::model::heal::{Event, Heal};
use crate::model::id::{ApprovalId, HealId, IncidentId};
use crate::model::incident::Incident;
use crate::model::name::{AppName, HostName};
use crate::seam::store::{AuditRow, GuardRows, OutboxRow, Query, Restart};
use crate::seam::{BoxFuture, Changes, Notifier, NotifyError, Store, StoreError, Write};

/// Rows with the moment from which each is due.
#[derive(Default)]
struct Rows(Mutex<Vec<(i64, OutboxRow)>>);

impl Rows {
    fn put(&self, id: i64, event: &str, key: &str) {
        let row = OutboxRow {
            id,
            attempts: 0,
            notice: Notice {
                event: event.to_owned(),
                key: key.to_owned(),
                ..notice()
            },
        };
        self.0.lock().unwrap().push((0, row));
    }

    fn waiting(&self) -> Vec<(i64, u32)> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(|(_, row)| (row.id, row.attempts))
            .collect()
    }
}

fn not_asked<T: Send + 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(async { Err(StoreError::Closed) })
}

impl Store for Rows {
    fn apply(&self, changes: Changes) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut rows = self.0.lock().unwrap();
            for write in changes.writes {
                if let Write::NoticeSent { id } = write {
                    rows.retain(|(_, row)| row.id != id);
                } else if let Write::NoticeFailed { id, again } = write {
                    for (due, row) in rows.iter_mut().filter(|(_, row)| row.id == id) {
                        *due = again.boot_ms;
                        row.attempts += 1;
                    }
                } else {
                    panic!("the outbox writes nothing like {write:?}");
                }
            }
            Ok(())
        })
    }
    fn outbox<'a>(&'a self, now: &'a Moment) -> BoxFuture<'a, Result<Vec<OutboxRow>, StoreError>> {
        Box::pin(async move {
            let rows = self.0.lock().unwrap();
            Ok(rows
                .iter()
                .filter(|(due, _)| *due <= now.boot_ms)
                .map(|(_, row)| row.clone())
                .collect())
        })
    }
    fn restart(&self) -> BoxFuture<'_, Result<Restart, StoreError>> {
        not_asked()
    }
    fn guard_rows<'a>(
        &'a self,
        _: &'a AppName,
        _: &'a HostName,
    ) -> BoxFuture<'a, Result<GuardRows, StoreError>> {
        not_asked()
    }
    fn heal(&self, _: HealId) -> BoxFuture<'_, Result<Option<Heal>, StoreError>> {
        not_asked()
    }
    fn heal_events(&self, _: HealId) -> BoxFuture<'_, Result<Vec<(Moment, Event)>, StoreError>> {
        not_asked()
    }
    fn heals(&self, _: Query) -> BoxFuture<'_, Result<Vec<Heal>, StoreError>> {
        not_asked()
    }
    fn incident(&self, _: IncidentId) -> BoxFuture<'_, Result<Option<Incident>, StoreError>> {
        not_asked()
    }
    fn incidents(&self, _: Query) -> BoxFuture<'_, Result<Vec<Incident>, StoreError>> {
        not_asked()
    }
    fn approval(&self, _: ApprovalId) -> BoxFuture<'_, Result<Option<Approval>, StoreError>> {
        not_asked()
    }
    fn approvals(&self, _: Query) -> BoxFuture<'_, Result<Vec<Approval>, StoreError>> {
        not_asked()
    }
    fn backups(&self, _: Query) -> BoxFuture<'_, Result<Vec<BackupRow>, StoreError>> {
        not_asked()
    }
    fn breaker_history<'a>(
        &'a self,
        _: &'a AppName,
        _: u32,
    ) -> BoxFuture<'a, Result<Vec<BreakerTransition>, StoreError>> {
        not_asked()
    }
    fn audit(&self, _: i64, _: u32) -> BoxFuture<'_, Result<Vec<AuditRow>, StoreError>> {
        not_asked()
    }
    fn audit_head(&self) -> BoxFuture<'_, Result<Option<(i64, String)>, StoreError>> {
        not_asked()
    }
    fn touch(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        not_asked()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Answers in turn; after the last one everything arrives.
#[derive(Default)]
struct Receiver {
    failures: Mutex<VecDeque<bool>>,
    heard: Mutex<Vec<String>>,
}

impl Notifier for Receiver {
    fn send<'a>(&'a self, notice: &'a Notice) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            if self.failures.lock().unwrap().pop_front().unwrap_or(false) {
                return Err(NotifyError("no".to_owned()));
            }
            self.heard
                .lock()
                .unwrap()
                .push(format!("{} {}", notice.event, notice.key));
            Ok(())
        })
    }
}

struct Case {
    rows: Rows,
    receiver: Receiver,
    clock: Jumping,
    told: Told,
    metrics: Metrics,
}

impl Case {
    fn new() -> Self {
        Self {
            rows: Rows::default(),
            receiver: Receiver::default(),
            clock: Jumping {
                boot_ms: Mutex::new(1000),
                left: AtomicUsize::new(0),
            },
            told: Told::default(),
            metrics: Metrics::new().unwrap(),
        }
    }

    async fn look_after(&mut self, pause: Duration) -> u32 {
        *self.clock.boot_ms.lock().unwrap() += i64::try_from(pause.as_millis()).unwrap();
        let repeat = Duration::from_hours(4);
        deliver_due(
            &self.clock,
            &self.rows,
            &self.receiver,
            &mut self.told,
            repeat,
            &self.metrics,
        )
        .await
        .unwrap()
    }

    fn heard(&self) -> Vec<String> {
        self.receiver.heard.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_failed_notice_waits_and_arrives_once() {
    let mut case = Case::new();
    case.rows.put(1, "held", "app:shop");
    case.receiver.failures.lock().unwrap().extend([true, true]);
    assert_eq!(case.look_after(Duration::ZERO).await, 0);
    assert_eq!(case.rows.waiting(), [(1, 1)]);
    assert_eq!(
        case.look_after(Duration::from_secs(29)).await,
        0,
        "not due yet"
    );
    assert_eq!(case.rows.waiting(), [(1, 1)]);
    assert_eq!(
        case.look_after(Duration::from_secs(1)).await,
        0,
        "fails again"
    );
    assert_eq!(case.look_after(Duration::from_mins(1)).await, 1);
    assert_eq!(case.look_after(Duration::from_hours(1)).await, 0);
    assert_eq!(case.heard(), ["held app:shop"]);
    let text = case.metrics.text().unwrap();
    assert!(text.contains("healerd_notices_total{result=\"failed\"} 2\n"));
    assert!(text.contains("healerd_notices_total{result=\"ok\"} 1\n"));
}

#[tokio::test]
async fn one_matter_is_told_once_in_four_hours_and_each_change_of_it_at_once() {
    let mut case = Case::new();
    case.rows.put(1, "incident_opened", "a");
    case.rows.put(2, "incident_opened", "a");
    case.rows.put(3, "incident_closed", "a");
    case.rows.put(4, "incident_opened", "b");
    assert_eq!(case.look_after(Duration::ZERO).await, 3);
    assert_eq!(
        case.heard(),
        [
            "incident_opened a",
            "incident_closed a",
            "incident_opened b"
        ]
    );
    assert!(case.rows.waiting().is_empty(), "the repeat is done, too");
    case.rows.put(5, "incident_opened", "a");
    assert_eq!(case.look_after(Duration::from_hours(3)).await, 0);
    case.rows.put(6, "incident_opened", "a");
    assert_eq!(case.look_after(Duration::from_hours(1)).await, 1);
}

#[tokio::test]
async fn a_dead_receiver_is_left_alone_after_three_failures_and_no_notice_is_lost() {
    let mut case = Case::new();
    for id in 1..=6 {
        case.rows.put(id, "held", &format!("{id}"));
    }
    case.receiver.failures.lock().unwrap().extend([true; 4]);
    assert_eq!(case.look_after(Duration::ZERO).await, 0);
    assert_eq!(
        case.rows.waiting(),
        [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0), (6, 0)]
    );
    assert_eq!(
        case.look_after(Duration::from_secs(5)).await,
        2,
        "the one after the fourth failure"
    );
    assert_eq!(case.look_after(Duration::from_mins(1)).await, 4);
    assert_eq!(case.heard().len(), 6);
}

#[tokio::test]
async fn what_did_not_arrive_within_a_week_is_given_up() {
    let mut case = Case::new();
    case.rows.put(1, "held", "a");
    case.receiver.failures.lock().unwrap().push_back(true);
    assert_eq!(case.look_after(Duration::from_hours(24 * 8)).await, 0);
    assert!(case.rows.waiting().is_empty());
    assert!(case.heard().is_empty());
}
