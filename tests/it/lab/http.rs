//! The smallest HTTP client that can tell whether a site answers. Loopback only, no redirects, no TLS.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// More than any page of the lab has.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks once, within ten seconds.
///
/// # Errors
/// When nobody answers in time, or not in HTTP.
pub(crate) fn get(url: &str) -> io::Result<Answer> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{url}: {what}"));
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| bad("not an http URL"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address: SocketAddr = authority
        .parse()
        .map_err(|_| bad("not an address with a port"))?;
    let limit = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    // HTTP/1.0: the answer ends where the connection ends.
    write!(
        stream,
        "GET /{path} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| bad("no end of headers"))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| bad("no status"))?;
    Ok(Answer {
        status,
        body: body.to_owned(),
    })
}

/// The status, or none where nobody answers.
pub(crate) fn status(url: &str) -> Option<u16> {
    get(url).ok().map(|answer| answer.status)
}

/// Waits until the URL answers with this status.
///
/// # Panics
/// When it does not within [`super::PATIENCE`]; the last answer is shown.
#[track_caller]
pub(crate) fn wait_for_status(url: &str, want: u16) -> Answer {
    let mut last = get(url);
    super::wait_for(&format!("{url} answers {want}"), || {
        last = get(url);
        matches!(&last, Ok(answer) if answer.status == want)
    });
    last.expect("checked just now")
}
