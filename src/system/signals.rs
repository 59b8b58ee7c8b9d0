//! Signals of the process as two words: stop, reload.

use tokio::signal::unix::{SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT: no new intent, then exit.
    Stop,
    /// HUP: check the configuration again and swap it.
    Reload,
}

/// The stream of them. Signals that come while nobody waits are remembered, once per kind.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes the signals over from the default of ending the process.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one; stop goes before reload.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hangup_asks_for_a_reload_and_terminate_for_a_stop() {
        let mut signals = Signals::new().unwrap();
        let me = rustix::process::getpid();
        for (sent, want) in [
            (rustix::process::Signal::HUP, Signal::Reload),
            (rustix::process::Signal::TERM, Signal::Stop),
            (rustix::process::Signal::INT, Signal::Stop),
        ] {
            rustix::process::kill_process(me, sent).unwrap();
            assert_eq!(signals.next().await, want);
        }
    }
}
