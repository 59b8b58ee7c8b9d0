//! The real side of the smallest seams: clocks, randomness, the pulse and signals; and the memory that a start leaves.
//!
//! Nothing here decides anything, and nothing here knows an application.

pub mod clock;
pub mod cron;
pub mod memory;
pub mod pulse;
pub mod random;
pub mod signals;

pub use clock::RealClock;
pub use cron::{CronError, CronSchedule};
pub use memory::{hand_back_free, hand_back_program};
pub use pulse::{CronPulse, PulseError};
pub use random::OsRandom;
pub use signals::{Signal, Signals};
