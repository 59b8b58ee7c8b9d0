//! Probes against real trees, sockets and processes.

mod files;
mod net;
mod processes;
mod rounds;
mod wordpress;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::Context;
use super::deadline::Deadline;
use super::place::Place;
use super::spec::{Fact, Facts, KINDS};
use crate::protocol::{CheckProbes, Target};

/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

/// A root of its own, gone when dropped.
#[derive(Debug)]
pub(super) struct Ground {
    directory: tempfile::TempDir,
    pub(super) target: Target,
}

impl Ground {
    /// A root that belongs to whoever runs the tests, or to nobody when that is root.
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let me = rustix::process::geteuid();
        let (uid, gid) = if me.is_root() {
            std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            (NOBODY, NOBODY)
        } else {
            (me.as_raw(), rustix::process::getegid().as_raw())
        };
        Self {
            target: Target {
                root: directory.path().to_str().unwrap().to_owned(),
                roots: Vec::new(),
                uid,
                gid,
                volatile: Vec::new(),
            },
            directory,
        }
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn context(&self) -> Context {
        Context {
            target: self.target.clone(),
            place: Place::open(&self.target).unwrap(),
            deadline: Deadline::after(Duration::from_secs(30)),
            cancelled: AtomicBool::new(false),
        }
    }

    /// One check with these probes.
    pub(super) fn check(
        &self,
        probes: &serde_json::Value,
    ) -> std::collections::BTreeMap<String, Facts> {
        let checks = [check("c", probes)];
        let deadline = Deadline::after(Duration::from_secs(30));
        let (_, mut facts) =
            super::round(&self.target, &checks, deadline, &AtomicBool::new(false)).unwrap();
        facts.remove(0).probes
    }

    /// The facts of one probe, which must be exactly those of its kind.
    pub(super) fn ask(&self, kind: &str, params: &serde_json::Value) -> Facts {
        let facts = self
            .check(&serde_json::json!({"p": {kind: params}}))
            .remove("p")
            .unwrap();
        let want: std::collections::BTreeSet<&str> = KINDS
            .iter()
            .find(|known| known.name == kind)
            .unwrap()
            .facts
            .iter()
            .map(|(name, _)| *name)
            .collect();
        let got: std::collections::BTreeSet<&str> = facts.keys().map(String::as_str).collect();
        assert_eq!(got, want, "{kind}");
        facts
    }
}

pub(super) fn check(name: &str, probes: &serde_json::Value) -> CheckProbes {
    CheckProbes {
        check: name.to_owned(),
        probes: serde_json::from_value(probes.clone()).unwrap(),
    }
}

pub(super) fn texts(items: &[&str]) -> Fact {
    Fact::from(items.to_vec())
}

pub(super) fn is_unknown(fact: &Fact, why: &str) -> bool {
    matches!(fact, Fact::Unknown(reason) if reason.contains(why))
}
