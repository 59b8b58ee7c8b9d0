//! What makes the daemon wait before it acts alone: dwell, grace, mode, rate.

use healerd::model::word::HealingMode;

use crate::world::host::Behaviour;
use crate::world::{Sim, hours, minutes, person, seconds};

#[tokio::test]
async fn a_symptom_must_last_three_minutes_and_a_critical_one_one() {
    // It is first seen after one period of 60 s.
    for (path, dwell) in [("cache/bad", seconds(180)), ("down", seconds(60))] {
        let mut sim = Sim::new().await;
        sim.write(path, "1");
        let took = sim
            .until("admitted", minutes(10), |desk| !desk.heals.is_empty())
            .await;
        assert_eq!(took, seconds(60) + dwell, "{path}");
    }
}

#[tokio::test]
async fn a_bad_result_is_looked_at_again_every_fifteen_seconds() {
    let mut sim = Sim::with(|policy| policy.mode = HealingMode::Manual).await;
    sim.write("cache/bad", "garbage");
    sim.pass(seconds(60)).await;
    let began = sim.calls("round");
    sim.pass(minutes(3)).await;
    assert_eq!(sim.calls("round") - began, 12);
}

#[tokio::test]
async fn a_symptom_that_goes_by_itself_begins_anew_when_it_comes_back() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.pass(minutes(3)).await;
    sim.remove("cache/bad");
    sim.pass(minutes(10)).await;
    assert!(sim.ran().is_empty());
    sim.write("cache/bad", "garbage");
    let took = sim
        .until("admitted", minutes(10), |desk| !desk.heals.is_empty())
        .await;
    assert!(took >= minutes(3), "{took:?}");
    assert_eq!(sim.incidents().await.len(), 1);
}

#[tokio::test]
async fn ten_minutes_after_the_hosts_start_nothing_runs_alone() {
    let mut sim = Sim::new().await;
    sim.host.machine().booted_ms = sim.clock_now().boot_ms;
    sim.write("down", "since the boot");
    let took = sim
        .until("admitted", minutes(20), |desk| !desk.heals.is_empty())
        .await;
    assert!(
        took >= minutes(10) && took <= minutes(10) + seconds(15),
        "{took:?}"
    );
}

#[tokio::test]
async fn ten_minutes_after_a_deploy_nothing_runs_alone() {
    let mut sim = Sim::new().await;
    sim.host.machine().roots = vec!["/srv/shop/releases/2".to_owned()];
    sim.write("down", "by the deploy");
    let took = sim
        .until("admitted", minutes(20), |desk| !desk.heals.is_empty())
        .await;
    // The deploy is seen with the next look, after 60 s.
    assert!(
        took >= minutes(11) && took <= minutes(11) + seconds(15),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_mode_set_at_run_time_counts_from_the_next_look() {
    let mut sim = Sim::with(|policy| policy.mode = HealingMode::Manual).await;
    sim.write("cache/bad", "garbage");
    sim.pass(hours(1)).await;
    assert!(sim.ran().is_empty(), "MANUAL runs nothing alone");
    let app = sim.app_name();
    let set = async |sim: &mut Sim, mode| {
        let app = Some(app.clone());
        sim.ask(async |handle| {
            handle
                .set_mode(app, mode, "for the night".to_owned(), &person(1))
                .await
        })
        .await
        .unwrap();
    };
    set(&mut sim, HealingMode::SemiAuto).await;
    sim.until("LOW runs in SEMI_AUTO", minutes(2), |desk| {
        !desk.heals.is_empty()
    })
    .await;
    sim.until("cured", minutes(20), |desk| desk.breaker.cures.len() == 1)
        .await;
    sim.write("open", "1");
    sim.pass(hours(1)).await;
    assert_eq!(sim.ran(), ["clear_cache"], "MEDIUM does not");
    set(&mut sim, HealingMode::FullAuto).await;
    sim.until("MEDIUM runs in FULL_AUTO", minutes(2), |desk| {
        !desk.heals.is_empty()
    })
    .await;
    assert_eq!(
        sim.heal("close_files").await.action.name.as_str(),
        "close_files"
    );
}

#[tokio::test]
async fn the_seventh_unattended_action_of_a_day_waits_for_the_first_to_be_a_day_old() {
    let mut sim = Sim::new().await;
    sim.behaves(
        "restart_worker",
        Behaviour {
            cures: vec!["run/dead".to_owned()],
            ..Behaviour::default()
        },
    );
    let mut first = None;
    let symptoms = ["cache/bad", "down", "run/dead", "open", "cache/bad", "down"];
    for (number, path) in symptoms.into_iter().enumerate() {
        sim.write(path, "1");
        sim.until("started", minutes(30), |desk| !desk.heals.is_empty())
            .await;
        first.get_or_insert(sim.clock_now());
        sim.until("over", minutes(30), |desk| {
            desk.heals.iter().all(|heal| heal.state.is_end())
        })
        .await;
        assert_eq!(sim.ran().len(), number + 1);
        sim.pass(minutes(6)).await;
    }
    sim.write("run/dead", "1");
    sim.pass(hours(1)).await;
    assert_eq!(sim.ran().len(), 6);
    let first = first.unwrap();
    let missing = hours(24).checked_sub(sim.since(&first)).unwrap();
    sim.clock.pass(missing.saturating_sub(minutes(2)));
    sim.pass(minutes(1)).await;
    assert_eq!(sim.ran().len(), 6);
    sim.pass(minutes(3)).await;
    assert_eq!(sim.ran().len(), 7);
}

#[tokio::test]
async fn another_dwell_in_a_new_configuration_is_obeyed() {
    let mut sim = Sim::new().await;
    sim.configure(|app| app.policy.timing.dwell = seconds(30))
        .await;
    sim.until("looked at", seconds(60), |desk| desk.look.is_some())
        .await;
    sim.write("cache/bad", "garbage");
    let took = sim
        .until("admitted", minutes(10), |desk| !desk.heals.is_empty())
        .await;
    // A dwell of 30 s still wants three looks.
    assert_eq!(took, seconds(90));
}
