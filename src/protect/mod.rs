//! Backups of write sets, and the vault.
