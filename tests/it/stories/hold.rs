//! A hold stops everything that nobody asked for, until a person resumes.

use healerd::engine::HealRequest;
use healerd::model::stop::Scope;

use crate::world::host::Behaviour;
use crate::world::{Sim, hours, is, minutes, person, seconds};

async fn hold(sim: &mut Sim, length: Option<std::time::Duration>) {
    sim.ask(async |handle| {
        handle
            .hold(Scope::Everything, "deploy".to_owned(), length, &person(1))
            .await
    })
    .await
    .unwrap();
}

async fn resume(sim: &mut Sim, undo: bool) {
    sim.ask(async |handle| {
        handle
            .resume(&Scope::Everything, undo, "done".to_owned(), &person(1))
            .await
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn nothing_starts_under_a_hold_even_over_a_restart_and_the_first_round_after_it_only_observes()
 {
    let mut sim = Sim::new().await;
    hold(&mut sim, None).await;
    sim.write("cache/bad", "garbage");
    sim.pass(hours(1)).await;
    sim.start().await;
    sim.pass(hours(1)).await;
    assert!(sim.heals().await.is_empty());
    resume(&mut sim, false).await;
    let rounds = sim.calls("round");
    sim.until("admitted", minutes(5), |desk| !desk.heals.is_empty())
        .await;
    assert!(
        sim.calls("round") - rounds >= 2,
        "the first round only observed"
    );
}

#[tokio::test]
async fn the_first_round_after_a_resume_only_observes_even_in_another_process() {
    let mut sim = Sim::new().await;
    hold(&mut sim, None).await;
    sim.write("cache/bad", "garbage");
    sim.pass(hours(1)).await;
    resume(&mut sim, false).await;
    sim.start().await;
    let app = sim.app_name();
    let rounds = sim.calls("round");
    assert!(sim.desk().shared.observes_first(&app));
    sim.until("a round", minutes(2), |desk| desk.look.is_some())
        .await;
    assert_eq!(sim.calls("round") - rounds, 1);
    assert!(!sim.desk().shared.observes_first(&app));
    sim.start().await;
    assert!(
        !sim.desk().shared.observes_first(&app),
        "the round was observed, and that is remembered too"
    );
    sim.until("admitted", minutes(10), |desk| !desk.heals.is_empty())
        .await;
}

#[tokio::test]
async fn a_resume_that_asked_for_undo_is_kept_by_the_next_process() {
    let mut sim = Sim::new().await;
    let useless = Behaviour {
        idle: true,
        writes: vec![("cache/data".to_owned(), "torn".to_owned())],
        ..Behaviour::default()
    };
    sim.behaves("clear_cache", useless);
    sim.write("cache/bad", "garbage");
    let before = sim.host.machine().tree.essence();
    sim.until("settling", minutes(10), |desk| {
        is(desk, "clear_cache", "Settling")
    })
    .await;
    hold(&mut sim, None).await;
    sim.pass(minutes(1)).await;
    resume(&mut sim, true).await;
    sim.start().await;
    sim.until("undone", minutes(1), |desk| {
        desk.breaker.failures.len() == 1
    })
    .await;
    let heal = sim.heal("clear_cache").await;
    assert!(
        heal.message.contains("person1(1): done"),
        "{}",
        heal.message
    );
    assert_eq!(sim.host.machine().tree.essence(), before);
    sim.start().await;
    let app = sim.app_name();
    assert_eq!(sim.desk().shared.undo_asked(&app), None);
}

#[tokio::test]
async fn a_hold_with_a_length_ends_by_itself() {
    let mut sim = Sim::new().await;
    hold(&mut sim, Some(minutes(20))).await;
    sim.write("cache/bad", "garbage");
    let took = sim
        .until("admitted", hours(1), |desk| !desk.heals.is_empty())
        .await;
    assert!(took >= minutes(20) && took <= minutes(21), "{took:?}");
}

#[tokio::test]
async fn a_heal_that_settles_freezes_and_no_undo_starts_by_itself() {
    let mut sim = Sim::new().await;
    let useless = Behaviour {
        idle: true,
        writes: vec![("cache/data".to_owned(), "torn".to_owned())],
        ..Behaviour::default()
    };
    sim.behaves("clear_cache", useless);
    sim.write("cache/bad", "garbage");
    let before = sim.host.machine().tree.essence();
    sim.until("settling", minutes(10), |desk| {
        is(desk, "clear_cache", "Settling")
    })
    .await;
    hold(&mut sim, None).await;
    sim.pass(minutes(20)).await;
    assert!(is(sim.desk(), "clear_cache", "Settling"));
    assert_eq!(sim.calls("undo"), 0);
    resume(&mut sim, true).await;
    sim.until("undone", minutes(1), |desk| {
        desk.breaker.failures.len() == 1
    })
    .await;
    let heal = sim.heal("clear_cache").await;
    assert_eq!(heal.state.name(), "Undone");
    assert!(
        heal.message.contains("person1(1): done"),
        "{}",
        heal.message
    );
    assert_eq!(sim.host.machine().tree.essence(), before);
}

#[tokio::test]
async fn a_frozen_heal_goes_on_after_a_resume_that_keeps() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("soaking", minutes(10), |desk| {
        is(desk, "clear_cache", "Soaking")
    })
    .await;
    hold(&mut sim, None).await;
    sim.pass(minutes(20)).await;
    assert!(is(sim.desk(), "clear_cache", "Soaking"));
    resume(&mut sim, false).await;
    sim.until("cured", minutes(15), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert!(!sim.has("cache/bad"));
}

#[tokio::test]
async fn the_running_step_finishes_under_a_hold() {
    let mut sim = Sim::new().await;
    sim.behaves(
        "clear_cache",
        Behaviour {
            lasts: seconds(30),
            ..Behaviour::default()
        },
    );
    sim.write("cache/bad", "garbage");
    sim.until("acting", minutes(10), |desk| {
        is(desk, "clear_cache", "Acting")
    })
    .await;
    hold(&mut sim, None).await;
    sim.pass(minutes(5)).await;
    assert!(is(sim.desk(), "clear_cache", "Settling"));
}

#[tokio::test]
async fn what_a_person_asks_for_works_under_a_hold() {
    let mut sim = Sim::new().await;
    hold(&mut sim, None).await;
    sim.write("cache/bad", "garbage");
    sim.pass(minutes(2)).await;
    let app = sim.app_name();
    let wish = HealRequest {
        action: "clear_cache".parse().unwrap(),
        params: std::collections::BTreeMap::new(),
        reason: "now".to_owned(),
        dry_run: false,
    };
    sim.ask(async |handle| handle.heal(&app, wish, person(1)).await)
        .await
        .unwrap();
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["clear_cache"]);
}
