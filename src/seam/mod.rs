//! The traits behind which all effects lie, gathered in one [`World`].
//!
//! No implementation lives here. The real side is `system/`, `host/`, `record/store/`, `protect/vault/` and
//! `telemetry/`; the simulated side lives in the tests, and both pass one contract test. Nothing else differs between
//! production and simulation.

pub mod clock;
pub mod host;
pub mod hosts;
pub mod notify;
pub mod random;
pub mod store;
pub mod vault;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::id::IdMaker;

pub use clock::{Clock, Pulse};
pub use host::{Call, Host, HostError, Lane, Login, Reply};
pub use hosts::{Hosts, Remotes};
pub use notify::{Notice, Notifier, NotifyError};
pub use random::Randomness;
pub use store::{AuditEntry, Changes, Store, StoreError, Write};
pub use vault::{Vault, VaultError};

/// A boxed future, so that the traits stay object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything outside of the program.
pub struct World {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Randomness>,
    /// Hosts come and go with the configuration.
    pub hosts: Hosts,
    pub store: Arc<dyn Store>,
    pub vault: Arc<dyn Vault>,
    /// Names this installation to every witness; made once, kept in the store.
    pub owner: String,
    /// The last id made; every next one is greater.
    pub ids: Mutex<IdMaker>,
}

impl World {
    /// A fresh raw id, greater than every one before it.
    pub fn new_id(&self) -> u128 {
        let wall_ms = self.clock.now().wall_ms;
        let random = self.random.next();
        self.ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .make(wall_ms, random)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}
