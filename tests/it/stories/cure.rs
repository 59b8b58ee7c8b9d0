//! A heal that helps: patience before it, proof after it, and what happens when the cure does not last.

use healerd::model::breaker::BreakerState;
use healerd::model::incident::IncidentState;
use healerd::model::word::Status;
use healerd::seam::Store as _;

use crate::world::host::Behaviour;
use crate::world::{Sim, hours, minutes, seconds};

#[tokio::test]
async fn a_symptom_is_healed_after_its_dwell_and_cured_after_its_soak() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["clear_cache"]);
    let heal = sim.heal("clear_cache").await;
    insta::assert_snapshot!(sim.transcript());
    insta::assert_snapshot!(sim.journal(&heal).await);
}

#[tokio::test]
async fn what_is_stored_of_a_check_is_what_it_says_after_the_cure() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    // The heal saw the check pass before any regular round did.
    sim.pass(minutes(3)).await;
    let stored = sim.store().restart().await.unwrap().checks;
    let look = sim.desk().look.as_ref().unwrap();
    assert_eq!(stored.len(), look.round.results.len());
    for (_, result) in &stored {
        let seen = look.round.result(&result.check).unwrap();
        assert_eq!(
            (result.status, &result.message),
            (seen.status, &seen.message),
            "{}",
            result.check
        );
        assert_eq!(result.status, Status::Pass, "{}", result.check);
    }
}

#[tokio::test]
async fn the_symptom_back_within_an_hour_takes_the_cure_back() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    sim.pass(minutes(58)).await;
    sim.write("cache/bad", "garbage again");
    sim.until("taken back", minutes(2), |desk| {
        desk.breaker.cures.is_empty()
    })
    .await;
    assert_eq!(sim.desk().breaker.failures.len(), 1);
    assert_eq!(sim.notices("recurred").await.len(), 1);
    let incidents = sim.incidents().await;
    assert_eq!(incidents.len(), 1, "it is the same incident");
    assert_eq!(incidents[0].state, IncidentState::Open);
    sim.until("tried again", minutes(10), |desk| {
        desk.breaker.cures.len() == 1 || !desk.heals.is_empty()
    })
    .await;
    assert_eq!(
        sim.heals().await.len(),
        2,
        "the action that cured may be tried again"
    );
    assert_eq!(
        sim.heal("clear_cache").await.action.name.as_str(),
        "clear_cache"
    );
}

#[tokio::test]
async fn the_symptom_back_after_an_hour_is_a_new_one() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    sim.pass(minutes(60)).await;
    sim.write("cache/bad", "garbage again");
    sim.pass(minutes(2)).await;
    assert!(sim.desk().breaker.failures.is_empty());
    assert_eq!(sim.incidents().await.len(), 2);
}

#[tokio::test]
async fn after_a_good_heal_the_app_rests_five_minutes_and_the_action_thirty() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    let cured = sim.clock_now();
    sim.write("down", "since yesterday");
    sim.write("cache/bad", "garbage");
    sim.until("another action", minutes(10), |desk| !desk.heals.is_empty())
        .await;
    let waited = sim.since(&cured);
    assert!(
        waited >= minutes(5) && waited <= minutes(5) + seconds(15),
        "{waited:?}"
    );
    sim.until("the same action", minutes(60), |desk| {
        desk.heals
            .iter()
            .any(|heal| heal.action.name.as_str() == "clear_cache")
    })
    .await;
    let waited = sim.since(&cured);
    assert!(
        waited >= minutes(30) && waited <= minutes(30) + seconds(15),
        "{waited:?}"
    );
    assert_eq!(sim.ran()[..2], ["clear_cache", "lift_maintenance"]);
}

#[tokio::test]
async fn two_symptoms_of_one_action_are_healed_and_judged_together() {
    let mut sim = Sim::new().await;
    sim.write("sides/left", "mess");
    sim.write("sides/right", "mess");
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["tidy_sides"]);
    let heal = sim.heal("tidy_sides").await;
    assert_eq!(heal.linked.len(), 1);
    for incident in sim.incidents().await {
        assert_eq!(
            (incident.state, incident.cured_by),
            (IncidentState::Watching, Some(heal.id))
        );
    }
}

#[tokio::test]
async fn remedies_are_tried_in_their_order_and_each_once() {
    let mut sim = Sim::new().await;
    sim.behaves(
        "clear_cache",
        Behaviour {
            idle: true,
            ..Behaviour::default()
        },
    );
    sim.behaves(
        "rebuild_cache",
        Behaviour {
            idle: true,
            ..Behaviour::default()
        },
    );
    sim.write("cache/bad", "garbage");
    sim.pass(hours(2)).await;
    assert_eq!(sim.ran(), ["clear_cache", "rebuild_cache"]);
    let states: Vec<_> = sim
        .heals()
        .await
        .iter()
        .map(|heal| heal.state.name())
        .collect();
    assert_eq!(
        states,
        ["NotCured", "NotCured"],
        "nothing was written, so nothing is undone"
    );
    assert_eq!(sim.desk().breaker.state, BreakerState::Closed);
    assert_eq!(sim.desk().breaker.failures.len(), 2);
}

#[tokio::test]
async fn settling_takes_thirty_seconds_after_a_restart_and_five_minutes_by_default() {
    let mut sim = Sim::new().await;
    sim.behaves(
        "restart_worker",
        Behaviour {
            idle: true,
            ..Behaviour::default()
        },
    );
    sim.write("run/dead", "1");
    sim.until("judged", minutes(30), |desk| {
        desk.breaker.failures.len() == 1
    })
    .await;
    sim.behaves(
        "clear_cache",
        Behaviour {
            idle: true,
            ..Behaviour::default()
        },
    );
    sim.behaves(
        "rebuild_cache",
        Behaviour {
            idle: true,
            ..Behaviour::default()
        },
    );
    sim.write("cache/bad", "garbage");
    sim.until("judged", minutes(30), |desk| {
        desk.breaker.failures.len() == 3
    })
    .await;
    for (action, want) in [
        ("restart_worker", seconds(30)),
        ("rebuild_cache", minutes(5)),
    ] {
        let heal = sim.heal(action).await;
        let events = sim.events(&heal).await;
        let at = |name: &str| {
            events
                .iter()
                .find(|(_, event)| event.name() == name)
                .unwrap()
                .0
                .clone()
        };
        assert_eq!(
            at("SettleOver").since(&at("Ended"), hours(1)),
            want,
            "{action}"
        );
    }
}

#[tokio::test]
async fn a_healthy_app_is_only_looked_at() {
    let mut sim = Sim::new().await;
    let before = sim.host.machine().tree.essence();
    let began = sim.calls("round");
    sim.pass(minutes(100)).await;
    assert_eq!(sim.calls("round") - began, 100);
    assert_eq!(sim.host.machine().changes, 0);
    assert_eq!(sim.host.machine().tree.essence(), before);
    for verb in ["start", "stage", "undo", "settle", "forget"] {
        assert_eq!(sim.calls(verb), 0, "{verb}");
    }
    assert!(
        sim.desk()
            .look
            .as_ref()
            .unwrap()
            .round
            .results
            .iter()
            .all(|result| result.status == Status::Pass)
    );
}
