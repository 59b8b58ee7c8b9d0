//! Which writes need an audit row, and that audit rows stay as they are.

use super::damage::raw;
use super::fixture::*;
use crate::model::breaker::{Breaker, Failure};
use crate::model::heal::{Event, Looks, Outcome};
use crate::model::id::{BackupId, HealId, HoldId};
use crate::model::incident::IncidentState;
use crate::model::stop::{ModeOverride, Mute, Scope};
use crate::model::word::{HealingMode, Status};
use crate::seam::store::{Bar, Lease};
use crate::seam::{Store as _, Write};

#[tokio::test]
async fn a_change_without_an_audit_row_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let some_app = app("shop");
    let mute = Mute {
        app: app("shop"),
        check: "http_up".parse().unwrap(),
        owner: "alice(1000)".to_owned(),
        reason: "known".to_owned(),
        since: at(0),
        for_ms: 5,
    };
    let mode = ModeOverride {
        app: None,
        mode: HealingMode::Manual,
        configured: HealingMode::SemiAuto,
        owner: "alice(1000)".to_owned(),
        reason: "known".to_owned(),
        since: at(0),
    };
    let bar = Bar {
        app: app("shop"),
        action: "clear_cache".parse().unwrap(),
        version: "v1".to_owned(),
        cause: "undone".to_owned(),
        evidence: "[]".to_owned(),
        at: at(0),
    };
    let lease = Lease {
        key: "app:shop".to_owned(),
        heal: HealId::from_raw(1),
        since: at(0),
    };
    // Prepared with audit rows, so that each write below would otherwise be fine.
    store
        .apply(
            changes(0)
                .write(Write::Backup(Box::new(backup(30))))
                .write(Write::Hold(hold(5, Scope::Everything))),
        )
        .await
        .unwrap();
    let audited = vec![
        heal_write(&heal(10, 1), None),
        Write::Incident {
            incident: Box::new(incident(1)),
            note: String::new(),
        },
        Write::Breaker {
            breaker: Box::new({
                let mut breaker = Breaker::new(some_app.clone());
                breaker.failures.push(Failure {
                    recurred: false,
                    heal: HealId::from_raw(1),
                    action: "clear_cache".parse().unwrap(),
                    at: at(0),
                });
                breaker
            }),
            transitions: Vec::new(),
        },
        Write::Approval(Box::new(approval(20))),
        Write::Backup(Box::new(backup(31))),
        Write::BackupRemoved(BackupId::from_raw(30)),
        Write::Pin {
            backup: BackupId::from_raw(30),
            by: "x".to_owned(),
            pinned: true,
        },
        Write::LeaseTaken(lease),
        Write::LeaseReleased {
            key: "app:shop".to_owned(),
            heal: HealId::from_raw(1),
        },
        Write::Hold(hold(6, Scope::Everything)),
        Write::HoldEnded {
            id: HoldId::from_raw(5),
        },
        Write::Mute(mute),
        Write::MuteEnded {
            app: some_app.clone(),
            check: "http_up".parse().unwrap(),
        },
        Write::Mode(mode),
        Write::ModeCleared { app: None },
        Write::Bar(bar),
        Write::BarLifted {
            app: some_app.clone(),
            action: "clear_cache".parse().unwrap(),
        },
    ];
    for write in audited {
        let said = why(store.apply(unaudited(1).write(write.clone())).await);
        assert!(
            said.ends_with("a change without an audit row is not written"),
            "{write:?}: {said}"
        );
        let undone = store.restart().await.unwrap();
        assert_eq!(undone.holds.len(), 1, "{write:?}");
        assert_eq!(undone.backups, [backup(30)], "{write:?}");
    }
    let routine = vec![
        Write::Due {
            app: some_app.clone(),
            due: at(9),
        },
        Write::Checks {
            app: some_app,
            results: vec![result("http_up", Status::Pass, "")],
        },
        Write::Notice(notice("k", "held", at(0))),
        Write::NoticeSent { id: 1 },
        Write::NoticeFailed {
            id: 1,
            again: at(5),
        },
        Write::Setting {
            key: "owner".to_owned(),
            value: "x".to_owned(),
        },
    ];
    for write in routine {
        store.apply(unaudited(1).write(write)).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_that_only_counts_needs_no_audit_row() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut seen = incident(1);
    let mut settling = heal(10, 1);
    let mut proposal = approval(20);
    let mut kept = backup(30);
    store
        .apply(
            changes(0)
                .write(Write::Incident {
                    incident: Box::new(seen.clone()),
                    note: "opened".to_owned(),
                })
                .write(heal_write(&settling, None))
                .write(Write::Approval(Box::new(proposal.clone())))
                .write(Write::Backup(Box::new(kept.clone()))),
        )
        .await
        .unwrap();
    settling.version = 1;
    for event in [Event::BackupVerified { backup: None }, Event::IntentWritten] {
        settling = step(&store, &settling, event, 1).await.unwrap();
    }
    let ended = Event::Ended {
        outcome: Outcome::Done,
        wrote: true,
    };
    settling = step(&store, &settling, ended, 2).await.unwrap();
    let looked = Event::Looked {
        looks: Looks {
            made: 1,
            ..Looks::default()
        },
    };
    let look = moved(&settling, &looked, 3);
    seen.looks = 2;
    proposal.version = 1;
    proposal.paused_ms = 15_000;
    kept.verified = at(4);
    store
        .apply(
            unaudited(4)
                .write(heal_write(&look, Some(looked)))
                .write(Write::Incident {
                    incident: Box::new(seen.clone()),
                    note: String::new(),
                })
                .write(Write::Approval(Box::new(proposal.clone())))
                .write(Write::Backup(Box::new(kept.clone()))),
        )
        .await
        .unwrap();
    seen.state = IncidentState::Healing;
    kept.damaged = Some("one byte differs".to_owned());
    for write in [
        Write::Incident {
            incident: Box::new(seen),
            note: String::new(),
        },
        Write::Backup(Box::new(kept)),
    ] {
        let said = why(store.apply(unaudited(5).write(write)).await);
        assert!(said.contains("without an audit row"), "{said}");
    }
}

#[tokio::test]
async fn nobody_can_change_or_delete_audit_rows() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    for ms in 0..3 {
        store.apply(changes(ms)).await.unwrap();
    }
    store.close().await;
    let mut raw = raw(&dir).await;
    for (case, sql, want) in [
        (
            "update",
            "UPDATE audit SET actor = 'x' WHERE seq = 2",
            "cannot be changed",
        ),
        (
            "delete",
            "DELETE FROM audit WHERE seq = 3",
            "cannot be deleted",
        ),
        (
            "replace",
            "INSERT OR REPLACE INTO audit SELECT seq, at_ms, 'x', verb, object, detail, hash FROM audit WHERE seq = 2",
            "can only follow the last one",
        ),
        (
            "gap",
            "INSERT INTO audit SELECT 9, at_ms, actor, verb, object, detail, hash FROM audit WHERE seq = 3",
            "can only follow the last one",
        ),
    ] {
        let error = sqlx::query(sql).execute(&mut raw).await.unwrap_err();
        assert!(error.to_string().contains(want), "{case}: {error}");
    }
}
