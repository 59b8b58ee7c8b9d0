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
}

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Frame>>>;

struct Shared {
    waiting: Waiting,
    /// Set once the reader has ended; nothing is sent any more.
    closed: std::sync::atomic::AtomicBool,
}

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
    /// Greets the agent and matches versions.
    ///
    /// # Errors
    /// When it does not answer in time, or speaks another version.
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
        let header = serde_json::to_vec(request)
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
        match serde_json::from_slice(&frame.header) {
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
