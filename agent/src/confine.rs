//! Confining a step to its write set with Landlock.
