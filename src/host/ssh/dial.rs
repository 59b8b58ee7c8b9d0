//! From nothing to a logged-in connection: TCP, banner, key exchange, host key, login, hop by hop.
//!
//! The host key is judged before a single byte of a login is sent. Nothing here is tried twice; waiting and trying
//! again belong to the pool.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::{Algorithm, PublicKey};
use russh::{AlgorithmKind, Preferred, SshId, compression};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::error::{Doubt, SshError, Stage, quoted};
use super::gate::{Gate, Notes, Watched, notes};
use super::keys::Credentials;
use super::login;
use super::pace::Pacer;
use super::pins::{KINDS, Pins, fingerprint};
use crate::model::host::{SshAddress, SshHop};

const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVES_MAX: usize = 3;

/// Ends what the keepalive cannot: a key exchange that never comes to an end, a peer that never reads.
const SILENCE_MAX: Duration = Duration::from_secs(75);

/// Of the time for a whole login, what one step may take.
const STEP: Duration = Duration::from_secs(10);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Times of a whole login that are waited for a turn.
const TURNS: u32 = 10;

/// Any stream that SSH can be spoken over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection, logged in or not. Dropping it ends it at once.
pub(super) struct Line {
    pub(super) handle: Handle<Gate>,
    notes: Notes,
    at: String,
    _cut: oneshot::Sender<()>,
}

impl Line {
    /// What the server said when it hung up, if it did.
    pub(super) fn farewell(&self) -> Option<String> {
        notes(&self.notes).farewell.clone()
    }

    /// Whom this line reaches, for errors.
    pub(super) fn at(&self) -> &str {
        &self.at
    }
}

/// How a host is reached.
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) jumps: &'a [SshHop],
    pub(super) target: &'a SshHop,
    pub(super) credentials: &'a Credentials,
    pub(super) pacer: &'a Pacer,
    pub(super) within: Duration,
}

/// The time that is left, and what one step of it may take.
#[derive(Clone, Copy)]
pub(super) struct Budget(Instant);

impl Budget {
    fn new(within: Duration) -> Self {
        Self(Instant::now() + within)
    }

    /// What one step may take now.
    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now()).min(STEP)
    }

    /// Runs one step within its time.
    pub(super) async fn step<T>(
        self,
        at: &str,
        stage: Stage,
        work: impl Future<Output = T>,
    ) -> Result<T, SshError> {
        let within = self.left();
        tokio::time::timeout(within, work)
            .await
            .map_err(|_| SshError::Late {
                at: at.to_owned(),
                stage,
                within,
            })
    }
}

/// Logs in at the target, through its jumps. The jumps' lines come with it: it lives no longer than they do.
///
/// # Errors
/// Names the hop and the step.
pub(super) async fn dial(route: Route<'_>) -> Result<(Line, Vec<Line>), SshError> {
    let mut jumps = through(route).await?;
    let line = log_in(route, jumps.last(), route.target).await?;
    jumps.reverse(); // the nearest is dropped last
    Ok((line, jumps))
}

/// The host keys that the target offers, without any login there.
///
/// # Errors
/// When it cannot be reached, or offers none that can be used.
pub(super) async fn offered(route: Route<'_>) -> Result<Vec<PublicKey>, SshError> {
    let jumps = through(route).await?;
    let mut found = Vec::new();
    let mut failed = None;
    let (first, others) = KINDS.split_at(1);
    for kinds in [first, others] {
        let seen = Notes::default();
        let reached = reach(route, jumps.last(), &route.target.address, &seen).await?;
        let kinds = Cow::Owned(kinds.to_vec());
        match shake(reached, &Pins::default(), kinds, &seen).await {
            // With nothing pinned no key is ever accepted; the key that was refused is the one that is wanted.
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
        found.extend(notes(&seen).host_key.take());
    }
    match failed {
        Some(error) if found.is_empty() => Err(error),
        Some(_) | None => Ok(found),
    }
}

/// Looks whether the target shows a pinned key, without a login there; answers its fingerprint.
///
/// # Errors
/// When it does not, or cannot be reached.
pub(super) async fn shown(route: Route<'_>) -> Result<String, SshError> {
    let jumps = through(route).await?;
    let seen = Notes::default();
    let pins = pins_of(route.target)?;
    let reached = reach(route, jumps.last(), &route.target.address, &seen).await?;
    drop(shake(reached, &pins, pins.kinds(), &seen).await?);
    let key = notes(&seen).host_key.take();
    Ok(key.as_ref().map(fingerprint).unwrap_or_default())
}

fn pins_of(hop: &SshHop) -> Result<Pins, SshError> {
    Pins::parse(&hop.host_keys).map_err(|doubt| SshError::Distrusted {
        at: hop.address.to_string(),
        offered: None,
        doubt,
    })
}

/// Lines to the jumps, the nearest first.
async fn through(route: Route<'_>) -> Result<Vec<Line>, SshError> {
    let mut lines: Vec<Line> = Vec::new();
    for jump in route.jumps {
        let line = log_in(route, lines.last(), jump).await?;
        lines.push(line);
    }
    Ok(lines)
}

/// A stream to a hop, nothing of SSH spoken yet.
struct Reached {
    stream: Box<dyn Stream>,
    budget: Budget,
    at: String,
    /// Held until the login is over.
    turn: OwnedSemaphorePermit,
}

async fn log_in(route: Route<'_>, via: Option<&Line>, hop: &SshHop) -> Result<Line, SshError> {
    let pins = pins_of(hop)?;
    let seen = Notes::default();
    let reached = reach(route, via, &hop.address, &seen).await?;
    let budget = reached.budget;
    let (mut line, turn) = shake(reached, &pins, pins.kinds(), &seen).await?;
    login::log_in(&mut line, &hop.address.user, route.credentials, budget).await?;
    drop(turn);
    Ok(line)
}

async fn reach(
    route: Route<'_>,
    via: Option<&Line>,
    address: &SshAddress,
    seen: &Notes,
) -> Result<Reached, SshError> {
    let at = address.to_string();
    // A crowd at one server is not its fault; only a queue that does not move is given up.
    let within = route.within * TURNS;
    let turn = tokio::time::timeout(within, route.pacer.turn(&address.host, address.port));
    let late = || SshError::Late {
        at: at.clone(),
        stage: Stage::Turn,
        within,
    };
    let turn = turn.await.ok().flatten().ok_or_else(late)?;
    let budget = Budget::new(route.within);
    let stream: Box<dyn Stream> = match via {
        None => Box::new(tcp(address, &at, budget).await?),
        Some(jump) => {
            let opening = jump.handle.channel_open_direct_tcpip(
                address.host.clone(),
                u32::from(address.port),
                "127.0.0.1",
                0,
            );
            let channel = budget.step(&at, Stage::Connect, opening).await?;
            let channel = channel.map_err(|error| SshError::Failed {
                at: at.clone(),
                stage: Stage::Connect,
                reason: format!("{} did not open a way to it: {error}", jump.at()),
            })?;
            Box::new(channel.into_stream())
        }
    };
    drop(std::mem::take(&mut *notes(seen)));
    Ok(Reached {
        stream,
        budget,
        at,
        turn,
    })
}

async fn tcp(address: &SshAddress, at: &str, budget: Budget) -> Result<TcpStream, SshError> {
    let failed = |stage, reason: String| SshError::Failed {
        at: at.to_owned(),
        stage,
        reason,
    };
    let lookup = tokio::net::lookup_host((address.host.as_str(), address.port));
    let addresses: Vec<_> = budget
        .step(at, Stage::Resolve, lookup)
        .await?
        .map_err(|error| failed(Stage::Resolve, error.to_string()))?
        .take(ADDRESSES_MAX)
        .collect();
    let mut last = "the name has no address".to_owned();
    let connecting = async {
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    };
    let stream = budget
        .step(at, Stage::Connect, connecting)
        .await?
        .map_err(|reason| failed(Stage::Connect, reason))?;
    // Requests are small and wait for their answers; without this each would wait for the one before to be confirmed.
    stream
        .set_nodelay(true)
        .map_err(|error| failed(Stage::Connect, error.to_string()))?;
    Ok(stream)
}

/// Banner and key exchange; ends with the judgement of the host key.
async fn shake(
    reached: Reached,
    pins: &Pins,
    kinds: Cow<'static, [Algorithm]>,
    seen: &Notes,
) -> Result<(Line, OwnedSemaphorePermit), SshError> {
    let Reached {
        stream,
        budget,
        at,
        turn,
    } = reached;
    let config = client::Config {
        client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-healerd")),
        preferred: Preferred {
            key: kinds,
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES_MAX,
        inactivity_timeout: Some(SILENCE_MAX),
        ..client::Config::default()
    };
    let (sender, cut) = oneshot::channel();
    let gate = Gate {
        pins: pins.clone(),
        notes: Arc::clone(seen),
    };
    let stream = Watched::new(stream, Arc::clone(seen), cut);
    let shaking = client::connect_stream(Arc::new(config), stream, gate);
    let stage = || {
        if notes(seen).head.windows(4).any(|word| word == b"SSH-") {
            Stage::KeyExchange
        } else {
            Stage::Banner
        }
    };
    let within = budget.left();
    let shaken = tokio::time::timeout(within, shaking).await;
    let shaken = shaken.map_err(|_| SshError::Late {
        at: at.clone(),
        stage: stage(),
        within,
    })?;
    match shaken {
        Ok(handle) => {
            let line = Line {
                handle,
                notes: Arc::clone(seen),
                at,
                _cut: sender,
            };
            Ok((line, turn))
        }
        Err(error) => Err(not_shaken(at, stage(), &error, pins, seen)),
    }
}

/// What a failed key exchange means.
fn not_shaken(
    at: String,
    stage: Stage,
    error: &russh::Error,
    pins: &Pins,
    seen: &Notes,
) -> SshError {
    let seen = notes(seen);
    if let Some(key) = &seen.host_key
        && let Err(doubt) = pins.judge(key)
    {
        return SshError::Distrusted {
            at,
            offered: Some(fingerprint(key)),
            doubt,
        };
    }
    if let russh::Error::NoCommonAlgo {
        kind: AlgorithmKind::Key,
        theirs,
        ..
    } = error
    {
        return match pins.without_common_kind(theirs) {
            Some(doubt @ Doubt::OtherKind { .. }) => SshError::Distrusted {
                at,
                offered: None,
                doubt,
            },
            Some(_) | None => SshError::RsaOnly { at },
        };
    }
    let said = quoted(&seen.head);
    let reason = match (&seen.farewell, said.is_empty()) {
        (Some(farewell), _) => format!("{error}: it said \"{farewell}\""),
        (None, true) => format!("{error}: it closed the connection and said nothing"),
        (None, false) if !said.contains("SSH-") => {
            format!("no SSH server answers there: it said \"{said}\"")
        }
        (None, false) => error.to_string(),
    };
    SshError::Failed { at, stage, reason }
}
