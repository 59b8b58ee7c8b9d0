//! The commands of healerctl.
