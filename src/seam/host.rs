//! Reaching the agent on a host.

use std::time::Duration;

use healer_agent::protocol::{Answer, Refusal, Request};

use super::BoxFuture;
use crate::model::action::Identity;
use crate::model::app::App;
use crate::model::host::{UNKNOWN_ID, UserName};
use crate::model::name::HostName;

/// Which agent of a host: one per user, and per lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Login {
    pub identity: Identity,
    /// Whom the agent must say that it is; [`UNKNOWN_ID`] while that is not known yet, when it is only asked who it is.
    pub uid: u32,
    pub gid: u32,
    /// Who logs in on a host that is not this machine; `None`: whoever its configuration names.
    pub user: Option<UserName>,
}

impl Login {
    /// The agent that reads and acts as the app's user.
    pub fn of_app(app: &App) -> Self {
        Self {
            identity: Identity::App,
            uid: app.target.uid,
            gid: app.target.gid,
            user: UserName::parse(&app.user),
        }
    }

    /// The agent that an action's steps run in.
    pub fn of_action(app: &App, identity: Identity) -> Self {
        match identity {
            Identity::App => Self::of_app(app),
            Identity::Root => Self {
                identity: Identity::Root,
                uid: 0,
                gid: 0,
                user: None,
            },
        }
    }

    /// The agent that can always be started and says which machine it is on: of the daemon's own user here, of the
    /// default login elsewhere.
    pub fn of_host(host: &HostName) -> Self {
        if *host == HostName::local() {
            Self::of_daemon()
        } else {
            Self::unknown(None)
        }
    }

    /// A login of which the numbers are not known: it is asked who it is, and nothing else.
    pub const fn unknown(user: Option<UserName>) -> Self {
        Self {
            identity: Identity::App,
            uid: UNKNOWN_ID,
            gid: UNKNOWN_ID,
            user,
        }
    }

    /// An agent with the daemon's own user.
    pub fn of_daemon() -> Self {
        let (uid, gid) = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let identity = if uid == 0 {
            Identity::Root
        } else {
            Identity::App
        };
        Self {
            identity,
            uid,
            gid,
            user: None,
        }
    }
}

/// Checks and bulk data never share a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The agent that is kept warm.
    Check,
    /// A second, short-lived one, for contents.
    Bulk,
}

/// One request with everything around it.
#[derive(Debug, Clone)]
pub struct Call {
    pub login: Login,
    pub lane: Lane,
    pub request: Request,
    pub body: Vec<u8>,
    /// Longest wait for the answer; past it the result is unknown, and the caller is told so.
    pub timeout: Duration,
}

impl Call {
    /// A login whose numbers nobody knows is asked who it is, and nothing else. Every host holds its calls to this.
    ///
    /// # Errors
    /// When it is asked for more.
    pub fn check(&self, host: &HostName) -> Result<(), HostError> {
        let is_greeting = matches!(self.request, Request::Hello { .. });
        if self.login.uid == UNKNOWN_ID && !is_greeting {
            return Err(HostError::Unreachable {
                host: host.clone(),
                reason: "it is not known who the application's user is there".to_owned(),
            });
        }
        Ok(())
    }
}

/// An answer that is not a refusal.
#[derive(Debug, Clone)]
pub struct Reply {
    pub answer: Answer,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HostError {
    /// Nothing was sent: the agent could not be reached or started.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable { host: HostName, reason: String },
    /// Whether it is the right machine is in doubt: its key is unknown, changed or revoked. Nothing was sent, and no
    /// login was tried.
    #[error("{host} is not trusted: {reason}")]
    Untrusted { host: HostName, reason: String },
    /// The records there belong to another daemon, which looks after it. Nothing was asked but who answers.
    #[error("{host} is not asked: {reason}")]
    NotOurs { host: HostName, reason: String },
    /// Sent, and no answer came: whether it was carried out is unknown.
    #[error("no answer from {host}: {reason}")]
    Unknown { host: HostName, reason: String },
    /// The agent refused, and did nothing.
    #[error("{host} refused: {refusal}")]
    Refused { host: HostName, refusal: Refusal },
    /// The answer is not one that this request can have.
    #[error("{host} answered something else than was asked")]
    Protocol { host: HostName },
}

/// One machine. Object-safe, so that the engine is not generic over the world.
pub trait Host: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &HostName;

    /// Sends one request and waits for its answer.
    ///
    /// An agent that says that it is another user than the call's login is not asked: [`HostError::Unreachable`].
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Reply, HostError>>;

    /// Ends agents that nobody needs any more (after a reload, at shutdown). Running actions go on.
    fn close(&self) -> BoxFuture<'_, ()>;
}
