//! Why there is no backup, as people read it.
//!
//! The sentence is part of the interface: it stands in the heal's message, and scripts look for it.

use std::fmt;

use healer_agent::tree::TreePath;

use crate::model::name::HostName;
use crate::seam::{HostError, VaultError};

/// Why the write set is not protected. Nothing was changed on the host.
#[derive(Debug)]
pub enum ProtectError {
    /// A member of the write set cannot be read, or it cannot be told whether it is absent.
    Unreadable {
        path: TreePath,
        reason: String,
    },
    /// A file of the write set changed each time it was read.
    Changing {
        path: TreePath,
    },
    /// The paths led to other directories while the backup was taken: a deploy.
    Moved,
    /// Nothing was declared that could be backed up.
    Nothing,
    /// The write set is larger than a backup may be.
    TooLarge {
        limit: String,
    },
    /// Less room than the backup and the action need.
    NoRoom {
        place: &'static str,
        free_bytes: u64,
        needed_bytes: u64,
    },
    /// It took longer than it may.
    Late,
    /// The application's host is not one of the configured ones.
    NoHost(HostName),
    Vault(VaultError),
    Host(HostError),
}

impl ProtectError {
    /// What happened, as it stands in the middle of the sentence.
    pub fn cause(&self) -> String {
        match self {
            Self::Unreadable { reason, .. } => plain(reason),
            Self::Changing { .. } => "A file keeps changing while it is read".to_owned(),
            Self::Moved => "The application's directory moved meanwhile".to_owned(),
            Self::Nothing => "Nothing to back up is declared".to_owned(),
            Self::TooLarge { limit } => format!("The write set holds more than {limit}"),
            Self::NoRoom { place, .. } => format!("No room on the {place}"),
            Self::Late => "It took too long".to_owned(),
            Self::NoHost(host) => format!("Host {host} is not configured"),
            Self::Vault(VaultError::NoRoom(_)) => "No room on the vault".to_owned(),
            Self::Vault(VaultError::Damaged(_)) => "The vault is damaged".to_owned(),
            Self::Vault(error) => capital(&error.to_string()),
            Self::Host(error) => capital(&error.to_string()),
        }
    }

    /// The facts behind it, for the details.
    pub fn details(&self) -> String {
        match self {
            Self::Unreadable { path, reason } => format!("`{path}`: {reason}"),
            Self::Changing { path } => format!("`{path}` was read four times"),
            Self::NoRoom {
                place,
                free_bytes,
                needed_bytes,
            } => format!("{place}: {free_bytes} bytes free, {needed_bytes} needed"),
            Self::Vault(error) => match std::error::Error::source(error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
            Self::Moved
            | Self::Nothing
            | Self::TooLarge { .. }
            | Self::Late
            | Self::NoHost(_)
            | Self::Host(_) => self.cause(),
        }
    }

    /// What a person can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => {
                "give the application's user read access to it, or take it out of the write set"
            }
            Self::Changing { .. } | Self::Moved => "it is tried again with the next round",
            Self::Nothing => "declare in the stack file what the action writes",
            Self::TooLarge { .. } => "narrow the write set in the stack file",
            Self::NoRoom { .. } | Self::Vault(VaultError::NoRoom(_)) => "make room there",
            Self::Late => "see whether the host is overloaded",
            Self::NoHost(_) => "add the host to the configuration",
            Self::Vault(VaultError::Damaged(_)) => {
                "run `healerctl backups APP verify` and look at the disk below the vault"
            }
            Self::Vault(_) => "look at the directory of the vault",
            Self::Host(_) => "see whether the host can be reached",
        }
    }
}

/// The system's words without its number.
fn plain(reason: &str) -> String {
    let text = match reason.rfind(" (os error ") {
        Some(at) if reason.ends_with(')') => &reason[..at],
        _ => reason,
    };
    capital(text.trim_end_matches('.'))
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => "For an unknown reason".to_owned(),
    }
}

impl fmt::Display for ProtectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Backup failed: {}. Healing aborted for safety.",
            self.cause()
        )
    }
}

impl std::error::Error for ProtectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Vault(error) => Some(error),
            Self::Host(error) => Some(error),
            Self::Unreadable { .. }
            | Self::Changing { .. }
            | Self::Moved
            | Self::Nothing
            | Self::TooLarge { .. }
            | Self::NoRoom { .. }
            | Self::Late
            | Self::NoHost(_) => None,
        }
    }
}

impl From<VaultError> for ProtectError {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl From<HostError> for ProtectError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_is_the_one_that_people_and_scripts_know() {
        for reason in ["Permission denied (os error 13)", "permission denied"] {
            let error = ProtectError::Unreadable {
                path: TreePath::parse(".env").unwrap(),
                reason: reason.to_owned(),
            };
            assert_eq!(
                error.to_string(),
                "Backup failed: Permission denied. Healing aborted for safety."
            );
            assert!(error.details().contains("`.env`"));
        }
    }
}
