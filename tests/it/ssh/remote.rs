//! A server, a key that it lets in, and the host that is reached with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use healer_agent::protocol::{Answer, Request, Target, VERSION};
use healerd::host::ssh::{AgentFiles, Pacer};
use healerd::host::{SshHost, SshLaunch};
use healerd::model::action::Identity;
use healerd::model::host::{SshAddress, SshHop, SshSettings, UserName};
use healerd::seam::{Call, Host as _, HostError, Lane, Login, Reply};
use healerd::system::{OsRandom, RealClock};

use crate::lab::sshd::{Like, Sshd, UID};
use crate::lab::{Lab, skip};

pub(super) const OWNER: &str = "daemon-of-the-test";

/// Programs that a lab of these tests needs.
pub(super) const PROGRAMS: [&str; 4] = ["sshd", "ssh-keygen", "unshare", "mount"];

/// One server and how it is reached.
pub(super) struct Remote {
    pub(super) lab: Lab,
    pub(super) sshd: Sshd,
    pub(super) settings: SshSettings,
    pub(super) launch: SshLaunch,
}

/// Where static agents are; built by `packaging/build-agent`.
pub(super) fn agents() -> Option<AgentFiles> {
    let directory = std::env::var_os("HEALERD_TESTS_AGENTS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/agents"),
        PathBuf::from,
    );
    let name = format!("healer-agent-{}", std::env::consts::ARCH);
    if !directory.join(name).is_file() {
        skip("needs the static agent: packaging/build-agent");
        return None;
    }
    Some(AgentFiles {
        directories: vec![directory],
    })
}

pub(super) fn launch(agents: AgentFiles) -> SshLaunch {
    SshLaunch {
        agents,
        owner: OWNER.to_owned(),
        answered: Arc::new(|| {}),
        clock: Arc::new(RealClock::new().unwrap()),
        random: Arc::new(OsRandom),
        pacer: Arc::new(Pacer::default()),
    }
}

impl Remote {
    /// A server that lets our key in and whose key is pinned.
    pub(super) fn open(like: &Like) -> Option<Self> {
        let agents = agents()?;
        let lab = Lab::open(&PROGRAMS)?;
        let sshd = lab.sshd("sshd", like);
        let key = lab.dir().join("id");
        lab.ssh_key(&key, "ed25519", "");
        sshd.authorize("", &lab.dir().join("id.pub"));
        let kind = like.host_keys.first().copied().unwrap_or("ed25519");
        let settings = SshSettings {
            target: hop(&sshd, vec![sshd.host_key(kind)]),
            jumps: Vec::new(),
            keys: vec![key],
            certificates: Vec::new(),
            agent: None,
            r#become: None,
            forced_command: false,
            connect_within: Duration::from_secs(15),
            idle: Duration::from_mins(10),
        };
        Some(Self {
            lab,
            sshd,
            settings,
            launch: launch(agents),
        })
    }

    pub(super) fn host(&self) -> SshHost {
        SshHost::new(
            "web1".parse().unwrap(),
            self.settings.clone(),
            self.launch.clone(),
        )
    }

    pub(super) fn authorize(&self, options: &str) {
        self.sshd.authorize(options, &self.lab.dir().join("id.pub"));
    }

    /// The agent's state on the server.
    pub(super) fn state(&self) -> PathBuf {
        self.sshd.home().join(".local/state/healerd")
    }
}

pub(super) fn hop(sshd: &Sshd, host_keys: Vec<String>) -> SshHop {
    SshHop {
        address: SshAddress {
            user: "shop".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: sshd.port,
        },
        host_keys,
    }
}

/// The server's user.
pub(super) fn login(user: &str) -> Login {
    Login {
        identity: Identity::App,
        uid: UID,
        gid: UID,
        user: UserName::parse(user),
    }
}

pub(super) fn call(login: Login, lane: Lane, request: Request) -> Call {
    Call {
        login,
        lane,
        request,
        body: Vec::new(),
        timeout: Duration::from_secs(20),
    }
}

/// Asks the host something small; the agent must be there to answer it.
pub(super) async fn room(host: &SshHost, user: &str) -> Result<Reply, HostError> {
    let request = Request::Room {
        path: "/".to_owned(),
    };
    host.call(call(login(user), Lane::Check, request)).await
}

/// It answers.
pub(super) async fn answers(host: &SshHost) {
    let reply = room(host, "shop").await.unwrap();
    assert!(matches!(reply.answer, Answer::Room { .. }), "{reply:?}");
}

/// It does not, and this is what is said about it.
pub(super) async fn refusal(host: &SshHost) -> String {
    match room(host, "shop").await {
        Err(error @ HostError::Unreachable { .. }) => error.to_string(),
        other => panic!("it ought to be unreachable: {other:?}"),
    }
}

pub(super) fn hello() -> Request {
    Request::Hello {
        version: VERSION,
        owner: OWNER.to_owned(),
    }
}

pub(super) fn target(root: &std::path::Path, uid: u32) -> Target {
    Target {
        root: root.display().to_string(),
        roots: Vec::new(),
        uid,
        gid: uid,
        volatile: Vec::new(),
    }
}
