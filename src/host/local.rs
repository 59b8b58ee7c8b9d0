//! This machine: agents are child processes of the daemon, one per user and lane.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use healer_agent::protocol::RefusalCode;
use tokio::process::Child;
use tokio::sync::Mutex;

use super::connection::{Connection, ConnectionError, not_ours};
use crate::model::action::Identity;
use crate::model::name::HostName;
use crate::seam::{BoxFuture, Call, Host, HostError, Lane, Login, Reply};

/// An agent that does not greet within this has failed to start.
const GREETING: Duration = Duration::from_secs(10);

/// How agents of this machine are started.
#[derive(Clone)]
pub struct Launch {
    /// The program, and the arguments that make it an agent: `healerd agent`, or `healer-agent`.
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Persistent state of agents, a directory per user below it.
    pub state: PathBuf,
    /// The root agent's list of allowed operations.
    pub allow: Option<PathBuf>,
    /// Supplementary groups of a user, asked when an agent of his is started.
    pub groups: Arc<dyn Fn(u32) -> Vec<u32> + Send + Sync>,
    /// Told of every answer of an agent: long work that goes on is progress.
    pub answered: Arc<dyn Fn() + Send + Sync>,
    /// The installation, for the witness.
    pub owner: String,
}

impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launch")
            .field("program", &self.program)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

struct Agent {
    connection: Arc<Connection>,
    /// Killed when dropped; a running action has its own supervisor and goes on.
    _child: Child,
}

/// Why there is none, in a sentence.
enum NoAgent {
    Unreachable(String),
    /// It greeted, and keeps the records of another daemon.
    NotOurs(String),
}

impl From<String> for NoAgent {
    fn from(reason: String) -> Self {
        Self::Unreachable(reason)
    }
}

/// Where an agent lives, or will.
type Place = Arc<Mutex<Option<Agent>>>;

/// This machine.
pub struct LocalHost {
    name: HostName,
    launch: Launch,
    /// One place per user and lane, so that an agent that is slow to start holds up nobody else.
    agents: std::sync::Mutex<BTreeMap<(Login, Lane), Place>>,
}

impl std::fmt::Debug for LocalHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalHost")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl LocalHost {
    /// Nothing is started until the first request.
    pub fn new(name: HostName, launch: Launch) -> Self {
        Self {
            name,
            launch,
            agents: std::sync::Mutex::default(),
        }
    }

    async fn connection(&self, login: Login, lane: Lane) -> Result<Arc<Connection>, HostError> {
        let place = Arc::clone(self.places().entry((login, lane)).or_default());
        let mut agent = place.lock().await;
        if let Some(alive) = agent.as_ref().filter(|agent| !agent.connection.is_closed()) {
            return Ok(Arc::clone(&alive.connection));
        }
        *agent = None;
        let started = self.start(login).await.map_err(|why| {
            let host = self.name.clone();
            match why {
                NoAgent::Unreachable(reason) => HostError::Unreachable { host, reason },
                NoAgent::NotOurs(reason) => HostError::NotOurs { host, reason },
            }
        })?;
        let connection = Arc::clone(&started.connection);
        *agent = Some(started);
        Ok(connection)
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<(Login, Lane), Place>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(&self, login: Login) -> Result<Agent, NoAgent> {
        let own_uid = rustix::process::geteuid().as_raw();
        let (word, state) = match login.identity {
            Identity::App => ("app", self.launch.state.join(login.uid.to_string())),
            Identity::Root => ("root", self.launch.state.join("root")),
        };
        match login.identity {
            Identity::Root if own_uid != 0 => {
                return Err("root operations need a daemon that runs as root"
                    .to_owned()
                    .into());
            }
            Identity::App if own_uid != 0 && login.uid != own_uid => {
                return Err(format!(
                    "an agent for uid {} needs a daemon that runs as root or as that user",
                    login.uid
                )
                .into());
            }
            Identity::App | Identity::Root => {}
        }
        let uid = if login.identity == Identity::Root {
            0
        } else {
            login.uid
        };
        let gid = if login.identity == Identity::Root {
            0
        } else {
            login.gid
        };
        prepare_state(&state, uid, gid)
            .map_err(|error| format!("{} cannot be prepared: {error}", state.display()))?;
        let mut arguments = self.launch.arguments.clone();
        arguments.extend([
            "--identity".to_owned(),
            word.to_owned(),
            "--state".to_owned(),
            state.display().to_string(),
        ]);
        if own_uid == 0 && login.identity == Identity::App {
            let groups = (self.launch.groups)(uid);
            let groups = if groups.is_empty() { vec![gid] } else { groups };
            let groups: Vec<_> = groups.iter().map(ToString::to_string).collect();
            arguments.extend(
                [
                    "--uid",
                    &uid.to_string(),
                    "--gid",
                    &gid.to_string(),
                    "--groups",
                    &groups.join(","),
                ]
                .map(str::to_owned),
            );
        }
        if let (Identity::Root, Some(allow)) = (login.identity, &self.launch.allow) {
            arguments.extend(["--allow".to_owned(), allow.display().to_string()]);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the home of starting local agents"
        )]
        let mut command = tokio::process::Command::new(&self.launch.program);
        let mut child = command
            .args(&arguments)
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| {
                ["PATH", "LANG", "HEALERD_CRASH_PIPE"].contains(&name.as_str())
            }))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                format!(
                    "{} cannot be started: {error}",
                    self.launch.program.display()
                )
            })?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the agent has no pipes".to_owned().into());
        };
        let connection = Connection::open(stdout, stdin, &self.launch.owner, GREETING)
            .await
            .map_err(|error| {
                if let ConnectionError::NotOurs(theirs) = error {
                    let records = state.display().to_string();
                    NoAgent::NotOurs(not_ours(&theirs, &self.launch.owner, Some(&records)))
                } else {
                    format!("the agent for uid {uid} did not start: {error}").into()
                }
            })?;
        if connection.hello().uid != uid {
            return Err(format!(
                "the agent runs as uid {}, not {uid}",
                connection.hello().uid
            )
            .into());
        }
        Ok(Agent {
            connection: Arc::new(connection),
            _child: child,
        })
    }
}

impl Host for LocalHost {
    fn name(&self) -> &HostName {
        &self.name
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<Reply, HostError>> {
        Box::pin(async move {
            call.check(&self.name)?;
            let host = || self.name.clone();
            // Once more with a new agent, when the old one was gone before anything was sent.
            for _ in 0..2 {
                let connection = self.connection(call.login, call.lane).await?;
                match connection
                    .call(&call.request, &call.body, call.timeout)
                    .await
                {
                    Ok((answer, body)) => {
                        (self.launch.answered)();
                        return Ok(Reply { answer, body });
                    }
                    Err(ConnectionError::Closed) => {}
                    Err(ConnectionError::Refused(refusal)) => {
                        if refusal.code == RefusalCode::Owner {
                            // The next request greets another agent, which says anew whose it is.
                            self.places().remove(&(call.login, call.lane));
                        }
                        return Err(HostError::Refused {
                            host: host(),
                            refusal,
                        });
                    }
                    Err(ConnectionError::Unknown(reason)) => {
                        return Err(HostError::Unknown {
                            host: host(),
                            reason,
                        });
                    }
                    Err(ConnectionError::Malformed(_) | ConnectionError::NotOurs(_)) => {
                        return Err(HostError::Protocol { host: host() });
                    }
                }
            }
            Err(HostError::Unreachable {
                host: host(),
                reason: "agents end as soon as they start".to_owned(),
            })
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.places().clear() })
    }
}

/// The agents' state lies in a directory of their user's, 0700, below one that only we can write.
fn prepare_state(state: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if let Some(parent) = state.parent() {
        match std::fs::DirBuilder::new().mode(0o700).create(parent) {
            // Made passable by name, whatever the umask: their users go through it.
            Ok(()) => {
                std::fs::File::open(parent)?
                    .set_permissions(std::fs::Permissions::from_mode(0o711))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    match std::fs::DirBuilder::new().mode(0o700).create(state) {
        Ok(()) => {
            if rustix::process::geteuid().is_root() {
                std::os::unix::fs::lchown(state, Some(uid), Some(gid))?;
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = std::fs::symlink_metadata(state)?;
            if found.is_dir() && found.uid() == uid && found.mode().trailing_zeros() >= 6 {
                Ok(())
            } else {
                Err(io::Error::other(
                    "it must be a directory of that user's with mode 0700",
                ))
            }
        }
        Err(error) => Err(error),
    }
}
