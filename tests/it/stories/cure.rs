//! A heal that helps: patience before it, proof after it.

use crate::world::{Sim, at_rest, is, minutes, seconds};

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
    sim.pass(seconds(60)).await;
    assert!(at_rest(sim.desk()) && !is(sim.desk(), "clear_cache", "Soaking"));
}
