//! What the daemon runs on: validated, complete, and compared whole at a reload.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::app::{App, Schedule};
use crate::model::host::RemoteHost;
use crate::model::name::{AppName, CheckName, HostName};
use crate::model::policy::Policy;
use crate::model::word::words;

words! {
    /// What a caller of the control socket may do; each role may do what the ones before it may.
    Role, "role" { Viewer = "viewer", Operator = "operator", Approver = "approver", Admin = "admin" }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text out of sight.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Everything, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub daemon: DaemonSettings,
    pub control: ControlSettings,
    pub metrics: MetricsSettings,
    pub notify: NotifySettings,
    /// `None`: no dead-man signal is sent.
    pub heartbeat: Option<HeartbeatSettings>,
    /// Longest silence before the service manager restarts the daemon.
    pub watchdog: Duration,
    /// How long results and ended incidents are kept.
    pub history: Duration,
    /// Policy of what is not about one app, and the base of every app's.
    pub policy: Policy,
    /// Schedule of an app that names none.
    pub schedule: Schedule,
    /// Hosts that are reached by SSH; `local` is always there beside them.
    pub hosts: BTreeMap<HostName, RemoteHost>,
    pub apps: BTreeMap<AppName, App>,
    /// The app that a subdomain belongs to.
    pub parents: BTreeMap<AppName, AppName>,
    /// Checks of an app with a period of their own.
    pub check_every: BTreeMap<AppName, BTreeMap<CheckName, Duration>>,
}

/// `[daemon]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSettings {
    pub state_dir: PathBuf,
    /// Root-owned list of the root operations that are allowed on this machine.
    pub agent_allow: PathBuf,
    /// Time zone of cron expressions that name none.
    pub zone: String,
}

/// `[control]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    pub socket: PathBuf,
    /// Group that may connect; `None`: the daemon's own.
    pub group: Option<u32>,
    pub roles: Roles,
}

/// Who has which role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    pub users: BTreeMap<u32, Role>,
    pub groups: BTreeMap<u32, Role>,
}

impl Roles {
    /// The highest role of a caller, by what the kernel says of the connection. Root is admin.
    pub fn of(&self, uid: u32, gids: &[u32]) -> Option<Role> {
        if uid == 0 {
            return Some(Role::Admin);
        }
        self.users
            .get(&uid)
            .copied()
            .into_iter()
            .chain(gids.iter().filter_map(|gid| self.groups.get(gid).copied()))
            .max()
    }
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsSettings {
    /// `None`: only the control socket answers `/metrics`.
    pub listen: Option<SocketAddr>,
}

/// `[notify]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySettings {
    pub webhook: Option<WebhookSettings>,
    /// A repeat of one matter within this is left away.
    pub repeat: Duration,
}

/// `[notify.webhook]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Often a secret in itself.
    pub url: Secret,
    /// Signs the body.
    pub secret: Option<Secret>,
    pub timeout: Duration,
}

/// `[heartbeat]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatSettings {
    pub url: Secret,
    pub every: Duration,
}

impl Settings {
    /// Settings that a reload cannot change, by key, where the two differ. The daemon keeps the old ones and says so.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        [
            (
                "daemon.state_dir",
                self.daemon.state_dir != new.daemon.state_dir,
            ),
            ("control.socket", self.control.socket != new.control.socket),
            ("control.group", self.control.group != new.control.group),
            ("metrics.listen", self.metrics != new.metrics),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}
