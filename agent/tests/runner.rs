//! The agent as its caller sees it: real processes, real signals, frames over pipes.
//!
//! Everything here runs as an ordinary user of its own number, dropped to from root. Without root there is nobody to
//! drop to, so every test then runs as the caller.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets what it does not expect fails there and then"
)]

#[path = "runner/client.rs"]
mod client;
#[path = "runner/confinement.rs"]
mod confinement;
#[cfg(feature = "crash-points")]
#[path = "runner/crash_points.rs"]
mod crash_points;
#[path = "runner/crashes.rs"]
mod crashes;
#[path = "runner/demonstration.rs"]
mod demonstration;
#[path = "runner/effects.rs"]
mod effects;
#[path = "runner/pm2.rs"]
mod pm2;
#[path = "runner/refusals.rs"]
mod refusals;
