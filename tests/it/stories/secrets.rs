//! Secrets that a host shows by mistake do not get into the store.

use std::collections::BTreeMap;

use healerd::model::Fact;

use crate::world::{Sim, minutes, seconds};

/// Looked for in every byte that was stored.
const CANARY: &str = "tweety-in-a-cage";

#[tokio::test]
async fn a_secret_among_the_facts_reaches_neither_the_store_nor_what_people_are_told() {
    let mut sim = Sim::new().await;
    let text = |text: String| Fact::Text(text);
    sim.host.machine().more_facts = BTreeMap::from([
        ("output".to_owned(), text(format!("DB_PASSWORD={CANARY}"))),
        (
            "values".to_owned(),
            Fact::Map(BTreeMap::from([(
                "APP_KEY".to_owned(),
                text(CANARY.to_owned()),
            )])),
        ),
        (
            "lines".to_owned(),
            Fact::List(vec![
                text("started".to_owned()),
                text(format!("mysql://shop:{CANARY}@db/shop")),
            ]),
        ),
        (
            "marker".to_owned(),
            text("not a secret, and stored".to_owned()),
        ),
    ]);
    sim.write("cache/bad", "garbage");
    sim.until("cured", minutes(30), |desk| desk.breaker.cures.len() == 1)
        .await;
    sim.write("down", "1");
    sim.pass(seconds(120)).await;
    let stored = sim.stored_bytes();
    let holds = |text: &str| {
        stored
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(holds("not a secret, and stored"), "facts are stored at all");
    assert!(!holds(CANARY));
    assert!(!sim.transcript().contains(CANARY));
}
