//! The steps of an action, as they go over the wire: every value final, nothing left to fill in.
//!
//! Pure. Each kind knows whether it needs root ([`Step::needs_root`]); the daemon's validator and the agent's runner
//! ask the same function, so they cannot disagree.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tree::diff::ACL;
use crate::tree::{Digest, Meta, TreePath};

/// One step. Paths are below the application's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// A program with its arguments, as the application's user, in its root. No shell.
    Run {
        argv: Vec<String>,
        /// Added to a small clean environment (PATH, HOME, LANG).
        #[serde(default)]
        env: BTreeMap<String, String>,
        /// Exit codes that mean success.
        #[serde(default = "zero")]
        ok: Vec<i32>,
        /// Killed with its whole tree after this time. The action's own deadline also holds.
        timeout_ms: u64,
    },
    /// Gives paths to a user. Root only.
    Chown {
        paths: Vec<TreePath>,
        uid: u32,
        gid: u32,
        recursive: bool,
    },
    /// Adds and removes permission bits, nothing else.
    SetBits {
        paths: Vec<TreePath>,
        add: Bits,
        remove: Bits,
        recursive: bool,
    },
    /// Puts a whole file in place, atomically. The content was staged before by its digest.
    Put {
        path: TreePath,
        digest: Digest,
        /// Permission bits that the file gets, also where there is one with others: what was put back is as open as it
        /// was, not as the ruin in its place.
        mode: u32,
        /// Whose it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<Box<Owner>>,
    },
    /// Sets one key of an env file, keeping every other byte.
    EditKey {
        path: TreePath,
        key: String,
        value: String,
    },
    /// Removes files and empty directories, and with `recursive` whole directories; absent is fine.
    Remove {
        paths: Vec<TreePath>,
        recursive: bool,
    },
    /// Exchanges two directories by name in one atomic step.
    SwapDirectory { path: TreePath, with: TreePath },
    /// Keeps the last bytes of an open log in the same inode, from the first whole line on.
    TrimLog { path: TreePath, keep_bytes: u64 },
    /// Restarts a unit of the system's service manager. Root only.
    RestartUnit { unit: String },
    /// Restarts exactly one process of a pm2 daemon that is already alive, as the application's user.
    RestartPm2 {
        /// The process's pm2 name.
        name: String,
        /// `PM2_HOME`; absent: `.pm2` in the user's home.
        home: Option<String>,
    },
}

fn zero() -> Vec<i32> {
    vec![0]
}

/// Whose a file was, beside its permission bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// Its access list, in lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<String>,
}

impl Owner {
    /// Out of what was recorded of a file.
    pub fn of(meta: &Meta) -> Self {
        Self {
            uid: meta.uid,
            gid: meta.gid,
            acl: meta.xattrs.get(ACL).cloned(),
        }
    }
}

/// Permission bits to add or remove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bits {
    /// Plain bits, 0 to 0o7777.
    pub plain: u32,
    /// Execute bits that go only to directories and to files that somebody can already execute (`X` of chmod).
    pub search: u32,
}

impl Bits {
    /// Reads the symbolic form: `u+rwX` is written `u+rwX` with `add`, so here only `[ugoa]*[rwxXst]+`, joined by
    /// commas, with an optional `+` or `-` between who and what: `u+rwX`, `o-w`, `ug+rw,o+r`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bits = Self::default();
        for clause in text.split(',') {
            let at = clause.find(['+', '-'])?;
            let (who, what) = (&clause[..at], &clause[at + 1..]);
            if what.is_empty() {
                return None;
            }
            let (mut shifts, mut special) = (0_u32, false);
            for character in who.chars() {
                shifts |= match character {
                    'u' => 0o700,
                    'g' => 0o070,
                    'o' => 0o007,
                    'a' => 0o777,
                    _ => return None,
                };
            }
            if who.is_empty() {
                shifts = 0o777;
            }
            for character in what.chars() {
                match character {
                    'r' => bits.plain |= 0o444 & shifts,
                    'w' => bits.plain |= 0o222 & shifts,
                    'x' => bits.plain |= 0o111 & shifts,
                    'X' => bits.search |= 0o111 & shifts,
                    't' => bits.plain |= 0o1000,
                    's' => special = true,
                    _ => return None,
                }
            }
            if special {
                bits.plain |= if shifts & 0o700 == 0 { 0 } else { 0o4000 }
                    | if shifts & 0o070 == 0 { 0 } else { 0o2000 };
            }
        }
        Some(bits)
    }
}

impl Step {
    /// Can only root do this? Such a step is a named operation under the host's allow list.
    pub fn needs_root(&self) -> bool {
        match self {
            Self::Chown { .. } | Self::RestartUnit { .. } => true,
            Self::Run { .. }
            | Self::SetBits { .. }
            | Self::Put { .. }
            | Self::EditKey { .. }
            | Self::Remove { .. }
            | Self::SwapDirectory { .. }
            | Self::TrimLog { .. }
            | Self::RestartPm2 { .. } => false,
        }
    }

    /// Does it start a program of the application's? Such a step never runs as root.
    pub fn runs_program(&self) -> bool {
        match self {
            Self::Run { .. } | Self::RestartPm2 { .. } => true,
            Self::Chown { .. }
            | Self::SetBits { .. }
            | Self::Put { .. }
            | Self::EditKey { .. }
            | Self::Remove { .. }
            | Self::SwapDirectory { .. }
            | Self::TrimLog { .. }
            | Self::RestartUnit { .. } => false,
        }
    }

    /// The content that must have been staged before it runs.
    pub fn staged(&self) -> Option<Digest> {
        if let Self::Put { digest, .. } = self {
            Some(*digest)
        } else {
            None
        }
    }

    /// Does it change files by itself?
    pub fn writes_files(&self) -> bool {
        !matches!(self, Self::RestartUnit { .. } | Self::RestartPm2 { .. })
    }

    /// The stable word for it in logs, reports and the witness.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Run { .. } => "run",
            Self::Chown { .. } => "chown",
            Self::SetBits { .. } => "set_bits",
            Self::Put { .. } => "put",
            Self::EditKey { .. } => "edit_key",
            Self::Remove { .. } => "remove",
            Self::SwapDirectory { .. } => "swap_directory",
            Self::TrimLog { .. } => "trim_log",
            Self::RestartUnit { .. } => "restart_unit",
            Self::RestartPm2 { .. } => "restart_pm2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_bits_mean_what_chmod_means() {
        for (text, want) in [
            ("u+rwX", Some((0o600, 0o100))),
            ("o-w", Some((0o002, 0))),
            ("ug+rw,o+r", Some((0o664, 0))),
            ("a+x", Some((0o111, 0))),
            ("g+s", Some((0o2000, 0))),
            ("u+q", None),
            ("rw", None),
            ("", None),
        ] {
            assert_eq!(
                Bits::parse(text).map(|bits| (bits.plain, bits.search)),
                want,
                "{text}"
            );
        }
    }
}
