//! A host with a real systemd on which healerd is installed as a package would do it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::lab::machine::{self, Machine};
use crate::lab::process::Output;
use crate::lab::{Lab, fixture, set_mode, store, wait_for};

/// Installed and configured, not started. Dropped in a failing test, it shows its journal.
pub(super) struct Host {
    pub(super) machine: Machine,
    pub(super) lab: Lab,
}

impl Host {
    /// A host with the programs, the unit and its companions, and this configuration; none where it cannot be had.
    pub(super) fn open(config: &str) -> Option<Self> {
        let programs = [machine::PROGRAMS, &["systemd-analyze", "php", "setpriv"]].concat();
        let lab = Lab::open(&programs)?;
        let machine = lab.machine();
        let host = Self { machine, lab };
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (from, to) in [
            (env!("CARGO_BIN_EXE_healerd").into(), "/usr/bin/healerd"),
            (env!("CARGO_BIN_EXE_healerctl").into(), "/usr/bin/healerctl"),
            (
                source.join("systemd/healerd.service"),
                "/etc/systemd/system/healerd.service",
            ),
            (
                source.join("packaging/sysusers.d/healerd.conf"),
                "/usr/lib/sysusers.d/healerd.conf",
            ),
            (
                source.join("packaging/tmpfiles.d/healerd.conf"),
                "/usr/lib/tmpfiles.d/healerd.conf",
            ),
        ] {
            let from: PathBuf = from;
            host.run(&["mkdir", "-p", parent(to)]).expect_success();
            std::fs::copy(&from, host.outside(to))
                .unwrap_or_else(|error| panic!("{} → {to}: {error}", from.display()));
        }
        host.run(&["systemd-sysusers"]).expect_success();
        host.run(&["systemd-tmpfiles", "--create", "healerd.conf"])
            .expect_success();
        host.write("/etc/healerd/healerd.toml", config);
        host.systemctl(&["daemon-reload"]);
        Some(host)
    }

    /// The same with the stack that is slow, and its application.
    pub(super) fn open_slow(config: &str) -> Option<Self> {
        let host = Self::open(config)?;
        host.write("/etc/healerd/stacks.d/slow.toml", super::SLOW_STACK);
        host.run(&["mkdir", "-p", "/srv/slow/data"])
            .expect_success();
        host.write("/srv/slow/slow.php", super::SLOW_PROGRAM);
        host.own("/srv/slow");
        Some(host)
    }

    /// A path inside, as it is seen from outside.
    pub(super) fn outside(&self, path: &str) -> PathBuf {
        self.machine
            .root()
            .join(path.strip_prefix('/').expect("an absolute path"))
    }

    /// A file of root's that everybody can read.
    pub(super) fn write(&self, path: &str, text: &str) {
        let file = self.outside(path);
        std::fs::write(&file, text).unwrap_or_else(|error| panic!("{path}: {error}"));
        set_mode(&file, 0o644);
    }

    pub(super) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.outside(path)).ok()
    }

    /// Plain PHP files at a path, the application user's.
    pub(super) fn site(&self, path: &str) {
        store::copy_tree(&fixture("php"), &self.outside(path));
        self.own(path);
    }

    /// Gives a tree to the user that applications run as.
    pub(super) fn own(&self, path: &str) {
        let user = &self.lab.user;
        let owner = format!("{}:{}", user.uid, user.gid);
        self.run(&["chown", "-R", &owner, path]).expect_success();
    }

    pub(super) fn run(&self, argv: &[&str]) -> Output {
        self.machine.run(argv)
    }

    #[track_caller]
    pub(super) fn systemctl(&self, arguments: &[&str]) {
        self.run(&[&["systemctl"], arguments].concat())
            .expect_success();
    }

    /// One property of the unit.
    pub(super) fn show(&self, property: &str) -> String {
        let said = self.run(&[
            "systemctl",
            "show",
            "--value",
            "--property",
            property,
            "healerd.service",
        ]);
        said.expect_success().stdout.trim().to_owned()
    }

    pub(super) fn ctl(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let said = self.run(&[&["healerctl", "--json"], arguments].concat());
        let json = serde_json::from_str(&said.stdout).unwrap_or(Value::Null);
        (said.code, json)
    }

    /// Heals of an application, newest first.
    pub(super) fn heals(&self, app: &str) -> Vec<Value> {
        let (_, said) = self.ctl(&["heals", "--app", app]);
        said["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the newest heal of an application is over and there are so many, and gives it.
    #[track_caller]
    pub(super) fn ended(&self, app: &str, count: usize) -> Value {
        let mut last = Vec::new();
        wait_for(&format!("{count} heals of {app} are over"), || {
            last = self.heals(app);
            last.len() == count && last.iter().all(|heal| heal["details"]["ended"] == true)
        });
        last.remove(0)
    }

    /// What the unit said to the journal, oldest first, with all fields.
    pub(super) fn journal(&self) -> Vec<Value> {
        let said = self.run(&["journalctl", "-o", "json", "-u", "healerd.service"]);
        said.expect_success()
            .stdout
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The entries with this message id.
    pub(super) fn told(&self, message: &str) -> Vec<Value> {
        let id = healerd::telemetry::message_id::message_id(message)
            .unwrap_or_else(|| panic!("`{message}` has no id"));
        let mut found = self.journal();
        found.retain(|entry| entry["MESSAGE_ID"] == id);
        found
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.run(&["journalctl", "--no-pager", "-n", "60", "-u", "healerd"]);
            eprintln!("--- the journal inside:\n{}---", said.stdout);
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("/", |(parent, _)| parent)
}

/// The table of a site below a path, without its mode.
pub(super) fn site_table(name: &str, path: &str, user: &str) -> String {
    format!(
        "[app.{name}]\npath = \"{path}\"\nstack = \"php\"\nuser = \"{user}\"\n\
         vars = {{ error_log = \"logs/php-errors.log\", error_log_max = \"2MiB\" }}\n"
    )
}
