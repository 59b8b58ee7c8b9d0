//! No backup, no action.

use healer_agent::protocol::RefusalCode;

use healerd::seam::{Changes, Store as _, Write};

use crate::world::host::Fault;
use crate::world::{Sim, hours, is, minutes, tree};

#[tokio::test]
async fn a_backup_that_fails_aborts_for_safety_and_feeds_the_breaker() {
    let mut sim = Sim::new().await;
    for _ in 0..2 {
        sim.fails("read", Fault::Refused(RefusalCode::Denied));
    }
    sim.write("cache/bad", "garbage");
    sim.until("aborted", minutes(10), |desk| {
        desk.breaker.failures.len() == 1
    })
    .await;
    assert!(sim.ran().is_empty());
    let heal = sim.heal("clear_cache").await;
    assert_eq!(heal.state.name(), "Aborted");
    assert_eq!(
        heal.message,
        "Backup failed: Permission denied. Healing aborted for safety."
    );
    assert_eq!(sim.host.machine().changes, 0);
    assert_eq!(sim.notices("heal_ended").await.len(), 1);
}

#[tokio::test]
async fn a_full_vault_refuses_before_anything_is_changed() {
    let mut sim = Sim::new().await;
    sim.vault.disk.lock().unwrap().free_bytes = 255 << 20;
    sim.write("cache/bad", "garbage");
    sim.pass(minutes(10)).await;
    assert!(sim.ran().is_empty());
    assert_eq!(sim.host.machine().changes, 0);
}

#[tokio::test]
async fn files_that_change_after_the_backup_are_backed_up_again_three_times_at_most() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("protected", minutes(10), |desk| {
        is(desk, "clear_cache", "Protected")
    })
    .await;
    sim.write("cache/data", "newer");
    sim.until("cured", minutes(20), |desk| desk.breaker.cures.len() == 1)
        .await;
    let heal = sim.heal("clear_cache").await;
    let journal = sim.journal(&heal).await;
    assert_eq!(journal.matches("BackupStale").count(), 1, "{journal}");
    assert_eq!(journal.matches("BackupVerified").count(), 2, "{journal}");
    let backup = heal.state.backup().unwrap();
    let disk = sim.vault.disk.lock().unwrap();
    let data = disk.manifests[&backup].members[&tree::path("cache/data")]
        .as_ref()
        .unwrap();
    assert_eq!(data.key.size, 5, "it is the newer one");
}

#[tokio::test]
async fn files_that_never_keep_still_end_the_heal_before_it_acts() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    for number in 0..3 {
        sim.until("protected", minutes(10), |desk| {
            is(desk, "clear_cache", "Protected")
        })
        .await;
        sim.write("cache/data", &format!("newer {number}"));
        sim.until("found stale", minutes(1), |desk| {
            !is(desk, "clear_cache", "Protected")
        })
        .await;
    }
    let heal = sim.heal("clear_cache").await;
    assert_eq!(heal.state.name(), "Aborted");
    assert!(sim.ran().is_empty());
}

#[tokio::test]
async fn the_targets_record_goes_long_after_the_heal_and_only_when_its_backup_went() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    assert_eq!(sim.host.machine().records(), 1);
    let backup = sim.heal("clear_cache").await.state.backup().unwrap();
    // The backup is kept longer than its age asks for, and so is the record.
    sim.clock.pass(hours(20 * 24));
    sim.pass(hours(3)).await;
    assert_eq!(sim.host.machine().records(), 1);
    let removed = Changes::new(sim.clock_now(), "healerd")
        .write(Write::BackupRemoved(backup))
        .audit("backup_removed", "app:shop", serde_json::json!({}));
    sim.store().apply(removed).await.unwrap();
    sim.pass(hours(2)).await;
    assert_eq!(sim.host.machine().records(), 0);
    // A heal whose backup is gone, but that ended only now, keeps its record.
    sim.write("cache/bad", "garbage");
    sim.until("cured again", hours(1), |desk| {
        desk.breaker.cures.len() == 2
    })
    .await;
    let backup = sim.heal("clear_cache").await.state.backup().unwrap();
    let removed = Changes::new(sim.clock_now(), "healerd")
        .write(Write::BackupRemoved(backup))
        .audit("backup_removed", "app:shop", serde_json::json!({}));
    sim.store().apply(removed).await.unwrap();
    sim.pass(hours(3)).await;
    assert_eq!(sim.host.machine().records(), 1);
}
