//! Time.

use super::BoxFuture;
use crate::model::time::Moment;

/// The clocks of this machine.
pub trait Clock: Send + Sync {
    /// One reading of all of them.
    fn now(&self) -> Moment;

    /// Returns when the boot clock has reached `boot_ms`; at once when it has already.
    fn sleep_until(&self, boot_ms: i64) -> BoxFuture<'_, ()>;
}

/// A hint that time has passed. It may come late, twice or never; nothing may depend on it alone.
pub trait Pulse: Send + Sync {
    /// Waits for the next beat.
    fn beat(&self) -> BoxFuture<'_, ()>;
}
