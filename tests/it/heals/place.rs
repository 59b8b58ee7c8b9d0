//! Where the applications of a story are: on the daemon's own machine, or behind a real SSH server with nothing installed.
//!
//! The other host is this machine once more, so that the same judges look at the same files. What the daemon has of it is
//! an address, the server's key and a key of its own; it logs in as the application's user.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use crate::lab::Lab;
use crate::lab::daemon::app_table;
use crate::lab::sshd::{self, Like};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Here,
    OverSsh,
}

impl Place {
    /// A lab for a story that needs these programs; none where something is missing.
    pub(super) fn open(self, programs: &[&str]) -> Option<Lab> {
        match self {
            Self::Here => Lab::open(programs),
            Self::OverSsh => {
                sshd::agent()?;
                Lab::open(&[programs, sshd::PROGRAMS].concat())
            }
        }
    }

    /// The table of an application in this place, without its mode; `more` is further lines of it.
    pub(super) fn table(
        self,
        lab: &Lab,
        name: &str,
        stack: &str,
        path: &Path,
        url: &str,
        more: &str,
    ) -> String {
        let host = match self {
            Self::Here => "",
            Self::OverSsh => "host = \"web1\"\n",
        };
        app_table(lab, name, stack, path, url, &format!("{host}{more}"))
    }
}

/// Where the agent that was pushed for the application's user keeps its records.
pub(super) fn agent_state(lab: &Lab) -> PathBuf {
    lab.home().join(".local/state/healerd")
}

/// Starts a server that lets the application's user in with a new key; `allow` is what its root agent may do. Gives the
/// host's table.
pub(super) fn host(lab: &Lab, allow: &str) -> String {
    let sshd = lab.sshd(
        "sshd",
        &Like {
            also: Some(lab.user.clone()),
            home: Some(lab.home()),
            allow: allow.to_owned(),
            ..Like::default()
        },
    );
    assert!(!agent_state(lab).exists(), "nothing is installed there");
    let key = lab.dir().join("id");
    lab.ssh_key(&key, "ed25519", "");
    sshd.authorize("", &lab.dir().join("id.pub"));
    let root = if allow.is_empty() {
        String::new()
    } else {
        let program = sshd.root_agent();
        format!(
            "become = \"sudo\"\nbecome_program = \"{}\"\n",
            program.display()
        )
    };
    format!(
        "[host.web1]\nssh = \"{}@127.0.0.1:{}\"\nhost_key = \"{}\"\nkey = \"{}\"\n{root}",
        lab.user.name,
        sshd.port,
        sshd.host_key("ed25519"),
        key.display(),
    )
}

/// Plays a story in both places side by side. What it has to tell of either must be the same.
#[track_caller]
pub(super) fn in_both_places(story: impl Fn(Place) -> Option<Vec<String>> + Sync) {
    let name = std::thread::current()
        .name()
        .unwrap_or("a story")
        .to_owned();
    let [here, over_ssh] = std::thread::scope(|scope| {
        let story = &story;
        [Place::Here, Place::OverSsh]
            .map(|place| {
                std::thread::Builder::new()
                    .name(format!("{name} ({place:?})"))
                    .spawn_scoped(scope, move || story(place))
                    .expect("a thread can be started")
            })
            .map(std::thread::ScopedJoinHandle::join)
    });
    let told = [here, over_ssh].map(|told| told.unwrap_or_else(|panic| resume_unwind(panic)));
    let [Some(here), Some(over_ssh)] = told else {
        return; // it said what is missing
    };
    assert!(!here.is_empty(), "the story tells nothing");
    assert_eq!(different(&here, &over_ssh), None);
}

/// The first line in which they differ, as a person reads it.
fn different(here: &[String], over_ssh: &[String]) -> Option<String> {
    let at = (0..here.len().max(over_ssh.len())).find(|at| here.get(*at) != over_ssh.get(*at))?;
    let line = |told: &[String]| {
        told.get(at)
            .map_or("nothing more", String::as_str)
            .to_owned()
    };
    Some(format!(
        "here: {}; over SSH: {}",
        line(here),
        line(over_ssh)
    ))
}

#[test]
fn the_first_difference_of_two_stories_is_told() {
    let told = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    let one = told(&["looked", "healed"]);
    assert_eq!(different(&one, &one), None);
    for (other, want) in [
        (&["looked", "undone"][..], "here: healed; over SSH: undone"),
        (&["looked"], "here: healed; over SSH: nothing more"),
        (
            &["looked", "healed", "asked"],
            "here: nothing more; over SSH: asked",
        ),
    ] {
        assert_eq!(different(&one, &told(other)).as_deref(), Some(want));
    }
}
