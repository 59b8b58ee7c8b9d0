//! A heal: one execution of one action for one incident, as a total function of state and event.
//!
//! [`HealState::next`] is the only way a heal moves. Recovery replays the journal through it, and so does a test that
//! enumerates every pair. An illegal pair is an error to audit, never a panic.

use serde::{Deserialize, Serialize};

use super::action::ResolvedAction;
use super::approval::Person;
use super::check::Evidence;
use super::id::{ApprovalId, BackupId, FenceToken, HealId, IncidentId};
use super::name::{AppName, CheckName, HostName};
use super::reason::GuardName;
use super::time::Moment;
use super::word::{HealingMode, MatchKind, Status};

/// Why a heal runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The daemon alone.
    Unattended,
    /// A person asked for it; LOW and MEDIUM only.
    Requested(Person),
    /// Persons granted it.
    Approved(ApprovalId),
    /// A person's rollback to a backup.
    Rollback {
        person: Person,
        backup: BackupId,
        /// Also shared files that are newer.
        exact: bool,
        /// Only these paths; empty: the write set of that backup.
        only: Vec<super::TreePath>,
        /// Digest of the preview that was confirmed; without it nothing is done.
        #[serde(default)]
        digest: Option<super::Digest>,
    },
}

impl Origin {
    /// Does nobody stand behind it but the daemon?
    pub const fn is_unattended(&self) -> bool {
        matches!(self, Self::Unattended)
    }
}

/// Everything about a heal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heal {
    pub id: HealId,
    pub app: AppName,
    pub host: HostName,
    pub origin: Origin,
    pub action: ResolvedAction,
    pub matched: MatchKind,
    /// The primary incident.
    pub incident: IncidentId,
    /// Others that its item would cure; judged by the same verdict.
    pub linked: Vec<IncidentId>,
    pub checks: Vec<CheckName>,
    /// The bad results it was admitted on.
    pub evidence: Evidence,
    /// Status of every check before, for "nothing got worse".
    pub before: Vec<(CheckName, Status)>,
    /// Real directories its paths led to when it was admitted; a change is a deploy.
    pub roots: Vec<String>,
    /// The machine that its host was adopted as when it was admitted: it belongs to that one, whatever is adopted later.
    /// Rows of before that was kept have none.
    #[serde(default)]
    pub machine: Option<String>,
    /// The mode that counted for the app when it was admitted; rows of before that was kept have none.
    #[serde(default)]
    pub mode: Option<HealingMode>,
    /// Is it the breaker's trial?
    pub trial: bool,
    pub fence: FenceToken,
    pub admitted: Moment,
    pub state: HealState,
    /// When the last arrow was written.
    pub moved: Moment,
    /// What people read: the last sentence about it.
    pub message: String,
    /// Compare-and-set.
    pub version: u64,
}

/// How a step sequence ended, as the target's witness says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every step returned success. That is not a cure yet.
    Done,
    /// A step failed.
    Failed(String),
    /// Killed at its deadline, tree gone.
    TimedOut,
    /// Killed on request.
    Cancelled,
    /// Its supervisor died before it could say.
    Interrupted,
}

/// What an action left, carried by every state after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// Backup of the write set; `None` for an action that writes no files.
    pub backup: Option<BackupId>,
    pub outcome: Outcome,
    /// Did it change any file that undo could take back?
    pub wrote: bool,
}

/// Looks made while a heal settles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looks {
    pub made: u32,
    /// The proving checks were PASS so many times in a row.
    pub well: u32,
    /// An availability check that had passed before was FAIL so many times in a row.
    pub down: u32,
    /// Milliseconds during which the host could not be seen; they do not count against any deadline.
    pub blind_ms: u64,
}

/// Why an undo began: the positive evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoReason {
    /// The symptom is still WARN or FAIL.
    NotCured(String),
    /// Something else of the app got worse.
    Worse(String),
    /// The action changed files outside its write set.
    OutsideWriteSet(String),
    /// The cure did not hold for the soak time.
    NotLasting(String),
    /// A person decided.
    Person(String),
}

impl UndoReason {
    /// The sentence.
    pub fn text(&self) -> &str {
        match self {
            Self::NotCured(text)
            | Self::Worse(text)
            | Self::OutsideWriteSet(text)
            | Self::NotLasting(text)
            | Self::Person(text) => text,
        }
    }
}

/// What an undo did, path by path; counts first, for tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoReport {
    pub restored: u64,
    pub already: u64,
    /// What somebody else touched since, and was left.
    pub kept: Vec<String>,
    pub failed: Vec<String>,
    /// Cannot be told apart: a person decides.
    pub blocked: Vec<String>,
}

/// Why a heal ended before it acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbortCause {
    /// `Backup failed: …`. A failure for the breaker.
    BackupFailed(String),
    /// The symptom was gone when looked at again.
    SymptomGone,
    Denied {
        guard: GuardName,
        message: String,
    },
    /// The write set kept changing under the backup, or the target moved.
    TargetChanged(String),
    /// The start never happened, and the target's tombstone says it never will.
    NeverRan(String),
}

/// States and ends of a heal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum HealState {
    /// Guards admitted it; app lease, and the breaker's trial if it is one, are reserved.
    Admitted,
    /// The write set's backup is verified.
    Protected {
        backup: Option<BackupId>,
    },
    /// Durable before the first byte left for the host.
    Acting {
        backup: Option<BackupId>,
    },
    /// The outcome is unknown; the target's witness will tell.
    InDoubt {
        backup: Option<BackupId>,
    },
    /// The action ended; its effect may take a while to show.
    Settling {
        course: Course,
        since: Moment,
        looks: Looks,
    },
    /// A full round judges.
    Verifying {
        course: Course,
        since: Moment,
        looks: Looks,
    },
    /// Well so far; must stay so.
    Soaking {
        course: Course,
        since: Moment,
        looks: Looks,
    },
    Undoing {
        course: Course,
        reason: UndoReason,
    },
    /// Undone on the host; a full diagnosis follows.
    Rechecking {
        course: Course,
        reason: UndoReason,
        report: UndoReport,
    },

    Cured {
        course: Course,
    },
    /// Did not help, and nothing was written that could be taken back.
    NotCured {
        course: Course,
        reason: String,
    },
    /// Inconclusive: left as it is, for a person.
    Kept {
        course: Option<Course>,
        backup: Option<BackupId>,
        reason: String,
        decided: Option<String>,
    },
    Undone {
        course: Course,
        reason: UndoReason,
        report: UndoReport,
    },
    /// A person, or a host that cannot be reached, decides.
    UndoBlocked {
        course: Course,
        reason: UndoReason,
        report: UndoReport,
    },
    UndoFailed {
        course: Course,
        reason: UndoReason,
        report: UndoReport,
    },
    Aborted {
        cause: AbortCause,
    },
}

/// What can happen to a heal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The backup is verified; `None`: nothing to back up.
    BackupVerified {
        backup: Option<BackupId>,
    },
    BackupFailed {
        message: String,
    },
    SymptomGone,
    Denied {
        guard: GuardName,
        message: String,
    },
    TargetChanged {
        message: String,
    },
    /// The write set changed between VERIFIED and the intent: back up again.
    BackupStale,
    /// Written in the intent's own transaction.
    IntentWritten,
    /// The witness says how it ended.
    Ended {
        outcome: Outcome,
        wrote: bool,
    },
    /// The same, of a heal that had been left alone for longer than a verdict may take: what came of it is recorded, and
    /// a person decides.
    EndedLate {
        outcome: Outcome,
        wrote: bool,
        reason: String,
    },
    /// Connection cut, daemon restarted, deadline of the answer passed.
    OutcomeUnknown,
    /// The witness holds a tombstone, or the start was refused before anything ran.
    NeverRan {
        message: String,
    },
    /// The witness cannot be read.
    WitnessUnreadable {
        message: String,
    },
    /// One look at the cheap checks.
    Looked {
        looks: Looks,
    },
    /// The settle time is over, or ended early.
    SettleOver,
    /// Every proving check is PASS and nothing got worse.
    FoundWell,
    /// Positive evidence that it did not help.
    FoundBad {
        reason: UndoReason,
    },
    /// It stayed well for the soak time.
    SoakOver,
    /// The verdict deadline passed without an answer.
    DeadlinePassed {
        reason: String,
    },
    UndoEnded {
        report: UndoReport,
    },
    Rechecked,
    /// A person decided about what was left for persons.
    Decided {
        undo: bool,
        person: Person,
        reason: String,
    },
}

/// An event that this state cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a heal that is {state} cannot take the event {event}")]
pub struct IllegalEvent {
    pub state: &'static str,
    pub event: &'static str,
}

impl HealState {
    /// The state's name in tables, metrics and messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Admitted => "Admitted",
            Self::Protected { .. } => "Protected",
            Self::Acting { .. } => "Acting",
            Self::InDoubt { .. } => "InDoubt",
            Self::Settling { .. } => "Settling",
            Self::Verifying { .. } => "Verifying",
            Self::Soaking { .. } => "Soaking",
            Self::Undoing { .. } => "Undoing",
            Self::Rechecking { .. } => "Rechecking",
            Self::Cured { .. } => "Cured",
            Self::NotCured { .. } => "NotCured",
            Self::Kept { .. } => "Kept",
            Self::Undone { .. } => "Undone",
            Self::UndoBlocked { .. } => "UndoBlocked",
            Self::UndoFailed { .. } => "UndoFailed",
            Self::Aborted { .. } => "Aborted",
        }
    }

    /// Is it over? (A person may still decide about `Kept` and `UndoBlocked`.)
    pub const fn is_end(&self) -> bool {
        match self {
            Self::Admitted
            | Self::Protected { .. }
            | Self::Acting { .. }
            | Self::InDoubt { .. }
            | Self::Settling { .. }
            | Self::Verifying { .. }
            | Self::Soaking { .. }
            | Self::Undoing { .. }
            | Self::Rechecking { .. } => false,
            Self::Cured { .. }
            | Self::NotCured { .. }
            | Self::Kept { .. }
            | Self::Undone { .. }
            | Self::UndoBlocked { .. }
            | Self::UndoFailed { .. }
            | Self::Aborted { .. } => true,
        }
    }

    /// Does this end count as a failure for the breaker?
    ///
    /// `NeverRan` does not: nothing was tried. A guard's denial or a symptom that went away does not either.
    pub const fn is_failure(&self) -> bool {
        match self {
            Self::NotCured { .. }
            | Self::Kept { .. }
            | Self::Undone { .. }
            | Self::UndoBlocked { .. }
            | Self::UndoFailed { .. }
            | Self::Aborted {
                cause: AbortCause::BackupFailed(_),
            } => true,
            Self::Aborted {
                cause:
                    AbortCause::SymptomGone
                    | AbortCause::Denied { .. }
                    | AbortCause::TargetChanged(_)
                    | AbortCause::NeverRan(_),
            }
            | Self::Admitted
            | Self::Protected { .. }
            | Self::Acting { .. }
            | Self::InDoubt { .. }
            | Self::Settling { .. }
            | Self::Verifying { .. }
            | Self::Soaking { .. }
            | Self::Undoing { .. }
            | Self::Rechecking { .. }
            | Self::Cured { .. } => false,
        }
    }

    /// The backup that protects it.
    pub fn backup(&self) -> Option<BackupId> {
        match self {
            Self::Protected { backup }
            | Self::Acting { backup }
            | Self::InDoubt { backup }
            | Self::Kept { backup, .. } => *backup,
            Self::Settling { course, .. }
            | Self::Verifying { course, .. }
            | Self::Soaking { course, .. }
            | Self::Undoing { course, .. }
            | Self::Rechecking { course, .. }
            | Self::Cured { course }
            | Self::NotCured { course, .. }
            | Self::Undone { course, .. }
            | Self::UndoBlocked { course, .. }
            | Self::UndoFailed { course, .. } => course.backup,
            Self::Admitted | Self::Aborted { .. } => None,
        }
    }

    /// What the action left, once it ended.
    pub fn course(&self) -> Option<&Course> {
        match self {
            Self::Settling { course, .. }
            | Self::Verifying { course, .. }
            | Self::Soaking { course, .. }
            | Self::Undoing { course, .. }
            | Self::Rechecking { course, .. }
            | Self::Cured { course }
            | Self::NotCured { course, .. }
            | Self::Undone { course, .. }
            | Self::UndoBlocked { course, .. }
            | Self::UndoFailed { course, .. } => Some(course),
            Self::Kept { course, .. } => course.as_ref(),
            Self::Admitted
            | Self::Protected { .. }
            | Self::Acting { .. }
            | Self::InDoubt { .. }
            | Self::Aborted { .. } => None,
        }
    }

    /// The only way a heal moves. `at` is the moment of the event.
    ///
    /// # Errors
    /// When the event is not one that this state can take; the heal stays as it is.
    pub fn next(&self, event: Event, at: &Moment) -> Result<Self, IllegalEvent> {
        let illegal = IllegalEvent {
            state: self.name(),
            event: event.name(),
        };
        let next = match (self.clone(), event) {
            (Self::Admitted, Event::BackupVerified { backup }) => Self::Protected { backup },
            (Self::Admitted, Event::BackupFailed { message }) => Self::Aborted {
                cause: AbortCause::BackupFailed(message),
            },
            (Self::Protected { .. }, Event::BackupStale) => Self::Admitted,
            (Self::Protected { backup }, Event::IntentWritten) => Self::Acting { backup },
            (Self::Admitted | Self::Protected { .. }, Event::SymptomGone) => Self::Aborted {
                cause: AbortCause::SymptomGone,
            },
            (Self::Admitted | Self::Protected { .. }, Event::Denied { guard, message }) => {
                Self::Aborted {
                    cause: AbortCause::Denied { guard, message },
                }
            }
            (Self::Admitted | Self::Protected { .. }, Event::TargetChanged { message }) => {
                Self::Aborted {
                    cause: AbortCause::TargetChanged(message),
                }
            }

            (Self::Acting { backup }, Event::OutcomeUnknown) => Self::InDoubt { backup },
            (Self::Acting { .. } | Self::InDoubt { .. }, Event::NeverRan { message }) => {
                Self::Aborted {
                    cause: AbortCause::NeverRan(message),
                }
            }
            (
                Self::Acting { backup } | Self::InDoubt { backup },
                Event::Ended { outcome, wrote },
            ) => {
                let course = Course {
                    backup,
                    outcome,
                    wrote,
                };
                Self::Settling {
                    course,
                    since: at.clone(),
                    looks: Looks::default(),
                }
            }
            (
                Self::Acting { backup } | Self::InDoubt { backup },
                Event::EndedLate {
                    outcome,
                    wrote,
                    reason,
                },
            ) => Self::Kept {
                course: Some(Course {
                    backup,
                    outcome,
                    wrote,
                }),
                backup,
                reason,
                decided: None,
            },
            (Self::InDoubt { backup }, Event::WitnessUnreadable { message }) => Self::Kept {
                course: None,
                backup,
                reason: message,
                decided: None,
            },
            // A target that cannot be settled within the verdict deadline waits for a person; nothing is undone blind.
            (Self::InDoubt { backup }, Event::DeadlinePassed { reason }) => Self::Kept {
                course: None,
                backup,
                reason,
                decided: None,
            },

            (Self::Settling { course, since, .. }, Event::Looked { looks }) => Self::Settling {
                course,
                since,
                looks,
            },
            (Self::Verifying { course, since, .. }, Event::Looked { looks }) => Self::Verifying {
                course,
                since,
                looks,
            },
            (Self::Soaking { course, since, .. }, Event::Looked { looks }) => Self::Soaking {
                course,
                since,
                looks,
            },
            // Looks are counted in memory only, so no stored arrow may carry them on.
            (Self::Settling { course, since, .. }, Event::SettleOver) => Self::Verifying {
                course,
                since,
                looks: Looks::default(),
            },
            (Self::Verifying { course, .. }, Event::FoundWell) => Self::Soaking {
                course,
                since: at.clone(),
                looks: Looks::default(),
            },
            (
                Self::Settling { course, .. }
                | Self::Verifying { course, .. }
                | Self::Soaking { course, .. },
                Event::FoundBad { reason },
            ) => {
                if course.wrote {
                    Self::Undoing { course, reason }
                } else {
                    Self::NotCured {
                        course,
                        reason: reason.text().to_owned(),
                    }
                }
            }
            (
                Self::Settling { course, .. }
                | Self::Verifying { course, .. }
                | Self::Soaking { course, .. },
                Event::DeadlinePassed { reason },
            ) => Self::Kept {
                backup: course.backup,
                course: Some(course),
                reason,
                decided: None,
            },
            (Self::Soaking { course, .. }, Event::SoakOver) => Self::Cured { course },

            (Self::Undoing { course, reason }, Event::UndoEnded { report }) => Self::Rechecking {
                course,
                reason,
                report,
            },
            // Nothing was put back yet, so nothing is half done: a person decides.
            (Self::Undoing { course, reason }, Event::DeadlinePassed { reason: why }) => {
                let report = UndoReport {
                    blocked: vec![why],
                    ..UndoReport::default()
                };
                Self::UndoBlocked {
                    course,
                    reason,
                    report,
                }
            }
            (
                Self::Rechecking {
                    course,
                    reason,
                    report,
                },
                Event::Rechecked,
            ) => {
                if !report.failed.is_empty() {
                    Self::UndoFailed {
                        course,
                        reason,
                        report,
                    }
                } else if !report.blocked.is_empty() {
                    Self::UndoBlocked {
                        course,
                        reason,
                        report,
                    }
                } else {
                    Self::Undone {
                        course,
                        reason,
                        report,
                    }
                }
            }

            (
                Self::Kept {
                    course: Some(course),
                    decided: None,
                    ..
                }
                | Self::UndoBlocked { course, .. }
                | Self::UndoFailed { course, .. },
                Event::Decided {
                    undo: true,
                    person,
                    reason,
                },
            ) => Self::Undoing {
                course,
                reason: UndoReason::Person(format!("{}: {reason}", person.to_text())),
            },
            (
                Self::Kept {
                    course,
                    backup,
                    reason: why,
                    decided: None,
                },
                Event::Decided {
                    undo: false,
                    person,
                    reason,
                },
            ) => {
                let decided = Some(format!("kept by {}: {reason}", person.to_text()));
                Self::Kept {
                    course,
                    backup,
                    reason: why,
                    decided,
                }
            }
            (
                Self::UndoBlocked { course, .. } | Self::UndoFailed { course, .. },
                Event::Decided {
                    undo: false,
                    person,
                    reason,
                },
            ) => {
                let decided = Some(format!("kept by {}: {reason}", person.to_text()));
                Self::Kept {
                    backup: course.backup,
                    course: Some(course),
                    reason: "undo was incomplete".to_owned(),
                    decided,
                }
            }

            (
                Self::Admitted
                | Self::Protected { .. }
                | Self::Acting { .. }
                | Self::InDoubt { .. }
                | Self::Settling { .. }
                | Self::Verifying { .. }
                | Self::Soaking { .. }
                | Self::Undoing { .. }
                | Self::Rechecking { .. }
                | Self::Cured { .. }
                | Self::NotCured { .. }
                | Self::Kept { .. }
                | Self::Undone { .. }
                | Self::UndoBlocked { .. }
                | Self::UndoFailed { .. }
                | Self::Aborted { .. },
                _,
            ) => return Err(illegal),
        };
        Ok(next)
    }
}

impl Event {
    /// The event's name in the journal.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BackupVerified { .. } => "BackupVerified",
            Self::BackupFailed { .. } => "BackupFailed",
            Self::SymptomGone => "SymptomGone",
            Self::Denied { .. } => "Denied",
            Self::TargetChanged { .. } => "TargetChanged",
            Self::BackupStale => "BackupStale",
            Self::IntentWritten => "IntentWritten",
            Self::Ended { .. } => "Ended",
            Self::EndedLate { .. } => "EndedLate",
            Self::OutcomeUnknown => "OutcomeUnknown",
            Self::NeverRan { .. } => "NeverRan",
            Self::WitnessUnreadable { .. } => "WitnessUnreadable",
            Self::Looked { .. } => "Looked",
            Self::SettleOver => "SettleOver",
            Self::FoundWell => "FoundWell",
            Self::FoundBad { .. } => "FoundBad",
            Self::SoakOver => "SoakOver",
            Self::DeadlinePassed { .. } => "DeadlinePassed",
            Self::UndoEnded { .. } => "UndoEnded",
            Self::Rechecked => "Rechecked",
            Self::Decided { .. } => "Decided",
        }
    }
}

/// What a recovered heal gives: never a proof, only the task to find out what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    pub heal: HealId,
    pub fence: FenceToken,
}

#[cfg(test)]
mod tests;
