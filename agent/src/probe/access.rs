//! The `access` and `mode` probes: what the agent's user may do, and which permission bits stand.
//!
//! `access` asks the kernel (which knows ACLs, read-only mounts and capabilities) instead of reading bits; it speaks
//! for the agent's own user, which is the application's. `mode` compares bit by bit. Links are skipped by both.

use std::collections::BTreeSet;

use rustix::fs::{Access as Ask, FileType};

use super::Context;
use super::found::Found;
use super::place::{may, reason, walk};
use super::spec::Access;
use crate::step::Bits;
use crate::tree::Pattern;

const EXAMPLES_MAX: usize = 20;
const LISTED_MAX: usize = 100;

pub(super) fn access(
    context: &Context,
    paths: &[String],
    want: Access,
    recursive: bool,
    entries_max: u32,
) -> Found {
    let (mut missing, mut denied) = (Vec::new(), Vec::new());
    let mut examples = BTreeSet::new();
    let mut truncated = false;
    let mut failure: Option<String> = None;
    let mut left = entries_max;
    for text in paths {
        let pattern = match Pattern::parse(text) {
            Ok(pattern) => pattern,
            Err(error) => return Found::unknown("access", &error.to_string()),
        };
        let mut bad = false;
        let mut example = |path: String| {
            examples.insert(path);
            if examples.len() > EXAMPLES_MAX {
                examples.pop_last();
            }
        };
        let walked = walk(context, &pattern, recursive, left, &mut |entry| {
            let ask = match (entry.file_type(), want) {
                (FileType::Symlink, _) => return,
                (FileType::Directory, Access::Write) => Ask::WRITE_OK | Ask::EXEC_OK,
                (FileType::Directory, Access::Read) => Ask::READ_OK | Ask::EXEC_OK,
                (_, Access::Write) => Ask::WRITE_OK,
                (_, Access::Read) => Ask::READ_OK,
            };
            match may(entry.parent, entry.name, ask) {
                Ok(true) | Err(rustix::io::Errno::NOENT) => {}
                Ok(false) => {
                    bad = true;
                    example(entry.path.to_string());
                }
                Err(errno) => {
                    failure.get_or_insert_with(|| format!("{}: {}", entry.path, reason(errno)));
                }
            }
        });
        // What the agent's user cannot even look into, the application cannot use either.
        for (path, why) in &walked.unreadable {
            if why == "permission denied" {
                bad = true;
                example(path.to_string());
            } else {
                failure.get_or_insert_with(|| format!("{path}: {why}"));
            }
        }
        if walked.missing && pattern_names_one(&pattern) {
            missing.push(text.clone());
        }
        if bad {
            denied.push(text.clone());
        }
        truncated |= walked.truncated;
        left = left.saturating_sub(walked.seen);
    }
    if let Some(why) = failure {
        return Found::unknown("access", &why);
    }
    if truncated && context.stopped() {
        return Found::unknown("access", "deadline");
    }
    Found::absent("access")
        .with("missing", missing)
        .with("denied", denied)
        .with("examples", examples.into_iter().collect::<Vec<String>>())
        .with("truncated", truncated)
}

/// Patterns with stars may match nothing; a named path, or everything below one, should be there.
fn pattern_names_one(pattern: &Pattern) -> bool {
    pattern.as_path().is_some()
        || pattern.is_recursive() && pattern.matches(&pattern.fixed_prefix())
}

/// The bits of a symbolic form that count for an entry: `X` stands for directories only.
fn bits(bits: Bits, directory: bool) -> u32 {
    bits.plain | if directory { bits.search } else { 0 }
}

pub(super) fn mode(
    context: &Context,
    paths: &[String],
    (forbid, need): (Option<&str>, Option<&str>),
    recursive: bool,
    entries_max: u32,
) -> Found {
    let read = |text: Option<&str>| match text {
        Some(text) => Bits::parse(text).ok_or_else(|| format!("`{text}` are no permission bits")),
        None => Ok(Bits::default()),
    };
    let (forbid, need) = match (read(forbid), read(need)) {
        (Ok(forbid), Ok(need)) => (forbid, need),
        (Err(error), _) | (_, Err(error)) => return Found::unknown("mode", &error),
    };
    let mut missing = Vec::new();
    let (mut open, mut tight) = (BTreeSet::new(), BTreeSet::new());
    let mut truncated = false;
    let mut left = entries_max;
    for text in paths {
        let pattern = match Pattern::parse(text) {
            Ok(pattern) => pattern,
            Err(error) => return Found::unknown("mode", &error.to_string()),
        };
        let walked = walk(context, &pattern, recursive, left, &mut |entry| {
            if entry.file_type() == FileType::Symlink {
                return;
            }
            let mode = u32::from(entry.stat.stx_mode & 0o7777);
            let directory = entry.is_directory();
            let list = |set: &mut BTreeSet<String>| {
                set.insert(entry.path.to_string());
                if set.len() > LISTED_MAX {
                    set.pop_last();
                }
            };
            if mode & bits(forbid, directory) != 0 {
                list(&mut open);
            }
            if mode & bits(need, directory) != bits(need, directory) {
                list(&mut tight);
            }
        });
        if let Some((path, why)) = walked.unreadable.first() {
            return Found::unknown("mode", &format!("{path}: {why}"));
        }
        if walked.missing && pattern_names_one(&pattern) {
            missing.push(text.clone());
        }
        truncated |= walked.truncated;
        left = left.saturating_sub(walked.seen);
    }
    if truncated && context.stopped() {
        return Found::unknown("mode", "deadline");
    }
    Found::absent("mode")
        .with("missing", missing)
        .with("too_open", open.into_iter().collect::<Vec<String>>())
        .with("too_tight", tight.into_iter().collect::<Vec<String>>())
        .with("truncated", truncated)
}
