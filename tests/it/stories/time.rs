//! Clocks that step, outages, and heals that are found old.

use healerd::model::heal::{AbortCause, HealState, Outcome};
use healerd::model::reason::GuardName;

use crate::world::host::Behaviour;
use crate::world::{Sim, hours, is, minutes, person, seconds};

const TEN_YEARS_MS: i64 = 10 * 365 * 86_400_000;

#[tokio::test]
async fn a_clock_that_steps_ten_years_brings_no_burst_and_no_silence() {
    for step in [TEN_YEARS_MS, -TEN_YEARS_MS] {
        let mut sim = Sim::new().await;
        sim.pass(minutes(5)).await;
        sim.clock.step_wall(step);
        let began = sim.calls("round");
        sim.pass(minutes(10)).await;
        assert_eq!(sim.calls("round") - began, 10);
        sim.write("cache/bad", "garbage");
        let took = sim
            .until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
            .await;
        assert!(took >= minutes(14) && took <= minutes(15), "{took:?}");
    }
}

#[tokio::test]
async fn a_clock_that_steps_over_a_boot_brings_no_burst_and_no_silence() {
    for step in [TEN_YEARS_MS, -TEN_YEARS_MS] {
        let mut sim = Sim::new().await;
        sim.write("cache/bad", "garbage");
        sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
            .await;
        sim.clock.reboot("boot-2", seconds(30));
        sim.clock.step_wall(step);
        sim.host.machine().booted_ms = -86_400_000; // the app's machine did not boot
        sim.start().await;
        let began = sim.calls("round");
        sim.pass(minutes(10)).await;
        let rounds = sim.calls("round") - began;
        assert!((9..=11).contains(&rounds), "{rounds}");
        sim.write("down", "1");
        sim.until("healed", minutes(10), |desk| !desk.heals.is_empty())
            .await;
    }
}

#[tokio::test]
async fn after_an_outage_the_app_catches_up_once() {
    let mut sim = Sim::new().await;
    sim.clock.pass(hours(24));
    let began = sim.calls("round");
    sim.pass(minutes(10)).await;
    let rounds = sim.calls("round") - began;
    assert!((10..=11).contains(&rounds), "{rounds}");
    sim.clock.pass(hours(24));
    sim.start().await;
    let began = sim.calls("round");
    sim.pass(minutes(10)).await;
    let rounds = sim.calls("round") - began;
    assert!((9..=11).contains(&rounds), "{rounds}");
}

#[tokio::test]
async fn a_heal_that_is_found_too_old_waits_for_a_person() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("settling", minutes(10), |desk| {
        is(desk, "clear_cache", "Settling")
    })
    .await;
    sim.clock.pass(minutes(31));
    sim.write("cache/bad", "garbage again");
    sim.start().await;
    sim.pass(minutes(5)).await;
    let heal = sim.heal("clear_cache").await;
    assert!(
        matches!(heal.state, HealState::Kept { decided: None, .. }),
        "{:?}",
        heal.state
    );
    assert_eq!(sim.calls("undo"), 0);
    let id = heal.id;
    sim.ask(async |handle| {
        handle
            .decide(id, true, "take it back".to_owned(), person(1))
            .await
    })
    .await
    .unwrap();
    sim.until("undone", minutes(2), |desk| {
        desk.heals.iter().all(|heal| heal.state.is_end())
    })
    .await;
    assert_eq!(sim.heal("clear_cache").await.state.name(), "Undone");
}

#[tokio::test]
async fn a_heal_that_had_not_begun_is_given_up_after_a_long_absence_and_decided_afresh() {
    for state in ["Admitted", "Protected"] {
        let mut sim = Sim::new().await;
        sim.write("cache/bad", "garbage");
        sim.until(state, minutes(10), |desk| is(desk, "clear_cache", state))
            .await;
        let first = sim.heal("clear_cache").await.id;
        sim.clock.pass(minutes(31));
        sim.start().await;
        let given_up = sim.heals().await.into_iter().find(|heal| heal.id == first);
        let given_up = given_up.unwrap();
        assert!(
            matches!(
                &given_up.state,
                HealState::Aborted {
                    cause: AbortCause::Denied {
                        guard: GuardName::Freshness,
                        ..
                    }
                }
            ),
            "{state}: {:?}",
            given_up.state
        );
        assert!(sim.ran().is_empty(), "{state}");
        assert!(sim.desk().breaker.failures.is_empty(), "{state}");
        let took = sim
            .until("cured", minutes(40), |desk| desk.breaker.cures.len() == 1)
            .await;
        assert!(took >= minutes(10), "{state}: it was decided afresh");
        assert_ne!(sim.heal("clear_cache").await.id, first, "{state}");
        assert_eq!(sim.ran(), ["clear_cache"], "{state}");
    }
}

#[tokio::test]
async fn what_ran_through_a_long_absence_is_recorded_and_left_to_a_person() {
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
    sim.clock.pass(minutes(31));
    sim.write("cache/bad", "garbage again");
    sim.start().await;
    sim.pass(minutes(5)).await;
    let heal = sim.heal("clear_cache").await;
    let HealState::Kept {
        course: Some(course),
        decided: None,
        ..
    } = &heal.state
    else {
        panic!("{:?}", heal.state)
    };
    assert!(course.wrote);
    assert_eq!(course.outcome, Outcome::Done);
    assert_eq!(sim.calls("undo"), 0);
    let id = heal.id;
    sim.ask(async |handle| {
        handle
            .decide(id, true, "take it back".to_owned(), person(1))
            .await
    })
    .await
    .unwrap();
    sim.until("undone", minutes(2), |desk| {
        desk.heals.iter().all(|heal| heal.state.is_end())
    })
    .await;
    assert_eq!(sim.heal("clear_cache").await.state.name(), "Undone");
}

#[tokio::test]
async fn a_machine_that_slept_is_a_long_absence_too() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("settling", minutes(10), |desk| {
        is(desk, "clear_cache", "Settling")
    })
    .await;
    sim.clock.pass(hours(8));
    sim.write("cache/bad", "garbage again");
    sim.pass(minutes(5)).await;
    let heal = sim.heal("clear_cache").await;
    assert!(
        matches!(heal.state, HealState::Kept { decided: None, .. }),
        "{:?}",
        heal.state
    );
    assert_eq!(sim.calls("undo"), 0);
}

#[tokio::test]
async fn a_deploy_is_noticed_over_a_restart_and_remembered_over_the_next() {
    let mut sim = Sim::new().await;
    sim.host.machine().roots = vec!["/srv/shop/releases/2".to_owned()];
    sim.start().await;
    sim.pass(seconds(61)).await;
    let deployed = sim.desk().deployed.clone();
    assert!(deployed.is_some(), "the paths changed while nobody looked");
    sim.start().await;
    assert_eq!(sim.desk().deployed, deployed);
}

#[tokio::test]
async fn a_short_absence_changes_nothing_about_a_heal() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("settling", minutes(10), |desk| {
        is(desk, "clear_cache", "Settling")
    })
    .await;
    sim.clock.pass(minutes(10));
    sim.start().await;
    sim.until("cured", minutes(20), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["clear_cache"]);
}

#[tokio::test]
async fn another_machine_behind_the_name_is_only_observed() {
    let mut sim = Sim::new().await;
    sim.pass(seconds(60)).await;
    sim.host.machine().identity = "machine-2".to_owned();
    sim.write("cache/bad", "garbage");
    sim.pass(hours(1)).await;
    assert!(sim.ran().is_empty());
    let host = healerd::model::name::HostName::local();
    sim.ask(async |handle| handle.adopt(&host, "new disk".to_owned(), &person(1)).await)
        .await
        .unwrap();
    sim.until("healed", minutes(10), |desk| {
        desk.breaker.cures.len() == 1 || is(desk, "clear_cache", "Settling")
    })
    .await;
}
