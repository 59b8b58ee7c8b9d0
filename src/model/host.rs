//! A machine that is reached by SSH, as the configuration describes it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where an SSH server listens, and who logs in when nobody else is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshAddress {
    pub user: String,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for SshAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}@[{}]:{}", self.user, self.host, self.port)
        } else {
            write!(f, "{}@{}:{}", self.user, self.host, self.port)
        }
    }
}

/// One machine on the way, or the last one: where it is and which keys prove that it is the one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHop {
    pub address: SshAddress,
    /// Pinned host keys, as in the second and third field of a line of `known_hosts`: `ssh-ed25519 AAAA…`. None: no
    /// login is ever tried.
    pub host_keys: Vec<String>,
}

/// How root operations are reached on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Become {
    /// A root-owned agent on that host, run by `sudo -n PROGRAM …`; never the pushed copy.
    pub program: PathBuf,
}

/// A host, and how its agents are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSettings {
    pub target: SshHop,
    /// Hosts to go through, the nearest first.
    pub jumps: Vec<SshHop>,
    /// Private key files of the daemon, absolute, tried in order.
    pub keys: Vec<PathBuf>,
    /// OpenSSH certificates, each belonging to one of the keys.
    pub certificates: Vec<PathBuf>,
    /// The socket of an ssh-agent.
    pub agent: Option<PathBuf>,
    pub r#become: Option<Become>,
    /// The agent is installed there as a forced command: nothing is pushed, whatever is executed.
    pub forced_command: bool,
    /// Longest time from the first packet to a login.
    pub connect_within: Duration,
    /// A connection that nobody used for this long is closed.
    pub idle: Duration,
}
