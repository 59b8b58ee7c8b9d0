//! Incidents: one symptom on one app, from its first bad result until a lasting cure.

use serde::{Deserialize, Serialize};

use super::id::{HealId, IncidentId};
use super::name::{ActionName, AppName, CheckName};
use super::time::Moment;
use super::word::{Severity, Status, words};

words! {
    /// What an incident is about.
    IncidentKind, "kind of incident" {
        /// A check is WARN or FAIL.
        Symptom = "SYMPTOM",
        /// Something could not be determined for too long.
        Unknown = "UNKNOWN",
        /// A person asked for a heal where there was no symptom.
        Request = "REQUEST",
    }
}

words! {
    /// Life of an incident.
    IncidentState, "incident state" {
        Open = "OPEN",
        Healing = "HEALING",
        /// Cured, or gone by itself; the symptom back within the recurrence window reopens it.
        Watching = "WATCHING",
        Closed = "CLOSED",
        /// No remedy is left, or a person must look.
        Escalated = "ESCALATED",
    }
}

/// One incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub id: IncidentId,
    pub app: AppName,
    /// The check that is bad; for UNKNOWN of the whole host, none.
    pub check: Option<CheckName>,
    pub kind: IncidentKind,
    pub state: IncidentState,
    pub status: Status,
    pub severity: Severity,
    pub message: String,
    pub opened: Moment,
    /// Bad looks in a row; ERROR in between neither counts nor resets.
    pub looks: u32,
    /// Time the symptom surely persisted: sums of spans between two bad looks.
    pub persisted_ms: u64,
    /// The last look that was bad; `None` while ERROR pauses dwell.
    pub last_bad: Option<Moment>,
    /// Actions that had their one try.
    pub tried: Vec<ActionName>,
    /// Heals that worked on it, oldest first.
    pub heals: Vec<HealId>,
    /// When it went well (Watching).
    pub well_since: Option<Moment>,
    /// Heal whose cure it rests on, while Watching.
    pub cured_by: Option<HealId>,
    /// A denial that was told already, so that it is told once.
    pub told: Option<String>,
    /// Who closed it, for a person's close.
    pub closed_by: Option<String>,
}
