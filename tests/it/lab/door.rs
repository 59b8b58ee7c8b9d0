//! A way from this machine's loopback into a host that has no network: each connection is handed to a server inside.
//!
//! The server gets the very socket, so that nothing stands between it and its client. When the host is dead its sockets
//! are kept open on this side: no power cut ever said goodbye.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::Lab;

/// Whether the host behind the door is dead, and who waits for it.
#[derive(Debug, Default)]
struct Host {
    dead: Mutex<bool>,
    changed: Condvar,
    gone: AtomicBool,
}

impl Host {
    fn is(&self, dead: bool) {
        *self.dead.lock().unwrap_or_else(PoisonError::into_inner) = dead;
        self.changed.notify_all();
    }

    fn wait_while_dead(&self) {
        let dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(dead, |dead| *dead));
    }
}

/// One open port.
#[derive(Debug)]
pub(crate) struct Door {
    port: u16,
    host: Arc<Host>,
}

impl Door {
    /// Opens it until the lab ends. `serve` makes the command that gets a connection as its input and output.
    pub(super) fn open(lab: &Lab, serve: impl Fn() -> Command + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a loopback");
        let address = listener.local_addr().expect("it is bound");
        let host = Arc::new(Host::default());
        let log = lab.dir().join("door.log");
        std::thread::spawn({
            let host = Arc::clone(&host);
            move || {
                for stream in listener.incoming().flatten() {
                    if host.gone.load(Ordering::SeqCst) {
                        return;
                    }
                    if let Err(error) = hand_over(stream, serve(), &log, &host) {
                        eprintln!("a connection is lost: {error}");
                    }
                }
            }
        });
        lab.at_end({
            let host = Arc::clone(&host);
            move || {
                host.gone.store(true, Ordering::SeqCst);
                host.is(false);
                drop(TcpStream::connect(address)); // it wakes the listener
            }
        });
        Self {
            port: address.port(),
            host,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on connections fall silent instead of ending.
    pub(crate) fn host_dies(&self) {
        self.host.is(true);
    }

    /// It answers again: it knows nothing of what was open before.
    pub(crate) fn host_lives(&self) {
        self.host.is(false);
    }
}

fn hand_over(
    stream: TcpStream,
    mut server: Command,
    log: &Path,
    host: &Arc<Host>,
) -> io::Result<()> {
    let said = File::options().create(true).append(true).open(log)?;
    let [input, output] = [stream.try_clone()?, stream.try_clone()?];
    let mut server = server
        .stdin(Stdio::from(OwnedFd::from(input)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .stderr(said)
        .spawn()?;
    let host = Arc::clone(host);
    std::thread::spawn(move || {
        drop(server.wait());
        host.wait_while_dead();
        drop(stream);
    });
    Ok(())
}
