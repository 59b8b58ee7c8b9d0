//! What a story has to tell when it is over, so that it can be compared with the same story elsewhere.

use std::path::{Path, PathBuf};

use super::journal::Journal;
use super::scene::Scene;
use crate::lab::tree::{Look, hash_tree_as, read_as};
use crate::lab::wait_for;

/// Everything that changed in an application, step by step, and how its heals went.
pub(super) struct Telling {
    root: PathBuf,
    /// What the application itself writes while it serves.
    ignoring: Vec<String>,
    /// Texts that no other lab has, and the word for each.
    own: Vec<(String, &'static str)>,
    last: Look,
    lines: Vec<String>,
}

impl Telling {
    /// Begins with a look at a healthy application and with what its checks say; `own` names texts beside the lab's
    /// directory that no other lab has.
    pub(super) fn begin(
        scene: &Scene,
        app: &str,
        root: &Path,
        ignoring: &[&str],
        own: &[(String, &'static str)],
    ) -> Self {
        scene.looks_from_its_place();
        let mut own = own.to_vec();
        own.push((scene.lab.dir().display().to_string(), "LAB"));
        let last = hash_tree_as(root, ignoring, &own);
        // A check that compares with the snapshot from healthy days says so from the first round that had one.
        scene.rounds(app, 2);
        let mut checks = Vec::new();
        // The look that led to the first snapshot had none to compare with, and the next one comes sooner or later.
        wait_for("every check passes and knows healthy days", || {
            checks = scene.journal.checks(app);
            checks.iter().all(|(_, status, message)| {
                status == "PASS" && !message.contains("no snapshot from healthy days")
            })
        });
        let lines = checks
            .into_iter()
            .map(|(check, status, message)| format!("{check} {status}: {}", read_as(message, &own)))
            .collect();
        Self {
            root: root.to_owned(),
            ignoring: ignoring.iter().map(|path| (*path).to_owned()).collect(),
            own,
            last,
            lines,
        }
    }

    /// Notes what changed since the last look. Where the daemon may be changing it just now, the places would tell of
    /// different moments.
    pub(super) fn look(&mut self, what: &str) {
        let ignoring: Vec<&str> = self.ignoring.iter().map(String::as_str).collect();
        let now = hash_tree_as(&self.root, &ignoring, &self.own);
        let changed = self.last.differences_but_times(&now);
        self.lines
            .extend(changed.into_iter().map(|line| format!("{what}: {line}")));
        self.last = now;
    }

    /// Notes what a check says.
    pub(super) fn check(&mut self, scene: &Scene, app: &str, check: &str) {
        let (status, message) = scene.journal.check(app, check).expect("it has been asked");
        let message = read_as(message, &self.own);
        self.lines.push(format!("{check} {status}: {message}"));
    }

    /// Notes how heals went; see [`heals`].
    pub(super) fn heals(&mut self, scene: &Scene, app: &str, action: &str) {
        self.lines.extend(heals(&scene.journal, app, action));
    }

    pub(super) fn end(self) -> Vec<String> {
        self.lines
    }
}

/// The states that the ended heals of an action went through, oldest first, and which of its proposals were taken up; all
/// actions when it is empty.
pub(super) fn heals(journal: &Journal, app: &str, action: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for heal in journal.heals(app) {
        if heal.is_over && (action.is_empty() || heal.action == action) {
            let states = journal.states(&heal.id).join(" ");
            lines.push(format!(
                "{} ({}): {states}: {}",
                heal.action, heal.origin, heal.message
            ));
        }
    }
    for approval in journal.approvals(app) {
        // What was proposed and not taken up depends on what the daemon saw at which moment.
        if approval.state == "USED" && (action.is_empty() || approval.action == action) {
            lines.push(format!("{}: {}", approval.action, approval.state));
        }
    }
    lines
}
