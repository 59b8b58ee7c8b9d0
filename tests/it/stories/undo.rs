//! A heal that does not help is taken back, exactly and only as far as it is its own.

use healerd::model::heal::{HealState, UndoReason};

use crate::world::host::Behaviour;
use crate::world::{Sim, hours, is, minutes, tree};

fn writes(path: &str) -> Behaviour {
    Behaviour {
        idle: true,
        writes: vec![(path.to_owned(), "torn".to_owned())],
        ..Behaviour::default()
    }
}

#[tokio::test]
async fn what_did_not_help_is_undone_and_the_next_remedy_follows() {
    let mut sim = Sim::new().await;
    sim.behaves("clear_cache", writes("cache/data"));
    sim.write("cache/bad", "garbage");
    let before = sim.host.machine().tree.essence();
    sim.until("undone", minutes(10), |desk| {
        desk.breaker.failures.len() == 1
    })
    .await;
    assert_eq!(sim.host.machine().tree.essence(), before);
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.ran(), ["clear_cache", "rebuild_cache"]);
    let heal = sim.heal("clear_cache").await;
    insta::assert_snapshot!(sim.transcript());
    insta::assert_snapshot!(sim.journal(&heal).await);
}

#[tokio::test]
async fn what_made_the_site_worse_is_undone_at_once() {
    let mut sim = Sim::new().await;
    let poison = Behaviour {
        writes: vec![("cache/poison".to_owned(), "1".to_owned())],
        ..Behaviour::default()
    };
    sim.behaves("clear_cache", poison);
    sim.write("cache/bad", "garbage");
    let before = sim.host.machine().tree.essence();
    sim.until("undone", minutes(10), |desk| {
        desk.breaker.failures.len() == 1
    })
    .await;
    let heal = sim.heal("clear_cache").await;
    let HealState::Undone { reason, .. } = &heal.state else {
        panic!("{:?}", heal.state)
    };
    assert!(matches!(reason, UndoReason::Worse(_)), "{reason:?}");
    assert_eq!(sim.host.machine().tree.essence(), before);
}

#[tokio::test]
async fn what_others_wrote_since_is_kept_and_told() {
    let mut sim = Sim::new().await;
    sim.behaves("clear_cache", writes("cache/data"));
    sim.write("cache/bad", "garbage");
    sim.until("settling", minutes(10), |desk| {
        is(desk, "clear_cache", "Settling")
    })
    .await;
    sim.write("cache/data", "theirs");
    sim.until("undone", minutes(10), |desk| {
        desk.breaker.failures.len() == 1
    })
    .await;
    let heal = sim.heal("clear_cache").await;
    let HealState::Undone { report, .. } = &heal.state else {
        panic!("{:?}", heal.state)
    };
    assert!(
        report.kept.iter().any(|line| line.contains("cache/data")),
        "{report:?}"
    );
    assert_eq!(
        sim.host.machine().tree.read(&tree::path("cache/data")),
        Some(&b"theirs"[..])
    );
}

#[tokio::test]
async fn a_cure_that_does_not_last_its_soak_is_undone() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("soaking", minutes(10), |desk| {
        is(desk, "clear_cache", "Soaking")
    })
    .await;
    sim.pass(minutes(9)).await;
    sim.write("cache/bad", "again");
    sim.until("undone", minutes(2), |desk| {
        desk.breaker.failures.len() == 1
    })
    .await;
    let heal = sim.heal("clear_cache").await;
    let HealState::Undone { reason, .. } = &heal.state else {
        panic!("{:?}", heal.state)
    };
    assert!(matches!(reason, UndoReason::NotLasting(_)), "{reason:?}");
    assert_eq!(
        sim.host.machine().tree.read(&tree::path("cache/bad")),
        Some(&b"again"[..]),
        "theirs is left"
    );
}

#[tokio::test]
async fn an_action_that_wrote_outside_its_write_set_is_worse_and_barred() {
    let mut sim = Sim::new().await;
    let outside = Behaviour {
        writes: vec![("config.php".to_owned(), "mine".to_owned())],
        loose: true,
        ..Behaviour::default()
    };
    sim.behaves("clear_cache", outside);
    sim.write("cache/bad", "garbage");
    sim.until("undone", minutes(10), |desk| {
        desk.breaker.failures.len() == 1
    })
    .await;
    let heal = sim.heal("clear_cache").await;
    assert!(heal.message.contains("config.php"), "{}", heal.message);
    assert_eq!(sim.desk().bars.len(), 1);
    sim.pass(hours(3)).await;
    let again = sim
        .ran()
        .iter()
        .filter(|action| *action == "clear_cache")
        .count();
    assert_eq!(
        again, 1,
        "it does not run again before its stack file changes"
    );
}

#[tokio::test]
async fn a_deploy_in_the_last_moment_stops_the_heal_before_it_acts() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("protected", minutes(10), |desk| {
        is(desk, "clear_cache", "Protected")
    })
    .await;
    sim.host.machine().roots = vec!["/srv/shop/releases/2".to_owned()];
    sim.pass(minutes(5)).await;
    assert!(sim.ran().is_empty());
    let heal = sim.heal("clear_cache").await;
    assert_eq!(heal.state.name(), "Aborted");
    assert!(heal.message.contains("deploy"), "{}", heal.message);
}

#[tokio::test]
async fn a_symptom_that_is_gone_in_the_last_moment_is_not_healed() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("protected", minutes(10), |desk| {
        is(desk, "clear_cache", "Protected")
    })
    .await;
    sim.remove("cache/bad");
    sim.pass(minutes(5)).await;
    assert!(sim.ran().is_empty());
    assert_eq!(sim.heal("clear_cache").await.state.name(), "Aborted");
    assert!(sim.desk().breaker.failures.is_empty());
}

#[tokio::test]
async fn a_deploy_while_a_heal_settles_leaves_it_to_a_person() {
    let mut sim = Sim::new().await;
    sim.behaves("clear_cache", writes("cache/data"));
    sim.write("cache/bad", "garbage");
    sim.until("settling", minutes(10), |desk| {
        is(desk, "clear_cache", "Settling")
    })
    .await;
    sim.host.machine().roots = vec!["/srv/shop/releases/2".to_owned()];
    sim.until("kept", minutes(1), |desk| is(desk, "clear_cache", "Kept"))
        .await;
    sim.pass(hours(1)).await;
    assert_eq!(sim.calls("undo"), 0);
}
