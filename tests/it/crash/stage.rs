//! The stage of one run: a small application with a closed door, a daemon that may open it, and a record outside both.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::site::Site;
use crate::lab::process::{Output, run};
use crate::lab::tree::{Look, hash_tree};
use crate::lab::{Lab, PATIENCE, fixture, set_mode, store};

/// The name of the application in the configuration.
pub(crate) const APP: &str = "house";

/// What a story does differently from the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plot {
    pub(crate) mode: &'static str,
    pub(crate) risk: &'static str,
    /// The last step of the action: the one that helps, or does not.
    pub(crate) last_step: &'static str,
    /// How long the action may take.
    pub(crate) timeout: &'static str,
    /// The whole action instead, for an identity that may not run programs.
    pub(crate) as_root: bool,
}

/// Everything of one run.
pub(crate) struct Stage {
    pub(crate) app: PathBuf,
    pub(crate) state_dir: PathBuf,
    /// One file for each start of the action.
    starts: PathBuf,
    socket: PathBuf,
    config: PathBuf,
    /// The daemon's program.
    program: PathBuf,
    before: Look,
    pub(crate) lab: Lab,
}

impl Stage {
    /// Builds it; no daemon runs yet.
    pub(crate) fn build(lab: Lab, plot: &Plot, site: &Site) -> Self {
        let dir = lab.dir().to_owned();
        let (app, starts) = (site.root.join("house"), site.root.join("starts"));
        furnish(site, &app, plot);
        std::fs::create_dir(&starts).expect("root can write");
        site.user.own(&starts);
        let stage = Self {
            state_dir: dir.join("state"),
            socket: dir.join("control.sock"),
            config: dir.join("healerd.toml"),
            program: site.program.clone(),
            before: hash_tree(&app, &[]),
            app,
            starts,
            lab,
        };
        stage.write_configuration(plot, site);
        stage
    }

    fn write_configuration(&self, plot: &Plot, site: &Site) {
        let dir = self.lab.dir();
        std::fs::create_dir(dir.join("stacks.d")).expect("root can write");
        let action = if plot.as_root {
            ROOT_ACTION.to_owned()
        } else {
            ACTION
                .replace("STARTS", &format!("{}/starts", site.inside))
                .replace("LAST_STEP", plot.last_step)
                .replace("TIMEOUT", plot.timeout)
        };
        let files = [
            (
                dir.join("stacks.d/house.toml"),
                format!("{CHECK}{action}").replace("RISK", plot.risk),
            ),
            (
                dir.join("agent.toml"),
                format!(
                    "[[chown]]\nbelow = {0:?}\nto = [\"root\", {1:?}]\n\n[[modes]]\nbelow = {0:?}\n",
                    self.app, site.user.name
                ),
            ),
            (
                self.config.clone(),
                CONFIGURATION
                    .replace("MODE", plot.mode)
                    .replace("DIR", &dir.display().to_string())
                    .replace("INSIDE", &site.inside)
                    .replace("USER", &site.user.name)
                    + &site.tables,
            ),
        ];
        for (path, text) in files {
            std::fs::write(&path, text).expect("root can write");
            set_mode(&path, 0o600);
        }
    }

    /// Starts the daemon, on whatever an earlier one left.
    pub(crate) fn start(&self, announces: &str) -> u32 {
        self.lab.spawn(
            "healerd",
            self.lab
                .as_root(&self.program)
                // The prefix is that of settings, and this is none; the command line names the lab as well.
                .env_remove("HEALERD_LAB")
                .env(healer_agent::crash::PIPE, announces)
                .arg("--config")
                .arg(&self.config),
        )
    }

    /// Is somebody there at the control socket?
    pub(crate) fn listens(&self) -> bool {
        UnixStream::connect(&self.socket).is_ok()
    }

    /// Asks the daemon as root does.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        run(
            self.lab
                .as_root(env!("CARGO_BIN_EXE_healerctl"))
                .arg("--socket")
                .arg(&self.socket)
                .arg("--json")
                .args(arguments),
            PATIENCE,
        )
    }

    /// How often the action was started, as a record says that no daemon keeps.
    pub(crate) fn starts(&self) -> usize {
        std::fs::read_dir(&self.starts)
            .expect("root can read")
            .count()
    }

    /// What is not as it was before everything; empty when all is, to the last attribute.
    pub(crate) fn changes(&self) -> Vec<String> {
        self.before.differences(&hash_tree(&self.app, &[]))
    }

    /// What differs from a whole cure; times of change are the only thing that two cures may differ in.
    pub(crate) fn lacks(&self, cured: &[(&str, &str)]) -> Vec<String> {
        cured
            .iter()
            .filter_map(|(name, want)| {
                let found = std::fs::read_to_string(self.app.join(name)).unwrap_or_default();
                (found != *want).then(|| format!("{name} holds {found:?}"))
            })
            .collect()
    }

    /// Files of ours that lie about in the application.
    pub(crate) fn litter(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.app, ".healerd", &mut found);
        found
    }

    /// Is no backup begun and not ended? Whatever a process that died left of one goes when the next one starts.
    pub(crate) fn vault_is_tidy(&self) -> bool {
        let temps = self.state_dir.join("vault/tmp");
        let mut found = Vec::new();
        if temps.exists() {
            collect(&temps, "", &mut found);
        }
        found.is_empty()
    }
}

fn collect(folder: &Path, beginning: &str, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("root can read").flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(beginning) {
            into.push(path.display().to_string());
        }
        if path.is_dir() && !path.is_symlink() {
            collect(&path, beginning, into);
        }
    }
}

/// The application: plain PHP that is never asked over HTTP, a sign at its door, and rooms for the action to write in.
fn furnish(site: &Site, app: &Path, plot: &Plot) {
    store::copy_tree(&fixture("php"), app);
    for folder in ["made", "attic"] {
        std::fs::create_dir(app.join(folder)).expect("root can write");
    }
    for (name, text, mode) in [
        (".env", "DOOR=closed\nNAME=house\n", 0o640),
        ("closed.sign", "closed\n", 0o644),
        ("plan.dist", "plan of the house\n", 0o644),
        ("attic/old.txt", "old\n", 0o604),
    ] {
        std::fs::write(app.join(name), text).expect("root can write");
        set_mode(&app.join(name), mode);
    }
    site.user.own_all(app);
    set_mode(&app.join("attic"), 0o750);
    if plot.as_root {
        for name in ["made", "attic/old.txt"] {
            std::os::unix::fs::lchown(app.join(name), Some(0), Some(0)).expect("we are root");
        }
    }
    // Times of the past, so that every change shows.
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    for name in [
        "attic/old.txt",
        "closed.sign",
        ".env",
        "plan.dist",
        "attic",
        "made",
        "",
    ] {
        std::fs::File::open(app.join(name))
            .and_then(|file| file.set_modified(past))
            .expect("root can set times");
    }
}

const CHECK: &str = r#"
title = "House"
extends = "php"

[check.door_is_open]
title = "the door is open"
category = "SYSTEM"
probes.sign = { file = { path = "closed.sign" } }
rules = [{ when = { "sign.exists" = true }, status = "FAIL", severity = "HIGH", message = "the door is closed" }]
suggested_fix = "Take the sign away"
remedies = ["open_door"]
"#;

/// Programs and native steps, a file that is new, one that is rewritten, one that goes.
const ACTION: &str = r#"
[action.open_door]
title = "Open the door"
risk = "RISK"
writes = [{ content = "made/**" }, { content = ".env" }, { content = "closed.sign" }, { content = "attic/**" }]
scratch = ["STARTS"]
steps = [
  { run = { argv = ["/usr/bin/mktemp", "--tmpdir=STARTS", "XXXXXXXXXX"] } },
  { run = { argv = ["/usr/bin/cp", "--", "plan.dist", "made/plan"] } },
  { edit_key = { path = ".env", key = "DOOR", value = "open" } },
  { set_bits = { paths = ["attic/old.txt"], remove = "o+r" } },
  { remove = { paths = ["LAST_STEP"] } },
]
proves = "door_is_open"
timeout = "TIMEOUT"
settle = "1s"
estimate = "1s"
"#;

/// What only root can do, and it does not help.
const ROOT_ACTION: &str = r#"
[action.open_door]
title = "Give the house to its owner"
risk = "RISK"
writes = [{ metadata = "made" }, { metadata = "attic/old.txt" }]
steps = [{ chown = { paths = ["made", "attic/old.txt"], to = "app" } }, { set_bits = { paths = ["attic/old.txt"], remove = "o+r" } }]
proves = "door_is_open"
timeout = "20s"
settle = "1s"
estimate = "1s"
"#;

const CONFIGURATION: &str = r#"
mode = "MODE"
[daemon]
state_dir = "DIR/state"
agent_allow = "DIR/agent.toml"
[control]
socket = "DIR/control.sock"
[metrics]
enabled = false
[check]
interval = "1s"
jitter = 0
look = "1s"
[dwell]
time = "0s"
looks = 1
critical_time = "0s"
critical_looks = 1
[grace]
time = "0s"
[settle]
time = "1s"
restart = "1s"
verdict_deadline = "20s"
[soak]
time = "200ms"
recurrence = "10s"
[pause]
app = "0s"
action = "0s"
[approval]
persons = "one"
[backup]
room = "1MiB"
base_bytes_max = "1MiB"
vault_bytes_max = "64MiB"
[app.house]
path = "INSIDE/house"
stack = "house"
user = "USER"
"#;
