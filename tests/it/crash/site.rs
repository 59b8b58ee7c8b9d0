//! Where a run's application is: on this machine, or behind an SSH server.

use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::points;
use crate::lab::process::run;
use crate::lab::sshd::{Like, UID};
use crate::lab::user::User;
use crate::lab::{Lab, PATIENCE, set_mode, skip};

/// What labs of these tests need.
const PROGRAMS: &[&str] = &["sshd", "ssh-keygen", "unshare", "mount", "strip"];

/// What the file of an agent is called where the daemon looks for it.
fn agent_name() -> String {
    format!("healer-agent-{}", std::env::consts::ARCH)
}

/// One application's place.
pub(crate) struct Site {
    /// The folder that holds the application and the record of its starts, as seen from here.
    pub(crate) root: PathBuf,
    /// The same as its agent sees it.
    pub(crate) inside: String,
    /// Whose it is.
    pub(crate) user: User,
    /// What follows in the application's table, and tables behind it.
    pub(crate) tables: String,
    /// The daemon's program.
    pub(crate) program: PathBuf,
}

impl Site {
    pub(crate) fn here(lab: &Lab) -> Self {
        Self {
            root: lab.dir().to_owned(),
            inside: lab.dir().display().to_string(),
            user: lab.user.clone(),
            tables: String::new(),
            program: env!("CARGO_BIN_EXE_healerd").into(),
        }
    }

    /// Behind a server of the lab's own, which makes agents announce on pipes in the lab's folder.
    pub(crate) fn by_ssh(lab: &Lab, programs: &Programs) -> Self {
        let inside = lab.dir().display().to_string();
        let sshd = lab.sshd(
            "server",
            &Like {
                config: announcing(&points::variable(&inside)),
                ..Like::default()
            },
        );
        let key = lab.dir().join("id");
        lab.ssh_key(&key, "ed25519", "");
        sshd.authorize("", &lab.dir().join("id.pub"));
        Self {
            root: lab.dir().to_owned(),
            inside,
            user: User {
                name: "shop".to_owned(),
                uid: UID,
                gid: UID,
            },
            tables: tables("shop", sshd.port, &key, &sshd.host_key("ed25519")),
            program: programs.daemon.clone(),
        }
    }
}

/// A line of `sshd_config`.
pub(crate) fn announcing(variable: &str) -> String {
    format!("SetEnv {}={variable}", healer_agent::crash::PIPE)
}

/// The end of the application's table, and the table of its host.
pub(crate) fn tables(user: &str, port: u16, key: &Path, host_key: &str) -> String {
    format!(
        "host = \"far\"\n[host.far]\nssh = \"{user}@127.0.0.1:{port}\"\nkey = \"{}\"\nhost_key = \"{host_key}\"\n",
        key.display()
    )
}

/// The daemon's program, and beside it, where the daemon looks for what it pushes, an agent that announces its points too.
pub(crate) struct Programs {
    pub(crate) daemon: PathBuf,
    pub(crate) agent: PathBuf,
    _lab: Lab,
}

impl Programs {
    /// None where they cannot be had.
    pub(crate) fn open(more: &[&str]) -> Option<Self> {
        let built = Path::new(env!("CARGO_BIN_EXE_healerd"));
        let agent = built.with_file_name("healer-agent");
        let mark = healer_agent::crash::PIPE.as_bytes();
        let announces = std::fs::read(&agent)
            .is_ok_and(|bytes| bytes.windows(mark.len()).any(|part| part == mark));
        if !announces {
            skip("needs an agent with crash points: cargo build --workspace --all-features");
            return None;
        }
        let lab = Lab::open(&[PROGRAMS, more].concat())?;
        let folder = |name: &str| {
            let folder = lab.dir().join(name);
            std::fs::create_dir(&folder).expect("a new lab is empty");
            folder
        };
        let daemon = folder("bin").join("healerd");
        if std::fs::hard_link(built, &daemon).is_err() {
            std::fs::copy(built, &daemon).expect("root can copy");
        }
        let there = folder("agents").join(agent_name());
        // Its symbols are ten times the program.
        let mut strip = Command::new("strip");
        strip.args(["--strip-all", "-o"]).args([&there, &agent]);
        run(&mut strip, PATIENCE).expect_success();
        set_mode(&there, 0o700);
        lchown(&there, Some(UID), Some(UID)).expect("we are root");
        Some(Self {
            daemon,
            agent: there,
            _lab: lab,
        })
    }

    /// From now on another build of the same agent is what the daemon pushes.
    pub(crate) fn replace_agent(&self) {
        let mut bytes = std::fs::read(&self.agent).expect("it was put there");
        bytes.extend_from_slice(b"another build\n");
        let new = self.agent.with_extension("new");
        std::fs::write(&new, bytes).expect("root can write");
        std::fs::rename(&new, &self.agent).expect("same folder");
    }

    /// The name of the agent's folder on hosts.
    pub(crate) fn hash(&self) -> String {
        let bytes = std::fs::read(&self.agent).expect("it was put there");
        blake3::hash(&bytes).to_hex().to_string()
    }

    /// Puts the agent into a home as a push would, because pushing is not what every run is about.
    pub(crate) fn place(&self, home: &Path, user: &User) {
        let mut folder = home.to_owned();
        for name in [".local", "state", "healerd", "agents", &self.hash()] {
            folder.push(name);
            std::fs::create_dir(&folder).expect("root can write");
            set_mode(&folder, 0o700);
            lchown(&folder, Some(user.uid), Some(user.gid)).expect("we are root");
        }
        let program = folder.join("healer-agent");
        if user.uid != UID || std::fs::hard_link(&self.agent, &program).is_err() {
            std::fs::copy(&self.agent, &program).expect("root can copy");
            user.own(&program);
        }
    }
}
