//! What cannot be seen never acts, and is told once.

use healerd::model::incident::IncidentKind;

use crate::world::host::{Behaviour, Fault};
use crate::world::{Sim, hours, is, minutes, seconds};

async fn unknowns(sim: &Sim) -> usize {
    sim.incidents()
        .await
        .iter()
        .filter(|incident| incident.kind == IncidentKind::Unknown)
        .count()
}

#[tokio::test]
async fn a_check_in_error_never_acts_and_is_told_after_fifteen_minutes() {
    let mut sim = Sim::new().await;
    sim.host.machine().dark.insert("cache".to_owned());
    sim.write("cache/bad", "garbage");
    // First seen after 60 s.
    sim.pass(minutes(15) + seconds(59)).await;
    assert_eq!(unknowns(&sim).await, 0);
    sim.pass(seconds(1)).await;
    assert_eq!(unknowns(&sim).await, 1);
    sim.pass(hours(3)).await;
    assert_eq!(unknowns(&sim).await, 1);
    assert_eq!(sim.notices("incident_opened").await.len(), 1);
    assert!(sim.heals().await.is_empty());
}

#[tokio::test]
async fn error_between_bad_looks_pauses_the_dwell() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.pass(minutes(2)).await;
    sim.host.machine().dark.insert("cache".to_owned());
    sim.pass(minutes(10)).await;
    assert!(sim.heals().await.is_empty());
    sim.host.machine().dark.clear();
    let took = sim
        .until("admitted", minutes(10), |desk| !desk.heals.is_empty())
        .await;
    assert!(
        took >= minutes(2),
        "a minute of the three had passed: {took:?}"
    );
}

#[tokio::test]
async fn a_host_that_is_unseen_for_three_rounds_is_told_once_and_nothing_runs() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.host.machine().reachable = false;
    sim.pass(seconds(179)).await;
    assert_eq!(unknowns(&sim).await, 0);
    sim.pass(seconds(1)).await;
    assert_eq!(unknowns(&sim).await, 1);
    sim.pass(hours(2)).await;
    assert_eq!(unknowns(&sim).await, 1);
    assert_eq!(sim.notices("incident_opened").await.len(), 1);
    assert!(sim.heals().await.is_empty());
    sim.host.machine().reachable = true;
    sim.until("healed once it is seen", minutes(10), |desk| {
        !desk.heals.is_empty()
    })
    .await;
    assert_eq!(sim.notices("host_seen").await.len(), 1);
}

#[tokio::test]
async fn a_verdict_that_cannot_be_given_within_thirty_minutes_is_left_to_a_person() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("settling", minutes(10), |desk| {
        is(desk, "clear_cache", "Settling")
    })
    .await;
    sim.host.machine().dark.insert("cache".to_owned());
    let took = sim
        .until("kept", minutes(60), |desk| is(desk, "clear_cache", "Kept"))
        .await;
    assert!(took >= minutes(30) && took <= minutes(31), "{took:?}");
    assert!(!sim.has("cache/bad"), "it is left as it is");
    assert_eq!(sim.desk().breaker.failures.len(), 1);
    assert_eq!(sim.calls("undo"), 0);
}

#[tokio::test]
async fn a_host_that_is_lost_while_it_settles_is_waited_for_and_nothing_is_undone_blind() {
    let mut sim = Sim::new().await;
    sim.behaves(
        "clear_cache",
        Behaviour {
            idle: true,
            writes: vec![("cache/data".to_owned(), "torn".to_owned())],
            ..Behaviour::default()
        },
    );
    sim.write("cache/bad", "garbage");
    sim.until("settling", minutes(10), |desk| {
        is(desk, "clear_cache", "Settling")
    })
    .await;
    sim.host.machine().reachable = false;
    sim.pass(minutes(20)).await;
    assert_eq!(sim.calls("undo"), 0);
    sim.host.machine().reachable = true;
    sim.until("undone", minutes(10), |desk| {
        desk.breaker.failures.len() == 1
    })
    .await;
    assert_eq!(sim.heal("clear_cache").await.state.name(), "Undone");
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_the_witness_and_nothing_runs_twice() {
    for fault in [Fault::Lost, Fault::Slow] {
        let mut sim = Sim::new().await;
        sim.fails("start", fault);
        sim.write("cache/bad", "garbage");
        sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
            .await;
        assert_eq!(sim.ran(), ["clear_cache"], "{fault:?}");
        assert!(
            sim.journal(&sim.heal("clear_cache").await)
                .await
                .contains("OutcomeUnknown")
        );
    }
}

#[tokio::test]
async fn a_start_that_never_arrived_never_will_and_is_neither_a_try_nor_a_failure() {
    let mut sim = Sim::new().await;
    sim.fails("start", Fault::Unreachable);
    sim.write("cache/bad", "garbage");
    sim.until("cured", minutes(40), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["clear_cache"]);
    let states: Vec<_> = sim
        .heals()
        .await
        .iter()
        .map(|heal| heal.state.name())
        .collect();
    assert_eq!(states, ["Aborted", "Cured"]);
    assert!(sim.desk().breaker.failures.is_empty());
}

#[tokio::test]
async fn starts_that_never_arrive_end_with_the_days_rate() {
    let mut sim = Sim::new().await;
    for _ in 0..1000 {
        sim.fails("start", Fault::Unreachable);
    }
    sim.write("cache/bad", "garbage");
    sim.pass(hours(3)).await;
    assert!(sim.ran().is_empty());
    assert_eq!(sim.heals().await.len(), 6);
}

#[tokio::test]
async fn an_action_whose_supervisor_died_is_judged_by_the_checks() {
    let mut sim = Sim::new().await;
    sim.behaves(
        "clear_cache",
        Behaviour {
            dies: true,
            ..Behaviour::default()
        },
    );
    sim.write("cache/bad", "garbage");
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["clear_cache"]);
}
