//! Planning the way back: after a heal that did not help, and for a person's rollback.
//!
//! Pure. From what was before (the backup's manifest), what the action did (its effects as recorded on the target) and
//! what was declared (the write set) comes a list of paths to take back, and a list of what is left, with reasons.
//! What is there *now* is not known here: the host compares it path by path when the plan is carried out.

mod compare;
mod plan;
mod recorded;
mod report;
mod rollback;

pub use self::plan::{UndoPlan, after_death, plan};
pub use self::recorded::{only_recorded, rollback_recorded};
pub use self::report::report;
pub use self::rollback::{PreviewChange, PreviewKind, Rollback, RollbackPreview, rollback_plan};

#[cfg(test)]
mod tests;
