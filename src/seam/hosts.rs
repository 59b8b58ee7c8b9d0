//! All hosts by name, and whoever makes the ones that are reached over a network.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::BoxFuture;
use super::host::{Host, HostError};
use crate::model::host::{Finding, OfferedKey, SshSettings};
use crate::model::name::HostName;

/// Reaches machines that are not this one.
pub trait Remotes: Send + Sync {
    /// A host that is reached as `settings` say. Nothing is connected before its first call; with no pinned key in
    /// them, every call ends in [`HostError::Untrusted`].
    fn open(&self, name: &HostName, settings: &SshSettings) -> Arc<dyn Host>;

    /// The key that a host shows now, without a login on it.
    fn scan<'a>(
        &'a self,
        name: &'a HostName,
        settings: &'a SshSettings,
    ) -> BoxFuture<'a, Result<OfferedKey, HostError>>;

    /// The way to a host up to its key, step by step, for a person who wonders what is missing. Nobody logs in.
    fn examine<'a>(
        &'a self,
        name: &'a HostName,
        settings: &'a SshSettings,
    ) -> BoxFuture<'a, Vec<Finding>>;

    /// The public halves of the keys that log in there, as lines of `authorized_keys`, where they can be read.
    fn public_keys(&self, settings: &SshSettings) -> Vec<String>;
}

/// All hosts of the present configuration.
#[derive(Default)]
pub struct Hosts {
    all: RwLock<BTreeMap<HostName, Arc<dyn Host>>>,
}

impl Hosts {
    /// A host by its name.
    pub fn get(&self, name: &HostName) -> Option<Arc<dyn Host>> {
        self.all
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// Is there a host of this name?
    pub fn has(&self, name: &HostName) -> bool {
        self.get(name).is_some()
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<dyn Host>> {
        self.all
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Puts a host in the place of the one of its name; gives back the one before, which the caller closes.
    pub fn put(&self, host: Arc<dyn Host>) -> Option<Arc<dyn Host>> {
        let name = host.name().clone();
        self.all
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, host)
    }

    /// Takes a host away; the caller closes it.
    pub fn take(&self, name: &HostName) -> Option<Arc<dyn Host>> {
        self.all
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name)
    }
}

impl<I: IntoIterator<Item = (HostName, Arc<dyn Host>)>> From<I> for Hosts {
    fn from(hosts: I) -> Self {
        Self {
            all: RwLock::new(hosts.into_iter().collect()),
        }
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.all().iter().map(|host| host.name().clone()).collect();
        f.debug_tuple("Hosts").field(&names).finish()
    }
}
