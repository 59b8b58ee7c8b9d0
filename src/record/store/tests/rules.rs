//! Which writes are refused, and that a refused one leaves nothing.

use super::fixture::*;
use crate::model::approval::{ApprovalState, Vote};
use crate::model::breaker::{Breaker, BreakerState, Failure};
use crate::model::heal::{Event, HealState, Looks, Outcome};
use crate::model::id::{BackupId, HealId, HoldId};
use crate::model::incident::IncidentState;
use crate::model::reason::{Denial, Denied, GuardName};
use crate::model::stop::{ModeOverride, Mute, Scope};
use crate::model::word::{HealingMode, Status};
use crate::seam::store::{Bar, Lease, Query};
use crate::seam::{Changes, Store as _, StoreError, Write};

fn acting_events() -> [Event; 2] {
    [Event::BackupVerified { backup: None }, Event::IntentWritten]
}

#[tokio::test]
async fn a_stale_version_is_a_conflict_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut first = heal(10, 1);
    store
        .apply(changes(0).write(heal_write(&first, None)))
        .await
        .unwrap();
    let head = store.audit_head().await.unwrap();
    first.message = "again".to_owned();
    let stale = store
        .apply(changes(1).write(heal_write(&first, None)))
        .await;
    assert_eq!(
        why(stale),
        format!("heal {} was changed meanwhile", first.id)
    );
    assert_eq!(store.audit_head().await.unwrap(), head);
    let stored = store.heal(first.id).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.message.as_str()), (1, "admitted"));
}

#[tokio::test]
async fn versions_of_breakers_and_approvals_are_compared_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let breaker = Write::Breaker {
        breaker: Box::new(Breaker::new(app("shop"))),
        transitions: Vec::new(),
    };
    let proposal = Write::Approval(Box::new(approval(11)));
    for write in [breaker, proposal] {
        store.apply(changes(0).write(write.clone())).await.unwrap();
        assert!(matches!(
            store.apply(changes(1).write(write)).await,
            Err(StoreError::Conflict { .. })
        ));
    }
}

#[tokio::test]
async fn a_heal_moves_only_as_its_table_says() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let new = heal(10, 1);
    store
        .apply(changes(0).write(heal_write(&new, None)))
        .await
        .unwrap();
    let mut stored = store.heal(new.id).await.unwrap().unwrap();

    let mut jump = stored.clone();
    jump.state = HealState::Acting { backup: None };
    for (case, event, want) in [
        (
            "no event",
            None,
            "it would go from Admitted to Acting without an event",
        ),
        (
            "illegal event",
            Some(Event::IntentWritten),
            "a heal that is Admitted cannot take the event IntentWritten",
        ),
        (
            "event that leads elsewhere",
            Some(Event::BackupVerified { backup: None }),
            "BackupVerified leads from Admitted to Protected, which is not the Acting to be written",
        ),
    ] {
        let said = why(store
            .apply(changes(1).write(heal_write(&jump, event)))
            .await);
        assert_eq!(
            said,
            format!("the store refused: write a heal: {want}"),
            "{case}"
        );
    }
    for event in acting_events() {
        stored = step(&store, &stored, event, 5).await.unwrap();
    }
    assert_eq!(store.heal(new.id).await.unwrap().unwrap(), stored);
    let events: Vec<_> = store
        .heal_events(new.id)
        .await
        .unwrap()
        .into_iter()
        .map(|(_, event)| event)
        .collect();
    assert_eq!(events, acting_events());
}

#[tokio::test]
async fn what_a_heal_was_admitted_as_cannot_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let new = heal(10, 1);
    store
        .apply(changes(0).write(heal_write(&new, None)))
        .await
        .unwrap();
    let mut other = store.heal(new.id).await.unwrap().unwrap();
    other.fence = crate::model::id::FenceToken(9);
    let said = why(store
        .apply(changes(1).write(heal_write(&other, None)))
        .await);
    assert!(said.contains("admitted as"), "{said}");
}

#[tokio::test]
async fn a_fence_token_that_does_not_grow_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    store
        .apply(changes(0).write(heal_write(&heal(10, 5), None)))
        .await
        .unwrap();
    for (case, fence) in [("the same", 5), ("a smaller one", 4)] {
        let refused = store
            .apply(changes(1).write(heal_write(&heal(11, fence), None)))
            .await;
        assert_eq!(
            why(refused),
            "the fence token of host local was changed meanwhile",
            "{case}"
        );
    }
    let mut elsewhere = heal(12, 1);
    elsewhere.host = host("web1");
    store
        .apply(changes(1).write(heal_write(&elsewhere, None)))
        .await
        .unwrap();
    assert_eq!(
        store.restart().await.unwrap().fences,
        [(host("local"), 5), (host("web1"), 1)]
    );
}

fn deny() -> Denied {
    Denied(vec![Denial {
        guard: GuardName::Breaker,
        message: "Circuit breaker is open.".to_owned(),
        facts: Vec::new(),
        again_at: None,
    }])
}

#[tokio::test]
async fn a_denied_gate_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    store
        .apply(changes(0).write(Write::Hold(hold(5, Scope::Everything))))
        .await
        .unwrap();
    let head = store.audit_head().await.unwrap();
    let mut gated = changes(1).write(heal_write(&heal(10, 1), None));
    gated.gate = Some((
        app("shop"),
        host("local"),
        Box::new(|rows| {
            assert_eq!(rows.holds.len(), 1, "the gate sees the rows");
            Err(deny())
        }),
    ));
    assert!(
        matches!(store.apply(gated).await, Err(StoreError::Denied(denied)) if denied == deny())
    );
    assert_eq!(store.audit_head().await.unwrap(), head);
    assert_eq!(store.heal(HealId::from_raw(10)).await.unwrap(), None);
    assert_eq!(store.restart().await.unwrap().fences, []);
}

#[tokio::test]
async fn a_gate_that_panics_denies_and_the_store_lives() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut gated = changes(1).write(heal_write(&heal(10, 1), None));
    gated.gate = Some((
        app("shop"),
        host("local"),
        Box::new(|_| panic!("a guard is broken")),
    ));
    assert_eq!(
        why(store.apply(gated).await),
        "the store refused: ask the guards: a guard panicked"
    );
    assert_eq!(store.heal(HealId::from_raw(10)).await.unwrap(), None);
    store.touch().await.unwrap();
}

#[tokio::test]
async fn an_admitted_gate_sees_the_state_inside_its_own_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut running = heal(10, 1);
    store
        .apply(changes(0).write(heal_write(&running, None)))
        .await
        .unwrap();
    running.version = 1;
    for event in acting_events() {
        running = step(&store, &running, event, 7).await.unwrap();
    }
    let mut gated = changes(8).write(heal_write(&heal(11, 2), None));
    gated.gate = Some((
        app("shop"),
        host("local"),
        Box::new(|rows| {
            assert_eq!(rows.starts.len(), 1);
            assert_eq!(rows.starts[0].at, at(7));
            assert!(rows.starts[0].unattended);
            Ok(())
        }),
    ));
    store.apply(gated).await.unwrap();
}

#[tokio::test]
async fn breaker_transitions_connect_end_to_end() {
    use BreakerState::{Closed, HalfOpen, Open};
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut version = 0;
    for (case, state, transitions, allowed) in [
        (
            "to HALF_OPEN from CLOSED",
            HalfOpen,
            vec![(Closed, HalfOpen)],
            false,
        ),
        ("a state without a transition", Open, vec![], false),
        (
            "from a state it is not in",
            Open,
            vec![(HalfOpen, Open)],
            false,
        ),
        ("ends elsewhere", Closed, vec![(Closed, Open)], false),
        ("opens", Open, vec![(Closed, Open)], true),
        (
            "two at once",
            Closed,
            vec![(Open, HalfOpen), (HalfOpen, Closed)],
            true,
        ),
        (
            "a gap between two",
            Closed,
            vec![(Closed, Open), (HalfOpen, Closed)],
            false,
        ),
        ("opens again", Open, vec![(Closed, Open)], true),
        ("reset", Closed, vec![(Open, Closed)], true),
    ] {
        let mut breaker = Breaker::new(app("shop"));
        breaker.state = state;
        breaker.version = version;
        let written = store
            .apply(
                changes(0).write(Write::Breaker {
                    breaker: Box::new(breaker),
                    transitions: transitions
                        .into_iter()
                        .map(|(from, to)| transition(from, to))
                        .collect(),
                }),
            )
            .await;
        assert_eq!(written.is_ok(), allowed, "{case}: {written:?}");
        version += u64::from(allowed);
    }
    let mut history = store.breaker_history(&app("shop"), 100).await.unwrap();
    history.reverse();
    assert_eq!(history.len(), 5);
    assert_eq!(history[0].from, Closed);
    assert!(history.windows(2).all(|pair| pair[0].to == pair[1].from));
}

fn vote(uid: u32, approve: bool) -> Vote {
    Vote {
        person: person(uid),
        approve,
        reason: "looked at it".to_owned(),
        at: at(1),
    }
}

#[tokio::test]
async fn an_approval_is_used_once_and_only_when_granted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut proposal = approval(20);
    proposal.state = ApprovalState::Granted;
    let write = |approval: &crate::model::approval::Approval| {
        changes(1).write(Write::Approval(Box::new(approval.clone())))
    };
    assert!(why(store.apply(write(&proposal)).await).contains("a new approval is PENDING"));

    proposal.state = ApprovalState::Pending;
    store.apply(write(&proposal)).await.unwrap();
    proposal.version = 1;
    proposal.state = ApprovalState::Used;
    assert!(
        why(store.apply(write(&proposal)).await).contains("one that is PENDING cannot become USED")
    );
    proposal.state = ApprovalState::Granted;
    proposal.votes = vec![vote(7, true)];
    store.apply(write(&proposal)).await.unwrap();
    proposal.version = 2;
    proposal.state = ApprovalState::Used;
    proposal.ended = Some(at(3));
    store.apply(write(&proposal)).await.unwrap();
    for again in [
        ApprovalState::Used,
        ApprovalState::Granted,
        ApprovalState::Expired,
    ] {
        proposal.version = 3;
        proposal.state = again;
        let said = why(store.apply(write(&proposal)).await);
        assert!(said.contains("one that is USED cannot become"), "{said}");
    }
}

#[tokio::test]
async fn nobody_votes_twice_and_no_vote_is_taken_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut proposal = approval(20);
    proposal.votes = vec![vote(7, true)];
    let write = |approval: &crate::model::approval::Approval| {
        changes(1).write(Write::Approval(Box::new(approval.clone())))
    };
    store.apply(write(&proposal)).await.unwrap();
    proposal.version = 1;
    let mut twice = proposal.clone();
    twice.votes.push(vote(7, true));
    assert!(matches!(
        store.apply(write(&twice)).await,
        Err(StoreError::Conflict { .. })
    ));
    let mut without = proposal.clone();
    without.votes.clear();
    assert!(why(store.apply(write(&without)).await).contains("a vote that was given"));
    let mut rebound = proposal.clone();
    rebound.digest = digest("another plan");
    assert!(why(store.apply(write(&rebound)).await).contains("bound to"));
    assert_eq!(
        store.approval(proposal.id).await.unwrap().unwrap(),
        proposal
    );
}

#[tokio::test]
async fn a_lease_has_one_holder() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let lease = |heal| {
        Write::LeaseTaken(Lease {
            key: "app:shop".to_owned(),
            heal: HealId::from_raw(heal),
            since: at(0),
        })
    };
    let released = |heal| Write::LeaseReleased {
        key: "app:shop".to_owned(),
        heal: HealId::from_raw(heal),
    };
    store.apply(changes(0).write(lease(1))).await.unwrap();
    store.apply(changes(0).write(lease(1))).await.unwrap();
    assert_eq!(
        why(store.apply(changes(0).write(lease(2))).await),
        "the lease of app:shop was changed meanwhile"
    );
    store.apply(changes(0).write(released(2))).await.unwrap();
    assert_eq!(store.restart().await.unwrap().leases.len(), 1);
    store
        .apply(changes(0).write(released(1)).write(lease(2)))
        .await
        .unwrap();
    let leases = store.restart().await.unwrap().leases;
    assert_eq!(leases[0].heal, HealId::from_raw(2));
}

#[tokio::test]
async fn a_pinned_backup_cannot_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let id = BackupId::from_raw(30);
    let pin = |by: &str, pinned| Write::Pin {
        backup: id,
        by: by.to_owned(),
        pinned,
    };
    assert!(matches!(
        store.apply(changes(0).write(pin("heal", true))).await,
        Err(StoreError::Conflict { .. })
    ));
    store
        .apply(
            changes(0)
                .write(Write::Backup(Box::new(backup(30))))
                .write(pin("heal:1", true)),
        )
        .await
        .unwrap();
    let listed = |query| store.backups(query);
    let all = || Query {
        limit: 10,
        ..Query::default()
    };
    let row = listed(all()).await.unwrap().remove(0);
    assert!(row.pinned);
    // Written back as it was read: the pin is the heal's, and goes with it.
    store
        .apply(changes(1).write(Write::Backup(Box::new(row))))
        .await
        .unwrap();
    assert_eq!(
        why(store
            .apply(changes(1).write(Write::BackupRemoved(id)))
            .await),
        format!("the pin of backup {id} was changed meanwhile")
    );
    store
        .apply(changes(2).write(pin("heal:1", false)))
        .await
        .unwrap();
    assert!(!listed(all()).await.unwrap()[0].pinned);
    store
        .apply(changes(3).write(Write::BackupRemoved(id)))
        .await
        .unwrap();
    assert_eq!(listed(all()).await.unwrap(), []);
    assert_eq!(
        store.restart().await.unwrap().last_id,
        30,
        "an id that is gone is not given again"
    );
}

#[tokio::test]
async fn a_hold_ends_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let set = || changes(0).write(Write::Hold(hold(5, Scope::Everything)));
    let end = || {
        changes(1).write(Write::HoldEnded {
            id: HoldId::from_raw(5),
        })
    };
    store.apply(set()).await.unwrap();
    store.apply(end()).await.unwrap();
    for late in [set(), end()] {
        assert!(matches!(
            store.apply(late).await,
            Err(StoreError::Conflict { .. })
        ));
    }
    assert_eq!(store.restart().await.unwrap().holds, []);
}

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
    for event in acting_events() {
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
    let mut raw = super::damage::raw(&dir).await;
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

#[tokio::test]
async fn one_refused_write_takes_back_the_whole_call() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let both: Changes = changes(0)
        .write(Write::Hold(hold(5, Scope::Everything)))
        .write(heal_write(&heal(10, 1), None))
        .write(heal_write(&heal(11, 1), None));
    assert!(store.apply(both).await.is_err());
    let left = store.restart().await.unwrap();
    assert_eq!((left.holds.len(), left.heals.len()), (0, 0));
    assert_eq!(store.audit_head().await.unwrap(), None);
}
