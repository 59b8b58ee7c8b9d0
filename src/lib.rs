//! healerd: observe → decide → guard → protect → act → verify → (undo) → record.

pub mod model;
pub mod seam;
