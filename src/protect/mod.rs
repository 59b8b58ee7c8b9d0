//! Before anything is changed: a verified backup of what will be written, and the way back from it.
//!
//! [`protect`] takes a backup of a write set and proves it; [`still_the_same`] asks again just before the intent;
//! [`undo_on_host`] carries out what [`crate::undo`] planned; [`retention`] says what may go; [`known_good`] keeps
//! configuration from healthy days; [`vault`] is where it all lies. Nothing here decides whether a heal may run, and
//! nothing here writes to the store.

mod again;
mod base;
mod batches;
mod capture;
mod contents;
mod error;
pub mod known_good;
mod present;
mod reach;
mod restore;
pub mod retention;
pub mod vault;

pub use self::again::still_the_same;
pub use self::capture::{Limits, Protect, VerifiedBackup, protect};
pub use self::error::ProtectError;
pub use self::present::{
    FileBeside, beside_known_good, differs_from_known_good, known_settings, present,
    recovery_effects, reverify, ruined, same_contents,
};
pub use self::restore::{Undone, stage, undo_on_host};

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make and break files, start programs and read the real clock"
)]
mod tests;
