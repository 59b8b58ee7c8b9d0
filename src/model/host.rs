//! A machine that is reached by SSH, as the configuration describes it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::HostName;

/// A user or group whose number is not known; the kernel's own word for "none" (`(uid_t) -1`). The agent never acts
/// for it.
pub const UNKNOWN_ID: u32 = u32::MAX;

/// In the reason why a host cannot be seen, before the time for which it is left alone.
pub const NOT_TRIED: &str = "; not tried again for ";

/// In the reason why a host cannot be seen: it did not take our key.
pub const LOGIN_REFUSED: &str = " refused the login: ";

/// Longest user name, as `useradd` has it.
const USER_BYTES_MAX: usize = 32;

/// The name of a user on some machine, of a kind that needs no quoting anywhere. `Copy`, so that a login stays a plain
/// value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName {
    /// Zeros behind the name, so that order and equality are those of the text.
    bytes: [u8; USER_BYTES_MAX],
}

impl UserName {
    /// Takes a name of 1 to 32 of `a-z A-Z 0-9 _ . -` that begins with a letter or `_`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut all = text.bytes();
        let first = all.next()?;
        let fits = (first.is_ascii_alphabetic() || first == b'_')
            && all.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
            && text.len() <= USER_BYTES_MAX;
        if !fits {
            return None;
        }
        let mut bytes = [0; USER_BYTES_MAX];
        bytes
            .iter_mut()
            .zip(text.bytes())
            .for_each(|(place, byte)| *place = byte);
        Some(Self { bytes })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let length = self
            .bytes
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(USER_BYTES_MAX);
        // Only ASCII comes in.
        std::str::from_utf8(&self.bytes[..length]).unwrap_or_default()
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserName({})", self.as_str())
    }
}

/// The numbers of a user on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIds {
    pub uid: u32,
    pub gid: u32,
}

/// A host key that was shown, before anybody said that it is the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedKey {
    /// As pinned: `ssh-ed25519 AAAA…`.
    pub key: String,
    /// `SHA256:` and unpadded base64, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
}

/// How a step of an examination ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Fine,
    /// This must be mended.
    Wrong,
    /// Not looked at, or not used.
    Skipped,
}

impl Found {
    /// The word people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Wrong => "wrong",
            Self::Skipped => "skipped",
        }
    }
}

/// What one step of an examination found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub step: String,
    pub found: Found,
    pub text: String,
    /// Lines to add to a file there, ready to copy; empty where there are none.
    pub lines: String,
}

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

/// Where a root agent keeps its record on a host.
pub const ROOT_STATE: &str = "/var/lib/healerd-agent";

/// Root-owned list of what a root agent on a host may do.
pub const ALLOW_FILE: &str = "/etc/healerd/agent.toml";

impl Become {
    /// What `sudo -n` runs, word for word; sudoers must allow exactly this and nothing wider.
    pub fn command(&self) -> String {
        format!(
            "{} --identity root --state {ROOT_STATE}",
            self.program.display()
        )
    }

    /// The line for sudoers that lets `user` run exactly that.
    pub fn sudoers_line(&self, user: &str) -> String {
        format!("{user} ALL=(root) NOPASSWD: {}", self.command())
    }
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

/// A host of the configuration, before keys that were enrolled at run time are added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteHost {
    /// Pins are those that the configuration names.
    pub ssh: SshSettings,
    /// The hosts that `ssh.jumps` stand for, in the same order.
    pub jumps: Vec<HostName>,
}

impl RemoteHost {
    /// How the host is reached with the keys that persons enrolled. What the configuration names wins over them.
    pub fn with_enrolled(
        &self,
        name: &HostName,
        enrolled: &BTreeMap<HostName, Vec<String>>,
    ) -> SshSettings {
        let mut ssh = self.ssh.clone();
        let hops = ssh.jumps.iter_mut().zip(&self.jumps);
        for (hop, host) in hops.chain([(&mut ssh.target, name)]) {
            if hop.host_keys.is_empty() {
                hop.host_keys = enrolled.get(host).cloned().unwrap_or_default();
            }
        }
        ssh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_that_would_need_quoting_are_none() {
        for (text, fits) in [
            ("shop", true),
            ("www-data", true),
            ("_apt", true),
            ("a.b_C-9", true),
            (&"a".repeat(32), true),
            (&"a".repeat(33), false),
            ("", false),
            ("-shop", false),
            ("9shop", false),
            ("a b", false),
            ("a;b", false),
            ("a\0", false),
            ("é", false),
        ] {
            let parsed = UserName::parse(text);
            assert_eq!(parsed.is_some(), fits, "{text:?}");
            if let Some(name) = parsed {
                assert_eq!(name.as_str(), text);
            }
        }
    }
}
