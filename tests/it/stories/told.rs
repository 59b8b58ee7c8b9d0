//! What people are told: what comes next, where a mode comes from, and that a hold hides nothing.

use healerd::engine::{Health, OpError, OpErrorKind};
use healerd::model::stop::Scope;
use healerd::model::word::HealingMode;

use crate::world::{Sim, hours, minutes, person};

/// The only line of what comes next.
fn next(sim: &Sim) -> String {
    let view = sim.handle().app(&sim.app_name()).unwrap();
    let lines: Vec<String> = view.next.values().cloned().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.join("")
}

async fn set_mode(sim: &mut Sim, of_app: bool, mode: HealingMode) {
    let app = of_app.then(|| sim.app_name());
    sim.ask(async |handle| {
        handle
            .set_mode(app, mode, "for the night".to_owned(), &person(1))
            .await
    })
    .await
    .unwrap();
    sim.pass(minutes(2)).await;
}

async fn clear_mode(sim: &mut Sim, of_app: bool) -> Result<(), OpError> {
    let app = of_app.then(|| sim.app_name());
    let done = sim
        .ask(async |handle| {
            handle
                .clear_mode(app, "morning".to_owned(), &person(1))
                .await
        })
        .await;
    sim.pass(minutes(2)).await;
    done
}

fn mode(sim: &Sim) -> (HealingMode, String) {
    let view = sim.handle().app(&sim.app_name()).unwrap();
    (view.mode, view.mode_origin)
}

#[tokio::test]
async fn a_warning_says_what_a_person_can_do_about_it() {
    let mut sim = Sim::with(|policy| policy.mode = HealingMode::SemiAuto).await;
    sim.write("loose", "1");
    sim.pass(minutes(10)).await;
    let line = next(&sim);
    assert!(
        line.contains("nothing is proposed by itself for a WARN")
            && line.contains("`healerctl heal shop close_files` runs it now"),
        "{line}"
    );
}

#[tokio::test]
async fn a_proposal_is_named_as_long_as_it_waits_and_no_longer() {
    let mut sim = Sim::new().await;
    sim.write("vendor/stale", "1");
    sim.pass(minutes(2)).await;
    let early = next(&sim);
    assert!(early.contains("once it has lasted long enough"), "{early}");
    sim.pass(minutes(5)).await;
    let id = sim.pending().await.id;
    let waits = next(&sim);
    assert!(
        waits.contains(&format!("healerctl approve {id}")),
        "{waits}"
    );
    sim.ask(async |handle| handle.reject(id, "not today".to_owned(), person(1)).await)
        .await
        .unwrap();
    sim.pass(minutes(2)).await;
    let after = next(&sim);
    assert!(after.contains("was rejected"), "{after}");
    assert!(
        after.contains("`healerctl heal shop renew_packages` asks for its approval now"),
        "{after}"
    );
}

#[tokio::test]
async fn a_hold_hides_neither_that_the_app_is_down_nor_who_holds_it() {
    let mut sim = Sim::new().await;
    sim.ask(async |handle| {
        handle
            .hold(Scope::Everything, "deploy".to_owned(), None, &person(1))
            .await
    })
    .await
    .unwrap();
    sim.write("storage/poison", "1");
    sim.pass(minutes(2)).await;
    let view = sim.handle().app(&sim.app_name()).unwrap();
    assert_eq!(view.health, Health::Down);
    assert_eq!(view.held.unwrap().owner, "person1(1)");
}

#[tokio::test]
async fn a_resume_of_what_is_not_held_names_what_is() {
    let mut sim = Sim::new().await;
    let app = Scope::App(sim.app_name());
    sim.ask(async |handle| {
        handle
            .hold(app, "deploy".to_owned(), None, &person(1))
            .await
    })
    .await
    .unwrap();
    let refusal = sim
        .ask(async |handle| {
            handle
                .resume(&Scope::Everything, false, "done".to_owned(), &person(1))
                .await
        })
        .await
        .unwrap_err();
    assert_eq!(refusal.kind, OpErrorKind::NotFound);
    assert!(refusal.message.contains("app:shop"), "{refusal}");
    assert!(refusal.hint.contains("healerctl resume app:shop"));
}

#[tokio::test]
async fn a_mode_set_at_run_time_is_told_with_its_owner_and_can_be_lifted() {
    let mut sim = Sim::with(|policy| policy.mode = HealingMode::SemiAuto).await;
    assert_eq!(
        mode(&sim),
        (
            HealingMode::SemiAuto,
            "configured for everything".to_owned()
        )
    );
    set_mode(&mut sim, true, HealingMode::FullAuto).await;
    let (present, origin) = mode(&sim);
    assert_eq!(present, HealingMode::FullAuto);
    assert!(origin.starts_with("set by person1(1) at "), "{origin}");
    assert!(origin.ends_with(": for the night"), "{origin}");

    set_mode(&mut sim, false, HealingMode::Manual).await;
    assert_eq!(
        mode(&sim).0,
        HealingMode::FullAuto,
        "the app's own counts first"
    );
    sim.start().await;
    clear_mode(&mut sim, true).await.unwrap();
    let (present, origin) = mode(&sim);
    assert_eq!(present, HealingMode::Manual);
    assert!(origin.starts_with("set for everything by "), "{origin}");

    clear_mode(&mut sim, false).await.unwrap();
    assert_eq!(mode(&sim).0, HealingMode::SemiAuto);
    let refusal = clear_mode(&mut sim, false).await.unwrap_err();
    assert_eq!(refusal.code, "no_mode_set");
    sim.start().await;
    assert_eq!(mode(&sim).0, HealingMode::SemiAuto, "also after a restart");
    let verbs: Vec<String> = sim.audit().await.into_iter().map(|row| row.verb).collect();
    assert_eq!(
        verbs.iter().filter(|verb| *verb == "mode_cleared").count(),
        2
    );
}

#[tokio::test]
async fn a_mode_for_everything_leaves_an_app_alone_that_has_its_own() {
    let mut sim = Sim::with(|policy| {
        policy.mode = HealingMode::FullAuto;
        policy.mode_is_own = true;
    })
    .await;
    let app = sim.app_name();
    let others = sim
        .ask(async |handle| {
            handle
                .set_mode(
                    None,
                    HealingMode::Manual,
                    "audit week".to_owned(),
                    &person(1),
                )
                .await
        })
        .await
        .unwrap();
    assert_eq!(others, [app]);
    sim.pass(minutes(2)).await;
    assert_eq!(mode(&sim), (HealingMode::FullAuto, "configured".to_owned()));
}

#[tokio::test]
async fn a_heal_keeps_the_mode_it_was_admitted_in() {
    let mut sim = Sim::new().await;
    sim.write("cache/bad", "garbage");
    sim.until("cured", hours(1), |desk| desk.breaker.cures.len() == 1)
        .await;
    let admitted_in = mode(&sim).0;
    set_mode(&mut sim, true, HealingMode::Manual).await;
    assert_eq!(sim.heal("clear_cache").await.mode, Some(admitted_in));
    assert_ne!(admitted_in, HealingMode::Manual);
}
