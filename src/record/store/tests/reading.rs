//! What comes back: restart, lists, guards' windows, check history, outbox, retention.

use std::time::Duration;

use super::damage::raw;
use super::fixture::*;
use crate::model::approval::ApprovalState;
use crate::model::check::CheckResult;
use crate::model::heal::{AbortCause, Event, HealState};
use crate::model::incident::IncidentState;
use crate::model::name::AppName;
use crate::model::stop::Scope;
use crate::model::time::Moment;
use crate::model::word::Status;
use crate::record::store::SqliteStore;
use crate::seam::store::Query;
use crate::seam::{Store as _, Write};

const DAY_MS: i64 = 86_400_000;

fn checks(results: Vec<CheckResult>) -> Write {
    Write::Checks {
        app: app("shop"),
        results,
    }
}

async fn count(dir: &tempfile::TempDir, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql)
        .fetch_one(&mut raw(dir).await)
        .await
        .unwrap()
}

#[tokio::test]
async fn history_grows_only_when_status_rule_or_message_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let pass = || result("http_up", Status::Pass, "fine");
    let mut slower = pass();
    slower.execution_ms = 900;
    let mut other_rule = result("http_up", Status::Fail, "502");
    other_rule.rule = Some(3);
    for (case, round, want) in [
        (
            "first",
            vec![pass(), result("disk", Status::Warn, "90 %")],
            2,
        ),
        (
            "the same",
            vec![pass(), result("disk", Status::Warn, "90 %")],
            2,
        ),
        ("only slower", vec![slower], 2),
        (
            "another message",
            vec![result("disk", Status::Warn, "91 %")],
            3,
        ),
        (
            "another status",
            vec![result("http_up", Status::Fail, "502")],
            4,
        ),
        ("another rule", vec![other_rule.clone()], 5),
        ("nothing", vec![], 5),
    ] {
        store
            .apply(unaudited(1).write(checks(round)))
            .await
            .unwrap();
        assert_eq!(
            count(&dir, "SELECT count(*) FROM check_change").await,
            want,
            "{case}"
        );
    }
    let last: Vec<(AppName, CheckResult)> = store.restart().await.unwrap().checks;
    assert_eq!(
        last,
        [
            (app("shop"), result("disk", Status::Warn, "91 %")),
            (app("shop"), other_rule)
        ]
    );
}

#[tokio::test]
async fn results_come_back_byte_for_byte_whatever_a_host_said() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let hostile = "a\0b \"quoted\" \\ \u{1b}[31m \u{2028} ' ; DROP TABLE heal; -- é 💥";
    let one = result("http_up", Status::Fail, hostile);
    store
        .apply(unaudited(1).write(checks(vec![one.clone()])))
        .await
        .unwrap();
    assert_eq!(store.restart().await.unwrap().checks, [(app("shop"), one)]);
}

#[tokio::test]
async fn restart_gives_what_is_unfinished_and_what_waits_for_a_person() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let mut closed = incident(2);
    closed.state = IncidentState::Closed;
    let mut stored = Vec::new();
    for n in 10..13 {
        let new = heal(n, u64::try_from(n).unwrap());
        store
            .apply(changes(0).write(heal_write(&new, None)))
            .await
            .unwrap();
        stored.push(store.heal(new.id).await.unwrap().unwrap());
    }
    // 10 stays open, 11 is aborted, 12 is kept for a person.
    step(&store, &stored[1], Event::SymptomGone, 1)
        .await
        .unwrap();
    let mut kept = stored[2].clone();
    for event in [
        Event::BackupVerified { backup: None },
        Event::IntentWritten,
        Event::OutcomeUnknown,
        Event::WitnessUnreadable {
            message: "no such host".to_owned(),
        },
    ] {
        kept = step(&store, &kept, event, 2).await.unwrap();
    }
    let mut expired = approval(20);
    store
        .apply(
            changes(3)
                .write(Write::Incident {
                    incident: Box::new(incident(1)),
                    note: "opened".to_owned(),
                })
                .write(Write::Incident {
                    incident: Box::new(closed),
                    note: String::new(),
                })
                .write(Write::Approval(Box::new(expired.clone())))
                .write(Write::Approval(Box::new(approval(21)))),
        )
        .await
        .unwrap();
    expired.version = 1;
    expired.state = ApprovalState::Expired;
    expired.ended = Some(at(4));
    store
        .apply(changes(4).write(Write::Approval(Box::new(expired))))
        .await
        .unwrap();
    let ids = |restart: &crate::seam::store::Restart| {
        (
            restart
                .heals
                .iter()
                .map(|heal| heal.id.raw())
                .collect::<Vec<_>>(),
            restart
                .incidents
                .iter()
                .map(|one| one.id.raw())
                .collect::<Vec<_>>(),
            restart
                .approvals
                .iter()
                .map(|one| one.id.raw())
                .collect::<Vec<_>>(),
        )
    };
    let restart = store.restart().await.unwrap();
    assert_eq!(ids(&restart), (vec![10, 12], vec![1], vec![20, 21]));
    assert_eq!(restart.last_id, 21);
    store.close().await;
    let eight_days = at(8 * DAY_MS);
    let later = SqliteStore::open(dir.path(), &eight_days).await.unwrap();
    let restart = later.restart().await.unwrap();
    assert_eq!(
        ids(&restart).2,
        [21],
        "the refusal is forgotten after seven days"
    );
    let query = |open_only| Query {
        app: Some(app("shop")),
        open_only,
        limit: 2,
    };
    let listed = |heals: Vec<crate::model::heal::Heal>| {
        heals.iter().map(|heal| heal.id.raw()).collect::<Vec<_>>()
    };
    assert_eq!(listed(later.heals(query(false)).await.unwrap()), [12, 11]);
    assert_eq!(listed(later.heals(query(true)).await.unwrap()), [12, 10]);
}

#[tokio::test]
async fn starts_leave_the_window_by_the_boot_clock_not_by_the_wall() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let new = heal(10, 1);
    store
        .apply(changes(0).write(heal_write(&new, None)))
        .await
        .unwrap();
    let mut acting = store.heal(new.id).await.unwrap().unwrap();
    for event in [Event::BackupVerified { backup: None }, Event::IntentWritten] {
        acting = step(&store, &acting, event, 1).await.unwrap();
    }
    let moment = |boot: &str, boot_ms, wall_ms: i64| Moment {
        boot_id: boot.to_owned(),
        boot_ms,
        wall_ms: 1_700_000_000_000 + wall_ms,
    };
    for (case, now, want) in [
        ("soon after", moment("boot", 5, 5), 1),
        ("wall ten years ahead", moment("boot", 5, 3650 * DAY_MS), 1),
        ("a day of boot time", moment("boot", DAY_MS + 2, 5), 0),
        ("after a reboot", moment("next", 5, 1000), 1),
        ("after a reboot, wall behind", moment("next", 5, -DAY_MS), 1),
        ("a day later, rebooted", moment("next", 5, DAY_MS + 2), 0),
    ] {
        store
            .apply(crate::seam::Changes::new(now, "healerd"))
            .await
            .unwrap();
        let rows = store
            .guard_rows(&app("shop"), &host("local"))
            .await
            .unwrap();
        assert_eq!(rows.starts.len(), want, "{case}");
    }
}

#[tokio::test]
async fn guards_see_only_holds_that_cover_the_target() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    for (id, scope) in [
        (1, Scope::App(app("shop"))),
        (2, Scope::App(app("blog"))),
        (3, Scope::Host(host("local"))),
        (4, Scope::Host(host("web1"))),
        (5, Scope::Everything),
    ] {
        store
            .apply(changes(0).write(Write::Hold(hold(id, scope))))
            .await
            .unwrap();
    }
    let rows = store
        .guard_rows(&app("shop"), &host("local"))
        .await
        .unwrap();
    let ids: Vec<_> = rows.holds.iter().map(|hold| hold.id.raw()).collect();
    assert_eq!(ids, [1, 3, 5]);
}

#[tokio::test]
async fn a_notice_is_delivered_once_and_retried_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    store
        .apply(unaudited(0).write(Write::Notice(notice("app:shop", "held", at(0)))))
        .await
        .unwrap();
    let due = store.outbox(&at(0)).await.unwrap();
    assert_eq!((due.len(), due[0].attempts), (1, 0));
    let id = due[0].id;
    store
        .apply(unaudited(1).write(Write::NoticeFailed {
            id,
            again: at(60_000),
        }))
        .await
        .unwrap();
    assert!(store.outbox(&at(59_999)).await.unwrap().is_empty());
    assert_eq!(store.outbox(&at(60_000)).await.unwrap()[0].attempts, 1);
    let mut lied = at(0);
    lied.boot_id = "next".to_owned();
    lied.wall_ms -= 3650 * DAY_MS;
    assert_eq!(
        store.outbox(&lied).await.unwrap().len(),
        1,
        "a clock that stepped back does not silence it"
    );
    store
        .apply(unaudited(2).write(Write::NoticeSent { id }))
        .await
        .unwrap();
    assert!(store.outbox(&at(DAY_MS)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_repeat_within_four_hours_is_left_away_unless_something_else_came_between() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let hour = 3_600_000;
    for (case, key, event, ms, want) in [
        ("first", "a", "held", 0, 1),
        ("repeat", "a", "held", hour, 1),
        ("another matter", "b", "held", hour, 2),
        ("another event", "a", "resumed", 2 * hour, 3),
        ("the first again, which is news", "a", "held", 3 * hour, 4),
        ("four hours after", "a", "held", 7 * hour, 5),
    ] {
        store
            .apply(unaudited(ms).write(Write::Notice(notice(key, event, at(ms)))))
            .await
            .unwrap();
        assert_eq!(
            store.outbox(&at(8 * hour)).await.unwrap().len(),
            want,
            "{case}"
        );
    }
}

async fn old_history(store: &SqliteStore) {
    let new = heal(10, 1);
    let open = heal(11, 2);
    let mut closed = incident(2);
    closed.state = IncidentState::Closed;
    store
        .apply(
            changes(0)
                .write(heal_write(&new, None))
                .write(heal_write(&open, None))
                .write(Write::Incident {
                    incident: Box::new(incident(1)),
                    note: "opened".to_owned(),
                })
                .write(Write::Incident {
                    incident: Box::new(closed),
                    note: "closed".to_owned(),
                })
                .write(checks(vec![result("http_up", Status::Pass, "fine")]))
                .write(Write::Backup(Box::new(backup(30)))),
        )
        .await
        .unwrap();
    let stored = store.heal(new.id).await.unwrap().unwrap();
    let ended = step(store, &stored, Event::SymptomGone, 1).await.unwrap();
    let want = HealState::Aborted {
        cause: AbortCause::SymptomGone,
    };
    assert_eq!(ended.state, want);
}

#[tokio::test]
async fn what_ended_long_ago_is_pruned_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    old_history(&store).await;
    let keep = Duration::from_hours(90 * 24);
    let now = at(91 * DAY_MS);
    store.apply(changes(91 * DAY_MS)).await.unwrap();
    assert_eq!(store.prune(&at(90 * DAY_MS), keep).await.unwrap(), 0);
    // The heal, the incident, the row of check history.
    assert_eq!(store.prune(&now, keep).await.unwrap(), 3);
    assert_eq!(store.prune(&now, keep).await.unwrap(), 0);
    let restart = store.restart().await.unwrap();
    assert_eq!(restart.heals.len(), 1);
    assert_eq!(restart.incidents.len(), 1);
    assert_eq!(restart.backups.len(), 1);
    assert_eq!(restart.checks.len(), 1, "the present state stays");
    assert_eq!(restart.fences, [(host("local"), 2)]);
    assert_eq!(store.audit(0, 10).await.unwrap().len(), 3);
    assert_eq!(count(&dir, "SELECT count(*) FROM heal_event").await, 0);
}

#[tokio::test]
async fn a_clock_that_jumped_ahead_prunes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    old_history(&store).await;
    let keep = Duration::from_hours(90 * 24);
    assert_eq!(store.prune(&at(3650 * DAY_MS), keep).await.unwrap(), 0);
}

#[tokio::test]
async fn an_answer_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    for ms in 0..5 {
        store.apply(changes(ms)).await.unwrap();
    }
    let seqs = |rows: Vec<crate::seam::store::AuditRow>| {
        rows.iter().map(|row| row.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(store.audit(1, 2).await.unwrap()), [2, 3]);
    assert_eq!(seqs(store.audit(3, u32::MAX).await.unwrap()), [4, 5]);
}
