//! Who may start things on a target: the witness's owner, and the highest fence token that was seen per target.
//!
//! Both only ever tighten here. Handing a witness to another daemon is a person's decision and not made in this file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{Refusal, RefusalCode, files, refuse, system};

/// The highest token seen for a target, and the heal that bore it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HighWater {
    fence: u64,
    heal: String,
    /// For people who look at the file; the name is a digest of it.
    target: String,
}

/// A target's fence, locked while it is looked at and raised.
#[derive(Debug)]
pub(super) struct Fence {
    directory: PathBuf,
    name: String,
    target: String,
    _guard: File,
}

fn key(target: &str) -> String {
    let digest = crate::tree::Digest::of(target.as_bytes()).to_string();
    digest.chars().take(32).collect()
}

impl Fence {
    /// Waits for nobody longer than it takes to write two small files.
    pub(super) fn lock(directory: &Path, target: &str) -> Result<Self, Refusal> {
        let guard = files::open_lock(&directory.join("lock"))
            .map_err(|error| system("open the fence's lock", &error))?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&guard, FlockOperation::LockExclusive))
            .map_err(|error| system("lock the fence", &error.into()))?;
        Ok(Self {
            directory: directory.to_owned(),
            name: key(target),
            target: target.to_owned(),
            _guard: guard,
        })
    }

    /// Refuses a token below the highest one, and a heal that already bore the highest one.
    pub(super) fn raise(&self, fence: u64, heal: &str) -> Result<(), Refusal> {
        let seen: Option<HighWater> = files::read(&self.directory.join(&self.name))
            .map_err(|error| system("read the fence", &error))?;
        if let Some(seen) = seen {
            if fence < seen.fence {
                return Err(refuse(
                    RefusalCode::Fence,
                    format!(
                        "token {fence} is older than {} that {} showed here",
                        seen.fence, seen.heal
                    ),
                ));
            }
            if fence == seen.fence && heal == seen.heal {
                // Its record may have been forgotten since; it must not run a second time for that.
                return Err(refuse(
                    RefusalCode::AlreadyStarted,
                    format!("{heal} showed token {fence} here before"),
                ));
            }
        }
        files::replace(
            &self.directory,
            &self.name,
            &HighWater {
                fence,
                heal: heal.to_owned(),
                target: self.target.clone(),
            },
        )
        .map_err(|error| system("raise the fence", &error))
    }
}

/// Takes the right to change a target, for as long as the file stays open; refused while an action or undo has it.
pub(super) fn occupy(directory: &Path, target: &str) -> Result<File, Refusal> {
    let file = files::open_lock(&directory.join(format!("{}.busy", key(target))))
        .map_err(|error| system("open the target's lock", &error))?;
    match files::try_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(true) => Ok(file),
        Ok(false) => Err(refuse(
            RefusalCode::Limit,
            format!("another action or undo is at work on {target}"),
        )),
        Err(error) => Err(system("lock the target", &error)),
    }
}

/// Who owns the witness, when somebody does.
pub(super) fn owner(state: &Path) -> io::Result<Option<String>> {
    files::read(&state.join("owner"))
}

/// Makes `owner` the witness's owner where nobody is; refuses another one.
pub(super) fn claim(state: &Path, owner_name: &str) -> Result<(), Refusal> {
    let valid = (1..=128).contains(&owner_name.len())
        && owner_name.bytes().all(|byte| byte.is_ascii_graphic());
    if !valid {
        return Err(refuse(
            RefusalCode::Malformed,
            "an owner is 1 to 128 printable characters".to_owned(),
        ));
    }
    let seen = match owner(state).map_err(|error| system("read the owner", &error))? {
        Some(seen) => seen,
        None if files::create(state, "owner", &owner_name, "run.witness.owner")
            .map_err(|error| system("record the owner", &error))? =>
        {
            return Ok(());
        }
        None => owner(state)
            .map_err(|error| system("read the owner", &error))?
            .unwrap_or_default(),
    };
    if seen == owner_name {
        Ok(())
    } else {
        Err(refuse(
            RefusalCode::Owner,
            format!(
                "the records in {} belong to another daemon: only one may look after this host",
                state.display()
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_only_grow_per_target() {
        let directory = tempfile::tempdir().unwrap();
        for (case, target, fence, heal, want) in [
            ("first", "/a", 5, "h1", None),
            ("smaller", "/a", 4, "h2", Some(RefusalCode::Fence)),
            ("other target", "/b", 1, "h3", None),
            ("equal, another heal", "/a", 5, "h4", None),
            ("again", "/a", 5, "h4", Some(RefusalCode::AlreadyStarted)),
            ("larger", "/a", 6, "h5", None),
        ] {
            let fence_file = Fence::lock(directory.path(), target).unwrap();
            let got = fence_file.raise(fence, heal).err().map(|error| error.code);
            assert_eq!(got, want, "{case}");
        }
    }

    #[test]
    fn a_second_owner_is_refused() {
        let state = tempfile::tempdir().unwrap();
        claim(state.path(), "one").unwrap();
        claim(state.path(), "one").unwrap();
        assert_eq!(
            claim(state.path(), "two").unwrap_err().code,
            RefusalCode::Owner
        );
        assert_eq!(
            claim(state.path(), "").unwrap_err().code,
            RefusalCode::Malformed
        );
    }
}
