//! healerd: observe → decide → guard → protect → act → verify → (undo) → record.

pub mod catalogue;
pub mod cli;
pub mod decide;
pub mod model;
pub mod verify;
