//! The process dies before and right after every effect of a whole heal, and comes to rest all the same.

use std::collections::BTreeMap;

use healerd::model::approval::ApprovalState;
use healerd::seam::Store as _;

use crate::world::crash::Side;
use crate::world::host::Behaviour;
use crate::world::{Sim, minutes, person, seconds};

/// What happens before the process may die, and what must hold when all is quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Good,
    Useless,
    Approved,
}

type Essence = BTreeMap<String, (Option<String>, u32)>;

async fn prepared(course: Course) -> (Sim, Essence) {
    let mut sim = Sim::with(|policy| {
        policy.timing.dwell = seconds(15);
        policy.timing.dwell_looks = 2;
        policy.timing.soak = seconds(15);
        policy.timing.settle = seconds(30);
    })
    .await;
    if course == Course::Useless {
        let useless = Behaviour {
            idle: true,
            writes: vec![("cache/data".to_owned(), "torn".to_owned())],
            ..Behaviour::default()
        };
        sim.behaves("clear_cache", useless.clone());
        sim.behaves("rebuild_cache", useless);
    }
    sim.write(
        if course == Course::Approved {
            "vendor/stale"
        } else {
            "cache/bad"
        },
        "garbage",
    );
    if course == Course::Approved {
        sim.until("proposed", minutes(5), |desk| !desk.approvals.is_empty())
            .await;
    } else {
        // One look before it is admitted.
        sim.pass(seconds(60)).await;
    }
    let before = sim.host.machine().tree.essence();
    (sim, before)
}

/// The whole course, with the process dying at these places.
async fn run(course: Course, places: &[(usize, Side)]) -> usize {
    let (mut sim, before) = prepared(course).await;
    sim.fuse.set(places);
    if course == Course::Approved {
        let approval = sim.pending().await;
        for _ in 0..3 {
            let (id, digest) = (approval.id, approval.digest);
            let reason = "seen it, fine".to_owned();
            let voted = sim
                .ask(async |handle| handle.approve(id, digest, reason, person(1)).await)
                .await;
            if voted.is_ok() || sim.approvals().await[0].state != ApprovalState::Pending {
                break;
            }
        }
    }
    sim.pass(minutes(6)).await;
    let count = sim.fuse.count();
    let at = format!(
        "{course:?} {places:?} {:?}\n{}",
        sim.fuse.trail(),
        sim.transcript()
    );

    let heals = sim.heals().await;
    assert!(!heals.is_empty(), "{at}");
    assert!(
        heals.iter().all(|heal| heal.state.is_end()),
        "all have ended: {at}"
    );
    assert!(
        sim.store().restart().await.unwrap().leases.is_empty(),
        "no lease is left: {at}"
    );
    let mut ran: Vec<_> = sim
        .host
        .machine()
        .ran
        .iter()
        .map(|(heal, _)| heal.clone())
        .collect();
    let starts = ran.len();
    ran.sort();
    ran.dedup();
    assert_eq!(ran.len(), starts, "no heal ran twice: {at}");

    let after = sim.host.machine().tree.essence();
    let states: Vec<_> = heals.iter().map(|heal| heal.state.name()).collect();
    let for_person = states
        .iter()
        .any(|state| matches!(*state, "Kept" | "UndoBlocked"));
    match course {
        Course::Good => {
            let cured = !after.contains_key("cache/bad") && states.contains(&"Cured");
            assert!(cured || for_person, "cured: {states:?} {at}");
        }
        Course::Useless => assert!(after == before || for_person, "as before: {states:?} {at}"),
        Course::Approved => {
            assert!(starts <= 1, "an approval is used once: {at}");
            let cured = !after.contains_key("vendor/stale") && states.contains(&"Cured");
            assert!(
                cured || for_person || after == before,
                "cured or as before: {states:?} {at}"
            );
        }
    }
    count
}

async fn at_every_place(course: Course) {
    let places = Box::pin(run(course, &[])).await;
    assert!(places > 20, "{places}");
    for place in 0..places {
        for side in [Side::Before, Side::After] {
            Box::pin(run(course, &[(place, side)])).await;
        }
    }
}

#[tokio::test]
async fn a_good_heal_survives_a_death_at_every_effect() {
    Box::pin(at_every_place(Course::Good)).await;
}

#[tokio::test]
async fn a_useless_heal_is_undone_over_a_death_at_every_effect() {
    Box::pin(at_every_place(Course::Useless)).await;
}

#[tokio::test]
async fn an_approved_heal_runs_once_over_a_death_at_every_effect() {
    Box::pin(at_every_place(Course::Approved)).await;
}

/// Recovery may die too: some pairs, spread over all places.
#[tokio::test]
async fn a_second_death_during_recovery_changes_nothing() {
    for course in [Course::Good, Course::Useless] {
        let places = Box::pin(run(course, &[])).await;
        for first in (0..places).step_by(5) {
            for second in [0, 2, 5] {
                let side = if first % 2 == 0 {
                    Side::After
                } else {
                    Side::Before
                };
                Box::pin(run(course, &[(first, side), (second, Side::After)])).await;
            }
        }
    }
}
