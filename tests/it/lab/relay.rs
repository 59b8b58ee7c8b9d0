//! In front of a real SSH server: passes everything on, or stops passing at a step of the conversation.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{locked, net};

/// Up to where the server's words are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    All,
    /// Not a byte: it hangs before its banner.
    Nothing,
    /// It hangs after its banner.
    Banner,
    /// It hangs in the key exchange: its first packet comes, and nothing more.
    FirstPacket,
    /// Everything, after a while.
    Late,
}

/// How late that is.
const WHILE: Duration = Duration::from_millis(60);

/// A relay; it ends with the test's process.
pub(crate) struct Relay {
    pass: Arc<AtomicU8>,
    /// Connections since it was last set.
    connections: Arc<AtomicUsize>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    /// Listens on `at` in the network namespace of a process, for a server that listens on `server` there.
    pub(crate) fn open(net: u32, at: SocketAddr, server: SocketAddr) -> Self {
        let relay = Self {
            pass: Arc::default(),
            connections: Arc::default(),
            streams: Arc::default(),
        };
        let listener = net::thread_inside(net, move || {
            TcpListener::bind(at).expect("the namespace is the lab's own")
        })
        .join()
        .expect("the thread only binds");
        let (pass, streams) = (Arc::clone(&relay.pass), Arc::clone(&relay.streams));
        let connections = Arc::clone(&relay.connections);
        net::thread_inside(net, move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                let pass = limit(pass.load(Ordering::SeqCst));
                connections.fetch_add(1, Ordering::SeqCst);
                let mut kept = locked(&streams);
                for (from, to, pass) in [(&client, &server, None), (&server, &client, Some(pass))] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
                        continue;
                    };
                    std::thread::spawn(move || copy(from, to, pass.unwrap_or(Pass::All)));
                }
                kept.extend([client, server]);
            }
        });
        relay
    }

    /// From now on passes this much, and all that was open is cut.
    pub(crate) fn set(&self, pass: Pass) {
        self.pass.store(pass as u8, Ordering::SeqCst);
        self.connections.store(0, Ordering::SeqCst);
        for stream in locked(&self.streams).drain(..) {
            // One that has ended already is fine.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Relay {
    /// Has somebody connected since it was last set?
    pub(crate) fn was_tried(&self) -> bool {
        self.connections.load(Ordering::SeqCst) > 0
    }
}

fn limit(stored: u8) -> Pass {
    let all = [
        Pass::All,
        Pass::Nothing,
        Pass::Banner,
        Pass::FirstPacket,
        Pass::Late,
    ];
    all.into_iter()
        .find(|pass| *pass as u8 == stored)
        .unwrap_or(Pass::All)
}

/// Copies until an end; what comes after the limit is swallowed.
fn copy(mut from: TcpStream, mut to: TcpStream, pass: Pass) {
    let mut seen = Vec::new();
    let mut sent = 0;
    let mut piece = [0; 16 << 10];
    while let Ok(count) = from.read(&mut piece) {
        if count == 0 {
            break;
        }
        if pass == Pass::Late {
            std::thread::sleep(WHILE);
        }
        if matches!(pass, Pass::All | Pass::Late) {
            if to.write_all(&piece[..count]).is_err() {
                break;
            }
            continue;
        }
        seen.extend_from_slice(&piece[..count]);
        let until = allowed(&seen, pass).min(seen.len());
        if until > sent {
            if to.write_all(&seen[sent..until]).is_err() {
                break;
            }
            sent = until;
        }
    }
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}

/// How many of the server's first bytes are passed on.
fn allowed(seen: &[u8], pass: Pass) -> usize {
    let banner = seen.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    match (pass, banner) {
        (Pass::All | Pass::Late, _) => seen.len(),
        (Pass::Nothing, _) | (_, None) => 0,
        (Pass::Banner, Some(banner)) => banner,
        (Pass::FirstPacket, Some(banner)) => {
            // Not encrypted yet: four bytes of length, then the packet.
            let length = seen.get(banner..banner + 4).map_or(0, |word| {
                word.iter()
                    .fold(0, |all, byte| all << 8 | usize::from(*byte))
                    + 4
            });
            banner + length
        }
    }
}
