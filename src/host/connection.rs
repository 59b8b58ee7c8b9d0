//! One agent at the other end of a stream: requests go out as they come, answers are given to whoever waits.
//!
//! The reader never stops draining, so that one slow request does not hold up another. What was sent and not answered
//! when the stream ends is *unknown*, never failed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use healer_agent::protocol::{Answer, Frame, Hello, Refusal, Request, VERSION};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

/// Why a request got no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectionError {
    /// Not a byte of it was sent.
    #[error("the connection is closed")]
    Closed,
    /// It was sent, perhaps in part.
    #[error("{0}")]
    Unknown(String),
    #[error("{0}")]
    Refused(Refusal),
    /// The answer cannot be read.
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
    /// The records at the other end belong to this other daemon. Nothing was asked but who answers.
    #[error("its records belong to the daemon `{0}`")]
    NotOurs(String),
}

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Frame>>>;

struct Shared {
    waiting: Waiting,
    /// Set once the reader has ended; nothing is sent any more.
    closed: std::sync::atomic::AtomicBool,
}

/// Most characters of a foreign owner's name that are shown; no agent records a longer one.
const OWNER_CHARS_MAX: usize = 128;

/// A live connection.
pub struct Connection {
    writer: AsyncMutex<Box<dyn AsyncWrite + Send + Unpin>>,
    shared: Arc<Shared>,
    next_id: AtomicU64,
    hello: Hello,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("hello", &self.hello)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Greets the agent, matches versions, and sees to it that nobody else's agent is asked for more than its name.
    ///
    /// # Errors
    /// When it does not answer in time, speaks another version, or keeps the records of another daemon.
    pub async fn open<R, W>(
        reader: R,
        writer: W,
        owner: &str,
        timeout: Duration,
    ) -> Result<Self, ConnectionError>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            closed: false.into(),
        });
        tokio::spawn(read_answers(reader, Arc::clone(&shared)));
        let nobody = Hello {
            version: 0,
            boot_id: String::new(),
            machine_id: String::new(),
            uid: u32::MAX,
            gid: u32::MAX,
            landlock: 0,
            uptime_ms: 0,
            allowed: Vec::new(),
            owner: None,
        };
        let mut connection = Self {
            writer: AsyncMutex::new(Box::new(writer)),
            shared,
            next_id: AtomicU64::new(1),
            hello: nobody,
        };
        let hello = Request::Hello {
            version: VERSION,
            owner: owner.to_owned(),
        };
        match connection.call(&hello, &[], timeout).await? {
            (Answer::Hello(hello), _) if hello.version == VERSION => {
                if let Some(other) = hello.owner.as_ref().filter(|other| *other != owner) {
                    return Err(ConnectionError::NotOurs(shown_owner(other)));
                }
                connection.hello = hello;
                Ok(connection)
            }
            (Answer::Hello(hello), _) => {
                let age = if hello.version < VERSION {
                    "too old"
                } else {
                    "too new"
                };
                Err(ConnectionError::Malformed(format!(
                    "the agent is {age}: it speaks version {}, {VERSION} is needed",
                    hello.version
                )))
            }
            _ => Err(ConnectionError::Malformed(
                "the agent did not greet".to_owned(),
            )),
        }
    }

    /// Who is at the other end.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Has the stream ended?
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// `Closed` when nothing was sent, `Refused` when the agent refused, else the outcome is unknown.
    pub async fn call(
        &self,
        request: &Request,
        body: &[u8],
        timeout: Duration,
    ) -> Result<(Answer, Vec<u8>), ConnectionError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let header = request
            .header()
            .map_err(|error| ConnectionError::Malformed(error.to_string()))?;
        let bytes = Frame {
            id,
            header,
            body: body.to_vec(),
        }
        .encode()
        .map_err(|error| ConnectionError::Malformed(error.to_string()))?;
        if self.is_closed() {
            return Err(ConnectionError::Closed);
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(id, sender);
        let exchange = async {
            {
                let mut writer = self.writer.lock().await;
                let sent = async {
                    writer.write_all(&bytes).await?;
                    writer.flush().await
                };
                sent.await.map_err(|error| {
                    ConnectionError::Unknown(format!("the connection broke: {error}"))
                })?;
            }
            receiver.await.map_err(|_| {
                ConnectionError::Unknown("the agent ended before it answered".to_owned())
            })
        };
        let answer = tokio::time::timeout(timeout, exchange).await;
        let frame = match answer {
            Ok(Ok(frame)) => frame,
            Ok(Err(error)) => {
                self.waiting().remove(&id);
                return Err(error);
            }
            Err(_) => {
                self.waiting().remove(&id);
                return Err(ConnectionError::Unknown(format!(
                    "no answer within {} ms",
                    timeout.as_millis()
                )));
            }
        };
        match Answer::of_header(&frame.header) {
            Ok(Answer::Refused(refusal)) => Err(ConnectionError::Refused(refusal)),
            Ok(answer) => Answer::unpacked(answer, frame.body)
                .map_err(|error| ConnectionError::Malformed(error.to_string())),
            Err(error) => Err(ConnectionError::Malformed(error.to_string())),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Frame>>> {
        self.shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Foreign text, as far as it can be the name of a daemon.
fn shown_owner(owner: &str) -> String {
    owner
        .chars()
        .filter(char::is_ascii_graphic)
        .take(OWNER_CHARS_MAX)
        .collect()
}

/// What is wrong when a host's records belong to another daemon, and what to do about it. `records` is where they lie,
/// when that is known.
pub(super) fn not_ours(theirs: &str, ours: &str, records: Option<&str>) -> String {
    // The host says where they lie, and what it says is read by somebody who may be root: only what no shell minds.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@".contains(letter);
    let place = records
        .filter(|state| state.chars().all(plain))
        .map(|state| format!(" in {state}"))
        .unwrap_or_default();
    // The tokens go with the name: those of a daemon that begins anew are smaller, and would be refused. They lie beside
    // the locks of whatever still runs.
    format!(
        "its agent's records{place} belong to the daemon `{theirs}`, and this one is `{ours}`. Two daemons that heal \
         the same applications undo each other's work, so nothing is asked or done there. Take the host out of the \
         configuration of one of them. If the other one is gone for good and no healer-agent runs there any more, \
         remove `owner` and `fence` from that directory"
    )
}

/// Reads until the stream ends or lies; then everyone who still waits is told by a dropped sender.
async fn read_answers<R: AsyncRead + Unpin>(mut reader: R, shared: Arc<Shared>) {
    loop {
        let mut word = [0; 4];
        if reader.read_exact(&mut word).await.is_err() {
            break;
        }
        let Ok(length) = Frame::length(word) else {
            break;
        };
        let mut bytes = vec![0; length];
        if reader.read_exact(&mut bytes).await.is_err() {
            break;
        }
        let Ok(frame) = Frame::decode(&bytes) else {
            break;
        };
        let waiting = shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&frame.id);
        if let Some(sender) = waiting {
            drop(sender.send(frame)); // nobody waits any more: too late
        }
    }
    shared.closed.store(true, Ordering::Release);
    shared
        .waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that greets as `hello` says, and tells how many requests it was sent before the connection was let go.
    async fn greeted_by(hello: Hello) -> (Result<(), ConnectionError>, usize) {
        let (to_agent, mut input) = tokio::io::duplex(1 << 16);
        let (mut output, from_agent) = tokio::io::duplex(1 << 16);
        let agent = tokio::spawn(async move {
            let header = serde_json::to_vec(&Answer::Hello(hello)).unwrap();
            let mut requests = 0;
            while let Ok(length) = input.read_u32().await {
                let mut bytes = vec![0; length as usize];
                input.read_exact(&mut bytes).await.unwrap();
                requests += 1;
                let answer = Frame {
                    id: Frame::decode(&bytes).unwrap().id,
                    header: header.clone(),
                    body: Vec::new(),
                };
                output.write_all(&answer.encode().unwrap()).await.unwrap();
            }
            requests
        });
        let limit = Duration::from_secs(20);
        let opened = Connection::open(from_agent, to_agent, "daemon-1", limit).await;
        let opened = opened.map(drop);
        (opened, agent.await.unwrap())
    }

    fn hello(owner: Option<&str>) -> Hello {
        Hello {
            version: VERSION,
            boot_id: "b".to_owned(),
            machine_id: "m".to_owned(),
            uid: 1,
            gid: 1,
            landlock: 0,
            uptime_ms: 1,
            allowed: Vec::new(),
            owner: owner.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn an_agent_of_nobody_or_of_ours_is_taken() {
        for owner in [None, Some("daemon-1")] {
            let (opened, requests) = greeted_by(hello(owner)).await;
            assert!(opened.is_ok(), "{owner:?}: {opened:?}");
            assert_eq!(requests, 1);
        }
    }

    #[tokio::test]
    async fn an_agent_of_another_daemon_is_asked_nothing_but_its_name() {
        let long = format!("daemon-2\u{1b}[2J\n{}", "x".repeat(5000));
        let (opened, requests) = greeted_by(hello(Some(&long))).await;
        let Err(ConnectionError::NotOurs(theirs)) = opened else {
            panic!("it is not ours: {opened:?}");
        };
        assert!(theirs.starts_with("daemon-2[2Jxxx"), "{theirs}");
        assert_eq!(theirs.len(), OWNER_CHARS_MAX);
        assert_eq!(requests, 1);
    }

    #[test]
    fn a_host_of_another_daemon_is_told_with_both_names_and_what_to_do() {
        for (records, place) in [
            (Some("/home/shop/s"), "records in /home/shop/s belong"),
            (Some("/home/$(reboot)/s"), "records belong"),
            (None, "records belong"),
        ] {
            let text = not_ours("daemon-2", "daemon-1", records);
            for words in [
                "`daemon-2`",
                "`daemon-1`",
                "configuration of one",
                "remove `owner`",
                place,
            ] {
                assert!(text.contains(words), "{text}");
            }
        }
    }
}
