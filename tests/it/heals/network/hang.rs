//! A server that hangs at each step: before its banner, after it, in the key exchange, at the login, when a channel is
//! opened, and when a program is started.
//!
//! What a real server cannot be made to hang at, a relay in front of it does.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use super::farm::{Farm, wait};
use super::faults::is_named;
use super::{AWAY, is_back};
use crate::lab::process::signal;
use crate::lab::relay::Pass;
use crate::lab::sshd::{Like, Place, descendants};
use crate::lab::{Lab, set_mode};

/// While these files are there, it hangs when it looks for keys, and when it starts a program.
fn flag(lab: &Lab, step: &str) -> PathBuf {
    lab.dir().join(format!("hang-{step}"))
}

/// A server that can be made to hang, behind a relay.
pub(super) fn server(lab: &Lab) -> Like {
    let script = |name: &str, then: &str| {
        let file = lab.dir().join(name);
        let text = format!(
            "#!/bin/sh\nwhile [ -e {} ]; do sleep 0.2; done\n{then}\n",
            flag(lab, name).display()
        );
        fs::write(&file, text).expect("root can write");
        set_mode(&file, 0o755);
        file.display().to_string()
    };
    Like {
        config: format!(
            "AuthorizedKeysFile none\nAuthorizedKeysCommand {}\nAuthorizedKeysCommandUser root",
            script(
                "login",
                &format!("cat {}/*/authorized", lab.dir().display())
            )
        ),
        shell: script("program", "exec /bin/sh \"$@\""),
        place: Some(Place {
            net: 0,
            address: String::new(),
            port: 2222,
        }),
        ..Like::default()
    }
}

pub(super) fn at_each_step(farm: &Farm, host: usize) {
    let far = &farm.hosts[host];
    let relay = far.relay.as_ref().expect("it is behind one");
    let late = |step: &str| farm.note_says(&far.name, &format!("{step} took longer"));
    for (pass, step) in [
        (Pass::Nothing, "the banner of its SSH server"),
        (Pass::Banner, "the key exchange"),
        (Pass::FirstPacket, "the key exchange"),
    ] {
        relay.set(pass);
        wait("it is tried", || relay.was_tried());
        late(step);
    }
    wait("it is told that it is away", || {
        farm.told(&far.name, "incident_opened", AWAY) == 1
    });
    relay.set(Pass::All);
    is_back(farm, host, 1);

    let hang = |step: &str, yes: bool| {
        let flag = flag(&farm.lab, step);
        if yes {
            fs::write(flag, "").expect("root can write");
        } else {
            fs::remove_file(flag).expect("it is there");
        }
    };
    hang("login", true);
    relay.set(Pass::All);
    late("the login");
    hang("login", false);

    let over = AtomicBool::new(false);
    let frozen = std::thread::scope(|scope| {
        let freezer = scope.spawn(|| freeze(far.sshd.pid, &over));
        relay.set(Pass::Late);
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            late("opening a channel");
        }));
        over.store(true, Ordering::SeqCst);
        (freezer.join(), seen)
    });
    for pid in frozen.0.expect("it only looks") {
        signal(pid, Signal::KILL);
    }
    assert!(frozen.1.is_ok(), "no channel hung");

    hang("program", true);
    relay.set(Pass::All);
    late("the agent's greeting");
    wait("it is told that it is away", || {
        farm.told(&far.name, "incident_opened", AWAY) == 2
    });
    hang("program", false);
    is_back(farm, host, 2);
}

/// Stops each of a server's processes that serve a user who has logged in, until it is over. Gives those.
fn freeze(server: u32, over: &AtomicBool) -> Vec<u32> {
    let mut frozen = Vec::new();
    while !over.load(Ordering::SeqCst) {
        for pid in descendants(server) {
            // The one with a word in brackets asks for the login, or only stands beside.
            let of_user = is_named(pid, "sshd: shop") && !is_named(pid, "[");
            if of_user && !frozen.contains(&pid) {
                signal(pid, Signal::STOP);
                frozen.push(pid);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    frozen
}
