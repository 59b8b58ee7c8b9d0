//! The `http` probe: one GET, redirects reported and not followed.
//!
//! An HTTP/1.1 client of its own, because it must keep its promise about time against a server that sends one byte
//! a second, and must not look up names. It asks for liveness and nothing else: see [`super::tls`].

use std::io::{self, Read, Write};

use super::Context;
use super::deadline::{Deadline, boot_now};
use super::found::Found;
use super::http_text::{Body, Broken, Head, Reader};
use super::http_url::{Origin, Url};
use super::log::contains;
use super::socket::Stream;
use super::spec::{Fact, HttpProbe};
use super::tls;
use crate::units::parse_duration;

/// Where it broke, in the words of the `error` fact, or why nothing can be said at all.
enum Failure {
    Error(&'static str),
    Unknown(String),
}

pub(super) fn probe(context: &Context, probe: &HttpProbe) -> Found {
    let prepared = prepare(probe);
    let (url, origin, timeout) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Found::unknown("http", &error),
    };
    let start = boot_now();
    let deadline = context.within(timeout);
    let mut body = Body::default();
    let exchanged = exchange(&url, &origin, deadline, &mut body);
    let time = u64::try_from(boot_now().saturating_sub(start).as_millis()).unwrap_or(u64::MAX);
    if deadline.passed() && context.stopped() {
        return Found::unknown("http", "deadline");
    }
    match exchanged {
        Err(Failure::Unknown(why)) => Found::unknown("http", &why),
        Err(Failure::Error(error)) => Found::absent("http")
            .with("reachable", false)
            .with("error", error)
            .with("time", time),
        Ok((head, broken)) => {
            let found: Vec<String> = probe
                .find
                .iter()
                .filter(|literal| contains(&body.kept, literal.as_bytes()))
                .cloned()
                .collect();
            // A body that broke off before its first byte may have had one.
            let empty = match broken {
                Some(_) if body.bytes == 0 => Fact::Unknown("the body broke off".to_owned()),
                _ => Fact::Bool(body.bytes == 0),
            };
            Found::absent("http")
                .with("reachable", true)
                .with("error", broken)
                .with("status", u32::from(head.status))
                .with(
                    "server_error",
                    (head.status >= 500 && head.status != 503).then_some(u32::from(head.status)),
                )
                .with("body_bytes", body.bytes)
                .with("empty", empty)
                .with("location", head.location)
                .with("time", time)
                .with("found", found)
        }
    }
}

fn prepare(probe: &HttpProbe) -> Result<(Url, Origin, std::time::Duration), String> {
    let mut url = Url::parse(&probe.url)?;
    if let Some(path) = &probe.path {
        Url::check_path(path)?;
        url.path.clone_from(path);
    }
    let origin = match &probe.origin {
        Some(origin) => Origin::parse(origin)?,
        None => Origin::local(url.port),
    };
    let timeout = parse_duration(&probe.timeout).map_err(|error| error.to_string())?;
    Ok((url, origin, timeout))
}

/// Connects, asks, reads. With a head there is an answer, even if its body broke off.
fn exchange(
    url: &Url,
    origin: &Origin,
    deadline: Deadline,
    body: &mut Body,
) -> Result<(Head, Option<&'static str>), Failure> {
    let stream = Stream::connect(origin, deadline).map_err(|error| connect_failure(&error))?;
    if url.tls {
        let stream = tls::wrap(&url.host, stream).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Failure::Error("timeout"),
            _ => Failure::Error("tls"),
        })?;
        converse(url, stream, body)
    } else {
        converse(url, stream, body)
    }
}

fn converse(
    url: &Url,
    mut stream: impl Read + Write,
    body: &mut Body,
) -> Result<(Head, Option<&'static str>), Failure> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: healerd\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        url.path, url.authority
    );
    // A server may answer and hang up without reading all of the request; its answer still counts.
    let sent = stream.write_all(request.as_bytes());
    if let Err(error) = &sent
        && error.kind() == io::ErrorKind::TimedOut
    {
        return Err(Failure::Error("timeout"));
    }
    let mut reader = Reader::new(stream);
    let head = reader
        .head()
        .map_err(|broken| Failure::Error(word(&broken)))?;
    let broken = reader.body(&head, body).err();
    Ok((head, broken.as_ref().map(word)))
}

fn word(broken: &Broken) -> &'static str {
    match broken {
        Broken::Protocol(_) => "protocol",
        Broken::Io(error) => match error.kind() {
            io::ErrorKind::TimedOut => "timeout",
            io::ErrorKind::InvalidData => "tls",
            _ => "other",
        },
    }
}

/// Refused by the other side, or a failure of our own that says nothing about it?
fn connect_failure(error: &io::Error) -> Failure {
    match error.kind() {
        // No socket file: nobody listens there.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Failure::Error("refused"),
        // EAGAIN of a Unix socket: its backlog is full, so it would have waited.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Failure::Error("timeout"),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Failure::Error("other"),
        io::ErrorKind::PermissionDenied => Failure::Unknown("permission denied".to_owned()),
        _ => Failure::Unknown(format!("cannot connect: {error}")),
    }
}
