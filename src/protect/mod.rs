//! Backups of write sets, and the vault.

pub mod vault;
