//! The `mysql` probe: does a MySQL or MariaDB server of this host answer? It reads the greeting and hangs up.
//!
//! Nobody logs in and nothing is sent. A server counts greetings that nobody answered and in the end shuts out the host
//! that did it, except for its own: so a server elsewhere is not asked, only told apart. Names are not looked up.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Context;
use super::deadline::{Deadline, boot_now};
use super::found::{Found, cut};
use super::http_url::Origin;
use super::socket::Stream;
use crate::units::parse_duration;

const PORT: u16 = 3306;
/// Where servers have their socket when nobody says otherwise.
const SOCKETS: [&str; 4] = [
    "/run/mysqld/mysqld.sock",
    "/var/run/mysqld/mysqld.sock",
    "/var/lib/mysql/mysql.sock",
    "/tmp/mysql.sock",
];
/// The longest greeting that is read; real ones have about a hundred bytes.
const GREETING_BYTES_MAX: usize = 4 << 10;
const VERSION_BYTES_MAX: usize = 100;

/// Where a database is, as WordPress and PHP write it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Server {
    Here(Origin),
    /// `localhost`: by whichever socket there is.
    Socket,
    Elsewhere,
}

pub(super) fn probe(context: &Context, host: &str, timeout: &str) -> Found {
    let unknown = |why: &str| Found::unknown("mysql", why);
    let (server, timeout) = match (server(host), parse_duration(timeout)) {
        (Ok(server), Ok(timeout)) => (server, timeout),
        (Err(why), _) => return unknown(&why),
        (_, Err(error)) => return unknown(&error.to_string()),
    };
    let origin = match server {
        Server::Here(origin) => origin,
        Server::Elsewhere => return Found::absent("mysql").with("local", false),
        Server::Socket => {
            let there = SOCKETS.iter().map(PathBuf::from).find(|path| path.exists());
            // PHP would look for a socket only; where none is, the port still tells whether a server runs.
            there.map_or_else(|| Origin::local(PORT), Origin::Unix)
        }
    };
    let start = boot_now();
    let deadline = context.within(timeout);
    let greeted = greeting(&origin, deadline);
    let time = u64::try_from(boot_now().saturating_sub(start).as_millis()).unwrap_or(u64::MAX);
    if deadline.passed() && context.stopped() {
        return unknown("deadline");
    }
    let found = Found::absent("mysql")
        .with("local", true)
        .with("time", time);
    match greeted {
        Ok(Greeting::Version(version)) => found.with("reachable", true).with("version", version),
        Ok(Greeting::Refusal(code)) => found
            .with("reachable", true)
            .with("refusal", u32::from(code)),
        Err(Failure::Error(error)) => found.with("reachable", false).with("error", error),
        Err(Failure::Unknown(why)) => unknown(&why).with("local", true),
    }
}

/// Reads `DB_HOST`: `localhost`, an address, either with `:port` or `:/socket` behind it.
fn server(text: &str) -> Result<Server, String> {
    let text = text.trim();
    let text = text.strip_prefix("p:").unwrap_or(text);
    if text.starts_with('/') {
        return Ok(Server::Here(Origin::Unix(text.into())));
    }
    if let Some((_, path)) = text.split_once(":/") {
        return Ok(Server::Here(Origin::Unix(format!("/{path}").into())));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None if text.matches(':').count() > 1 => (text, None),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port.filter(|port| !port.is_empty()) {
        None => None,
        Some(port) => Some(
            port.parse::<u16>()
                .map_err(|_| "the database's port is no port".to_owned())?,
        ),
    };
    if host.is_empty() || host.eq_ignore_ascii_case("localhost") {
        return Ok(match port {
            None => Server::Socket,
            Some(port) => Server::Here(Origin::local(port)),
        });
    }
    Ok(match host.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => {
            Server::Here(Origin::Tcp(SocketAddr::new(address, port.unwrap_or(PORT))))
        }
        _ => Server::Elsewhere,
    })
}

/// What a server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Greeting {
    Version(String),
    /// It runs and takes nobody now: 1040 is too many connections.
    Refusal(u16),
}

enum Failure {
    /// In the words of the `error` fact.
    Error(&'static str),
    Unknown(String),
}

fn greeting(origin: &Origin, deadline: Deadline) -> Result<Greeting, Failure> {
    let mut stream = Stream::connect(origin, deadline).map_err(|error| failure(&error))?;
    let mut head = [0; 4];
    stream
        .read_exact(&mut head)
        .map_err(|error| failure(&error))?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if head[3] != 0 || length == 0 || length > GREETING_BYTES_MAX {
        return Err(Failure::Error("protocol"));
    }
    let mut packet = vec![0; length];
    stream
        .read_exact(&mut packet)
        .map_err(|error| failure(&error))?;
    read(&packet).ok_or(Failure::Error("protocol"))
}

/// The first packet, without its head.
fn read(packet: &[u8]) -> Option<Greeting> {
    match packet.split_first()? {
        (0x0a, rest) => {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let version = String::from_utf8_lossy(&rest[..end]);
            Some(Greeting::Version(cut(&version, VERSION_BYTES_MAX)))
        }
        (0xff, rest) => Some(Greeting::Refusal(u16::from_le_bytes([
            *rest.first()?,
            *rest.get(1)?,
        ]))),
        _ => None,
    }
}

fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Failure::Error("refused"),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Failure::Error("timeout"),
        io::ErrorKind::UnexpectedEof => Failure::Error("protocol"),
        io::ErrorKind::PermissionDenied => Failure::Unknown("permission denied".to_owned()),
        _ => Failure::Error("other"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_database_is_where_wordpress_would_look_for_it() {
        let tcp = |text: &str| Server::Here(Origin::Tcp(text.parse().unwrap()));
        let unix = |text: &str| Server::Here(Origin::Unix(text.into()));
        for (text, want) in [
            ("localhost", Ok(Server::Socket)),
            ("", Ok(Server::Socket)),
            ("localhost:3307", Ok(tcp("127.0.0.1:3307"))),
            ("localhost:/run/m.sock", Ok(unix("/run/m.sock"))),
            (":/run/m.sock", Ok(unix("/run/m.sock"))),
            ("127.0.0.1", Ok(tcp("127.0.0.1:3306"))),
            ("127.0.0.1:33061", Ok(tcp("127.0.0.1:33061"))),
            ("p:127.0.0.1", Ok(tcp("127.0.0.1:3306"))),
            ("::1", Ok(tcp("[::1]:3306"))),
            ("[::1]:3307", Ok(tcp("[::1]:3307"))),
            ("10.0.0.5:3306", Ok(Server::Elsewhere)),
            ("db.internal", Ok(Server::Elsewhere)),
            (
                "localhost:port",
                Err("the database's port is no port".to_owned()),
            ),
        ] {
            assert_eq!(server(text), want, "{text}");
        }
    }

    #[test]
    fn a_greeting_gives_the_version_and_a_refusal_its_number() {
        let greeting = b"\x0a10.11.19-MariaDB\0\x07\0\0\0salt";
        let version = Greeting::Version("10.11.19-MariaDB".to_owned());
        assert_eq!(read(greeting), Some(version));
        assert_eq!(
            read(b"\xff\x10\x04Too many connections"),
            Some(Greeting::Refusal(1040))
        );
        assert_eq!(read(b"\xff\x10"), None);
        assert_eq!(read(b"\x0aendless"), None);
        assert_eq!(read(b"HTTP"), None);
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(packet in prop::collection::vec(any::<u8>(), 0..300)) {
            read(&packet);
        }

        #[test]
        fn no_host_makes_it_panic(text in ".{0,40}") {
            drop(server(&text));
        }
    }
}
