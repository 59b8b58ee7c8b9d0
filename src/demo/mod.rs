//! Breaks small real applications and heals them before your eyes.
