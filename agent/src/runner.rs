//! The supervisor that runs an action's steps.
