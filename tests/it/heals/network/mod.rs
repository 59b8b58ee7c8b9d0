//! Five hosts over a network that fails in every way: each fault costs its own host, is told once, and no action runs
//! without a settled outcome.
//!
//! The hosts fail at the same time, and each has a time in which it is left alone: then its rounds must not feel what the
//! others go through.

mod farm;
mod faults;
mod hang;
mod rounds;

use std::time::Instant;

use crate::lab::sshd::Like;
use farm::{Farm, wait};
use rounds::Rounds;

const AWAY: &str = "cannot be seen";

/// What was told of a host, and nothing else of it: how often it was away, in doubt, and another machine. Away is no
/// outage of its own where another one follows.
#[track_caller]
fn was_told(farm: &Farm, host: usize, away: usize, doubt: usize, other: usize) {
    let ends = if doubt + other > 0 {
        doubt + other
    } else {
        away
    };
    let name = &farm.hosts[host].name;
    let all = [
        ("incident_opened", AWAY, away),
        ("incident_opened", "its identity is in doubt", doubt),
        ("incident_opened", "is another machine", other),
        ("host_seen", "can be seen again", ends),
    ];
    for (event, part, times) in all {
        assert_eq!(
            farm.told(name, event, part),
            times,
            "{part}: {:#?}",
            farm.ear.about(name)
        );
    }
    // What the test itself broke is the only other thing that is wrong: nobody blamed the site for its host.
    for (event, title) in farm.ear.about(name) {
        let expected = all
            .iter()
            .any(|(known, part, _)| event == *known && title.contains(part));
        let broken = title == format!("{name}: marker is FAIL");
        assert!(
            event != "incident_opened" || expected || broken,
            "{event}: {title}"
        );
    }
}

/// Waits until the end of a host's `count`-th outage is told.
#[track_caller]
fn is_back(farm: &Farm, host: usize, count: usize) {
    let name = &farm.hosts[host].name;
    wait(&format!("it is told that {name} is back"), || {
        farm.told(name, "host_seen", "can be seen again") == count
    });
}

#[test]
fn a_host_that_fails_in_any_way_costs_the_others_no_round_and_leaves_no_action_unsettled() {
    let farm = Farm::open(|lab| {
        let small = Like {
            home_mount: Some("size=24m"),
            ..Like::default()
        };
        let hanging = hang::server(lab);
        vec![
            Like::default(),
            Like::default(),
            hanging,
            small,
            Like::default(),
        ]
    });
    let Some(farm) = farm else {
        return;
    };
    let rounds = Rounds::default();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let (farm, rounds) = (&farm, &rounds);
        let watcher = scope.spawn(|| rounds.note(farm));
        let first = scope.spawn(|| {
            faults::link_down_in_mid_action(farm, 0);
            faults::sixty_four_kbit(farm, 0);
            was_told(farm, 0, 1, 0, 0);
        });
        let second = scope.spawn(|| {
            faults::three_packets_of_ten_lost(farm, 1);
            faults::connections_reset_in_mid_action(farm, 1);
        });
        let third = scope.spawn(|| {
            hang::at_each_step(farm, 2);
            was_told(farm, 2, 2, 0, 0);
        });
        let fourth = scope.spawn(|| {
            faults::frozen_agent_in_mid_action(farm, 3);
            faults::disk_full_in_mid_action(farm, 3);
            was_told(farm, 3, 0, 0, 0);
        });
        // Up to here the fifth is left alone, and from here on the second.
        let second = second.join();
        let turn = Instant::now();
        let fifth = scope.spawn(|| {
            faults::another_key(farm, 4);
            faults::another_machine(farm, 4);
            // A server is started within less than three rounds, unless this machine is very busy.
            let away = farm.told("w5", "incident_opened", AWAY);
            was_told(farm, 4, away, 1, 1);
        });
        let others = [first, third, fourth, fifth].map(std::thread::ScopedJoinHandle::join);
        let over = Instant::now();
        rounds.stop();
        let counted = watcher.join().is_ok();
        let got_over = second.is_ok() && others.iter().all(Result::is_ok);
        assert!(counted && got_over, "a fault was not got over");
        for (host, from, to) in [(4, begun, turn), (1, turn, over)] {
            let (count, longest) = rounds.judge(host, from, to);
            eprintln!(
                "w{}: {count} rounds in {:?}, at most {longest:?} apart",
                host + 1,
                to - from
            );
        }
    });
}
