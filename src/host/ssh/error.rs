//! Why a host cannot be reached by SSH, in words that an operator can act on.
//!
//! Every step has a time limit, and every error names the step. Whether the identity of the host is in doubt is a
//! variant of its own: it is the one case in which trying again is not a plan.

use std::fmt;
use std::time::Duration;

use crate::model::host::{LOGIN_REFUSED, NOT_TRIED};

/// A step on the way to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Turn,
    Resolve,
    Connect,
    Banner,
    KeyExchange,
    Login,
    Channel,
    Command,
    Upload,
    Greeting,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Turn => "waiting for a turn to connect",
            Self::Resolve => "looking up its address",
            Self::Connect => "the TCP connection",
            Self::Banner => "the banner of its SSH server",
            Self::KeyExchange => "the key exchange",
            Self::Login => "the login",
            Self::Channel => "opening a channel",
            Self::Command => "running a command",
            Self::Upload => "copying the agent",
            Self::Greeting => "the agent's greeting",
        })
    }
}

/// Why no login is tried: the host cannot prove that it is the one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing is pinned.
    NothingPinned,
    /// It offers another key than the pinned ones, which are given as fingerprints.
    OtherKey { expected: Vec<String> },
    /// It offers a key that is pinned as revoked.
    Revoked,
    /// It has no key of a pinned kind; `offers` names what it has.
    OtherKind {
        expected: Vec<String>,
        offers: Vec<String>,
    },
    /// A pin cannot be read, so none is believed.
    UnreadablePin { number: usize, reason: String },
}

/// Why a host cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshError {
    #[error("{at}: {stage} took longer than {} s", within.as_secs_f32())]
    Late {
        at: String,
        stage: Stage,
        within: Duration,
    },
    #[error("{at}: {stage} failed: {reason}")]
    Failed {
        at: String,
        stage: Stage,
        reason: String,
    },
    /// No login was tried.
    #[error("{}", doubt_text(at, offered.as_deref(), doubt))]
    Distrusted {
        at: String,
        /// `SHA256:…` of what it offered.
        offered: Option<String>,
        doubt: Doubt,
    },
    #[error(
        "{at} offers only RSA host keys (ssh-rsa), which cannot be used: add an ed25519 host key there (ssh-keygen -A) and enrol it"
    )]
    RsaOnly { at: String },
    /// A key or certificate of our own cannot be used; nothing was sent.
    #[error("{file}: {reason}")]
    Key { file: String, reason: String },
    #[error("{at}{LOGIN_REFUSED}{reason}")]
    Login { at: String, reason: String },
    /// The host was reached and an agent cannot run there.
    #[error("{at}: {reason}")]
    Agent { at: String, reason: String },
    /// The agent there greeted, and keeps the records of another daemon.
    #[error("{at}: {reason}")]
    NotOurs { at: String, reason: String },
    /// Not tried now, because of what happened before.
    #[error("{last}{NOT_TRIED}{seconds} s")]
    Waiting { seconds: u64, last: Box<Self> },
}

impl SshError {
    /// Is the identity of the host in doubt?
    pub fn is_doubt(&self) -> bool {
        matches!(self.cause(), Self::Distrusted { .. })
    }

    /// Does another daemon look after the host?
    pub fn is_not_ours(&self) -> bool {
        matches!(self.cause(), Self::NotOurs { .. })
    }

    /// What went wrong when it was last tried.
    fn cause(&self) -> &Self {
        if let Self::Waiting { last, .. } = self {
            last.cause()
        } else {
            self
        }
    }
}

fn doubt_text(at: &str, offered: Option<&str>, doubt: &Doubt) -> String {
    let offered = offered.map_or_else(|| "a key that was not seen".to_owned(), str::to_owned);
    match doubt {
        Doubt::NothingPinned => format!(
            "no login to {at} was tried: no host key is pinned; it offers {offered}, compare that with the host's own console and pin it (healerctl host enrol)"
        ),
        Doubt::OtherKey { expected } => format!(
            "no login to {at} was tried: it offers {offered} and not the pinned {}; if its key was changed on purpose, compare that with the host's own console and enrol it again, else somebody else may be answering",
            expected.join(" or ")
        ),
        Doubt::Revoked => format!(
            "no login to {at} was tried: it offers {offered}, which is pinned as revoked; give the host a new key and enrol it"
        ),
        Doubt::OtherKind { expected, offers } => format!(
            "no login to {at} was tried: the pinned {} is of a kind that it does not offer; it has {}; compare its keys with the host's own console and enrol it again",
            expected.join(" or "),
            offers.join(", ")
        ),
        Doubt::UnreadablePin { number, reason } => format!(
            "no login to {at} was tried: pinned host key {number} cannot be read ({reason}); write it as in known_hosts, `ssh-ed25519 AAAA…`"
        ),
    }
}

/// Stands for the end of a line in what is [`quoted`].
pub(super) const LINES: &str = " / ";

/// Foreign text, cut and freed of control characters, for a sentence.
pub(super) fn quoted(text: &[u8]) -> String {
    const KEPT: usize = 300;
    let text = String::from_utf8_lossy(text.get(..text.len().min(4 * KEPT)).unwrap_or_default());
    let mut clean = String::new();
    for character in text.trim().chars().take(KEPT) {
        match character {
            '\r' => {}
            '\n' => clean.push_str(LINES),
            c if c.is_control() => clean.push('?'),
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(quoted(b"a\x1b[2J\r\nb\n"), "a?[2J / b");
        assert_eq!(quoted("ü".repeat(5000).as_bytes()).chars().count(), 300);
        assert_eq!(quoted(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn a_doubt_says_what_was_offered_what_was_expected_and_what_to_do() {
        let error = SshError::Distrusted {
            at: "shop@web1:22".to_owned(),
            offered: Some("SHA256:new".to_owned()),
            doubt: Doubt::OtherKey {
                expected: vec!["SHA256:old".to_owned()],
            },
        };
        let text = error.to_string();
        for word in [
            "shop@web1:22",
            "SHA256:new",
            "SHA256:old",
            "enrol",
            "no login",
        ] {
            assert!(text.contains(word), "{text}");
        }
        let waiting = SshError::Waiting {
            seconds: 5,
            last: Box::new(error),
        };
        assert!(waiting.is_doubt());
    }
}
