//! One round of checks for one app.
