//! The `port` probe: does something listen on a TCP port of this host, who, and does it accept?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::Context;
use super::found::Found;
use super::process::{Belongs, belongs};
use super::procfs;
use super::spec::{Fact, Number};
use super::validate;

/// How long a local connect may take.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// One listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    address: IpAddr,
    inode: u64,
}

/// The listeners on a port in the text of `/proc/net/tcp` or `tcp6`.
fn listeners(table: &str, port: u16) -> Vec<Listener> {
    let read = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, at_port) = fields.get(1)?.split_once(':')?;
        let listens = *fields.get(3)? == "0A";
        if !listens || u16::from_str_radix(at_port, 16).ok()? != port {
            return None;
        }
        Some(Listener {
            address: hex_address(address)?,
            inode: fields.get(9)?.parse().ok()?,
        })
    };
    table.lines().skip(1).filter_map(read).collect()
}

/// The kernel prints addresses as words in its own byte order.
fn hex_address(text: &str) -> Option<IpAddr> {
    let words: Vec<u32> = (0..text.len())
        .step_by(8)
        .map(|at| u32::from_str_radix(text.get(at..at + 8)?, 16).ok())
        .collect::<Option<_>>()?;
    match words.as_slice() {
        [word] => Some(IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes()))),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (chunk, word) in bytes.chunks_exact_mut(4).zip([a, b, c, d]) {
                chunk.copy_from_slice(&word.to_ne_bytes());
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

/// Would a connection to `wanted` end at a listener on `on`?
fn serves(on: IpAddr, wanted: IpAddr) -> bool {
    match (on, wanted) {
        (on, wanted) if on == wanted => true,
        // `::` takes IPv4 too, unless told otherwise, which the table does not show.
        (IpAddr::V6(on), _) if on.is_unspecified() => true,
        (IpAddr::V4(on), IpAddr::V4(_)) => on.is_unspecified(),
        (IpAddr::V6(on), IpAddr::V4(wanted)) => on.to_ipv4_mapped() == Some(wanted),
        _ => false,
    }
}

/// Where to knock: the asked address, or the loopback of a listener on all addresses.
fn knock_at(address: Option<IpAddr>, listener: Listener) -> IpAddr {
    match address.unwrap_or(listener.address) {
        IpAddr::V4(on) if on.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(on) if on.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    }
}

pub(super) fn probe(context: &Context, port: &Number, address: Option<&str>) -> Found {
    let unknown = |why: &str| Found::unknown("port", why);
    let text = match port {
        Number::Int(port) => port.to_string(),
        Number::Text(text) => text.clone(),
    };
    let port = match validate::port(&text) {
        Ok(port) => port,
        Err(error) => return unknown(&error),
    };
    let address = match address.map(str::parse::<IpAddr>) {
        None => None,
        Some(Ok(address)) => Some(address),
        Some(Err(_)) => return unknown("the address is no IP address"),
    };
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match procfs::read_text(table) {
            Ok(text) => found.extend(listeners(&text, port)),
            // A kernel without IPv6 has no second table.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return unknown(&format!("{table}: {error}")),
        }
    }
    found.retain(|listener| address.is_none_or(|wanted| serves(listener.address, wanted)));
    let Some(first) = found.first() else {
        return Found::absent("port")
            .with("listening", false)
            .with("accepts", false)
            .with("pids", Vec::<i64>::new())
            .with("held_by_app", false);
    };
    let (pids, held) = holders(context, &found);
    Found::absent("port")
        .with("listening", true)
        .with(
            "accepts",
            accepts(context, SocketAddr::new(knock_at(address, *first), port)),
        )
        .with("pids", pids)
        .with("held_by_app", held)
}

fn accepts(context: &Context, at: SocketAddr) -> Fact {
    let left = context.within(CONNECT_TIME).left();
    if left.is_zero() {
        return Fact::Unknown("deadline".to_owned());
    }
    match TcpStream::connect_timeout(&at, left) {
        Ok(_) => Fact::Bool(true),
        Err(error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::TimedOut => {
                Fact::Bool(false)
            }
            _ => Fact::Unknown(error.to_string()),
        },
    }
}

/// Which processes hold the listeners, as far as may be seen, and is one of them the application's?
fn holders(context: &Context, listeners: &[Listener]) -> (Vec<i64>, Fact) {
    let processes = match procfs::all() {
        Ok(processes) => processes,
        Err(error) => return (Vec::new(), Fact::Unknown(error.to_string())),
    };
    let mut pids = Vec::new();
    let (mut held, mut unclear) = (false, None);
    for process in &processes {
        let is_app = process.uid == context.target.uid;
        match process.sockets() {
            Ok(inodes) => {
                if !listeners
                    .iter()
                    .any(|listener| inodes.contains(&listener.inode))
                {
                    continue;
                }
                pids.push(i64::from(process.pid));
                match belongs(process, &context.place) {
                    Belongs::Yes => held |= is_app,
                    Belongs::Unknown(why) if is_app => unclear = Some(why),
                    Belongs::No | Belongs::Unknown(_) => {}
                }
            }
            Err(error) if is_app && error.kind() == std::io::ErrorKind::PermissionDenied => {
                unclear.get_or_insert_with(|| {
                    format!("the files of process {} cannot be seen", process.pid)
                });
            }
            Err(_) => {}
        }
    }
    let me = rustix::process::geteuid();
    let held = match (held, unclear) {
        (true, _) => Fact::Bool(true),
        // A holder that was seen and is another's settles it; an unseen one does not.
        (false, Some(why)) if pids.is_empty() => Fact::Unknown(why),
        (false, _) if pids.is_empty() && !me.is_root() && me.as_raw() != context.target.uid => {
            Fact::Unknown("the holder cannot be seen".to_owned())
        }
        (false, _) => Fact::Bool(false),
    };
    (pids, held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1\n   \
            1: 0100007F:0BB8 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4243 1\n   \
            2: garbage\n";
        let found = listeners(tcp, 3000);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].inode, 4242);
        #[cfg(target_endian = "little")]
        assert_eq!(found[0].address, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(listeners(tcp, 80), []);
        #[cfg(target_endian = "little")]
        assert_eq!(
            hex_address("00000000000000000000000001000000"),
            Some(IpAddr::V6(Ipv6Addr::LOCALHOST))
        );
        assert_eq!(hex_address("zz"), None);
    }

    #[test]
    fn a_listener_on_all_addresses_serves_each() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (on, wanted, want) in [
            ("0.0.0.0", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("10.0.0.1", "127.0.0.1", false),
            ("::", "127.0.0.1", true),
            ("::1", "127.0.0.1", false),
            ("0.0.0.0", "::1", false),
        ] {
            assert_eq!(serves(ip(on), ip(wanted)), want, "{on} {wanted}");
        }
    }
}
