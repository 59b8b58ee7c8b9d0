//! What a step did to files: the state before and after it, merged over the steps of an action.
//!
//! Native steps tell each path themselves; around a program the application's root is walked twice. A walk that
//! fails makes the record incomplete and never smaller than it was.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::native;
use crate::protocol::{Refusal, Target};
use crate::roots::Roots;
use crate::step::Step;
use crate::tree::diff::{changes_except, differs};
use crate::tree::{Effect, EffectSource, Manifest, Pattern, TreePath, path};
use crate::walk::{self, Limits};

/// How far each of the two walks around a program may go, within the action's own deadline.
const ENTRIES_MAX: usize = 500_000;
const WALK_TIME: Duration = Duration::from_mins(2);
/// What the walk after a program has beyond that deadline: only it can say what a program changed that was killed there.
const WALK_TIME_LATE: Duration = Duration::from_secs(20);

/// The application's files as one action sees them.
#[derive(Debug)]
pub(super) struct Files {
    roots: Roots,
    real: Vec<String>,
    /// The last walk; what did not change since need not be looked at closely again.
    last: Manifest,
    effects: BTreeMap<TreePath, Effect>,
    complete: bool,
}

/// The tree before a program, and what of it could not be looked at.
#[derive(Debug)]
pub(super) struct Before {
    manifest: Manifest,
    unreadable: BTreeSet<TreePath>,
}

/// The target's real directories as the file system names them.
pub(super) fn real_paths(real: &[String]) -> Vec<PathBuf> {
    real.iter()
        .filter_map(|text| path::unescape(text).ok())
        .map(|bytes| PathBuf::from(OsStr::from_bytes(&bytes)))
        .collect()
}

impl Files {
    pub(super) fn open(target: &Target) -> Result<Self, Refusal> {
        let roots = Roots::open(target)?;
        let real = roots.real();
        Ok(Self {
            roots,
            real,
            last: Manifest::new(),
            effects: BTreeMap::new(),
            complete: true,
        })
    }

    /// The application's own real directory, in the escaped text form.
    pub(super) fn root(&self) -> &str {
        self.real.first().map(String::as_str).unwrap_or_default()
    }

    /// The real directories of the declared roots.
    pub(super) fn declared(&self) -> &[String] {
        self.real.get(1..).unwrap_or_default()
    }

    /// All real directories, the application's own first.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        real_paths(&self.real)
    }

    /// Walks the root before a program runs.
    pub(super) fn before(&mut self, deadline: Instant) -> Result<Before, String> {
        let end = deadline.min(Instant::now() + WALK_TIME);
        let (manifest, unreadable) = self
            .walk(false, end)
            .map_err(|refusal| format!("cannot look at the root before it: {refusal}"))?;
        self.last.clone_from(&manifest);
        Ok(Before {
            manifest,
            unreadable: unreadable.into_iter().map(|(path, _)| path).collect(),
        })
    }

    /// Walks the root when the program's processes are gone, and records what differs.
    pub(super) fn after(&mut self, before: &Before, deadline: Instant) {
        let now = Instant::now();
        let end = deadline.max(now + WALK_TIME_LATE).min(now + WALK_TIME);
        let Ok((manifest, unreadable)) = self.walk(true, end) else {
            self.complete = false;
            return;
        };
        let unknown: BTreeSet<TreePath> = unreadable.into_iter().map(|(path, _)| path).collect();
        self.complete &= unknown.is_subset(&before.unreadable);
        let unknown: Vec<TreePath> = unknown.union(&before.unreadable).cloned().collect();
        for change in changes_except(&before.manifest, &manifest, &unknown) {
            self.record(Effect {
                path: change.path,
                before: change.before,
                after: change.after,
                source: EffectSource::Walk,
            });
        }
        self.last = manifest;
    }

    fn walk(
        &self,
        digests: bool,
        deadline: Instant,
    ) -> Result<(Manifest, Vec<(TreePath, String)>), Refusal> {
        let everything = Pattern::parse("**").map_err(|error| {
            crate::witness::refuse(crate::protocol::RefusalCode::Malformed, error.to_string())
        })?;
        let limits = Limits {
            entries_max: ENTRIES_MAX,
            deadline,
        };
        walk::snapshot_since(&self.roots, &[everything], digests, limits, &self.last)
    }

    /// Carries out a native step with what was staged for it, until the deadline. What it did is recorded also when
    /// it fails half-way.
    pub(super) fn native(
        &mut self,
        step: &Step,
        stage: &Path,
        deadline: Instant,
    ) -> Result<(), String> {
        let (effects, error) = match step {
            Step::Chown {
                paths,
                uid,
                gid,
                recursive,
            } => native::chown(&self.roots, paths, *uid, *gid, *recursive, deadline),
            Step::SetBits {
                paths,
                add,
                remove,
                recursive,
            } => native::set_bits(&self.roots, paths, *add, *remove, *recursive, deadline),
            Step::Put {
                path,
                digest,
                mode,
                owner,
            } => {
                let content = File::open(stage.join(digest.to_string()))
                    .map_err(|error| format!("the content of `{path}` was not staged: {error}"))?;
                let like = native::Like {
                    mode: *mode,
                    owner: owner.as_deref(),
                };
                native::put(&self.roots, path, &content, *digest, like, deadline)
            }
            Step::EditKey { path, key, value } => {
                native::edit_key(&self.roots, path, key, value, deadline)
            }
            Step::Remove { paths, recursive } => {
                native::remove(&self.roots, paths, *recursive, deadline)
            }
            Step::SwapDirectory { path, with } => {
                native::swap_directory(&self.roots, path, with, deadline)
            }
            Step::TrimLog { path, keep_bytes } => {
                native::trim_log(&self.roots, path, *keep_bytes, deadline)
            }
            Step::Run { .. } | Step::RestartUnit { .. } | Step::RestartPm2 { .. } => {
                return Err(format!(
                    "`{}` is a program, not a step on files",
                    step.name()
                ));
            }
        };
        for effect in effects {
            self.record(effect);
        }
        error.map_or(Ok(()), |error| Err(error.to_string()))
    }

    /// Per path the first state before and the last state after.
    fn record(&mut self, effect: Effect) {
        let merged = match self.effects.remove(&effect.path) {
            None => effect,
            Some(first) => Effect {
                path: effect.path,
                before: first.before,
                after: effect.after,
                source: weaker(first.source, effect.source),
            },
        };
        if differs(merged.before.as_ref(), merged.after.as_ref()) {
            self.effects.insert(merged.path.clone(), merged);
        }
    }

    pub(super) fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.effects.values()
    }

    /// Is every change of the action among the effects?
    pub(super) fn complete(&self) -> bool {
        self.complete
    }
}

/// The source that claims less.
fn weaker(one: EffectSource, other: EffectSource) -> EffectSource {
    match (one, other) {
        (EffectSource::Native, EffectSource::Native) => EffectSource::Native,
        (EffectSource::Recovery, _) | (_, EffectSource::Recovery) => EffectSource::Recovery,
        (EffectSource::Walk, _) | (_, EffectSource::Walk) => EffectSource::Walk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_before_a_program_ends_with_the_actions_time_and_one_after_it_a_little_later() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "x").unwrap();
        let mut files = Files::open(&Target {
            root: directory.path().display().to_string(),
            roots: Vec::new(),
            uid: 0,
            gid: 0,
            volatile: Vec::new(),
        })
        .unwrap();
        let over = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let refused = files.before(over).unwrap_err();
        assert!(
            refused.contains("the time for the walk is over"),
            "{refused}"
        );
        let before = files.before(Instant::now() + WALK_TIME).unwrap();
        std::fs::write(directory.path().join("more"), "x").unwrap();
        files.after(&before, over);
        assert!(files.complete());
        assert!(
            files
                .effects()
                .any(|effect| effect.path.as_bytes() == b"more")
        );
    }
}
