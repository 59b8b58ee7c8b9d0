//! What people set to keep automation away: holds, mutes, and modes set at run time.

use serde::{Deserialize, Serialize};

use super::id::HoldId;
use super::name::{AppName, CheckName, HostName};
use super::time::Moment;
use super::word::HealingMode;

/// What a hold covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Everything,
    Host(HostName),
    App(AppName),
}

impl Scope {
    /// Does it cover this app on this host?
    pub fn covers(&self, app: &AppName, host: &HostName) -> bool {
        match self {
            Self::Everything => true,
            Self::Host(held) => held == host,
            Self::App(held) => held == app,
        }
    }

    /// `all`, `host:NAME` or `app:NAME`.
    pub fn to_text(&self) -> String {
        match self {
            Self::Everything => "all".to_owned(),
            Self::Host(name) => format!("host:{name}"),
            Self::App(name) => format!("app:{name}"),
        }
    }

    /// Reads [`Scope::to_text`]'s form.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "all" => Some(Self::Everything),
            Some(("host", name)) => name.parse().ok().map(Self::Host),
            Some(("app", name)) => name.parse().ok().map(Self::App),
            None | Some(_) => None,
        }
    }
}

/// A durable stop of all automation in its scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub id: HoldId,
    pub scope: Scope,
    /// Who set it: `user(uid)`, or `healerd` for one that the daemon set itself after an undo failed.
    pub owner: String,
    pub reason: String,
    pub since: Moment,
    /// Ends by itself after this many milliseconds; `None`: only by a resume.
    pub for_ms: Option<u64>,
}

/// A check whose bad results are shown but lead to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mute {
    pub app: AppName,
    pub check: CheckName,
    pub owner: String,
    pub reason: String,
    pub since: Moment,
    pub for_ms: u64,
}

/// A mode set at run time; it yields when the configured value is no longer `configured`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeOverride {
    /// `None`: for everything.
    pub app: Option<AppName>,
    pub mode: HealingMode,
    /// The configured mode it was set against.
    pub configured: HealingMode,
    pub owner: String,
    pub reason: String,
    pub since: Moment,
}
