//! An app on a machine that is not this one: who its user is, and whether the machine is the right one.

use healerd::model::host::UNKNOWN_ID;
use healerd::model::incident::{IncidentKind, IncidentState};
use healerd::seam::{Call, Host as _, HostError, Lane, Login, Store as _};

use crate::world::host::Behaviour;
use crate::world::{Sim, hours, is, minutes, person, seconds};

/// UNKNOWN incidents that are not closed, as their messages.
fn unknowns(sim: &Sim) -> Vec<String> {
    sim.desk()
        .incidents
        .iter()
        .filter(|incident| incident.kind == IncidentKind::Unknown)
        .filter(|incident| incident.state != IncidentState::Closed)
        .map(|incident| incident.message.clone())
        .collect()
}

async fn audited(sim: &Sim, verb: &str) -> usize {
    let rows = sim.store().audit(0, 1000).await.unwrap();
    rows.iter().filter(|row| row.verb == verb).count()
}

#[tokio::test]
async fn who_the_user_is_is_learned_once_and_then_the_loop_is_the_local_one() {
    let mut sim = Sim::remote().await;
    let target = &sim.desk().app.target;
    assert_eq!((target.uid, target.gid), (1001, 1002));
    assert_eq!(audited(&sim, "user_learned").await, 1);
    sim.write("cache/bad", "garbage");
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["clear_cache"]);

    // A new process knows it from the store, and does not need the host for it.
    sim.host.machine().reachable = false;
    sim.start().await;
    sim.pass(seconds(60)).await;
    assert_eq!(sim.desk().app.target.uid, 1001);
    assert_eq!(audited(&sim, "user_learned").await, 1);
}

#[tokio::test]
async fn a_user_of_whom_nothing_is_known_is_asked_for_nothing_but_his_name() {
    let sim = Sim::remote().await;
    let call = Call {
        login: Login::unknown(None),
        lane: Lane::Check,
        request: healer_agent::protocol::Request::Room {
            path: "/".to_owned(),
        },
        body: Vec::new(),
        timeout: seconds(1),
    };
    let error = sim.host.call(call).await.unwrap_err();
    assert!(matches!(error, HostError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_user_who_is_somebody_else_one_day_is_refused_until_a_person_adopts_the_host() {
    let mut sim = Sim::remote().await;
    sim.host.machine().user = (1009, 1009);
    sim.write("cache/bad", "garbage");
    sim.pass(minutes(30)).await;
    assert!(sim.ran().is_empty(), "nothing acts in the new user's name");
    assert_eq!(unknowns(&sim).len(), 1, "{:?}", unknowns(&sim));
    assert_eq!(sim.notices("incident_opened").await.len(), 1);

    let host = "web1".parse().unwrap();
    sim.ask(async |handle| {
        let reason = "its users were renumbered".to_owned();
        handle.adopt(&host, reason, &person(7)).await
    })
    .await
    .unwrap();
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.desk().app.target.uid, 1009);
    assert_eq!(unknowns(&sim), [""; 0]);
}

#[tokio::test]
async fn a_user_who_is_root_there_is_never_worked_for() {
    let mut sim = Sim::remote().await;
    sim.host.machine().user = (0, 0);
    let host = "web1".parse().unwrap();
    sim.ask(async |handle| {
        let reason = "what was known is forgotten".to_owned();
        handle.adopt(&host, reason, &person(7)).await
    })
    .await
    .unwrap();
    let rounds = sim.calls("round");
    sim.write("cache/bad", "garbage");
    sim.pass(minutes(10)).await;
    assert_eq!(sim.calls("round"), rounds);
    assert_eq!(sim.desk().app.target.uid, UNKNOWN_ID);
    assert!(sim.ran().is_empty());
    let said = unknowns(&sim);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("is root there"), "{said:?}");
}

#[tokio::test]
async fn a_host_whose_key_changed_is_told_at_once_and_nothing_is_done_or_blamed() {
    let mut sim = Sim::remote().await;
    sim.write("cache/bad", "garbage");
    sim.host.machine().in_doubt = true;
    sim.pass(seconds(60)).await;
    let said = unknowns(&sim);
    assert_eq!(said.len(), 1, "with the first round already");
    assert!(
        said[0].contains("its identity is in doubt") && said[0].contains("SHA256:new"),
        "{said:?}"
    );
    sim.pass(hours(3)).await;
    assert_eq!(unknowns(&sim).len(), 1);
    let told = sim.notices("incident_opened").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(sim.ran().is_empty());
    assert_eq!(sim.calls("undo"), 0);
    assert!(sim.desk().breaker.failures.is_empty());
    assert!(
        sim.desk()
            .incidents
            .iter()
            .all(|incident| incident.kind == IncidentKind::Unknown),
        "the app is not blamed"
    );

    sim.host.machine().in_doubt = false;
    sim.until("healed once it is trusted", minutes(30), |desk| {
        desk.breaker.cures.len() == 1
    })
    .await;
    assert_eq!(unknowns(&sim), [""; 0]);
    assert_eq!(sim.notices("host_seen").await.len(), 1);
}

#[tokio::test]
async fn a_host_of_another_daemon_is_told_at_once_and_nothing_is_done_or_blamed() {
    let mut sim = Sim::remote().await;
    sim.write("cache/bad", "garbage");
    sim.host.machine().not_ours = true;
    sim.pass(seconds(60)).await;
    let said = unknowns(&sim);
    assert_eq!(said.len(), 1, "with the first round already");
    assert!(said[0].starts_with("another daemon looks after it"));
    sim.pass(hours(3)).await;
    assert_eq!(unknowns(&sim).len(), 1);
    let told = sim.notices("incident_opened").await;
    assert_eq!(told.len(), 1, "{told:?}");
    let title = "shop on web1: another daemon looks after the records of shop there";
    assert!(told[0].contains(title), "{told:?}");
    assert!(sim.ran().is_empty());
    assert!(sim.desk().breaker.failures.is_empty());
    // Worse news comes through, and the end of it all too.
    sim.host.machine().in_doubt = true;
    sim.pass(minutes(5)).await;
    assert!(unknowns(&sim)[0].contains("in doubt"));
    sim.host.machine().in_doubt = false;
    sim.host.machine().not_ours = false;
    sim.until("healed once it is ours", minutes(30), |desk| {
        desk.breaker.cures.len() == 1
    })
    .await;
    assert_eq!(unknowns(&sim), [""; 0]);
}

#[tokio::test]
async fn a_host_that_was_away_and_comes_back_with_another_key_is_news() {
    let mut sim = Sim::remote().await;
    sim.host.machine().reachable = false;
    sim.pass(minutes(5)).await;
    assert_eq!(unknowns(&sim).len(), 1);
    sim.host.machine().in_doubt = true;
    sim.pass(minutes(5)).await;
    let said = unknowns(&sim);
    assert_eq!(said.len(), 1, "one incident at a time: {said:?}");
    assert!(said[0].contains("in doubt"), "{said:?}");
    assert_eq!(sim.notices("incident_opened").await.len(), 2);
    // Away again: it stays what is worst.
    sim.host.machine().in_doubt = false;
    sim.pass(minutes(5)).await;
    assert!(unknowns(&sim)[0].contains("in doubt"));
    assert_eq!(sim.notices("incident_opened").await.len(), 2);
}

#[tokio::test]
async fn another_machine_behind_the_name_is_only_observed() {
    let mut sim = Sim::remote().await;
    sim.host.machine().identity = "machine-2".to_owned();
    sim.write("cache/bad", "garbage");
    sim.pass(hours(1)).await;
    assert!(sim.ran().is_empty());
    assert!(
        sim.desk()
            .incidents
            .iter()
            .any(|incident| incident.kind == IncidentKind::Symptom),
        "it is looked at"
    );
    let said = unknowns(&sim);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("another machine"), "{said:?}");
    let told = async |sim: &Sim| {
        let told = sim.notices("incident_opened").await;
        let about_host = told
            .iter()
            .filter(|title| title.contains("another machine"));
        about_host.count()
    };
    assert_eq!(told(&sim).await, 1);

    // Away for a while, and still the other one: nothing new.
    sim.host.machine().reachable = false;
    sim.pass(minutes(10)).await;
    sim.host.machine().reachable = true;
    sim.pass(minutes(10)).await;
    assert_eq!(told(&sim).await, 1);
    assert!(sim.notices("host_seen").await.is_empty());

    sim.host.machine().identity = "machine-1".to_owned();
    sim.until("healed by the right one", hours(1), |desk| {
        desk.breaker.cures.len() == 1
    })
    .await;
    assert_eq!(unknowns(&sim), [""; 0]);
    assert_eq!(sim.notices("host_seen").await.len(), 1);
}

#[tokio::test]
async fn a_machine_that_took_the_others_place_since_the_last_look_is_not_acted_on() {
    let mut sim = Sim::remote().await;
    sim.write("cache/bad", "garbage");
    sim.until("admitted", minutes(30), |desk| !desk.heals.is_empty())
        .await;
    assert!(is(sim.desk(), "clear_cache", "Admitted"));
    sim.host.machine().identity = "machine-2".to_owned();
    sim.pass(minutes(30)).await;
    assert!(sim.ran().is_empty(), "{:?}", sim.ran());
}

/// A heal that did not help settles on the other host.
async fn under_way() -> Sim {
    let mut sim = Sim::remote().await;
    sim.behaves(
        "clear_cache",
        Behaviour {
            idle: true,
            writes: vec![("cache/data".to_owned(), "torn".to_owned())],
            ..Behaviour::default()
        },
    );
    sim.write("cache/bad", "garbage");
    sim.until("settling", minutes(30), |desk| {
        is(desk, "clear_cache", "Settling")
    })
    .await;
    sim
}

#[tokio::test]
async fn a_heal_under_way_is_neither_judged_nor_undone_on_another_machine() {
    let mut sim = under_way().await;
    sim.host.machine().identity = "machine-2".to_owned();
    sim.pass(minutes(20)).await;
    assert!(is(sim.desk(), "clear_cache", "Settling"));
    assert_eq!(sim.calls("undo"), 0);
    let waits: Vec<_> = sim.desk().waits.values().collect();
    assert!(
        waits.len() == 1 && waits[0].contains("another machine"),
        "{waits:?}"
    );
    sim.host.machine().identity = "machine-1".to_owned();
    sim.until("undone", minutes(20), |desk| {
        desk.breaker.failures.len() == 1
    })
    .await;
    assert_eq!(sim.heal("clear_cache").await.state.name(), "Undone");
}

#[tokio::test]
async fn a_heal_under_way_stays_with_its_machine_when_another_one_is_adopted() {
    let mut sim = under_way().await;
    // Somebody wants another application looked after on the machine that is there now, and adopts it for that one.
    sim.host.machine().identity = "machine-2".to_owned();
    let host = "web1".parse().unwrap();
    sim.ask(async |handle| {
        let reason = "the new machine for the other shop".to_owned();
        handle.adopt(&host, reason, &person(7)).await
    })
    .await
    .unwrap();
    sim.pass(minutes(20)).await;
    assert!(is(sim.desk(), "clear_cache", "Settling"));
    let waits: Vec<_> = sim.desk().waits.values().collect();
    assert!(
        waits.len() == 1 && waits[0].contains("belongs to the one before"),
        "{waits:?}"
    );
    // A new process reads it from the store.
    sim.start().await;
    sim.pass(minutes(30)).await;
    assert!(is(sim.desk(), "clear_cache", "Kept"), "a person decides");
    assert_eq!(sim.calls("undo"), 0);
    assert_eq!(sim.ran()[0], "clear_cache");
}

#[tokio::test]
async fn a_heal_that_waits_to_begin_ends_when_another_machine_is_adopted() {
    let mut sim = Sim::remote().await;
    sim.write("cache/bad", "garbage");
    sim.until("admitted", minutes(30), |desk| !desk.heals.is_empty())
        .await;
    let first = sim.desk().heals[0].id;
    sim.host.machine().identity = "machine-2".to_owned();
    let host = "web1".parse().unwrap();
    sim.ask(async |handle| {
        let reason = "it has a new disk".to_owned();
        handle.adopt(&host, reason, &person(7)).await
    })
    .await
    .unwrap();
    sim.until("ended", minutes(30), |desk| {
        desk.heals
            .iter()
            .all(|heal| heal.id != first || heal.state.is_end())
    })
    .await;
    let heals = sim.heals().await;
    let heal = heals.iter().find(|heal| heal.id == first).unwrap();
    assert_eq!(heal.state.name(), "Aborted", "{}", heal.message);
    assert!(heal.message.contains("another machine"), "{}", heal.message);
}

#[tokio::test]
async fn what_became_of_a_heal_is_not_settled_on_another_machine() {
    let mut sim = Sim::remote().await;
    let lasts = Behaviour {
        lasts: minutes(2),
        ..Behaviour::default()
    };
    sim.behaves("clear_cache", lasts);
    sim.write("cache/bad", "garbage");
    sim.until("acting", minutes(30), |desk| {
        is(desk, "clear_cache", "Acting")
    })
    .await;
    let settled = sim.calls("settle");
    sim.host.machine().identity = "machine-2".to_owned();
    // A new process does not know any more what runs, and learns nothing of it there.
    sim.start().await;
    sim.pass(minutes(20)).await;
    assert_eq!(sim.calls("settle"), settled);
    assert!(is(sim.desk(), "clear_cache", "InDoubt"));
    sim.pass(minutes(20)).await;
    assert!(is(sim.desk(), "clear_cache", "Kept"), "a person decides");
    assert_eq!(sim.calls("settle"), settled);
    assert_eq!(sim.ran(), ["clear_cache"]);
}
