//! The built daemon and its client, as a service manager and a person use them.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::process::{is_alive, run};
use super::{Lab, PATIENCE, set_mode, wait_for};

/// A running daemon. It ends with the lab, or before by [`Daemon::stop`].
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) pid: u32,
    pub(crate) socket: PathBuf,
    pub(crate) state_dir: PathBuf,
    /// Where it is scraped, `host:port`.
    pub(crate) metrics: String,
    /// A process in the network namespace that it runs in; none: this machine's.
    pub(crate) net: Option<u32>,
}

impl Lab {
    /// Starts the daemon with this configuration; the tables `daemon`, `control` and `metrics` are added to it, so that
    /// it uses the lab's places only.
    ///
    /// `allow` is the text of the list of operations that the local agent may carry out as root; empty means none.
    ///
    /// # Errors
    /// With all that it said, when it ended before its socket was there.
    pub(crate) fn daemon(&self, config: &str, allow: &str) -> Result<Daemon, String> {
        self.daemon_in(None, config, allow)
    }

    /// The same in the network namespace of a process.
    ///
    /// # Errors
    /// As [`Lab::daemon`].
    pub(crate) fn daemon_in(
        &self,
        net: Option<u32>,
        config: &str,
        allow: &str,
    ) -> Result<Daemon, String> {
        // Made by the daemon itself.
        let state_dir = self.dir().join("state");
        let socket = self.dir().join("control.sock");
        let file = self.dir().join("healerd.toml");
        let metrics = format!("127.0.0.1:{}", self.port());
        let list = self.dir().join("agent.toml");
        let allowed = if allow.is_empty() {
            String::new()
        } else {
            std::fs::write(&list, allow).expect("root can write");
            set_mode(&list, 0o600);
            format!("agent_allow = \"{}\"\n", list.display())
        };
        let places = format!(
            "\n[daemon]\nstate_dir = \"{}\"\n{allowed}[control]\nsocket = \"{}\"\n[metrics]\nlisten = \"{metrics}\"\n",
            state_dir.display(),
            socket.display(),
        );
        std::fs::write(&file, format!("{config}{places}")).expect("root can write");
        set_mode(&file, 0o600);
        self.start_daemon(Daemon {
            pid: 0,
            socket,
            state_dir,
            metrics,
            net,
        })
    }

    /// A stack file of the lab's own, for the daemons that start after it.
    pub(crate) fn stack_file(&self, name: &str, text: &str) {
        let folder = self.dir().join("stacks.d");
        std::fs::create_dir_all(&folder).expect("root can write");
        let file = folder.join(format!("{name}.toml"));
        std::fs::write(&file, text).expect("root can write");
        set_mode(&file, 0o644);
    }

    /// Starts a daemon again on the state that an earlier one left.
    ///
    /// # Errors
    /// As [`Lab::daemon`].
    pub(crate) fn restart_daemon(&self, earlier: Daemon) -> Result<Daemon, String> {
        self.start_daemon(earlier)
    }

    fn start_daemon(&self, mut daemon: Daemon) -> Result<Daemon, String> {
        let program = env!("CARGO_BIN_EXE_healerd");
        let mut command = match daemon.net {
            Some(net) => self.inside(net, program),
            None => self.as_root(program),
        };
        let pid = self.spawn(
            "healerd",
            command
                // Its prefix is the configuration's; the command line names the lab as well.
                .env_remove("HEALERD_LAB")
                .arg("--config")
                .arg(self.dir().join("healerd.toml")),
        );
        wait_for("healerd listens or ends", || {
            UnixStream::connect(&daemon.socket).is_ok() || !self.runs(pid)
        });
        if !self.runs(pid) {
            return Err(self.log("healerd"));
        }
        daemon.pid = pid;
        Ok(daemon)
    }
}

/// The table of one application of this machine, without its mode; `more` is further lines of it.
pub(crate) fn app_table(
    lab: &Lab,
    name: &str,
    stack: &str,
    path: &Path,
    url: &str,
    more: &str,
) -> String {
    format!(
        "[app.{name}]\npath = \"{}\"\nstack = \"{stack}\"\nuser = \"{}\"\nurl = \"{url}\"\n{more}\n",
        path.display(),
        lab.user.name,
    )
}

impl Daemon {
    /// Asks it to end and waits for that.
    pub(crate) fn stop(&self, lab: &Lab) {
        lab.stop(self.pid);
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&self, lab: &Lab) {
        super::faults::process_killed(self.pid);
        wait_for("healerd is gone", || {
            !lab.runs(self.pid) && !is_alive(self.pid)
        });
    }

    /// Runs `healerctl --json` against it: exit code, and what it printed (null where that is not JSON).
    pub(crate) fn ctl(&self, lab: &Lab, arguments: &[&str]) -> (Option<i32>, Value) {
        let output = run(
            lab.as_root(env!("CARGO_BIN_EXE_healerctl"))
                .arg("--socket")
                .arg(&self.socket)
                .arg("--json")
                .args(arguments),
            PATIENCE,
        );
        let json = serde_json::from_str(&output.stdout).unwrap_or(Value::Null);
        (output.code, json)
    }
}
