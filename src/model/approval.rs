//! Approvals: proposals bound to a digest, voted on by persons, used once.

use serde::{Deserialize, Serialize};

use super::action::ResolvedAction;
use super::check::Evidence;
use super::id::{ApprovalId, HealId, IncidentId};
use super::name::{AppName, CheckName, HostName};
use super::time::Moment;
use super::word::{HealingMode, MatchKind, words};
use super::{Digest, TreePath};

words! {
    /// Life of an approval.
    ApprovalState, "approval state" {
        Pending = "PENDING",
        /// Granted; waits for guards, then is used.
        Granted = "GRANTED",
        Used = "USED",
        Rejected = "REJECTED",
        /// Not decided, or not executed, in time.
        Expired = "EXPIRED",
        /// What it was bound to changed.
        Stale = "STALE",
    }
}

/// One proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    pub id: ApprovalId,
    pub bound: Bound,
    pub digest: Digest,
    pub state: ApprovalState,
    pub created: Moment,
    pub decide_within_ms: u64,
    pub votes: Vec<Vote>,
    /// When the last needed vote came.
    pub granted: Option<Moment>,
    /// Time spent waiting for a lease, a window or a hold only; the clock to execute stood still.
    pub paused_ms: u64,
    pub execute_within_ms: u64,
    /// The incident it would heal.
    pub incident: Option<IncidentId>,
    pub checks: Vec<CheckName>,
    /// Why the plan proposes it.
    pub reason: String,
    /// What it would put back, beside what was there when it was proposed. Not bound by the digest: the contents are, in
    /// the action's steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shows: Vec<String>,
    /// What it waits for, since it was granted.
    pub waits_for: Option<String>,
    pub heal: Option<HealId>,
    pub ended: Option<Moment>,
    pub version: u64,
}

/// What an approval is bound to: the digest is made over all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    pub app: AppName,
    pub host: HostName,
    /// Machine id of the target.
    pub machine_id: String,
    pub roots: Vec<String>,
    pub action: ResolvedAction,
    pub matched: MatchKind,
    /// Mode when it was proposed, and the policy's rules that touched the item.
    pub mode: HealingMode,
    pub rules: Vec<String>,
    pub evidence: Evidence,
    pub write_set: Vec<String>,
    pub known_good: Vec<(TreePath, Digest)>,
    pub requester: Requester,
    /// Wall milliseconds when deciding ends.
    pub expires_wall_ms: i64,
}

impl Bound {
    /// BLAKE3 over the canonical JSON (struct order, sorted maps).
    pub fn digest(&self) -> Digest {
        let bytes = serde_json::to_vec(self).unwrap_or_default(); // these types always serialise
        Digest::of(&bytes)
    }
}

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requester {
    Daemon,
    /// Uid and name as the kernel and the user database say.
    Person(Person),
}

/// A person, by what the kernel said of the connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Person {
    pub uid: u32,
    pub name: String,
}

impl Person {
    /// `name(uid)`.
    pub fn to_text(&self) -> String {
        format!("{}({})", self.name, self.uid)
    }
}

/// One person's vote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    pub person: Person,
    pub approve: bool,
    pub reason: String,
    pub at: Moment,
}
