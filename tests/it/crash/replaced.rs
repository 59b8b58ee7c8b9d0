//! Another build of the agent comes to a host while an action of the old one runs there.

use super::play::{Ends, judge};
use super::points::{Points, Target, Victim};
use super::processes::{self, Part};
use super::record;
use super::site::{Programs, Site};
use super::stage::{Plot, Stage};
use super::{CURE, LONG, NO_CURE};
use crate::lab::{Lab, wait_for};

/// The daemon is killed and started again with another agent to push, while the supervisor of the old one stands at a
/// point. What the record says is settled by the new agent.
fn play(plot: &Plot, end: Ends, supervisor_dies: bool) {
    let Some(programs) = Programs::open(&[]) else {
        return;
    };
    let Some(lab) = Lab::open(&[]) else { return };
    let site = Site::by_ssh(&lab, &programs);
    let plot = Plot {
        timeout: LONG,
        ..*plot
    };
    let stage = Stage::build(lab, &plot, &site);
    let folder = stage.lab.dir();
    let target = Target {
        name: "run.program.spawned".to_owned(),
        nth: 1,
    };
    let points = Points::listen(folder, Some((target, Victim::Nobody)));
    points.count();
    // It announces nothing itself: whoever stands at a point keeps all others from passing one.
    let daemon = stage.start("");
    wait_for("the action runs", || points.has_killed());

    let old = programs.hash();
    processes::kill(folder, Part::Daemon);
    wait_for("the daemon is gone", || !stage.lab.runs(daemon));
    programs.replace_agent();
    let new = programs.hash();
    assert_ne!(new, old);
    let daemon = stage.start("");
    let serves = |hash: &str| {
        let living = processes::of(folder);
        let mut agents = living
            .iter()
            .filter(|(_, line)| line.contains("--identity"));
        agents.any(|(_, line)| line.contains(hash))
    };
    wait_for("the new agent serves", || serves(&new));
    let record = || record::read(&stage.state_dir).unwrap_or_default();
    wait_for("the outcome is in doubt", || {
        record().shown().contains(" InDoubt: ")
    });
    if supervisor_dies {
        assert_eq!(processes::kill(folder, Part::Supervisor).len(), 1);
    } else {
        points.let_go();
    }
    wait_for("it comes to rest", || {
        let record = record();
        !record.heals.is_empty() && record.rests() && stage.vault_is_tidy()
    });
    assert!(serves(&new));
    wait_for("nothing of the old one serves", || !serves(&old));
    assert_eq!(record().was_interrupted(), supervisor_dies);
    assert_eq!(record().heals.len(), 1, "{}", record().shown());
    assert_eq!(stage.starts(), 1);
    stage.lab.stop(daemon);
    let agents = site.root.join("server/home/.local/state/healerd/agents");
    for hash in [&old, &new] {
        assert!(agents.join(hash).is_dir(), "{hash} was put there");
    }
    if let Err(why) = judge(end, &stage, supervisor_dies) {
        panic!("{why}");
    }
}

#[test]
fn an_action_of_a_replaced_agent_is_adopted_by_the_new_one() {
    if super::announces() {
        play(&CURE, Ends::Cured, false);
    }
}

#[test]
fn an_action_that_died_under_a_replaced_agent_is_taken_back_by_the_new_one() {
    if super::announces() {
        play(&NO_CURE, Ends::Undone, true);
    }
}
