//! The breaker over a day: three failures, an hour, one trial, a cure, and a cure that does not last.

use healerd::engine::HealRequest;
use healerd::model::breaker::BreakerState;

use crate::world::host::Behaviour;
use crate::world::{Sim, hours, is, minutes, person, seconds};

fn idle() -> Behaviour {
    Behaviour {
        idle: true,
        ..Behaviour::default()
    }
}

/// Three heals that did not help.
async fn opened() -> Sim {
    let mut sim = Sim::new().await;
    for action in ["clear_cache", "rebuild_cache", "restart_worker"] {
        sim.behaves(action, idle());
    }
    sim.write("cache/bad", "garbage");
    sim.write("run/dead", "1");
    sim.until("open", hours(1), |desk| {
        desk.breaker.state == BreakerState::Open
    })
    .await;
    assert_eq!(sim.ran().len(), 3);
    sim
}

fn wish(action: &str) -> HealRequest {
    HealRequest {
        action: action.parse().unwrap(),
        params: std::collections::BTreeMap::new(),
        reason: "please".to_owned(),
        dry_run: false,
    }
}

#[tokio::test]
async fn three_failures_open_it_and_an_open_one_refuses_everybody() {
    let mut sim = opened().await;
    assert_eq!(sim.notices("breaker_opened").await.len(), 1);
    sim.pass(minutes(15)).await;
    let app = sim.app_name();
    let refusal = sim
        .ask(async |handle| handle.heal(&app, wish("clear_cache"), person(1)).await)
        .await
        .unwrap_err();
    assert_eq!(refusal.code, "breaker_open");
    assert_eq!(
        refusal.message,
        "Circuit breaker is open. Too many consecutive failures (3). Healing will be available in 45 minutes."
    );
    sim.write("down", "1");
    sim.pass(minutes(44)).await;
    assert_eq!(sim.ran().len(), 3);
    insta::assert_snapshot!(sim.transcript());
}

#[tokio::test]
async fn after_an_hour_one_trial_runs_and_its_cure_closes_the_breaker() {
    let mut sim = opened().await;
    let opened = sim.clock_now();
    sim.behaves("clear_cache", Behaviour::default());
    sim.until("a trial", hours(2), |desk| desk.breaker.trial.is_some())
        .await;
    let waited = sim.since(&opened);
    assert!(
        waited >= hours(1) && waited <= hours(1) + seconds(15),
        "{waited:?}"
    );
    sim.pass(minutes(5)).await;
    assert_eq!(sim.ran().len(), 4, "one trial at a time");
    sim.until("closed", minutes(30), |desk| {
        desk.breaker.state == BreakerState::Closed
    })
    .await;
    assert!(sim.desk().breaker.failures.is_empty());
    // The cure does not last.
    sim.pass(minutes(30)).await;
    sim.write("cache/bad", "garbage");
    sim.until("open again", minutes(5), |desk| {
        desk.breaker.state == BreakerState::Open
    })
    .await;
    assert_eq!(sim.desk().breaker.cooldown_ms, 2 * 3_600_000);
    let history = sim.breaker_history().await;
    let seen: Vec<_> = history
        .iter()
        .map(|row| format!("{} → {}: {}", row.from, row.to, row.cause))
        .collect();
    insta::assert_snapshot!(seen.join("\n"));
}

#[tokio::test]
async fn a_failed_trial_doubles_the_cooldown() {
    let mut sim = opened().await;
    for hours_open in [1_u64, 2, 4, 8, 16, 24, 24] {
        assert_eq!(sim.desk().breaker.cooldown_ms, hours_open * 3_600_000);
        sim.clock.pass(hours(hours_open));
        sim.until("a trial", minutes(2), |desk| desk.breaker.trial.is_some())
            .await;
        sim.until("open", hours(1), |desk| {
            desk.breaker.state == BreakerState::Open
        })
        .await;
    }
}

#[tokio::test]
async fn a_symptom_gone_before_the_trial_started_gives_it_back() {
    let mut sim = opened().await;
    sim.clock.pass(hours(1));
    sim.until("protected or running", minutes(2), |desk| {
        desk.breaker.trial.is_some()
            && desk
                .heals
                .iter()
                .any(|heal| heal.state.name() == "Protected")
    })
    .await;
    sim.remove("cache/bad");
    sim.remove("run/dead");
    sim.pass(minutes(2)).await;
    assert_eq!(sim.desk().breaker.state, BreakerState::HalfOpen);
    assert_eq!(sim.desk().breaker.trial, None);
}

#[tokio::test]
async fn a_reset_needs_a_person_and_is_audited() {
    let mut sim = opened().await;
    let app = sim.app_name();
    sim.ask(async |handle| {
        handle
            .reset_breaker(&app, "fixed by hand".to_owned(), person(1))
            .await
    })
    .await
    .unwrap();
    assert_eq!(sim.desk().breaker.state, BreakerState::Closed);
    assert!(sim.desk().breaker.failures.is_empty());
    let audit = sim.audit().await;
    let row = audit
        .iter()
        .find(|row| row.verb == "breaker_reset")
        .unwrap();
    assert_eq!(
        (row.actor.as_str(), row.detail["reason"].as_str()),
        ("person1(1)", Some("fixed by hand"))
    );
    assert!(!is(sim.desk(), "clear_cache", "Acting"));
}

#[tokio::test]
async fn restarting_the_daemon_shortens_no_cooldown() {
    let mut sim = opened().await;
    sim.pass(minutes(30)).await;
    sim.start().await;
    sim.pass(minutes(29)).await;
    assert_eq!(sim.desk().breaker.state, BreakerState::Open);
    assert_eq!(sim.ran().len(), 3);
    sim.until("half-open", minutes(2), |desk| {
        desk.breaker.state == BreakerState::HalfOpen
    })
    .await;
}
