//! The commands of healerctl.

pub mod audit;
