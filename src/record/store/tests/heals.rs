//! Heals: versions, the table of moves, fence tokens, gates.

use super::fixture::*;
use crate::model::heal::{Event, HealState};
use crate::model::id::{FenceToken, HealId};
use crate::model::reason::{Denial, Denied, GuardName};
use crate::model::stop::Scope;
use crate::seam::{Changes, Store as _, StoreError, Write};

const TO_ACTING: [Event; 2] = [Event::BackupVerified { backup: None }, Event::IntentWritten];

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
    for event in TO_ACTING {
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
    assert_eq!(events, TO_ACTING);
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
    other.fence = FenceToken(9);
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
    for event in TO_ACTING {
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
