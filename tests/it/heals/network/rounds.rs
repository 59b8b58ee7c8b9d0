//! Rounds as the daemon itself dates them: every one stores when the next is due.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::farm::{Farm, PERIOD};

/// What was noted of one host: when it was seen here, and the due time that the round stored.
type Noted = Vec<(Instant, i64)>;

/// Notes rounds of all hosts until it is told to stop.
#[derive(Default)]
pub(super) struct Rounds {
    stop: AtomicBool,
    noted: Mutex<Vec<Noted>>,
}

impl Rounds {
    /// Runs on a thread of its own.
    pub(super) fn note(&self, farm: &Farm) {
        let journal = farm.journal();
        let mut noted: Vec<Noted> = farm.hosts.iter().map(|_| Vec::new()).collect();
        while !self.stop.load(Ordering::SeqCst) {
            for (far, list) in farm.hosts.iter().zip(&mut noted) {
                if let Some(due) = journal.due(&far.name)
                    && list.last().is_none_or(|(_, last)| *last != due)
                {
                    list.push((Instant::now(), due));
                }
            }
            *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = noted.clone();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Between these moments no period of a host (0 = the first) was missed by more than one interval. Gives how many
    /// rounds there were, and the longest time from one to the next.
    #[track_caller]
    pub(super) fn judge(&self, host: usize, from: Instant, to: Instant) -> (usize, Duration) {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let within: Vec<i64> = noted[host]
            .iter()
            .filter(|(at, _)| *at >= from && *at <= to)
            .map(|(_, due)| *due)
            .collect();
        let gaps = within.windows(2).map(|pair| pair[1] - pair[0]);
        let longest = Duration::from_millis(gaps.max().unwrap_or(0).unsigned_abs());
        // Jitter moves both ends by a tenth of a period.
        let most = PERIOD * 2 + PERIOD / 5;
        assert!(
            longest <= most,
            "w{}: {longest:?} without a round",
            host + 1
        );
        let least = (to - from).as_millis() / most.as_millis();
        assert!(
            within.len() as u128 >= least,
            "w{}: {} rounds in {:?}",
            host + 1,
            within.len(),
            to - from
        );
        (within.len(), longest)
    }
}
