//! An action with everything filled in: what would be sent to a host, and what it may change there.

use std::time::Duration;

use healer_agent::protocol::{WriteKind, WriteMember};
use healer_agent::step::{Owner, Step};
use healer_agent::tree::Meta;
use serde::{Deserialize, Serialize};

use super::name::{ActionName, CheckName};
use super::plan::Params;
use super::word::{Risk, words};
use super::{Digest, TreePath};

words! {
    /// What can raise an action's risk although no fact of a check tells it; the engine asks when it prepares a heal.
    RaiseHook, "hook that raises a risk" {
        /// A secret or database setting of a file that would be put back is present now with another value than in
        /// the known-good snapshot. Absent, empty or cut off is not a difference.
        KnownGoodDiffers = "known_good_differs",
    }
}

impl RaiseHook {
    /// When it says yes, in words that stand after an `if`.
    pub const fn says(self) -> &'static str {
        match self {
            Self::KnownGoodDiffers => {
                "a secret or database setting that is there now would become another one"
            }
        }
    }
}

/// The risk that holds once a hook says yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HookedRisk {
    pub when: RaiseHook,
    pub risk: Risk,
}

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
    /// Risks that the engine must still ask about before anything runs alone; never lower than `risk` already is.
    #[serde(default)]
    pub raises: Vec<HookedRisk>,
    /// New bytes it is expected to write, beside its backup.
    pub estimate_bytes: u64,
    pub estimate: Duration,
}

impl ResolvedAction {
    /// The write set as people read it, with every parameter filled in.
    pub fn writes_text(&self) -> Vec<String> {
        let line = |member: &WriteMember| match member.what {
            WriteKind::Content => member.pattern.to_string(),
            WriteKind::Metadata => format!("{} (owner and mode)", member.pattern),
        };
        self.writes.iter().map(line).collect()
    }

    /// Does it change files, so that it needs a verified backup first?
    pub fn writes_files(&self) -> bool {
        !self.writes.is_empty()
    }

    /// The same action with content, mode and owner of its `put` steps named, from the newest known-good snapshot.
    ///
    /// # Errors
    /// The first path of a `put` step that the snapshot does not hold: there is nothing to put back.
    pub fn with_known_good(mut self, files: &[(TreePath, Digest, Meta)]) -> Result<Self, TreePath> {
        for step in self.steps.iter_mut().chain(&mut self.finally) {
            if let Step::Put {
                path,
                digest,
                mode,
                owner,
            } = step
            {
                let Some((_, found, meta)) = files.iter().find(|(known, ..)| known == path) else {
                    return Err(path.clone());
                };
                (*digest, *mode) = (*found, meta.mode);
                *owner = Some(Box::new(Owner::of(meta)));
            }
        }
        Ok(self)
    }

    /// The risk once the engine has asked these hooks and they said yes.
    pub fn risk_after(&self, hooks: &[RaiseHook]) -> Risk {
        self.raises
            .iter()
            .filter(|raise| hooks.contains(&raise.when))
            .map(|raise| raise.risk)
            .fold(self.risk, Risk::max)
    }
}
