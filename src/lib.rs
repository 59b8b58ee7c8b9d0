//! healerd heals web applications by itself, and can prove and undo what it did.
//!
//! The loop, and where each part of it lives:
//!
//! ```text
//! observe → decide → guard → protect → act → verify → (undo) → record
//! ```
//!
//! [`observe`] reads facts through an agent and turns them into check results; [`decide`] matches bad results to
//! actions and splits them by healing mode and risk; [`guard`] says whether a heal may start now; [`protect`] takes
//! and verifies a backup of what the action may write; [`act`] starts it once and settles what is unknown; [`verify`]
//! judges the cure; [`undo`] plans the way back; [`record`] keeps it all. [`engine`] alone knows every stage. Effects
//! lie behind the traits of [`seam`]; the words are in [`model`].
//!
//! The modules, in the order of the loop:

pub mod model;

pub mod catalogue;

pub mod seam;

pub mod observe;

pub mod decide;

pub mod guard;

pub mod protect;

pub mod act;

pub mod verify;

pub mod undo;

pub mod record;

pub mod engine;

pub mod system;

pub mod host;

pub mod config;

pub mod control;

pub mod telemetry;

pub mod cli;

pub mod service;

pub mod demo;
