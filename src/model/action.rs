//! An action with everything filled in: what would be sent to a host, and what it may change there.

use std::time::Duration;

use healer_agent::protocol::WriteMember;
use healer_agent::step::Step;
use serde::{Deserialize, Serialize};

use super::TreePath;
use super::name::{ActionName, CheckName};
use super::plan::Params;
use super::word::Risk;

/// Which user an action's steps run as; one for the whole action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The application's user.
    App,
    /// Root, for named operations under the host's allow list only.
    Root,
}

/// An action for one application, with parameters, argv and paths final. Part of the approval digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedAction {
    pub name: ActionName,
    /// Digest of the action's definition, so that an approval or a bar ends when its stack file changes.
    pub version: String,
    pub params: Params,
    /// Effective risk.
    pub risk: Risk,
    pub identity: Identity,
    pub steps: Vec<Step>,
    pub finally: Vec<Step>,
    pub writes: Vec<WriteMember>,
    /// Restarts a service or changes something that no file backup can bring back.
    pub restarts: bool,
    pub scratch: Vec<String>,
    pub timeout: Duration,
    /// Longest time until a verdict.
    pub settle: Duration,
    /// The checks that prove it.
    pub proves: Vec<CheckName>,
    /// Files that `put` steps need, to be taken from the newest known-good snapshot.
    pub known_good: Vec<TreePath>,
    /// New bytes it is expected to write, beside its backup.
    pub estimate_bytes: u64,
    pub estimate: Duration,
}

impl ResolvedAction {
    /// Does it change files, so that it needs a verified backup first?
    pub fn writes_files(&self) -> bool {
        !self.writes.is_empty()
    }
}
