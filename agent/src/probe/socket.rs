//! A stream that never waits beyond its deadline, however slowly the other side speaks.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::deadline::Deadline;
use super::http_url::Origin;

/// The longest single wait; a passed deadline is noticed this fast at the latest.
const SLICE: Duration = Duration::from_millis(200);

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connected stream with a deadline over all its reads and writes together.
#[derive(Debug)]
pub(super) struct Stream {
    kind: Kind,
    deadline: Deadline,
}

impl Stream {
    /// Connects; `TimedOut` when the deadline passes first.
    pub(super) fn connect(origin: &Origin, deadline: Deadline) -> io::Result<Self> {
        let left = deadline.left();
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let kind = match origin {
            Origin::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, left)?;
                stream.set_nodelay(true)?;
                Kind::Tcp(stream)
            }
            Origin::Unix(path) => Kind::Unix(unix(path)?),
        };
        Ok(Self { kind, deadline })
    }

    /// Sets the time limit of the next call; an error when nothing is left.
    fn arm(&self) -> io::Result<()> {
        let left = self.deadline.left();
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let limit = Some(left.min(SLICE).max(Duration::from_millis(1)));
        match &self.kind {
            Kind::Tcp(stream) => {
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)
            }
            Kind::Unix(stream) => {
                stream.set_read_timeout(limit)?;
                stream.set_write_timeout(limit)
            }
        }
    }

    /// Does it until it is done, fails, or the deadline passes.
    fn patiently(
        &mut self,
        mut once: impl FnMut(&mut Kind) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            self.arm()?;
            match once(&mut self.kind) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                other => return other,
            }
        }
    }
}

/// A blocking connect to a Unix socket waits without limit while its backlog is full; this one answers at once.
fn unix(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let handle: OwnedFd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&handle, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(handle);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.patiently(|kind| match kind {
            Kind::Tcp(stream) => stream.read(buffer),
            Kind::Unix(stream) => stream.read(buffer),
        })
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(|kind| match kind {
            Kind::Tcp(stream) => stream.write(bytes),
            Kind::Unix(stream) => stream.write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
