//! The control socket: HTTP/1.1 and JSON over a Unix socket, for persons and their programs.
//!
//! Who calls is what the kernel says of the connection, never what the message says; a role is asked for before every
//! verb. Nothing is decided here: a request is checked, handed to the engine through [`Backend`], and its answer shown.
//! Foreign text passes the redactor on the way out. Every size, depth, time and number of connections is bounded, because
//! everybody on the machine who may open the socket can try.

mod backend;
mod events;
mod extract;
mod openapi;
mod peer;
mod problem;
mod routes;
mod server;
mod show;
mod socket;
pub mod wire;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{Roles, Settings};
use crate::model::name::AppName;
use crate::model::time::Moment;
use crate::seam::BoxFuture;

pub use backend::Backend;
pub use openapi::document;
pub use server::serve;
pub use socket::{SocketError, bind};

/// Who may do what, and what else of the settings the socket needs. Replaced whole at a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    pub roles: Roles,
    /// The application that a subdomain belongs to.
    pub parents: BTreeMap<AppName, AppName>,
    /// One person's vote is enough for everything.
    pub one_person: bool,
}

impl Access {
    /// What the settings say.
    pub fn of(settings: &Settings) -> Self {
        Self {
            roles: settings.control.roles.clone(),
            parents: settings.parents.clone(),
            one_person: settings.policy.approval.one_person,
        }
    }
}

/// Sends a test notice; a sentence about what became of it.
pub type NotifierTest = Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// What the socket is made of.
#[derive(Clone)]
pub struct ControlState {
    pub backend: Arc<dyn Backend>,
    pub access: watch::Receiver<Arc<Access>>,
    /// The exporter's text.
    pub metrics_text: Arc<dyn Fn() -> String + Send + Sync>,
    pub notifier_test: NotifierTest,
    /// Called whenever the loop has turned, for the watchdog.
    pub progress: Arc<dyn Fn() + Send + Sync>,
    pub started: Moment,
}

impl fmt::Debug for ControlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlState")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
