//! What stands still says why, and what a person does himself is not held against anybody.

use healerd::engine::RollbackRequest;
use healerd::model::incident::IncidentState;
use healerd::model::stop::Scope;

use crate::world::host::Fault;
use crate::world::{Sim, hours, is, minutes, person};

#[tokio::test]
async fn a_symptom_that_a_person_brought_back_is_no_cure_that_did_not_last() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("cured", hours(1), |desk| desk.breaker.cures.len() == 1)
        .await;
    let backup = sim.heal("clear_cache").await.state.backup().unwrap();
    let app = sim.app_name();
    let preview = {
        let app = app.clone();
        sim.ask(async |handle| handle.preview(&app, backup, false, Vec::new()).await)
            .await
            .unwrap()
    };
    let request = RollbackRequest {
        backup,
        digest: preview.digest,
        exact: false,
        only: Vec::new(),
        reason: "I want to see the garbage".to_owned(),
    };
    sim.ask(async |handle| handle.rollback(&app, request, person(7)).await)
        .await
        .unwrap();
    sim.until("the symptom is back", hours(1), |desk| {
        desk.incidents
            .iter()
            .any(|incident| incident.check.is_some() && incident.state == IncidentState::Open)
    })
    .await;
    assert!(sim.has("cache/bad"), "it is what the person asked for");
    let breaker = &sim.desk().breaker;
    assert!(breaker.failures.is_empty(), "{breaker:?}");
    assert!(breaker.recurrences.is_empty(), "{breaker:?}");
    assert!(sim.notices("recurred").await.is_empty());
}

#[tokio::test]
async fn a_heal_whose_host_went_away_says_what_it_waits_for() {
    let mut sim = Sim::remote().await;
    sim.write("cache/bad", "garbage");
    sim.until("admitted", minutes(10), |desk| {
        is(desk, "clear_cache", "Admitted")
    })
    .await;
    sim.host.machine().reachable = false;
    sim.until("it waits", minutes(1), |desk| !desk.waits.is_empty())
        .await;
    let view = sim.handle().app(&sim.app_name()).unwrap();
    let heal = &view.heals[0];
    assert_eq!(heal.state.name(), "Admitted");
    let why = &view.waits[&heal.id];
    assert!(why.contains("it is tried again until"), "{why}");
    let next = view.next.values().next().unwrap();
    assert!(next.contains(why.as_str()), "{next}");
    sim.host.machine().reachable = true;
    sim.until("it went on", minutes(30), |desk| {
        desk.breaker.cures.len() == 1
    })
    .await;
    assert!(sim.desk().waits.is_empty(), "{:?}", sim.desk().waits);
}

#[tokio::test]
async fn the_event_stream_tells_of_incidents_heals_holds_and_the_breaker() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("cured", hours(1), |desk| desk.breaker.cures.len() == 1)
        .await;
    sim.pass(hours(2)).await;
    assert_eq!(
        sim.heard("incident"),
        [
            "cache OPEN: FAIL the cache is bad",
            "cache HEALING",
            "cache WATCHING",
            "cache CLOSED"
        ]
    );
    assert!(!sim.heard("heal").is_empty());
    let app = sim.app_name();
    let scope = Scope::App(app.clone());
    let (hold, resume) = (scope.clone(), scope);
    sim.ask(async |handle| {
        handle
            .hold(hold, "a deploy".to_owned(), None, &person(1))
            .await
    })
    .await
    .unwrap();
    sim.ask(async |handle| {
        handle
            .resume(&resume, false, "deployed".to_owned(), &person(1))
            .await
    })
    .await
    .unwrap();
    sim.ask(async |handle| {
        let (scope, hour) = (Scope::Everything, Some(hours(1)));
        handle
            .hold(scope, "a night".to_owned(), hour, &person(2))
            .await
    })
    .await
    .unwrap();
    sim.pass(hours(2)).await;
    assert_eq!(
        sim.heard("hold"),
        [
            "app:shop held by person1(1): a deploy",
            "app:shop resumed by person1(1), keep: deployed",
            "all held by person2(2): a night",
            "all held no longer: its time is over",
        ]
    );
}

#[tokio::test]
async fn a_host_that_cannot_be_seen_is_told_once_and_once_that_it_is_back() {
    let mut sim = Sim::new().await;
    sim.fails("round", Fault::Unreachable);
    sim.until("unseen", minutes(5), |desk| desk.unseen_reason.is_some())
        .await;
    sim.until("seen", minutes(5), |desk| desk.unseen_reason.is_none())
        .await;
    let heard = sim.heard("host");
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].starts_with("local cannot be seen: "), "{heard:?}");
    assert_eq!(heard[1], "local can be seen");
}
