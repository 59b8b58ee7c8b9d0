//! A logged-in connection, and the few things that are done over it: a command, an agent, a file transfer.
//!
//! At most eight channels are open at a time (an SSH server allows ten sessions by default); who needs one more waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelOpenFailure};
use russh_sftp::client::SftpSession;
use tokio::io::{AsyncWrite, DuplexStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::dial::Line;
use super::error::{SshError, Stage};
use super::stream::{self, Ending, Watch};

/// Channels of one connection at a time.
pub(super) const CHANNELS_MAX: usize = 8;

/// Opening a channel and being told that a program was started.
const STEP: Duration = Duration::from_secs(10);

/// A command that only tells facts.
const COMMAND: Duration = Duration::from_secs(10);

/// More than facts need, less than a chatty start-up file can do harm with.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(super) struct Printed {
    pub(super) stdout: Vec<u8>,
    pub(super) ending: Ending,
}

/// An agent's streams. Dropping it closes its channel.
pub(super) struct Running {
    pub(super) output: DuplexStream,
    pub(super) input: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) watch: Watch,
    pub(super) stop: oneshot::Sender<()>,
}

/// One logged-in connection.
pub(super) struct Session {
    line: Line,
    /// The jumps on the way; they end with it.
    _jumps: Vec<Line>,
    channels: Arc<Semaphore>,
    /// Calls in flight, and when the last one ended, on the boot clock.
    uses: AtomicUsize,
    used_ms: AtomicI64,
    /// It no longer answers, and nobody waits until the keepalive notices.
    given_up: AtomicBool,
}

/// Keeps a connection from being called idle.
pub(super) struct Use<'a>(&'a Session, Box<dyn Fn() -> i64 + Send + Sync + 'a>);

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.used_ms.store((self.1)(), Ordering::Relaxed);
        self.0.uses.fetch_sub(1, Ordering::Release);
    }
}

impl Session {
    pub(super) fn new(line: Line, jumps: Vec<Line>, now_ms: i64) -> Self {
        Self {
            line,
            _jumps: jumps,
            channels: Arc::new(Semaphore::new(CHANNELS_MAX)),
            uses: AtomicUsize::new(0),
            used_ms: AtomicI64::new(now_ms),
            given_up: AtomicBool::new(false),
        }
    }

    pub(super) fn at(&self) -> &str {
        self.line.at()
    }

    /// Has it ended?
    pub(super) fn is_closed(&self) -> bool {
        self.line.handle.is_closed() || self.given_up.load(Ordering::Relaxed)
    }

    /// Marks it as used until what is returned is dropped.
    pub(super) fn used(&self, now: impl Fn() -> i64 + Send + Sync + 'static) -> Use<'_> {
        self.uses.fetch_add(1, Ordering::Acquire);
        Use(self, Box::new(now))
    }

    /// When it was last used; `None`: it is in use.
    pub(super) fn idle_since(&self) -> Option<i64> {
        (self.uses.load(Ordering::Acquire) == 0).then(|| self.used_ms.load(Ordering::Relaxed))
    }

    /// Runs a constant command to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub(super) async fn run(&self, command: &str) -> Result<Printed, SshError> {
        let (mut channel, _place) = self.open().await?;
        self.exec(&mut channel, command).await?;
        let watch = Watch::default();
        let mut stdout = Vec::new();
        let reading = async {
            // Nothing is ever typed, so that what waits for input ends.
            drop(channel.eof().await);
            while let Some(message) = channel.wait().await {
                if let ChannelMsg::Data { data } = &message {
                    let room = OUTPUT_BYTES_MAX.saturating_sub(stdout.len());
                    stdout.extend(data.iter().take(room));
                } else if matches!(message, ChannelMsg::Close) {
                    break;
                } else {
                    stream::note(&watch, &message);
                }
            }
        };
        let ended = tokio::time::timeout(COMMAND, reading).await;
        drop(channel.close().await);
        ended.map_err(|_| SshError::Late {
            at: self.at().to_owned(),
            stage: Stage::Command,
            within: COMMAND,
        })?;
        Ok(Printed {
            stdout,
            ending: stream::ending(&watch),
        })
    }

    /// Starts a program that speaks frames.
    ///
    /// # Errors
    /// When no channel can be had, or the server does not run programs.
    pub(super) async fn start(&self, command: &str) -> Result<Running, SshError> {
        let (mut channel, place) = self.open().await?;
        self.exec(&mut channel, command).await?;
        let (read, write) = channel.split();
        let input = Box::new(write.make_writer());
        let (sink, output) = tokio::io::duplex(stream::PIPE_BYTES);
        let watch = Watch::default();
        let (stop, stopped) = oneshot::channel();
        let draining = stream::drain(read, write, sink, Arc::clone(&watch), stopped, place);
        tokio::spawn(draining);
        Ok(Running {
            output,
            input,
            watch,
            stop,
        })
    }

    /// A file transfer; its channel closes when both are dropped.
    ///
    /// # Errors
    /// When the server has none.
    pub(super) async fn sftp(&self) -> Result<(SftpSession, OwnedSemaphorePermit), SshError> {
        let none = |error: &dyn std::fmt::Display| SshError::Agent {
            at: self.at().to_owned(),
            reason: format!(
                "no file transfer there ({error}): enable `Subsystem sftp internal-sftp` in its sshd_config, or install the agent as a forced command"
            ),
        };
        let (channel, place) = self.open().await?;
        let asked = channel.request_subsystem(true, "sftp");
        self.step(Stage::Channel, asked)
            .await?
            .map_err(|error| none(&error))?;
        let config = russh_sftp::client::Config {
            request_timeout_secs: 30,
            ..russh_sftp::client::Config::default()
        };
        let opening = SftpSession::new_with_config(channel.into_stream(), config);
        // A server without it says so, and the library waits on.
        let session = tokio::time::timeout(STEP, opening)
            .await
            .map_err(|_| none(&"it did not begin"))?
            .map_err(|error| none(&error))?;
        Ok((session, place))
    }

    async fn open(&self) -> Result<(Channel<Msg>, OwnedSemaphorePermit), SshError> {
        // Others may hold all of them for long; that says nothing about the connection.
        let place = Arc::clone(&self.channels).acquire_owned();
        let place = tokio::time::timeout(STEP, place).await;
        let place = place
            .map_err(|_| self.failed("all of its channels are in use".to_owned()))?
            .map_err(|error| self.failed(error.to_string()))?;
        let opened = self.line.handle.channel_open_session();
        match self.step(Stage::Channel, opened).await? {
            Ok(channel) => Ok((channel, place)),
            Err(russh::Error::ChannelOpenFailure(
                ChannelOpenFailure::AdministrativelyProhibited,
            )) => Err(self.failed(
                "the server allows no session (MaxSessions, or a key that is restricted)"
                    .to_owned(),
            )),
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    /// Asks for a program and waits until the server says that it runs.
    async fn exec(&self, channel: &mut Channel<Msg>, command: &str) -> Result<(), SshError> {
        let starting = async {
            channel.exec(true, command).await?;
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Success) => return Ok(true),
                    Some(ChannelMsg::Failure) => return Ok(false),
                    None | Some(ChannelMsg::Close) => return Err(russh::Error::Disconnect),
                    Some(_) => {}
                }
            }
        };
        match self.step(Stage::Command, starting).await? {
            Ok(true) => Ok(()),
            Ok(false) => Err(SshError::Agent {
                at: self.at().to_owned(),
                reason: "the server runs no programs for this user (ForceCommand internal-sftp, or a restricted key)".to_owned(),
            }),
            Err(error) => Err(SshError::Failed {
                at: self.at().to_owned(),
                stage: Stage::Command,
                reason: error.to_string(),
            }),
        }
    }

    fn failed(&self, reason: String) -> SshError {
        let reason = match self.line.farewell() {
            Some(said) => format!("{reason}: it said \"{said}\""),
            None => reason,
        };
        SshError::Failed {
            at: self.at().to_owned(),
            stage: Stage::Channel,
            reason,
        }
    }

    async fn step<T>(&self, stage: Stage, work: impl Future<Output = T>) -> Result<T, SshError> {
        tokio::time::timeout(STEP, work).await.map_err(|_| {
            self.given_up.store(true, Ordering::Relaxed);
            SshError::Late {
                at: self.at().to_owned(),
                stage,
                within: STEP,
            }
        })
    }
}
