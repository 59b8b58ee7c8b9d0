//! Hosts that are reached by SSH: the same agent, at the other end of an exec channel.
//!
//! `SshHost` gives every request to the agent of the right user and lane. What lies below: `pins` judge host keys,
//! `dial` connects and logs in, `session` opens channels, `push` puts the agent there, `pool` keeps what is open, and
//! `pace` keeps from trying too often. Nothing here knows what requests mean, and nothing is asked of a person.
//!

mod agents;
mod command;
mod dial;
mod error;
mod examine;
mod gate;
mod keys;
mod login;
mod pace;
mod pins;
mod pool;
mod push;
mod remotes;
mod session;
mod slots;
mod stream;
mod sudo;

use std::fmt;
use std::sync::Arc;

use healer_agent::protocol::RefusalCode;

use crate::host::connection::ConnectionError;
use crate::model::action::Identity;
use crate::model::host::{SshSettings, UNKNOWN_ID};
use crate::model::name::HostName;
use crate::seam::{BoxFuture, Call, Clock, Host, HostError, Login, Randomness, Reply};

pub use agents::AgentFiles;
pub use error::{Doubt, SshError, Stage};
pub use pace::Pacer;
pub use pins::fingerprint;
pub use remotes::{SshRemotes, scan};

use pool::{Agent, Pool, Who};
use remotes::told;

/// What all hosts have in common.
#[derive(Clone)]
pub struct SshLaunch {
    /// Agents that can be pushed.
    pub agents: AgentFiles,
    /// The installation, for the witness.
    pub owner: String,
    /// Told of every answer of an agent: long work that goes on is progress.
    pub answered: Arc<dyn Fn() + Send + Sync>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Randomness>,
    /// Shared by all hosts, since several of them may lie behind one server.
    pub pacer: Arc<Pacer>,
}

impl fmt::Debug for SshLaunch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshLaunch")
            .field("agents", &self.agents)
            .finish_non_exhaustive()
    }
}

/// A machine that is reached by SSH.
pub struct SshHost {
    name: HostName,
    pool: Arc<Pool>,
}

impl fmt::Debug for SshHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshHost")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl SshHost {
    /// Nothing is connected to until the first request.
    pub fn new(name: HostName, settings: SshSettings, launch: SshLaunch) -> Self {
        Self {
            name,
            pool: Arc::new(Pool::new(settings, launch)),
        }
    }

    /// Forgets earlier failures: a person wants to know how it is now.
    pub fn forgive(&self) {
        self.pool.forgive();
    }

    fn who(&self, call: &Call) -> Who {
        let own = || self.pool.settings().target.address.user.clone();
        let user = match (call.login.identity, call.login.user) {
            (Identity::App, Some(user)) => user.to_string(),
            (Identity::App, None) | (Identity::Root, _) => own(),
        };
        Who {
            user,
            identity: call.login.identity,
            lane: call.lane,
        }
    }

    async fn agent(&self, who: &Who, login: Login) -> Result<Arc<Agent>, HostError> {
        // Whoever waits longer than a login may take is told; the connecting goes on and serves who asks later.
        let patience = self.pool.settings().connect_within + pool::GREETING;
        let agent = match tokio::time::timeout(patience, self.pool.agent(who)).await {
            Ok(Ok(agent)) => agent,
            Ok(Err(error)) => return Err(told(&self.name, &error)),
            Err(_) => {
                return Err(self.unreachable(
                    "its agent is still being put there or started; that goes on".to_owned(),
                ));
            }
        };
        let found = agent.connection.hello().uid;
        if login.uid != UNKNOWN_ID && found != login.uid {
            return Err(self.unreachable(format!(
                "the agent for user {} runs as uid {found}, and uid {} was learned; `healerctl adopt {}` if that is right",
                who.user, login.uid, self.name
            )));
        }
        Ok(agent)
    }

    fn unreachable(&self, reason: String) -> HostError {
        HostError::Unreachable {
            host: self.name.clone(),
            reason,
        }
    }
}

impl Host for SshHost {
    fn name(&self) -> &HostName {
        &self.name
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<Reply, HostError>> {
        Box::pin(async move {
            call.check(&self.name)?;
            let host = || self.name.clone();
            let who = self.who(&call);
            // Once more with a new agent, when the old one was gone before anything was sent.
            for _ in 0..2 {
                let agent = self.agent(&who, call.login).await?;
                let pool = Arc::clone(&self.pool);
                let _used = agent.session.used(move || pool.now_ms());
                let place = tokio::time::timeout(call.timeout, agent.room.acquire()).await;
                let Ok(Ok(_place)) = place else {
                    return Err(self
                        .unreachable("too many requests wait there for their answers".to_owned()));
                };
                let answer = agent
                    .connection
                    .call(&call.request, &call.body, call.timeout)
                    .await;
                match answer {
                    Ok((answer, body)) => {
                        agent.answered();
                        (self.pool.answered())();
                        return Ok(Reply { answer, body });
                    }
                    Err(ConnectionError::Closed) => {}
                    Err(ConnectionError::Refused(refusal)) => {
                        agent.answered();
                        if refusal.code == RefusalCode::Owner {
                            agent.leave();
                        }
                        return Err(HostError::Refused {
                            host: host(),
                            refusal,
                        });
                    }
                    Err(ConnectionError::Unknown(reason)) => {
                        agent.kept_silent();
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
            Err(self.unreachable("agents end as soon as they start".to_owned()))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.pool.clear() })
    }
}
