//! A lab, the daemon in it, and the questions that all these tests ask of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::journal::{Approval, Heal, Journal};
use super::place::{self, Place};
use crate::lab::daemon::Daemon;
use crate::lab::{Lab, PATIENCE, wait_for};

/// Times short enough for a test; everything else is as delivered.
pub(super) const QUICK: &str = "
[check]
interval = \"1s\"
look = \"1s\"
every = { file_permissions = \"1s\", wp_permissions = \"1s\", wp_uploads = \"1s\" }
[dwell]
time = \"1s\"
looks = 2
critical_time = \"600ms\"
critical_looks = 2
[grace]
time = \"0s\"
[soak]
time = \"1s\"
recurrence = \"1s\"
[pause]
app = \"0s\"
action = \"0s\"
[rate]
per_app = 1000
per_host = 1000
per_daemon = 1000
[breaker]
max_recurrences = 1000
";

/// Dropped in a failing test, it shows what the daemon said.
pub(super) struct Scene {
    pub(super) daemon: Daemon,
    pub(super) journal: Journal,
    place: Place,
    /// The last heal of each application that a test has looked at.
    seen: RefCell<BTreeMap<String, String>>,
    pub(super) lab: Lab,
}

impl Scene {
    /// The same for applications in a place; behind SSH, `allow` is the list of the other host's root agent.
    pub(super) fn start_in(place: Place, lab: Lab, top: &str, tables: &str, allow: &str) -> Self {
        match place {
            Place::Here => Self::start(lab, top, tables, allow),
            Place::OverSsh => {
                let host = place::host(&lab, allow);
                let mut scene = Self::start(lab, top, &format!("{host}{tables}"), "");
                scene.place = place;
                scene
            }
        }
    }

    /// Starts the daemon with these application tables; `top` comes before all tables, `allow` is the list of the root agent.
    pub(super) fn start(lab: Lab, top: &str, tables: &str, allow: &str) -> Self {
        let config = format!("{top}\n{QUICK}\n{tables}");
        let daemon = lab
            .daemon(&config, allow)
            .unwrap_or_else(|said| panic!("the daemon does not start:\n{said}"));
        let journal = Journal::open(&daemon.state_dir);
        Self {
            daemon,
            journal,
            place: Place::Here,
            seen: RefCell::default(),
            lab,
        }
    }

    /// Waits until the first look found the application well and its known-good snapshot is taken.
    #[track_caller]
    pub(super) fn adopted(&self, app: &str) {
        let end = Instant::now() + PATIENCE;
        while self.journal.backups(app, "known_good") == 0 {
            assert!(
                Instant::now() < end,
                "{app} was not found well: {:#?}",
                self.journal.checks(app)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The agent that looked at the applications runs where they are: it keeps its records there.
    #[track_caller]
    pub(super) fn looks_from_its_place(&self) {
        let here = self.daemon.state_dir.join("agents");
        let here = here.join(self.lab.user.uid.to_string()).exists();
        let there = place::agent_state(&self.lab).exists();
        assert_eq!(
            (here, there),
            (self.place == Place::Here, self.place == Place::OverSsh)
        );
    }

    /// Waits for the end of the next heal that this test has not looked at yet.
    #[track_caller]
    pub(super) fn next_end(&self, app: &str) -> Heal {
        let last = self.seen.borrow().get(app).cloned().unwrap_or_default();
        let mut found = None;
        let end = Instant::now() + PATIENCE;
        while found.is_none() {
            assert!(
                Instant::now() < end,
                "no heal of {app} came to an end; {:#?} {:#?} {:#?}",
                self.journal.heals(app).last(),
                self.journal.approvals(app),
                self.journal.checks(app),
            );
            std::thread::sleep(Duration::from_millis(20));
            let heals = self.journal.heals(app);
            found = heals
                .into_iter()
                .find(|heal| heal.id > last)
                .filter(|heal| heal.is_over);
        }
        let heal = found.expect("the loop ends with one");
        self.seen
            .borrow_mut()
            .insert(app.to_owned(), heal.id.clone());
        heal
    }

    /// The next heal is this action's, nobody asked for it, and it is a verified cure. The next fault of a test is then a
    /// new one, and not the old one that came back.
    #[track_caller]
    pub(super) fn heals_alone(&self, app: &str, action: &str) -> Heal {
        let heal = self.ends(app, action, "unattended", "Cured");
        wait_for("the cure has lasted", || self.journal.watched(app) == 0);
        heal
    }

    /// It is proposed, nothing runs before it is approved, and then it is a verified cure.
    #[track_caller]
    pub(super) fn heals_approved(&self, app: &str, action: &str) -> Heal {
        let approval = self.proposed(app, action);
        self.nothing_else_began(app);
        self.approve(&approval);
        let heal = self.ends(app, action, "approved", "Cured");
        wait_for("the cure has lasted", || self.journal.watched(app) == 0);
        heal
    }

    /// The next heal is this action's and ends like this.
    #[track_caller]
    pub(super) fn ends(&self, app: &str, action: &str, origin: &str, state: &str) -> Heal {
        let heal = self.next_end(app);
        assert_eq!(
            (
                heal.action.as_str(),
                heal.origin.as_str(),
                heal.state.as_str()
            ),
            (action, origin, state),
            "{}",
            heal.message
        );
        heal
    }

    /// Waits until nothing is going on, and gives what was healed on the way there.
    #[track_caller]
    pub(super) fn at_rest(&self, app: &str) -> Vec<Heal> {
        self.rounds(app, 3);
        let mut passed = Vec::new();
        loop {
            let last = self.seen.borrow().get(app).cloned().unwrap_or_default();
            if self.journal.heals(app).iter().all(|heal| heal.id <= last) {
                return passed;
            }
            passed.push(self.next_end(app));
            self.rounds(app, 3);
        }
    }

    /// No heal began that this test has not looked at.
    #[track_caller]
    pub(super) fn nothing_else_began(&self, app: &str) {
        let last = self.seen.borrow().get(app).cloned().unwrap_or_default();
        let others: Vec<_> = self
            .journal
            .heals(app)
            .into_iter()
            .filter(|heal| heal.id > last)
            .collect();
        assert!(others.is_empty(), "{others:#?}");
    }

    /// Waits for this many further rounds of looking.
    #[track_caller]
    pub(super) fn rounds(&self, app: &str, count: usize) {
        for _ in 0..count {
            let due = self.journal.due(app);
            wait_for("another round is made", || self.journal.due(app) != due);
        }
    }

    /// Waits until a check says this.
    #[track_caller]
    pub(super) fn check_says(&self, app: &str, check: &str, status: &str, part: &str) {
        let mut last = None;
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.journal.check(app, check);
            if let Some((is, message)) = &found
                && is == status
                && message.contains(part)
            {
                return;
            }
            last = found.or(last);
            assert!(Instant::now() < end, "{check} says {last:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until this action is proposed to a person, and gives the proposal.
    #[track_caller]
    pub(super) fn proposed(&self, app: &str, action: &str) -> Approval {
        let mut found = None;
        wait_for(&format!("{action} is proposed"), || {
            found = self
                .journal
                .approvals(app)
                .into_iter()
                .find(|approval| approval.action == action && approval.state == "PENDING");
            found.is_some()
        });
        found.expect("waited for")
    }

    /// Root approves what the daemon proposed.
    #[track_caller]
    pub(super) fn approve(&self, approval: &Approval) {
        let reason = "looked at it together";
        let (code, said) = self.daemon.ctl(
            &self.lab,
            &["approve", &approval.id, "--yes", "--reason", reason],
        );
        assert_eq!(code, Some(0), "{said:#}");
    }

    /// A person takes a heal back, and with it the symptom comes back; nothing runs alone any more. The daemon goes on
    /// watching for a while, and that is not waited for.
    #[track_caller]
    pub(super) fn takes_back(&self, app: &str, heal: &Heal) {
        self.set_mode(app, "MANUAL");
        wait_for("an earlier one has come to its end", || {
            self.journal.heals(app).iter().all(|heal| heal.is_over)
        });
        let put_back = || {
            let heals = self.journal.heals(app).into_iter();
            heals
                .filter(|heal| {
                    heal.action == "rollback" && heal.message.ends_with("put back, 0 kept")
                })
                .count()
        };
        let before = put_back();
        let (code, said) = self.daemon.ctl(&self.lab, &["heals", &heal.id]);
        assert_eq!(code, Some(0), "{said:#}");
        let backup = said["backupId"].as_str().expect("it wrote, so it has one");
        let reason = "to see what was there before";
        let (code, said) = self.daemon.ctl(
            &self.lab,
            &[
                "backups", app, "rollback", backup, "--yes", "--reason", reason,
            ],
        );
        assert_eq!(code, Some(0), "{said:#}");
        wait_for("everything is put back", || put_back() > before);
    }

    /// Does something to an application that no heal may begin in the middle of.
    #[track_caller]
    pub(super) fn while_held(&self, app: &str, work: impl FnOnce()) {
        let tell = |arguments: &[&str]| {
            let reason = ["--reason", "the test is at work there"];
            let (code, said) = self.daemon.ctl(&self.lab, &[arguments, &reason].concat());
            assert_eq!(code, Some(0), "{said:#}");
        };
        let scope = format!("app:{app}");
        tell(&["hold", &scope]);
        work();
        tell(&["resume", &scope]);
    }

    /// Sets an application's healing mode, as an administrator does it.
    #[track_caller]
    pub(super) fn set_mode(&self, app: &str, mode: &str) {
        let reason = "as the test wants it";
        let (code, said) = self
            .daemon
            .ctl(&self.lab, &["mode", mode, "--app", app, "--reason", reason]);
        assert_eq!(code, Some(0), "{said:#}");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- healerd said:\n{}---", self.lab.log("healerd"));
        }
    }
}
