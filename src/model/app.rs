//! An application as the daemon runs on it.

use std::collections::BTreeMap;
use std::time::Duration;

use healer_agent::protocol::Target;
use serde::{Deserialize, Serialize};

use super::name::{AppName, HostName, StackName};
use super::policy::Policy;

/// When an app's rounds are due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// A period with the policy's jitter.
    Every(Duration),
    /// A cron expression with its time zone, checked when the configuration was read.
    Cron { expression: String, zone: String },
}

/// One application, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    pub name: AppName,
    pub host: HostName,
    pub stack: StackName,
    /// Root, declared roots, user.
    pub target: Target,
    /// Name of the user, for messages.
    pub user: String,
    pub url: Option<String>,
    /// Where the application itself listens, when it is not the URL's port on this machine.
    pub origin: Option<String>,
    /// Values that stack files may use as `{vars.name}`.
    pub vars: BTreeMap<String, String>,
    pub schedule: Schedule,
    pub policy: Policy,
}
