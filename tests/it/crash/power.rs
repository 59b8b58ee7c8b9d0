//! The power of a host goes while actions run on it; the daemon is elsewhere and sees a silence, or goes as well.
//!
//! Several daemons look after one application each on the same host, and each action stands at another point when the
//! power goes, so that one cut and one boot are enough for all of them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use healerd::model::heal::HealState;
use rustix::process::Signal;

use super::play::{Ends, judge};
use super::points::{self, Points, Target, Victim};
use super::record;
use super::site::{Programs, Site, announcing, tables};
use super::stage::{Plot, Stage};
use super::{LONG, NO_CURE};
use crate::lab::door::Door;
use crate::lab::machine::{self, Machine};
use crate::lab::process::signal;
use crate::lab::user::User;
use crate::lab::{Lab, PATIENCE, wait_for};

/// Where an action stands when the power goes.
const CUTS: &[&str] = &[
    "run.witness.intent_durable",
    "run.begun",
    "run.started",
    "run.program.spawned",
    "put.exchanged",
    "remove.taken",
    "run.effects.durable",
    "undo.exchanged",
];

/// Everything between the first look at a boot and the last heal at rest.
const PATIENT: u32 = 3;

/// One application of the host.
struct Household {
    stage: Stage,
    points: Points,
    point: &'static str,
    daemon: u32,
}

impl Household {
    /// Was the power cut when the action had begun and not ended?
    fn is_cut_short(&self) -> bool {
        !self.point.starts_with("run.witness.") && !self.point.starts_with("undo.")
    }
}

/// Gives the host a user for each household, and a server that makes their agents announce.
fn furnish(machine: &Machine, public: &Path, programs: &Programs) -> Vec<(PathBuf, User)> {
    let mut passwd = machine.read("etc/passwd");
    let mut config = String::from(
        "HostKey /etc/ssh/lab_key\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nAuthorizedKeysFile /etc/ssh/lab_authorized\nSubsystem sftp internal-sftp\n",
    );
    let mut homes = Vec::new();
    for number in 0..CUTS.len() {
        let id = 47_100 + u32::try_from(number).expect("a few");
        let user = User {
            name: format!("house{number}"),
            uid: id,
            gid: id,
        };
        let inside = format!("/home/{}", user.name);
        writeln!(passwd, "{}:*:{id}:{id}::{inside}:/bin/sh", user.name).expect("text grows");
        let announces = announcing(&points::variable(&format!("{inside}/points.d")));
        writeln!(config, "Match User {}\n{announces}", user.name).expect("text grows");
        let home = machine.disk().join(&inside[1..]);
        std::fs::create_dir_all(&home).expect("root can write");
        user.own(&home);
        programs.place(&home, &user);
        std::fs::create_dir(home.join("points.d")).expect("root can write");
        homes.push((home, user));
    }
    machine.write("etc/passwd", &passwd);
    machine.write("etc/ssh/lab_config", &config);
    let key = std::fs::read_to_string(public).expect("a key was made");
    machine.write("etc/ssh/lab_authorized", &key);
    homes
}

fn settle_in(
    machine: &Machine,
    door: &Door,
    programs: &Programs,
    lab: &Lab,
) -> Option<Vec<Household>> {
    let key = lab.dir().join("id");
    lab.ssh_key(&key, "ed25519", "");
    let homes = furnish(machine, &lab.dir().join("id.pub"), programs);
    let inside = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"];
    machine
        .run(&[&inside[..], &["/etc/ssh/lab_key"]].concat())
        .expect_success();
    let host_key = machine.read("etc/ssh/lab_key.pub");
    let host_key: Vec<_> = host_key.split_whitespace().take(2).collect();
    let mut households = Vec::new();
    for (point, (home, user)) in CUTS.iter().zip(homes) {
        let site = Site {
            inside: format!("/home/{}", user.name),
            tables: tables(&user.name, door.port(), &key, &host_key.join(" ")),
            program: programs.daemon.clone(),
            root: home.clone(),
            user,
        };
        let plot = Plot {
            timeout: LONG,
            ..NO_CURE
        };
        let stage = Stage::build(Lab::open(&[])?, &plot, &site);
        let target = Target {
            name: (*point).to_owned(),
            nth: 1,
        };
        let target = Some((target, Victim::Nobody));
        let points = Points::listen_in(&home.join("points.d"), stage.lab.dir(), target);
        points.count();
        let daemon = stage.start("");
        households.push(Household {
            stage,
            points,
            point,
            daemon,
        });
    }
    Some(households)
}

#[test]
fn after_a_power_cut_of_the_host_no_action_runs_again_and_every_heal_comes_to_rest() {
    if !super::announces() {
        return;
    }
    let Some(programs) = Programs::open(machine::PROGRAMS) else {
        return;
    };
    let Some(lab) = Lab::open(&[]) else { return };
    let machine = lab.machine();
    let boot = || {
        machine
            .run(&["cat", "/proc/sys/kernel/random/boot_id"])
            .expect_success()
            .stdout
    };
    let door = machine.ssh_door(&lab, "/etc/ssh/lab_config");
    let Some(mut households) = settle_in(&machine, &door, &programs, &lab) else {
        return;
    };
    for house in &households {
        wait_for(&format!("an action stands at {}", house.point), || {
            house.points.has_killed()
        });
    }
    let before = boot();
    door.host_dies();
    machine.cut();
    // Every second daemon goes too, and knows nothing but what is in its state when the host is there again.
    for house in households.iter().step_by(2) {
        signal(house.daemon, Signal::KILL);
    }
    machine.start();
    door.host_lives();
    for house in households.iter_mut().step_by(2) {
        wait_for("the daemon is gone", || !house.stage.lab.runs(house.daemon));
        house.daemon = house.stage.start("");
    }
    assert_ne!(boot(), before, "it is another boot");

    let end = Instant::now() + PATIENCE * PATIENT;
    let mut bad = Vec::new();
    for house in &households {
        let stage = &house.stage;
        let rests = || {
            let record = record::read(&stage.state_dir).unwrap_or_default();
            // What never began is followed by another.
            let last = record.heals.last().map(|healed| &healed.heal.state);
            record.rests()
                && last.is_some_and(|state| !matches!(state, HealState::Aborted { .. }))
                && stage.vault_is_tidy()
        };
        while !rests() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(stage.lab.runs(house.daemon), "{}", stage.lab.log("healerd"));
        stage.lab.stop(house.daemon);
        let record = record::read(&stage.state_dir).unwrap_or_default();
        match judge(Ends::Undone, stage, true) {
            // Begun and not ended: nothing of it can have gone on. What is found late is kept for a person.
            Ok(("undone", _)) if house.is_cut_short() && !record.was_interrupted() => {
                bad.push(format!(
                    "{}: not interrupted\n{}",
                    house.point,
                    record.shown()
                ));
            }
            Ok((ended, message)) => println!("{}: {ended}: {message}", house.point),
            Err(why) => bad.push(format!("{}: {why}", house.point)),
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
