//! Patience with hosts: how many connects at once, and how long to wait after a failure.
//!
//! An SSH server drops connections at random once ten of them have not logged in (`MaxStartups 10:30:100`); four at a
//! time per server leave room for everybody else. What failed is not tried again at once: a refused login would lock
//! accounts and fill logs, so it waits long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::SshError;

/// Connections to one server that have not logged in yet.
const CONNECTS_MAX: usize = 4;

/// Turns to connect, shared by all hosts, because many of them may lie behind one server.
#[derive(Debug, Default)]
pub struct Pacer {
    servers: Mutex<BTreeMap<(String, u16), Arc<Semaphore>>>,
}

impl Pacer {
    /// Waits for a turn at that server. The turn ends when what is returned is dropped.
    pub(super) async fn turn(&self, host: &str, port: u16) -> Option<OwnedSemaphorePermit> {
        let server = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            // Servers that nobody connects to just now need no memory.
            servers.retain(|_, turns| Arc::strong_count(turns) > 1);
            Arc::clone(
                servers
                    .entry((host.to_owned(), port))
                    .or_insert_with(|| Arc::new(Semaphore::new(CONNECTS_MAX))),
            )
        };
        server.acquire_owned().await.ok()
    }
}

/// What kind of failure is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Not there, or in doubt: looking again costs little.
    Down,
    /// Reached, and the agent does not start, or is another daemon's.
    Setup,
    /// It refused our keys.
    Login,
}

impl Patience {
    pub(super) fn with(error: &SshError) -> Option<Self> {
        match error {
            SshError::Login { .. } => Some(Self::Login),
            SshError::Agent { .. } | SshError::NotOurs { .. } => Some(Self::Setup),
            SshError::Late { .. }
            | SshError::Failed { .. }
            | SshError::Distrusted { .. }
            | SshError::RsaOnly { .. } => Some(Self::Down),
            // Nothing was sent, so that a corrected file is used at once.
            SshError::Key { .. } | SshError::Waiting { .. } => None,
        }
    }

    /// Time to wait after the `failures`-th failure in a row (1 = first): doubled each time, up to a cap.
    pub(super) fn wait(self, failures: u32) -> Duration {
        let (first, most) = match self {
            Self::Down => (Duration::from_secs(2), Duration::from_mins(1)),
            Self::Setup => (Duration::from_secs(10), Duration::from_mins(5)),
            Self::Login => (Duration::from_mins(15), Duration::from_hours(24)),
        };
        let factor = 1 << failures.saturating_sub(1).min(16);
        first.saturating_mul(factor).min(most)
    }
}

/// Failures in a row of one thing, and when it may be tried again. On the boot clock.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    failures: u32,
    until_ms: i64,
    last: SshError,
}

impl Backoff {
    /// After one more failure; `None` when there is nothing to wait for.
    pub(super) fn after(before: Option<&Self>, error: &SshError, now_ms: i64) -> Option<Self> {
        let patience = Patience::with(error)?;
        let failures = match before {
            // Another kind of failure is another matter.
            Some(before) if Patience::with(&before.last) == Some(patience) => {
                before.failures.saturating_add(1)
            }
            Some(_) | None => 1,
        };
        let wait = i64::try_from(patience.wait(failures).as_millis()).unwrap_or(i64::MAX);
        Some(Self {
            failures,
            until_ms: now_ms.saturating_add(wait),
            last: error.clone(),
        })
    }

    /// Why it is not tried now; `None` when it may be.
    pub(super) fn refusal(&self, now_ms: i64) -> Option<SshError> {
        let left = self.until_ms.saturating_sub(now_ms);
        (left > 0).then(|| SshError::Waiting {
            seconds: u64::try_from(left).unwrap_or(0).div_ceil(1000),
            last: Box::new(self.last.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> SshError {
        SshError::Login {
            at: "a".to_owned(),
            reason: "b".to_owned(),
        }
    }

    fn down() -> SshError {
        SshError::Failed {
            at: "a".to_owned(),
            stage: super::super::error::Stage::Connect,
            reason: "refused".to_owned(),
        }
    }

    #[test]
    fn waits_double_up_to_their_cap() {
        for (patience, failures, want) in [
            (Patience::Login, 1, 15 * 60),
            (Patience::Login, 2, 30 * 60),
            (Patience::Login, 100, 24 * 3600),
            (Patience::Down, 1, 2),
            (Patience::Down, 3, 8),
            (Patience::Down, u32::MAX, 60),
            (Patience::Setup, 1, 10),
        ] {
            assert_eq!(
                patience.wait(failures).as_secs(),
                want,
                "{patience:?} {failures}"
            );
        }
    }

    #[test]
    fn a_refused_login_is_not_tried_again_before_its_time() {
        let first = Backoff::after(None, &refused(), 1000).unwrap();
        assert!(matches!(
            first.refusal(1000),
            Some(SshError::Waiting { seconds: 900, .. })
        ));
        assert_eq!(first.refusal(1000 + 900_000), None);
        let second = Backoff::after(Some(&first), &refused(), 901_000).unwrap();
        assert!(second.refusal(901_000 + 1_799_000).is_some());
        assert!(second.refusal(901_000 + 1_800_000).is_none());
    }

    #[test]
    fn another_kind_of_failure_starts_anew() {
        let login = Backoff::after(None, &refused(), 0).unwrap();
        let gone = Backoff::after(Some(&login), &down(), 0).unwrap();
        assert_eq!(gone.refusal(2000), None);
        let bad_key = SshError::Key {
            file: "k".to_owned(),
            reason: "r".to_owned(),
        };
        assert!(Backoff::after(None, &bad_key, 0).is_none());
    }

    #[tokio::test]
    async fn at_most_four_connect_to_one_server_at_once() {
        let pacer = Pacer::default();
        let mut turns = Vec::new();
        for _ in 0..CONNECTS_MAX {
            turns.push(pacer.turn("a", 22).await);
        }
        let none = std::future::poll_fn(|context| {
            let turn = std::pin::pin!(pacer.turn("a", 22));
            std::task::Poll::Ready(turn.poll(context).is_pending())
        });
        assert!(none.await, "a fifth has to wait");
        assert!(
            pacer.turn("b", 22).await.is_some(),
            "another server does not"
        );
        turns.pop();
        assert!(pacer.turn("a", 22).await.is_some());
    }
}
