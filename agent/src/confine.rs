//! Keeping a program's writes below the write set, by Landlock where the kernel has it.
//!
//! Only writing is confined: reading and executing stay as the user may. Nothing here decides what a step may write;
//! it is told. It never claims more than the kernel enforces: [`Plan::confined`] is false as soon as a rule had to be
//! wider than the write set (a member that does not exist yet can only be allowed through its directory).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
};

use crate::protocol::{WriteKind, WriteMember};

/// Where a program may write, as far as the kernel can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Existing files and directories.
    pub writable: Vec<PathBuf>,
    /// Does that equal the write set and the scratch, and does the kernel enforce it?
    pub confined: bool,
}

/// The first ABI that can tell a truncated file from an untouched one; below it a program is not confined.
const ABI_NEEDED: u32 = 3;

/// Landlock ABI of this kernel as far as it is used here; 0: none.
///
/// Found out in a thread of its own: a restriction holds for the thread that asked for it.
pub fn abi() -> u32 {
    let asked = std::thread::spawn(|| {
        let status = Ruleset::default()
            .handle_access(AccessFs::MakeSock)
            .and_then(Ruleset::create)
            .and_then(landlock::RulesetCreated::restrict_self)
            .ok()?;
        match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => Some(effective_abi as u32),
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
        }
    });
    asked.join().ok().flatten().unwrap_or(0)
}

/// What a program with this write set and scratch may write below `root`.
pub fn plan(root: &Path, writes: &[WriteMember], scratch: &[String], abi: u32) -> Plan {
    let mut writable = Vec::new();
    let mut exact = true;
    let members = writes
        .iter()
        .filter(|member| matches!(member.what, WriteKind::Content));
    for member in members {
        let prefix = member.pattern.fixed_prefix();
        let path = root.join(OsStr::from_bytes(prefix.as_bytes()));
        exact &= push_existing(&mut writable, &path);
    }
    for directory in scratch {
        let path = Path::new(directory);
        if !path.is_absolute() {
            exact = false;
            continue;
        }
        exact &= push_existing(&mut writable, path) && !root.starts_with(path);
    }
    writable.sort();
    writable.dedup();
    Plan {
        writable,
        confined: exact && abi >= ABI_NEEDED,
    }
}

/// Adds the path, or what exists above it; true when it was the path itself.
fn push_existing(writable: &mut Vec<PathBuf>, path: &Path) -> bool {
    for (steps, candidate) in path.ancestors().enumerate() {
        match std::fs::symlink_metadata(candidate) {
            // A link is not followed by the rule that names it, so what it leads to would be denied: tell, not guess.
            Ok(meta) if meta.is_symlink() => {
                if let Ok(real) = std::fs::canonicalize(candidate) {
                    writable.push(real);
                }
                return false;
            }
            Ok(_) => {
                writable.push(candidate.to_owned());
                return steps == 0;
            }
            Err(_) => {}
        }
    }
    false
}

/// Confines the calling thread and all that it executes, for good.
///
/// # Errors
/// When `required` and the kernel does not enforce it whole, or a path cannot be opened.
pub fn restrict(writable: &[PathBuf], required: bool) -> io::Result<()> {
    let enforced = enforce(writable).map_err(io::Error::other)?;
    if required && !enforced {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel does not confine writes",
        ));
    }
    Ok(())
}

fn enforce(writable: &[PathBuf]) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    // The newest of the known rights; on an older kernel the crate leaves away what it lacks.
    let writing: BitFlags<AccessFs> = AccessFs::from_write(ABI::V3);
    let on_files = writing & AccessFs::from_file(ABI::V3);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writing)?
        .create()?;
    let null = PathBuf::from("/dev/null");
    for path in writable.iter().chain([&null]) {
        let Ok(handle) = open_path(path) else {
            // Gone since the plan was made: then nothing is written there.
            continue;
        };
        let is_directory = handle.metadata()?.is_dir();
        let access = if is_directory { writing } else { on_files };
        rules = rules.add_rule(PathBeneath::new(handle, access))?;
    }
    let status = rules.restrict_self()?;
    Ok(status.ruleset == RulesetStatus::FullyEnforced && status.no_new_privs)
}

fn open_path(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Pattern;

    fn member(pattern: &str, what: WriteKind) -> WriteMember {
        WriteMember {
            pattern: Pattern::parse(pattern).unwrap(),
            what,
            shared: false,
        }
    }

    #[test]
    fn a_plan_is_confined_only_when_it_equals_the_write_set() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        std::fs::create_dir_all(root.join("vendor/a")).unwrap();
        std::fs::write(root.join("composer.lock"), "").unwrap();
        std::os::unix::fs::symlink("/srv", root.join("link")).unwrap();
        let inside = root.join("vendor").display().to_string();
        let above = root.parent().unwrap().display().to_string();
        for (case, patterns, scratch, abi, confined, first) in [
            (
                "exact",
                vec!["vendor/**", "composer.lock"],
                "",
                3,
                true,
                "composer.lock",
            ),
            ("old kernel", vec!["vendor/**"], "", 2, false, "vendor"),
            ("absent member", vec!["node_modules/**"], "", 3, false, ""),
            (
                "a pattern in a directory",
                vec!["vendor/*.php"],
                "",
                3,
                true,
                "vendor",
            ),
            (
                "a scratch inside",
                vec!["vendor/a"],
                inside.as_str(),
                3,
                true,
                "vendor",
            ),
            (
                "a scratch above the root",
                vec!["vendor/a"],
                above.as_str(),
                3,
                false,
                "..",
            ),
            ("the whole root", vec!["**"], "", 3, true, ""),
        ] {
            let members: Vec<_> = patterns
                .iter()
                .map(|pattern| member(pattern, WriteKind::Content))
                .collect();
            let scratch: Vec<String> = (!scratch.is_empty())
                .then(|| scratch.to_owned())
                .into_iter()
                .collect();
            let plan = plan(root, &members, &scratch, abi);
            assert_eq!(plan.confined, confined, "{case}");
            let want = if first == ".." {
                root.parent().unwrap().to_owned()
            } else {
                root.join(first).components().collect()
            };
            assert_eq!(plan.writable.first(), Some(&want), "{case}");
        }
        let metadata = plan(root, &[member("vendor/**", WriteKind::Metadata)], &[], 3);
        assert!(metadata.writable.is_empty());
        assert!(!plan(root, &[member("link", WriteKind::Content)], &[], 3).confined);
    }

    #[test]
    fn a_restricted_thread_writes_only_where_it_may() {
        if abi() < ABI_NEEDED {
            // Such a kernel is told as unconfined, which the test above holds.
            return crate::skip::skip("this kernel has no Landlock that is new enough");
        }
        let root = tempfile::tempdir().unwrap();
        let (inside, outside) = (root.path().join("in"), root.path().join("out"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("old"), "old").unwrap();
        let tried = std::thread::spawn({
            let (inside, outside) = (inside.clone(), outside.clone());
            move || {
                restrict(std::slice::from_ref(&inside), true).unwrap();
                [
                    std::fs::write(inside.join("new"), "x").is_ok(),
                    std::fs::write(outside.join("new"), "x").is_ok(),
                    std::fs::write(outside.join("old"), "x").is_ok(),
                    std::fs::remove_file(outside.join("old")).is_ok(),
                    std::fs::write("/dev/null", "x").is_ok(),
                    std::fs::read(outside.join("old")).is_ok(),
                ]
            }
        })
        .join()
        .unwrap();
        assert_eq!(tried, [true, false, false, false, true, true]);
    }
}
