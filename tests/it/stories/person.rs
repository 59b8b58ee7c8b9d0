//! What a person asked for is what happens, or nothing.

use healer_agent::protocol::How;
use healerd::engine::{HealRequest, OpError, RollbackRequest};
use healerd::model::TreePath;
use healerd::model::check::CheckResult;
use healerd::model::heal::{AbortCause, Heal, HealState};
use healerd::model::id::BackupId;
use healerd::seam::Store as _;

use crate::world::host::Behaviour;
use crate::world::{Sim, hours, is, minutes, person, tree};

/// A site whose cache was healed, and whose `cache/data` was written anew since.
async fn healed() -> (Sim, BackupId) {
    let mut sim = Sim::new().await;
    sim.write("cache/data", "old");
    sim.write("cache/bad", "garbage");
    sim.until("cured", hours(1), |desk| desk.breaker.cures.len() == 1)
        .await;
    let backup = sim.heal("clear_cache").await.state.backup().unwrap();
    sim.write("cache/data", "new");
    (sim, backup)
}

async fn roll_back(sim: &mut Sim, backup: BackupId) -> Result<Heal, OpError> {
    roll_back_only(sim, backup, vec![tree::path("cache/data")]).await
}

async fn roll_back_only(
    sim: &mut Sim,
    backup: BackupId,
    only: Vec<TreePath>,
) -> Result<Heal, OpError> {
    let app = sim.app_name();
    let preview = {
        let (app, only) = (app.clone(), only.clone());
        sim.ask(async |handle| handle.preview(&app, backup, false, only).await)
            .await?
    };
    let request = RollbackRequest {
        backup,
        digest: preview.digest,
        exact: false,
        only,
        reason: "the new data is wrong".to_owned(),
    };
    sim.ask(async |handle| handle.rollback(&app, request, person(7)).await)
        .await
}

fn data(sim: &Sim) -> Option<String> {
    let machine = sim.host.machine();
    let bytes = machine.tree.read(&tree::path("cache/data"))?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

#[tokio::test]
async fn a_confirmed_rollback_brings_back_what_its_preview_showed() {
    let (mut sim, backup) = healed().await;
    roll_back(&mut sim, backup).await.unwrap();
    sim.until("rolled back", hours(1), |desk| {
        !is(desk, "rollback", "Soaking") && desk.heals.is_empty()
    })
    .await;
    assert_eq!(data(&sim).as_deref(), Some("old"));
    assert_eq!(sim.heal("rollback").await.state.name(), "Cured");
    sim.until("it went back behind the cure", minutes(1), |desk| {
        desk.breaker.cures.is_empty()
    })
    .await;
}

#[tokio::test]
async fn what_a_heals_own_looks_saw_is_stored_by_the_next_round() {
    let (mut sim, backup) = healed().await;
    roll_back_only(&mut sim, backup, Vec::new()).await.unwrap();
    // It looks by itself, and sees what came back.
    sim.until("seen", minutes(10), |desk| !desk.unstored.is_empty())
        .await;
    let rounds = sim.desk().due.clone();
    sim.until("a round", minutes(10), |desk| desk.due != rounds)
        .await;
    let said = |results: &[CheckResult]| {
        let mut said: Vec<_> = results
            .iter()
            .map(|result| {
                (
                    result.check.to_string(),
                    result.status,
                    result.message.clone(),
                )
            })
            .collect();
        said.sort();
        said
    };
    let stored = sim.store().restart().await.unwrap().checks;
    let stored: Vec<_> = stored.into_iter().map(|(_, result)| result).collect();
    let seen = &sim.desk().look.as_ref().unwrap().round.results;
    assert!(seen.iter().any(|result| result.status.is_bad()));
    assert_eq!(said(&stored), said(seen));
}

#[tokio::test]
async fn what_a_backup_does_not_hold_is_refused_and_never_taken_for_absent() {
    let (mut sim, backup) = healed().await;
    sim.write("notes/list", "mine");
    for (path, words) in [
        ("notes/list", "does not hold"),
        ("cache", "is a folder"),
        (".", "is a folder"),
    ] {
        let (app, only) = (sim.app_name(), vec![tree::path(path)]);
        let refused = sim
            .ask(async |handle| handle.preview(&app, backup, false, only).await)
            .await
            .unwrap_err();
        assert_eq!(refused.code, "not_in_backup", "{path}");
        assert!(refused.message.contains(words), "{path}: {refused}");
    }
    let kept = sim
        .host
        .machine()
        .tree
        .read(&tree::path("notes/list"))
        .is_some();
    assert!(kept, "nothing was asked of the host");
}

#[tokio::test]
async fn what_was_written_after_the_preview_was_confirmed_is_not_overwritten() {
    let (mut sim, backup) = healed().await;
    roll_back(&mut sim, backup).await.unwrap();
    sim.write("cache/data", "a visitor's");
    sim.pass(minutes(20)).await;
    assert_eq!(data(&sim).as_deref(), Some("a visitor's"));
    let heal = sim.heal("rollback").await;
    assert!(
        matches!(
            heal.state,
            HealState::Aborted {
                cause: AbortCause::TargetChanged(_)
            }
        ),
        "{:?}",
        heal.state
    );
    sim.until("what was not rolled back stays cured", minutes(1), |desk| {
        desk.breaker.cures.len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_wish_whose_step_failed_is_not_fulfilled_because_its_check_passed_before() {
    let mut sim = Sim::new().await;
    let fails = Behaviour {
        idle: true,
        how: Some(How::Failed),
        ..Behaviour::default()
    };
    sim.behaves("clear_cache", fails);
    sim.pass(minutes(5)).await;
    let app = sim.app_name();
    let wish = HealRequest {
        action: "clear_cache".parse().unwrap(),
        params: std::collections::BTreeMap::new(),
        reason: "to be sure".to_owned(),
        dry_run: false,
    };
    sim.ask(async |handle| handle.heal(&app, wish, person(7)).await)
        .await
        .unwrap();
    sim.pass(hours(1)).await;
    assert_eq!(sim.heal("clear_cache").await.state.name(), "NotCured");
}

#[tokio::test]
async fn a_rollback_that_would_change_nothing_makes_no_heal() {
    let (mut sim, backup) = healed().await;
    sim.write("cache/data", "old");
    roll_back(&mut sim, backup).await.ok(); // the time of the file may differ, and goes back
    sim.until("at rest", hours(1), |desk| desk.heals.is_empty())
        .await;
    let heals = sim.heals().await.len();
    let refusal = roll_back(&mut sim, backup).await.unwrap_err();
    assert_eq!(refusal.code, "nothing_differs");
    assert_eq!(sim.heals().await.len(), heals);
    assert!(
        sim.incidents()
            .await
            .iter()
            .all(|incident| incident.closed_by.is_some() || incident.well_since.is_some()),
        "no request was opened for it"
    );
}
