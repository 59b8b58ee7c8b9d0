//! Stable reason codes of refusals and ends, and the denial that carries them.

use serde::{Deserialize, Serialize};

use super::time::Moment;
use super::word::words;

words! {
    /// Which guard speaks.
    GuardName, "guard" {
        Breaker = "breaker", Mode = "mode", Approval = "approval", Preconditions = "preconditions", Room = "room",
        HostIdentity = "host_identity", Freshness = "freshness", Lease = "lease", Hold = "hold", Dwell = "dwell",
        Grace = "grace", Rate = "rate", OneTry = "one_try", Pause = "pause", Unknown = "unknown",
        Bar = "bar",
    }
}

/// One guard's refusal: why, the facts behind it, and when asking again makes sense.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Denial {
    pub guard: GuardName,
    /// A sentence for people: what, why, when.
    pub message: String,
    /// What it was decided from, `name=value`.
    pub facts: Vec<String>,
    /// Ask again then; `None`: only after something changes.
    pub again_at: Option<Moment>,
}

/// The refusal of a heal: every guard that denied, the first of them shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.shown())]
pub struct Denied(pub Vec<Denial>);

impl Denied {
    /// The first denial's sentence.
    pub fn shown(&self) -> &str {
        self.0
            .first()
            .map_or("a guard denied without a reason", |denial| &denial.message)
    }

    /// Code of the first denial.
    pub fn guard(&self) -> GuardName {
        self.0
            .first()
            .map_or(GuardName::Unknown, |denial| denial.guard)
    }
}
