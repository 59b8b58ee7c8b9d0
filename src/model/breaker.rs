//! The circuit breaker's stored state. Its rules are in `guard::breaker`.

use serde::{Deserialize, Serialize};

use super::id::{HealId, IncidentId};
use super::name::{ActionName, AppName};
use super::time::Moment;
use super::word::words;

words! {
    /// CLOSED passes, OPEN blocks, HALF_OPEN lets one trial through.
    BreakerState, "breaker state" { Closed = "CLOSED", Open = "OPEN", HalfOpen = "HALF_OPEN" }
}

/// The breaker of one app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    pub app: AppName,
    pub state: BreakerState,
    /// Unanswered failures, oldest first.
    pub failures: Vec<Failure>,
    /// Cures that may still be taken back, with what they answered.
    pub cures: Vec<Cure>,
    /// Recurrences inside the window.
    pub recurrences: Vec<Recurrence>,
    /// Trips in a row; the cooldown doubles with each.
    pub level: u32,
    pub opened: Option<Moment>,
    /// Length of the present cooldown, jitter included, fixed when it opened.
    pub cooldown_ms: u64,
    /// Last time it was certainly clean, for decay.
    pub clean_since: Option<Moment>,
    /// The one trial in flight.
    pub trial: Option<Trial>,
    /// Cures since HALF_OPEN began.
    pub half_open_cures: u32,
    pub forced: Option<Forced>,
    /// Compare-and-set.
    pub version: u64,
}

impl Breaker {
    /// A new app's breaker: CLOSED, nothing remembered.
    pub fn new(app: AppName) -> Self {
        Self {
            app,
            state: BreakerState::Closed,
            failures: Vec::new(),
            cures: Vec::new(),
            recurrences: Vec::new(),
            level: 0,
            opened: None,
            cooldown_ms: 0,
            clean_since: None,
            trial: None,
            half_open_cures: 0,
            forced: None,
            version: 0,
        }
    }
}

/// One failed heal, or one cure that did not last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub heal: HealId,
    pub action: ActionName,
    pub at: Moment,
    /// The heal did cure, and the symptom came back. Rows of before this was told apart have no such field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recurred: bool,
}

/// One verified, soaked cure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cure {
    pub heal: HealId,
    pub action: ActionName,
    pub incident: IncidentId,
    pub at: Moment,
    /// Failures it answered, to be put back if it does not last.
    pub answered: Vec<Failure>,
    /// Did it close the breaker, and from which level?
    pub closed_from_level: Option<u32>,
}

/// A symptom that came back after a cure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recurrence {
    pub incident: IncidentId,
    pub at: Moment,
}

/// The trial of HALF_OPEN: a lease with token (the heal) and deadline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub heal: HealId,
    pub since: Moment,
    pub deadline_ms: u64,
    /// Confirmed in the intent's transaction; before that a symptom that went away gives it back.
    pub confirmed: bool,
}

/// A person's word over the breaker's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forced {
    pub how: ForcedState,
    pub owner: String,
    pub reason: String,
    pub since: Moment,
    pub for_ms: Option<u64>,
}

words! {
    /// Ways to force a breaker.
    ForcedState, "forced state" {
        /// Admits nothing.
        Open = "OPEN",
        /// Admits nothing unattended and counts nothing: watch only.
        ObserveOnly = "OBSERVE_ONLY",
    }
}

/// One transition, a row of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BreakerTransition {
    pub app: AppName,
    pub at: Moment,
    pub from: BreakerState,
    pub to: BreakerState,
    pub cause: String,
    pub heal: Option<HealId>,
    pub actor: String,
}
