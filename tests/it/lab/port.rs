//! Loopback ports from the kernel that stay ours.
//!
//! A port that is bound and freed again may be given to the next one who asks. So the reservation is kept: a socket that is
//! bound with `SO_REUSEADDR` and never listens leaves room for exactly one listener that sets the option too, as servers do.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// A reserved port; free again when dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _held: OwnedFd,
}

impl Port {
    pub(crate) fn reserve() -> Self {
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .expect("the kernel gives sockets");
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)
            .expect("a TCP socket has this option");
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))
            .expect("a loopback port is free");
        let address = rustix::net::getsockname(&socket).expect("a bound socket has a name");
        let number = SocketAddr::try_from(address)
            .expect("it is an internet address")
            .port();
        Self {
            number,
            _held: socket,
        }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
