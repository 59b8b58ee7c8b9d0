//! Many at once, a full disk, a failed commit, closing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::damage::raw;
use super::fixture::*;
use crate::model::heal::{Event, Heal};
use crate::model::id::HealId;
use crate::model::stop::Scope;
use crate::record::audit::{Columns, Link};
use crate::record::store::Limits;
use crate::seam::store::Query;
use crate::seam::{Changes, Store as _, StoreError, Write};

#[tokio::test]
async fn a_hundred_at_once_are_all_answered_and_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let answers = join_all((1_u8..=100).map(|n| {
        let mut one = heal(u128::from(n) + 1000, 1);
        one.host = host(&format!("web{n}"));
        store.apply(changes(i64::from(n)).write(heal_write(&one, None)))
    }))
    .await;
    assert!(answers.iter().all(Result::is_ok));
    let query = Query {
        limit: 1000,
        ..Query::default()
    };
    assert_eq!(store.heals(query).await.unwrap().len(), 100);
    assert_eq!(store.audit_head().await.unwrap().unwrap().0, 100);
}

#[tokio::test]
async fn heals_that_move_at_once_are_each_stored_as_they_moved() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut heals: Vec<_> = (1_u8..=20)
        .map(|n| {
            let mut one = heal(u128::from(n) + 1000, 1);
            one.host = host(&format!("web{n}"));
            one.message = format!("\"{n}\" caf\u{e9} \\ \n");
            one
        })
        .collect();
    let answers = join_all(
        heals
            .iter()
            .map(|heal| store.apply(changes(1).write(heal_write(heal, None)))),
    )
    .await;
    assert!(answers.iter().all(Result::is_ok));
    let steps = [Event::BackupVerified { backup: None }, Event::IntentWritten];
    for (ms, event) in (10..).zip(steps.clone()) {
        for heal in &mut heals {
            heal.version += 1;
            *heal = moved(heal, &event, ms);
        }
        let answers = join_all(
            heals
                .iter()
                .map(|heal| store.apply(changes(ms).write(heal_write(heal, Some(event.clone()))))),
        )
        .await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    for heal in &mut heals {
        heal.version += 1;
        assert_eq!(store.heal(heal.id).await.unwrap().as_ref(), Some(&*heal));
        let events: Vec<_> = store
            .heal_events(heal.id)
            .await
            .unwrap()
            .into_iter()
            .map(|(_, event)| event)
            .collect();
        assert_eq!(events, steps);
    }
    assert_eq!(store.audit_head().await.unwrap().unwrap().0, 60);
    // A second writer of the same version is refused, in a group as alone.
    let stale = heals.iter().map(|heal| {
        let mut stale = heal.clone();
        stale.version -= 1;
        store.apply(changes(40).write(heal_write(&stale, None)))
    });
    let answers = join_all(stale).await;
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Err(StoreError::Conflict { .. })))
    );
}

#[tokio::test]
async fn a_row_that_changed_behind_the_writer_stops_its_own_heal_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut heals = Vec::new();
    for n in 1_u8..=4 {
        let mut one = heal(u128::from(n) + 1000, 1);
        one.host = host(&format!("web{n}"));
        store
            .apply(changes(1).write(heal_write(&one, None)))
            .await
            .unwrap();
        one.version += 1;
        heals.push(
            step(&store, &one, Event::BackupVerified { backup: None }, 2)
                .await
                .unwrap(),
        );
    }
    let audited = store.audit_head().await.unwrap().unwrap().0;
    let mut other = raw(&dir).await;
    let behind =
        "UPDATE heal SET version = 7, body = json_set(body, '$.version', 7) WHERE host = 'web2';
        DELETE FROM heal WHERE host = 'web3'";
    sqlx::raw_sql(behind).execute(&mut other).await.unwrap();

    let next = |heal: &Heal| moved(heal, &Event::IntentWritten, 3);
    let answers = join_all(heals.iter().map(|heal| {
        store.apply(changes(3).write(heal_write(&next(heal), Some(Event::IntentWritten))))
    }))
    .await;
    for (heal, answer) in heals.iter().zip(&answers) {
        let events = store.heal_events(heal.id).await.unwrap().len();
        match heal.host.as_str() {
            "web2" | "web3" => {
                assert!(
                    matches!(answer, Err(StoreError::Conflict { .. })),
                    "{answer:?}"
                );
                assert!(events < 2, "{}: {events}", heal.host);
            }
            _ => {
                assert!(answer.is_ok(), "{answer:?}");
                assert_eq!(events, 2, "{}", heal.host);
            }
        }
    }
    assert_eq!(store.audit_head().await.unwrap().unwrap().0, audited + 2);
    // Alone as well, and what was refused is read anew.
    let mut seven = heals[1].clone();
    seven.version = 7;
    store
        .apply(changes(4).write(heal_write(&next(&seven), Some(Event::IntentWritten))))
        .await
        .unwrap();
    let behind =
        "UPDATE heal SET version = 9, body = json_set(body, '$.version', 9) WHERE host = 'web1'";
    sqlx::raw_sql(behind).execute(&mut other).await.unwrap();
    let mut again = next(&heals[0]);
    again.version += 1;
    let stale = store
        .apply(changes(5).write(heal_write(&again, None)))
        .await;
    assert!(
        matches!(stale, Err(StoreError::Conflict { .. })),
        "{stale:?}"
    );
}

#[tokio::test]
async fn foreign_texts_of_a_group_are_stored_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let texts = [
        "a \"quoted\" \\ text\n\twith \u{1}\u{7f}\u{1b}[31m controls",
        "caf\u{e9} \u{1f980} \u{2028}\u{feff}\u{ffff}",
        "[1, null, \"x\"]",
        "{\"a\": 1}",
        "12",
        "",
    ];
    for nul in [false, true] {
        let answers = join_all(texts.iter().map(|text| {
            let text = if nul {
                format!("{text}\0tail")
            } else {
                (*text).to_owned()
            };
            store.apply(Changes::new(at(1), "healerd").audit(
                "noted",
                &text,
                serde_json::json!({ "said": text }),
            ))
        }))
        .await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
    let rows = store.audit(0, 100).await.unwrap();
    assert_eq!(rows.len(), 2 * texts.len());
    for (row, text) in rows.iter().zip(texts.iter().cycle()) {
        let object = row.object.strip_suffix("\0tail").unwrap_or(&row.object);
        assert_eq!(object, *text);
    }
    let mut link = Link::START;
    for row in &rows {
        let detail = serde_json::to_string(&row.detail).unwrap();
        link = link.next(&Columns {
            seq: row.seq,
            at_ms: row.at_wall_ms,
            actor: &row.actor,
            verb: &row.verb,
            object: &row.object,
            detail: &detail,
        });
        assert_eq!(row.hash, link.to_hex(), "{row:?}");
    }
}

#[tokio::test]
async fn refused_jobs_disturb_no_other_of_their_group() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let asked = Arc::new(AtomicUsize::new(0));
    // All on one host with the same token: whichever comes first gets it, each other one is in conflict.
    let answers = join_all((0_u8..60).map(|n| {
        let mut change = changes(1).write(heal_write(&heal(u128::from(n) + 1000, 1), None));
        if n % 2 == 0 {
            change = change.write(Write::Hold(hold(u128::from(n) + 5000, Scope::Everything)));
        }
        let asked = Arc::clone(&asked);
        change.gate = Some((
            app("shop"),
            host("local"),
            Box::new(move |_| {
                asked.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }),
        ));
        store.apply(change)
    }))
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(asked.load(Ordering::SeqCst), 60, "each gate is asked once");
    let left = store.restart().await.unwrap();
    assert_eq!(left.heals.len(), 1);
    assert!(left.holds.len() <= 1);
    assert_eq!(store.audit(0, 100).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_state_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    store
        .apply(changes(0).write(heal_write(&heal(10, 1), None)))
        .await
        .unwrap();
    let head = store.audit_head().await.unwrap();
    store.limit_pages_to_present().await;
    let mut full = None;
    for n in 11..2_000_u128 {
        let mut big = heal(n, u64::try_from(n).unwrap());
        big.message = "x".repeat(20_000);
        if let Err(error) = store.apply(changes(1).write(heal_write(&big, None))).await {
            full = Some((n, error));
            break;
        }
    }
    let (refused, error) = full.expect("the disk must become full");
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("full"), "{cause}");
    assert_eq!(store.heal(HealId::from_raw(refused)).await.unwrap(), None);
    let (seq, _) = store.audit_head().await.unwrap().unwrap();
    let before = i64::try_from(refused).unwrap() - 11;
    assert_eq!(
        seq,
        head.unwrap().0 + before,
        "no audit row of what was refused"
    );
    assert!(store.heal(HealId::from_raw(10)).await.unwrap().is_some());
    // What fits is still written.
    store.touch().await.unwrap();
}

#[tokio::test]
async fn after_a_full_disk_each_job_of_the_group_stands_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    store.limit_pages_to_present().await;
    let answers = join_all((0_u8..40).map(|n| {
        let id = u128::from(n);
        let mut change = heal(id + 100, u64::from(n) + 1);
        if n % 2 == 1 {
            change.message = "x".repeat(3_000_000);
        }
        change.host = host(&format!("web{n}"));
        store.apply(changes(1).write(heal_write(&change, None)))
    }))
    .await;
    let stored = answers.iter().filter(|answer| answer.is_ok()).count();
    for (n, answer) in answers.iter().enumerate() {
        let found = store
            .heal(HealId::from_raw(n as u128 + 100))
            .await
            .unwrap()
            .is_some();
        assert_eq!(answer.is_ok(), found, "{n}: {answer:?}");
        assert!(n % 2 == 0 || answer.is_err(), "{n} cannot fit");
    }
    let rows = store.audit(0, 1000).await.unwrap();
    assert_eq!(rows.len(), stored);
}

#[tokio::test]
async fn after_a_failed_commit_nothing_is_written_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    store.apply(changes(0)).await.unwrap();
    store.break_next_commit().await;
    assert!(matches!(
        store.apply(changes(1)).await,
        Err(StoreError::CommitUnknown(_))
    ));
    for _ in 0..3 {
        assert!(matches!(
            store.apply(changes(2)).await,
            Err(StoreError::Closed)
        ));
    }
    assert!(matches!(store.touch().await, Err(StoreError::Closed)));
    assert_eq!(store.audit(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn closing_drains_what_waits_and_refuses_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let waiting = join_all((0..50).map(|ms| store.apply(changes(ms))));
    let (answers, ()) = tokio::join!(waiting, store.close());
    let written = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(written, 50, "they were queued before the end");
    assert!(matches!(
        store.apply(changes(1)).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(store.restart().await, Err(StoreError::Closed)));
    store.close().await;
    let again = open(&dir).await;
    assert_eq!(again.audit_head().await.unwrap().unwrap().0, 50);
}

#[tokio::test]
async fn a_full_queue_refuses_in_time_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        queue: 1,
        queue_wait: Some(std::time::Duration::ZERO),
        ..Limits::default()
    };
    let store = open_with(&dir, limits).await;
    let answers = join_all((0..200).map(|ms| store.apply(changes(ms)))).await;
    let (written, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(!refused.is_empty());
    for answer in refused {
        assert_eq!(
            why(answer),
            "the store refused: queue a write: the writer is too far behind"
        );
    }
    assert_eq!(store.audit(0, 1000).await.unwrap().len(), written.len());
}

#[tokio::test]
async fn a_job_sees_what_the_jobs_before_it_in_its_group_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut first = heal(10, 1);
    let mut other = heal(11, 2);
    for new in [&first, &other] {
        store
            .apply(changes(0).write(heal_write(new, None)))
            .await
            .unwrap();
    }
    first.version = 1;
    other.version = 1;
    let verified = Event::BackupVerified { backup: None };
    let protected = moved(&first, &verified, 1);
    let mut acting = moved(&protected, &Event::IntentWritten, 2);
    acting.version = 2;
    let aborted = moved(&first, &Event::SymptomGone, 2);
    let of_other = moved(&other, &Event::SymptomGone, 2);
    let answers = join_all([
        store.apply(changes(1).write(heal_write(&protected, Some(verified.clone())))),
        store.apply(changes(1).write(heal_write(&of_other, Some(Event::SymptomGone)))),
        store.apply(changes(2).write(heal_write(&aborted, Some(Event::SymptomGone)))),
        store.apply(changes(2).write(heal_write(&acting, Some(Event::IntentWritten)))),
    ])
    .await;
    assert!(answers[0].is_ok() && answers[1].is_ok() && answers[3].is_ok());
    assert!(matches!(answers[2], Err(StoreError::Conflict { .. })));
    let stored = store.heal(first.id).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.state.name()), (3, "Acting"));
}
