//! The faults, one function each: what is done to a host, what has to be seen of it, and how it ends.

use std::fs;
use std::io::Write as _;

use rustix::process::Signal;

use super::farm::{Far, Farm, machine_id, wait};
use super::{AWAY, is_back};
use crate::lab::process::{is_alive, signal};
use crate::lab::sshd::{Like, Place, descendants};

/// The cable is pulled while an action runs; it ends while nobody can see it.
pub(super) fn link_down_in_mid_action(farm: &Farm, host: usize) {
    let (far, journal) = (&farm.hosts[host], farm.journal());
    let begun = farm.begin(far, &journal);
    farm.lab.set_link(&far.link, false);
    far.release();
    wait("it is told that it is away", || {
        farm.told(&far.name, "incident_opened", AWAY) == 1
    });
    let heal = journal.heals(&far.name).pop().expect("it is begun");
    assert!(!heal.is_over, "nothing is decided blind: {}", heal.state);
    farm.lab.set_link(&far.link, true);
    farm.cured(far, &journal, &begun);
    is_back(farm, host, 1);
}

/// A modem's rate: a whole heal, with its backup, over it.
pub(super) fn sixty_four_kbit(farm: &Farm, host: usize) {
    let (far, journal) = (&farm.hosts[host], farm.journal());
    farm.lab.slow_down(&far.link);
    let begun = farm.begin(far, &journal);
    far.release();
    farm.cured(far, &journal, &begun);
    farm.lab.clear_link(&far.link);
}

/// A bad line: a whole heal over it.
pub(super) fn three_packets_of_ten_lost(farm: &Farm, host: usize) {
    let (far, journal) = (&farm.hosts[host], farm.journal());
    farm.lab.lose_packets(&far.link);
    let begun = farm.begin(far, &journal);
    far.release();
    farm.cured(far, &journal, &begun);
    let dropped = farm.lab.dropped(&far.link);
    assert!(dropped > 20, "only {dropped} packets were lost");
    farm.lab.clear_link(&far.link);
    // It may have been too bad for three rounds; then that is told, and its end.
    let away = || farm.told(&far.name, "incident_opened", AWAY);
    wait("what was told is over", || {
        farm.told(&far.name, "host_seen", "can be seen again") == away()
    });
}

/// Everything that is open is reset, twice while an action runs.
pub(super) fn connections_reset_in_mid_action(farm: &Farm, host: usize) {
    let (far, journal) = (&farm.hosts[host], farm.journal());
    let away = farm.told(&far.name, "incident_opened", AWAY);
    let begun = farm.begin(far, &journal);
    let logins = far.sshd.logins(&farm.lab);
    farm.lab.reset_connections(&far.link);
    wait("it is connected to again", || {
        far.sshd.logins(&farm.lab) > logins
    });
    farm.lab.reset_connections(&far.link);
    far.release();
    farm.cured(far, &journal, &begun);
    let told = farm.told(&far.name, "incident_opened", AWAY);
    assert_eq!(told, away, "it is back before anybody need know");
}

/// The disk is full when the action wants to write, and when its end is to be recorded.
pub(super) fn disk_full_in_mid_action(farm: &Farm, host: usize) {
    let (far, journal) = (&farm.hosts[host], farm.journal());
    let begun = farm.begin(far, &journal);
    let ballast = far.file("ballast");
    let mut file = fs::File::create(&ballast).expect("root can write");
    let chunk = vec![7; 64 << 10];
    let full = (0..1024).any(|_| file.write_all(&chunk).is_err())
        && (0..64).any(|_| file.write_all(&[7; 4096]).is_err());
    assert!(full, "it has an end");
    far.release();
    let ran = far.began(&farm.lab).pop().expect("it has begun");
    wait("the action has ended", || !is_alive(ran));
    drop(file);
    fs::remove_file(&ballast).expect("root can remove it");
    let heal = farm.ended(far, &journal, &begun);
    assert!(
        matches!(heal.state.as_str(), "NotCured" | "Undone"),
        "{heal:#?}"
    );
    far.set_marker(true);
}

/// The agent stands still while an action runs that it has started.
pub(super) fn frozen_agent_in_mid_action(farm: &Farm, host: usize) {
    let (far, journal) = (&farm.hosts[host], farm.journal());
    let begun = farm.begin(far, &journal);
    let frozen: Vec<u32> = descendants(far.sshd.pid)
        .into_iter()
        .filter(|pid| is_named(*pid, "healer-agent"))
        .filter(|pid| !is_named(*pid, "supervise") && !is_named(*pid, "\0exec\0"))
        .collect();
    assert!(!frozen.is_empty(), "an agent runs");
    for pid in &frozen {
        signal(*pid, Signal::STOP);
    }
    far.release();
    farm.cured(far, &journal, &begun);
    for pid in frozen {
        signal(pid, Signal::KILL);
    }
}

/// Does a process's command line contain this word?
pub(super) fn is_named(pid: u32, word: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
}

/// Somebody with another key answers at the host's address: nobody logs in there.
pub(super) fn another_key(farm: &Farm, host: usize) {
    let far = &farm.hosts[host];
    farm.lab.stop(far.sshd.pid);
    farm.lab.reset_connections(&far.link);
    let other = farm.lab.sshd("other", &in_place_of(far, "other", false));
    farm.authorize(&other);
    wait("it is told that its identity is in doubt", || {
        farm.told(&far.name, "incident_opened", "in doubt") == 1
    });
    let log = other.log(&farm.lab);
    assert!(log.contains("Connection from"), "somebody came: {log}");
    for attempt in ["Accepted", "Failed", "userauth", "Postponed", "Invalid"] {
        assert!(!log.contains(attempt), "{attempt}: {log}");
    }
    farm.lab.stop(other.pid);
    let again = farm.lab.sshd("again", &in_place_of(far, &far.name, true));
    farm.authorize(&again);
    is_back(farm, host, 1);
    farm.lab.stop(again.pid);
    farm.lab.reset_connections(&far.link);
}

/// Another machine answers, with the host's own key: it is looked at, and nothing is done there.
pub(super) fn another_machine(farm: &Farm, host: usize) {
    let (far, journal) = (&farm.hosts[host], farm.journal());
    wait("it is not seen", || farm.state(&far.name).0 == "UNSEEN");
    let copy = farm.lab.sshd("copy", &in_place_of(far, "copy", true));
    farm.authorize(&copy);
    wait("it is told that it is another machine", || {
        farm.told(&far.name, "incident_opened", "another machine") == 1
    });
    let heals = journal.heals(&far.name);
    far.set_marker(false);
    wait("its symptom is told", || {
        farm.told(&far.name, "incident_opened", "marker is FAIL") == 1
    });
    for _ in 0..4 {
        let due = journal.due(&far.name);
        wait("another round is made", || journal.due(&far.name) != due);
    }
    let after = journal.heals(&far.name);
    assert_eq!(after.len(), heals.len(), "nothing is tried: {after:#?}");
    assert!(far.began(&farm.lab).is_empty());
    assert_eq!(farm.state(&far.name).0, "OTHER_MACHINE");
    farm.lab.stop(copy.pid);
    farm.lab.reset_connections(&far.link);
    wait("it is not seen", || farm.state(&far.name).0 == "UNSEEN");
    let back = farm.lab.sshd("back", &in_place_of(far, &far.name, true));
    farm.authorize(&back);
    is_back(farm, host, 2);
    far.release();
    wait("it is healed", || {
        let heals = journal.heals(&far.name);
        heals.last().is_some_and(|heal| heal.state == "Cured")
    });
    assert_eq!(far.began(&farm.lab).len(), 1);
}

/// A server where the host's was, of a machine with this name.
fn in_place_of(far: &Far, machine: &str, same_key: bool) -> Like {
    Like {
        place: Some(Place {
            net: far.link.net,
            address: far.link.address.clone(),
            port: 22,
        }),
        home: Some(far.home.clone()),
        machine_id: machine_id(machine),
        keys_of: same_key.then(|| far.sshd.dir().to_path_buf()),
        ..Like::default()
    }
}
