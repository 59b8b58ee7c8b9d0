//! The `tree` probe: everything that matches, as numbers.
//!
//! The directory that a `dir/**` names is not counted itself, so that an empty one has a count of 0.

use rustix::fs::FileType;

use super::Context;
use super::deadline::wall_now_ms;
use super::file::mtime_ms;
use super::found::Found;
use super::place::walk;
use super::spec::Fact;
use crate::tree::Pattern;

/// The most paths that are named.
const PATHS_MAX: usize = 100;

pub(super) fn probe(context: &Context, paths: &[String], entries_max: u32) -> Found {
    let (mut exists, mut truncated) = (false, false);
    let (mut count, mut bytes) = (0_u64, 0_u64);
    let mut newest: Option<(i64, String)> = None;
    let mut named = std::collections::BTreeSet::new();
    let mut unreadable = Vec::new();
    let mut left = entries_max;
    for text in paths {
        let pattern = match Pattern::parse(text) {
            Ok(pattern) => pattern,
            Err(error) => return Found::unknown("tree", &error.to_string()),
        };
        let base = pattern.is_recursive().then(|| pattern.fixed_prefix());
        let walked = walk(context, &pattern, false, left, &mut |entry| {
            exists = true;
            if base.as_ref() == Some(entry.path) && entry.is_directory() {
                return;
            }
            count += 1;
            if entry.file_type() == FileType::RegularFile {
                bytes = bytes.saturating_add(entry.stat.stx_size);
            }
            let mtime = mtime_ms(entry.stat);
            let path = entry.path.to_string();
            if newest
                .as_ref()
                .is_none_or(|seen| (mtime, &path) > (seen.0, &seen.1))
            {
                newest = Some((mtime, path.clone()));
            }
            named.insert(path);
            if named.len() > PATHS_MAX {
                named.pop_last();
            }
        });
        truncated |= walked.truncated;
        unreadable.extend(walked.unreadable);
        left = left.saturating_sub(walked.seen);
    }
    if let Some((path, why)) = unreadable.first() {
        let found = Found::unknown("tree", &format!("{path}: {why}"));
        return if exists {
            found.with("exists", true)
        } else {
            found
        };
    }
    if truncated && context.stopped() {
        return Found::unknown("tree", "deadline");
    }
    let (time, path) = newest.map_or((None, None), |(time, path)| (Some(time), Some(path)));
    // Nothing seen within the limit does not mean that nothing is there.
    let exists = if truncated && !exists {
        Fact::Unknown("not found within the limit of entries".to_owned())
    } else {
        Fact::Bool(exists)
    };
    Found::absent("tree")
        .with("exists", exists)
        .with("count", count)
        .with("bytes", bytes)
        .with("newest", time)
        .with("newest_path", path)
        .with(
            "newest_age",
            time.map(|time| wall_now_ms().saturating_sub(time).max(0)),
        )
        .with("paths", named.into_iter().collect::<Vec<String>>())
        .with("truncated", truncated)
}
