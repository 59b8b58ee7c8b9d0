//! May this heal start now?
//!
//! Pure. Each guard is one small file with one function; all of them are asked, every answer is kept, and all must
//! admit: at planning, and again inside the transaction that writes the intent. A guard whose input is missing denies.
//! To add one: a file, and a line in [`GUARDS`].

pub mod approval;
pub mod bar;
pub mod breaker;
mod dwell;
pub mod freshness;
mod grace;
mod hold;
mod host_identity;
mod lease;
pub mod mode;
mod one_try;
mod pause;
mod preconditions;
mod rate;
mod room;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::model::action::ResolvedAction;
use crate::model::app::App;
use crate::model::check::Round;
use crate::model::heal::Origin;
use crate::model::id::{BackupId, HealId};
use crate::model::incident::Incident;
use crate::model::ledger::GuardRows;
use crate::model::name::CheckName;
use crate::model::reason::{Denial, Denied, GuardName};
use crate::model::time::Moment;
use crate::model::word::{HealingMode, MatchKind};

/// Everything guards may look at. What is `None` was not learned, and denies.
#[derive(Debug)]
pub struct GuardInput<'a> {
    pub app: &'a App,
    pub heal: HealId,
    pub origin: &'a Origin,
    pub action: &'a ResolvedAction,
    pub matched: MatchKind,
    pub checks: &'a [CheckName],
    pub incident: &'a Incident,
    /// Wants to be (or is) the breaker's trial.
    pub trial: bool,
    /// Effective mode now.
    pub mode: HealingMode,
    pub rows: &'a GuardRows,
    /// The round made just now, and when it was made; `None` while planning from an older one is impossible: denies.
    pub look: Option<(&'a Round, &'a Moment)>,
    pub room: Option<Room>,
    pub host: Option<HostFacts>,
    /// When the paths were last seen to lead somewhere else.
    pub deployed: Option<&'a Moment>,
    /// Are the action's `requires` true? `None`: undecidable.
    pub preconditions: Option<bool>,
    pub now: &'a Moment,
}

/// Free room for the backup and for what the action writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub vault_free: u64,
    pub target_free: u64,
    /// Bytes that backup and action are expected to write.
    pub estimate: u64,
}

/// Who the host says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    pub machine_id: String,
    /// The one it had when it was adopted; `None`: never seen before.
    pub adopted_machine_id: Option<String>,
    pub uptime: Duration,
}

/// For whom a guard speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    /// Every heal, a person's rollback included.
    All,
    /// Every heal but a rollback.
    Heals,
    /// The daemon's own heals, and what it proposed and persons approved.
    Proposed,
    /// Only what nobody asked for.
    Unattended,
}

/// One guard.
struct Guard {
    name: GuardName,
    speaks_for: For,
    admits: fn(&GuardInput<'_>) -> Result<(), Denial>,
}

/// Every guard, in the order in which a denial is shown.
const GUARDS: &[Guard] = &[
    Guard {
        name: GuardName::Hold,
        speaks_for: For::Proposed,
        admits: hold::admits,
    },
    Guard {
        name: GuardName::Breaker,
        speaks_for: For::Heals,
        admits: breaker::admits,
    },
    Guard {
        name: GuardName::Mode,
        speaks_for: For::Unattended,
        admits: mode::admits,
    },
    Guard {
        name: GuardName::Approval,
        speaks_for: For::Heals,
        admits: approval::admits,
    },
    Guard {
        name: GuardName::Preconditions,
        speaks_for: For::Heals,
        admits: preconditions::admits,
    },
    Guard {
        name: GuardName::HostIdentity,
        speaks_for: For::All,
        admits: host_identity::admits,
    },
    Guard {
        name: GuardName::Freshness,
        speaks_for: For::Heals,
        admits: freshness::admits,
    },
    Guard {
        name: GuardName::Room,
        speaks_for: For::All,
        admits: room::admits,
    },
    Guard {
        name: GuardName::Lease,
        speaks_for: For::All,
        admits: lease::admits,
    },
    Guard {
        name: GuardName::Dwell,
        speaks_for: For::Unattended,
        admits: dwell::admits,
    },
    Guard {
        name: GuardName::Grace,
        speaks_for: For::Unattended,
        admits: grace::admits,
    },
    Guard {
        name: GuardName::OneTry,
        speaks_for: For::Unattended,
        admits: one_try::admits,
    },
    Guard {
        name: GuardName::Bar,
        speaks_for: For::Unattended,
        admits: bar::admits,
    },
    Guard {
        name: GuardName::Pause,
        speaks_for: For::Unattended,
        admits: pause::admits,
    },
    Guard {
        name: GuardName::Rate,
        speaks_for: For::Unattended,
        admits: rate::admits,
    },
];

impl For {
    fn covers(self, origin: &Origin) -> bool {
        match (self, origin) {
            (Self::All, _)
            | (Self::Heals, Origin::Unattended | Origin::Requested(_) | Origin::Approved(_))
            | (Self::Proposed, Origin::Unattended | Origin::Approved(_))
            | (Self::Unattended, Origin::Unattended) => true,
            (Self::Heals, Origin::Rollback { .. })
            | (Self::Proposed, Origin::Requested(_) | Origin::Rollback { .. })
            | (
                Self::Unattended,
                Origin::Requested(_) | Origin::Approved(_) | Origin::Rollback { .. },
            ) => false,
        }
    }
}

/// The proof that every guard admitted this heal. Only [`ask`] makes one, and nothing can be intended without it.
#[must_use = "a permit that is not used must not keep its lease"]
#[derive(Debug)]
pub struct Permit {
    heal: HealId,
}

impl Permit {
    /// The heal it was given for.
    pub fn heal(&self) -> HealId {
        self.heal
    }
}

/// Asks every guard.
///
/// # Errors
/// All denials, in the order of [`GUARDS`].
pub fn ask(input: &GuardInput<'_>) -> Result<Permit, Denied> {
    let denials: Vec<_> = GUARDS
        .iter()
        .filter(|guard| guard.speaks_for.covers(input.origin))
        .filter_map(|guard| (guard.admits)(input).err())
        .collect();
    if denials.is_empty() {
        Ok(Permit { heal: input.heal })
    } else {
        Err(Denied(denials))
    }
}

/// Asks what can be asked before a heal exists: everything but what only the last look before the intent knows
/// (room, freshness, lease).
///
/// # Errors
/// All denials.
pub fn ask_before_admission(input: &GuardInput<'_>) -> Result<(), Denied> {
    let later = [GuardName::Room, GuardName::Freshness];
    let denials: Vec<_> = GUARDS
        .iter()
        .filter(|guard| guard.speaks_for.covers(input.origin) && !later.contains(&guard.name))
        .filter_map(|guard| (guard.admits)(input).err())
        .collect();
    if denials.is_empty() {
        Ok(())
    } else {
        Err(Denied(denials))
    }
}

/// The names of all guards, for documentation and tests.
pub fn names() -> impl Iterator<Item = GuardName> {
    GUARDS.iter().map(|guard| guard.name)
}

/// A refusal. Facts are what it was decided from.
fn deny(
    guard: GuardName,
    message: String,
    facts: &[(&str, String)],
    again_at: Option<Moment>,
) -> Denial {
    Denial {
        guard,
        message,
        facts: facts
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        again_at,
    }
}

/// The backup, when an origin names one.
pub fn rollback_backup(origin: &Origin) -> Option<BackupId> {
    match origin {
        Origin::Rollback { backup, .. } => Some(*backup),
        Origin::Unattended | Origin::Requested(_) | Origin::Approved(_) => None,
    }
}
