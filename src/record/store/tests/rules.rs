//! Breakers, approvals, leases, backups, holds: which writes are refused.

use super::fixture::*;
use crate::model::approval::{Approval, ApprovalState, Vote};
use crate::model::breaker::{Breaker, BreakerState};
use crate::model::id::{BackupId, HealId, HoldId};
use crate::model::stop::Scope;
use crate::seam::store::{Lease, Query};
use crate::seam::{Changes, Store as _, StoreError, Write};

fn write(approval: &Approval) -> Changes {
    changes(1).write(Write::Approval(Box::new(approval.clone())))
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
