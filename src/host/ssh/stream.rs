//! What comes out of a program on a host: drained always, whatever it is.
//!
//! A channel that nobody reads would stall every other one of its connection, so a task of its own takes everything
//! that comes. Before an agent's first answer start-up files may have printed anything; that is skipped, up to a limit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use healer_agent::protocol::Frame;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Of what comes before the greeting, and of standard error, no more is kept.
const NOISE_BYTES_MAX: usize = 64 << 10;
const STDERR_BYTES_MAX: usize = 4 << 10;

/// Between us and the reader; only a buffer, since the reader never pauses.
pub(super) const PIPE_BYTES: usize = 256 << 10;

/// A server that does not confirm the end of a channel for this long is not waited for.
const CLOSING: Duration = Duration::from_secs(5);

/// How a program on a host ended, and what it said beside its answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    pub(super) exit: Option<u32>,
    pub(super) signal: Option<String>,
    pub(super) stderr: Vec<u8>,
    /// What came before the greeting.
    pub(super) noise: Vec<u8>,
    pub(super) over: bool,
}

/// Shared with the task that fills it.
pub(super) type Watch = Arc<Mutex<Ending>>;

/// Looks at it.
pub(super) fn ending(watch: &Watch) -> Ending {
    watch.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// How the header of a first answer begins: a greeting, or why there is none.
const BEGINS: [&[u8]; 2] = [b"{\"hello\":", b"{\"refused\":"];
/// The longer one's length.
const BEGIN_BYTES: usize = 11;

/// Where the first answer frame begins: the one with request id 1 whose header is an answer. Its header is looked for
/// from `from` on.
fn greeting(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = (from..bytes.len()).find(|at| {
            let rest = bytes.get(*at..).unwrap_or_default();
            BEGINS.iter().any(|begin| rest.starts_with(begin))
        })?;
        if let Some(start) = at.checked_sub(16)
            && let Some(Ok(word)) = bytes.get(start..start + 4).map(<[u8; 4]>::try_from)
            && let Ok(length) = Frame::length(word)
            && bytes.get(start + 4..start + 12) == Some(&1_u64.to_be_bytes()[..])
            && let Some(Ok(word)) = bytes.get(start + 12..at).map(<[u8; 4]>::try_from)
            && u32::from_be_bytes(word) as usize <= length - 12
        {
            return Some(start);
        }
        from = at + 1;
    }
}

/// Takes everything that comes until the program ends or `stop` is dropped, then closes the channel.
pub(super) async fn drain(
    mut read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    mut sink: DuplexStream,
    watch: Watch,
    mut stop: oneshot::Receiver<()>,
    place: OwnedSemaphorePermit,
) {
    let mut greeted = false;
    loop {
        let message = tokio::select! {
            _ = &mut stop => break,
            message = read.wait() => message,
        };
        let Some(message) = message else { break };
        let ChannelMsg::Data { data } = message else {
            if matches!(message, ChannelMsg::Close) {
                break;
            }
            note(&watch, &message);
            continue;
        };
        let sent = if greeted {
            sink.write_all(&data).await
        } else {
            let answers = {
                let mut seen = watch.lock().unwrap_or_else(PoisonError::into_inner);
                // What was looked at before need not be again, however small the pieces are.
                let from = seen.noise.len().saturating_sub(BEGIN_BYTES);
                seen.noise.extend_from_slice(&data);
                match greeting(&seen.noise, from) {
                    Some(start) => seen.noise.split_off(start),
                    None if seen.noise.len() > NOISE_BYTES_MAX => break,
                    None => continue,
                }
            };
            greeted = true;
            sink.write_all(&answers).await
        };
        if sent.is_err() {
            break; // nobody reads any more
        }
    }
    drop(sink);
    // The place is free once the server agrees: it counts a session until both sides have closed it.
    if write.close().await.is_ok() {
        let closed = async {
            while let Some(message) = read.wait().await {
                note(&watch, &message);
            }
        };
        drop(tokio::time::timeout(CLOSING, closed).await);
    }
    drop(place);
    watch.lock().unwrap_or_else(PoisonError::into_inner).over = true;
}

/// Keeps what tells how a program ended.
pub(super) fn note(watch: &Watch, message: &ChannelMsg) {
    let mut seen = watch.lock().unwrap_or_else(PoisonError::into_inner);
    if let ChannelMsg::ExtendedData { data, .. } = message {
        let room = STDERR_BYTES_MAX.saturating_sub(seen.stderr.len());
        seen.stderr.extend(data.iter().take(room));
    } else if let ChannelMsg::ExitStatus { exit_status } = message {
        seen.exit = Some(*exit_status);
    } else if let ChannelMsg::ExitSignal { signal_name, .. } = message {
        seen.signal = Some(format!("{signal_name:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: u64, header: &str) -> Vec<u8> {
        Frame {
            id,
            header: header.into(),
            body: vec![7; 3],
        }
        .encode()
        .unwrap()
    }

    #[test]
    fn the_greeting_is_found_behind_any_chatter() {
        let hello = frame(1, r#"{"hello":{"version":1}}"#);
        assert_eq!(
            BEGINS.iter().map(|begin| begin.len()).max(),
            Some(BEGIN_BYTES)
        );
        for chatter in [
            &b""[..],
            b"Welcome to web1\r\n",
            b"{\"hello\":\"no\"}",
            &[0, 0, 0, 0, 0, 0, 0, 1],
            &[0xff; 5000],
        ] {
            let mut bytes = chatter.to_vec();
            bytes.extend(&hello);
            assert_eq!(greeting(&bytes, 0), Some(chatter.len()), "{chatter:?}");
        }
    }

    #[test]
    fn what_only_looks_like_an_answer_is_none() {
        let other_id = frame(2, r#"{"hello":{}}"#);
        let hello = frame(1, r#"{"hello":{}}"#);
        for bytes in [&b"{\"hello\":{}}"[..], b"", &other_id, &hello[..20]] {
            assert_eq!(greeting(bytes, 0), None, "{bytes:?}");
        }
    }
}
