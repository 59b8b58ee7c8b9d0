//! A clock that stands until it is moved, and seeded randomness.

use std::sync::Mutex;
use std::time::Duration;

use healerd::model::time::Moment;
use healerd::seam::{BoxFuture, Clock, Randomness};

/// Moved by hand only.
#[derive(Debug)]
pub(crate) struct SimClock(Mutex<Moment>);

/// When every simulation begins: 2027-01-01.
pub(crate) const START_MS: i64 = 1_798_761_600_000;

impl Default for SimClock {
    fn default() -> Self {
        // The machine has been up for a day.
        Self(Mutex::new(Moment {
            boot_id: "boot-1".to_owned(),
            boot_ms: 86_400_000,
            wall_ms: START_MS,
        }))
    }
}

impl SimClock {
    /// Lets time pass.
    pub(crate) fn pass(&self, length: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.plus(length);
    }

    /// Lets time pass until the boot clock shows this; never back.
    pub(crate) fn reach(&self, boot_ms: i64) {
        let mut now = self.0.lock().unwrap();
        let missing = u64::try_from(boot_ms - now.boot_ms).unwrap_or(0);
        *now = now.plus(Duration::from_millis(missing));
    }

    /// Sets the wall clock off, as a wrong time server would.
    pub(crate) fn step_wall(&self, by_ms: i64) {
        self.0.lock().unwrap().wall_ms += by_ms;
    }

    /// The machine boots again after it was off for a while.
    pub(crate) fn reboot(&self, boot_id: &str, off: Duration) {
        let mut now = self.0.lock().unwrap();
        let off_ms = i64::try_from(off.as_millis()).unwrap();
        *now = Moment {
            boot_id: boot_id.to_owned(),
            boot_ms: 1000,
            wall_ms: now.wall_ms + off_ms,
        };
    }
}

impl Clock for SimClock {
    fn now(&self) -> Moment {
        self.0.lock().unwrap().clone()
    }

    fn sleep_until(&self, _boot_ms: i64) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The same numbers for the same seed.
#[derive(Debug)]
pub(crate) struct SimRandom(Mutex<u64>);

impl SimRandom {
    /// Begins the sequence of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Randomness for SimRandom {
    /// `SplitMix64`.
    fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
