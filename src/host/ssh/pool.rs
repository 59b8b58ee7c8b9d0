//! Connections and agents of one host: made when somebody needs them, shared, and closed when nobody does.
//!
//! One connection per login user for checks and one for contents, so that a big copy is never in front of a check; on
//! each one agent per identity. A host that hangs costs its own callers their time and nobody else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::SshLaunch;
use super::command;
use super::dial::{self, Route};
use super::error::{SshError, Stage, quoted};
use super::keys::Credentials;
use super::pace::Backoff;
use super::push::{self, Placed};
use super::session::{Running, Session};
use super::slots::Slots;
use super::stream::{self, Watch};
use super::sudo;
use crate::host::connection::{Connection, ConnectionError, not_ours};
use crate::model::action::Identity;
use crate::model::host::{Become, ROOT_STATE, SshHop, SshSettings};
use crate::seam::Lane;

/// An agent that does not greet within this has failed to start.
pub(super) const GREETING: Duration = Duration::from_secs(15);

/// Requests that one agent gets at a time; a little below what it accepts.
const REQUESTS_MAX: usize = 28;

/// Requests in a row without any answer, after which an agent is taken for frozen and left.
const SILENCE_MAX: u32 = 2;

/// A connection for contents is closed this soon.
const BULK_IDLE: Duration = Duration::from_secs(30);

/// How often idleness is looked at, at most.
const LOOK: Duration = Duration::from_secs(30);

/// Which agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    pub(super) user: String,
    pub(super) identity: Identity,
    pub(super) lane: Lane,
}

/// A running agent.
pub(super) struct Agent {
    pub(super) connection: Connection,
    pub(super) session: Arc<Session>,
    /// Places for requests.
    pub(super) room: Semaphore,
    silent: AtomicU32,
    _stop: oneshot::Sender<()>,
}

impl Agent {
    /// An answer came.
    pub(super) fn answered(&self) {
        self.silent.store(0, Ordering::Relaxed);
    }

    /// None came in time.
    pub(super) fn kept_silent(&self) {
        self.silent.fetch_add(1, Ordering::Relaxed);
    }

    /// It is not asked any more: the next request greets another one, which says anew whose it is.
    pub(super) fn leave(&self) {
        self.silent.store(SILENCE_MAX, Ordering::Relaxed);
    }

    fn is_usable(&self) -> bool {
        !self.connection.is_closed()
            && !self.session.is_closed()
            && self.silent.load(Ordering::Relaxed) < SILENCE_MAX
    }
}

/// Failures are remembered per login user, and apart for what comes after the login.
type Backoffs = BTreeMap<(String, Option<Identity>), Backoff>;

/// Everything that is open to one host.
pub(super) struct Pool {
    settings: SshSettings,
    launch: SshLaunch,
    sessions: Slots<(String, Lane), Session>,
    agents: Slots<Who, Agent>,
    backoffs: Mutex<Backoffs>,
    /// Where the agent lies, by login user.
    placed: Mutex<BTreeMap<String, Placed>>,
}

impl Pool {
    pub(super) fn new(settings: SshSettings, launch: SshLaunch) -> Self {
        Self {
            settings,
            launch,
            sessions: Slots::default(),
            agents: Slots::default(),
            backoffs: Mutex::default(),
            placed: Mutex::default(),
        }
    }

    pub(super) fn settings(&self) -> &SshSettings {
        &self.settings
    }

    /// Whom to tell of an answer.
    pub(super) fn answered(&self) -> &(dyn Fn() + Send + Sync) {
        self.launch.answered.as_ref()
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.launch.clock.now().boot_ms
    }

    /// The agent of that kind, started if there is none.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub(super) async fn agent(self: &Arc<Self>, who: &Who) -> Result<Arc<Agent>, SshError> {
        let making = self.agents.get(who, Agent::is_usable, || {
            let (pool, who) = (Arc::clone(self), who.clone());
            async move {
                let key = (who.user.clone(), Some(who.identity));
                let starting = Box::pin(pool.start(&who));
                pool.patiently(key, starting).await.map(Arc::new)
            }
        });
        making.await
    }

    /// Ends everything, after a reload or at shutdown.
    pub(super) fn clear(&self) {
        self.agents.clear();
        self.sessions.clear();
    }

    /// Forgets failures, so that the next request tries at once.
    pub(super) fn forgive(&self) {
        self.lock_backoffs().clear();
    }

    /// Remembers a failure and refuses to repeat it too early.
    async fn patiently<T>(
        &self,
        key: (String, Option<Identity>),
        work: impl Future<Output = Result<T, SshError>>,
    ) -> Result<T, SshError> {
        let now = self.now_ms();
        let refusal = self.lock_backoffs().get(&key).and_then(|b| b.refusal(now));
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let done = work.await;
        let now = self.now_ms();
        let mut backoffs = self.lock_backoffs();
        match &done {
            Ok(_) => drop(backoffs.remove(&key)),
            Err(error) => {
                if let Some(backoff) = Backoff::after(backoffs.get(&key), error, now) {
                    backoffs.insert(key, backoff);
                }
            }
        }
        drop(backoffs);
        done
    }

    /// The connection of that login user and lane.
    async fn session(self: &Arc<Self>, user: &str, lane: Lane) -> Result<Arc<Session>, SshError> {
        let key = (user.to_owned(), lane);
        let alive = |session: &Session| !session.is_closed();
        let making = self.sessions.get(&key, alive, || {
            let (pool, user) = (Arc::clone(self), user.to_owned());
            async move {
                let dialled = Box::pin(pool.dial(&user));
                let session = pool.patiently((user.clone(), None), dialled).await?;
                let session = Arc::new(session);
                tokio::spawn(close_when_idle(
                    Arc::downgrade(&pool),
                    Arc::downgrade(&session),
                    pool.idle(lane),
                ));
                Ok(session)
            }
        });
        making.await
    }

    async fn dial(&self, user: &str) -> Result<Session, SshError> {
        let settings = &self.settings;
        let wall_ms = self.launch.clock.now().wall_ms;
        let credentials = Credentials::load(settings, wall_ms)?;
        let mut target: SshHop = settings.target.clone();
        user.clone_into(&mut target.address.user);
        let route = Route {
            jumps: &settings.jumps,
            target: &target,
            credentials: &credentials,
            pacer: &self.launch.pacer,
            within: settings.connect_within,
        };
        let (line, jumps) = dial::dial(route).await?;
        Ok(Session::new(line, jumps, self.now_ms()))
    }

    fn idle(&self, lane: Lane) -> Duration {
        match lane {
            Lane::Check => self.settings.idle,
            Lane::Bulk => self.settings.idle.min(BULK_IDLE),
        }
    }

    async fn start(self: &Arc<Self>, who: &Who) -> Result<Agent, SshError> {
        let session = self.session(&who.user, who.lane).await?;
        let pool = Arc::clone(self);
        let _used = session.used(move || pool.now_ms());
        match who.identity {
            Identity::Root => {
                let sorry = |reason: String| SshError::Agent {
                    at: session.at().to_owned(),
                    reason,
                };
                let r#become = self.settings.r#become.as_ref().ok_or_else(|| {
                    sorry(
                        "root operations there need `become = \"sudo\"` and a root-owned agent"
                            .to_owned(),
                    )
                })?;
                let line = command::root_agent(r#become).map_err(sorry)?;
                let by = Some((r#become, who.user.as_str()));
                self.greet(&session, &line, Some(ROOT_STATE), by).await
            }
            // Whatever is executed, the server runs the agent that is installed there.
            Identity::App if self.settings.forced_command => {
                self.greet(&session, "healer-agent", None, None).await
            }
            Identity::App => self.start_pushed(&session, &who.user).await,
        }
    }

    async fn start_pushed(&self, session: &Arc<Session>, user: &str) -> Result<Agent, SshError> {
        let known = self.lock_placed().get(user).cloned();
        if let Some(placed) = known {
            match self.greet_placed(session, &placed).await {
                // It may have been removed, or replaced by a newer daemon's: once more from the beginning.
                Err(SshError::Agent { .. }) => drop(self.lock_placed().remove(user)),
                other => return other,
            }
        }
        let placed = push::place(session, &self.launch.agents, self.launch.random.next()).await?;
        let agent = self.greet_placed(session, &placed).await?;
        self.lock_placed().insert(user.to_owned(), placed);
        Ok(agent)
    }

    async fn greet_placed(
        &self,
        session: &Arc<Session>,
        placed: &Placed,
    ) -> Result<Agent, SshError> {
        let line = command::app_agent(&placed.program, &placed.state).map_err(|reason| {
            SshError::Agent {
                at: session.at().to_owned(),
                reason,
            }
        })?;
        self.greet(session, &line, Some(&placed.state), None).await
    }

    /// Starts an agent and waits for its greeting. `records` is where it keeps its records, when we say so; `by` who starts
    /// root's with sudo.
    async fn greet(
        &self,
        session: &Arc<Session>,
        line: &str,
        records: Option<&str>,
        by: Option<(&Become, &str)>,
    ) -> Result<Agent, SshError> {
        let Running {
            output,
            input,
            watch,
            stop,
        } = session.start(line).await?;
        match Connection::open(output, input, &self.launch.owner, GREETING).await {
            Ok(connection) => Ok(Agent {
                connection,
                session: Arc::clone(session),
                room: Semaphore::new(REQUESTS_MAX),
                silent: AtomicU32::new(0),
                _stop: stop,
            }),
            Err(ConnectionError::NotOurs(theirs)) => Err(SshError::NotOurs {
                at: session.at().to_owned(),
                reason: not_ours(&theirs, &self.launch.owner, records),
            }),
            Err(error) => {
                let forced = self.settings.forced_command;
                Err(not_greeted(session.at(), &error, &watch, forced, by).await)
            }
        }
    }

    fn lock_backoffs(&self) -> MutexGuard<'_, Backoffs> {
        self.backoffs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_placed(&self) -> MutexGuard<'_, BTreeMap<String, Placed>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Words for an agent that did not greet.
async fn not_greeted(
    at: &str,
    error: &ConnectionError,
    watch: &Watch,
    forced: bool,
    by: Option<(&Become, &str)>,
) -> SshError {
    // Its exit status may be still on the way.
    for _ in 0..20 {
        if stream::ending(watch).over {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ending = stream::ending(watch);
    let mut said = ending.stderr.clone();
    said.extend_from_slice(&ending.noise);
    let said = quoted(&said);
    let by_sudo = by
        .zip(ending.exit)
        .and_then(|((root, user), exit)| sudo::refusal(exit, &said, root, user));
    let reason = match (error, ending.exit) {
        (ConnectionError::Refused(refusal), _) => format!("the agent there refused: {refusal}"),
        (ConnectionError::Malformed(reason), _) if forced => {
            format!(
                "the agent that is installed there as a forced command: {reason}; install the one of this release"
            )
        }
        (ConnectionError::Malformed(reason), _) => reason.clone(),
        (_, Some(_)) if by_sudo.is_some() => by_sudo.unwrap_or_default(),
        (_, Some(126)) => format!(
            "the agent may not be executed there (\"{said}\"): the home is probably mounted noexec; install the agent elsewhere as a forced command"
        ),
        (_, Some(127)) => format!("the agent is not there any more (\"{said}\")"),
        (_, Some(exit)) if said.is_empty() => {
            format!("the agent ended with {exit} and said nothing")
        }
        (_, Some(exit)) => format!("the agent ended with {exit} and said \"{said}\""),
        (_, None) if ending.over || !said.is_empty() => match ending.signal {
            Some(signal) => format!("the agent was killed by {signal}"),
            None if said.is_empty() => "the agent ended before it greeted".to_owned(),
            None => format!("no agent greeted there, but \"{said}\" came"),
        },
        (_, None) => {
            return SshError::Late {
                at: at.to_owned(),
                stage: Stage::Greeting,
                within: GREETING,
            };
        }
    };
    SshError::Agent {
        at: at.to_owned(),
        reason,
    }
}

/// Looks at a connection from time to time until it has ended or nobody has used it for long.
async fn close_when_idle(pool: Weak<Pool>, session: Weak<Session>, idle: Duration) {
    let look = (idle / 4).clamp(Duration::from_millis(50), LOOK);
    loop {
        tokio::time::sleep(look).await;
        let (Some(pool), Some(session)) = (pool.upgrade(), session.upgrade()) else {
            return;
        };
        let idle_ms = i64::try_from(idle.as_millis()).unwrap_or(i64::MAX);
        let now = pool.now_ms();
        let unused = session
            .idle_since()
            .is_some_and(|since| now.saturating_sub(since) >= idle_ms);
        if session.is_closed() || unused {
            pool.agents
                .retain(|_, agent| !Arc::ptr_eq(&agent.session, &session));
            pool.sessions.retain(|_, kept| !Arc::ptr_eq(kept, &session));
            return;
        }
    }
}
