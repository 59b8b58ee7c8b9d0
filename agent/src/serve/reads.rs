//! Requests that only look: rounds of probes, lists and contents of files, output and effects of actions.
//!
//! A root agent looks at the metadata that its allow list covers, because that is what it may have to give back, and
//! at nothing else: it runs no probes and reads no contents.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Shared;
use super::answer::Answered;
use crate::identity::Identity;
use crate::probe::{self, Deadline};
use crate::protocol::{Answer, BODY_BYTES_MAX, CheckProbes, Refusal, RefusalCode, Target};
use crate::roots::Roots;
use crate::tree::{EntryState, Pattern, StatKey, TreePath};
use crate::walk;
use crate::witness::{check_id, refuse};

/// JSON of one page of entries or effects: fits a frame with room to spare.
const PAGE_BYTES: usize = 700 << 10;

/// Most entries of one page: about as many as fit a frame, so that little is walked in vain.
const ENTRIES_MAX: usize = 2_000;

/// What to list.
pub(super) struct List {
    pub(super) target: Target,
    pub(super) members: Vec<Pattern>,
    pub(super) after: Option<TreePath>,
    pub(super) digests: bool,
    pub(super) entries_max: u32,
}

fn only_app(shared: &Shared, what: &str) -> Result<(), Refusal> {
    match shared.runner.identity {
        Identity::App => Ok(()),
        Identity::Root => Err(refuse(
            RefusalCode::NotAllowed,
            format!("a root agent does not {what}"),
        )),
    }
}

pub(super) fn round(
    shared: &Shared,
    target: &Target,
    checks: &[CheckProbes],
    deadline: Deadline,
    cancelled: &AtomicBool,
) -> Result<Answer, Refusal> {
    only_app(shared, "run probes")?;
    let (roots, checks) = probe::round(target, checks, deadline, cancelled)?;
    Ok(Answer::Round { roots, checks })
}

pub(super) fn list(shared: &Shared, list: &List, deadline: Instant) -> Result<Answer, Refusal> {
    let roots = Roots::open(&list.target)?;
    let real = roots.real();
    if shared.runner.identity == Identity::Root {
        let prefixes: Vec<TreePath> = list.members.iter().map(Pattern::fixed_prefix).collect();
        if list.digests || !shared.runner.allowed.covers(&real, prefixes.iter()) {
            return Err(refuse(
                RefusalCode::NotAllowed,
                "a root agent lists metadata below the allow list's paths, nothing else".to_owned(),
            ));
        }
    }
    let entries_max = usize::try_from(list.entries_max)
        .unwrap_or(ENTRIES_MAX)
        .clamp(1, ENTRIES_MAX);
    let page = walk::list(
        &roots,
        &list.members,
        list.after.as_ref(),
        list.digests,
        entries_max,
        deadline,
    )?;
    Ok(cut(real, page, PAGE_BYTES))
}

/// What of a page fits into a frame. The rest is asked for again, after the last path of both lists.
fn cut(roots: Vec<String>, page: walk::ListPage, bytes_max: usize) -> Answer {
    let mut entries = page.entries.into_iter().peekable();
    let mut unreadable = page.unreadable.into_iter().peekable();
    let (mut kept, mut told, mut bytes) = (Vec::new(), Vec::new(), 0);
    loop {
        // In path order over both lists: what is left out must come after all that is kept.
        let entry_first = match (entries.peek(), unreadable.peek()) {
            (Some(entry), Some(other)) => entry.0 <= other.0,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => break,
        };
        // Brackets and commas beside.
        bytes += 8 + if entry_first {
            entries.peek().map_or(0, |(path, state)| {
                path.json_bytes_max() + state.as_ref().map_or(4, EntryState::json_bytes_max)
            })
        } else {
            unreadable
                .peek()
                .map_or(0, |(path, reason)| path.json_bytes_max() + 6 * reason.len())
        };
        if bytes > bytes_max && !(kept.is_empty() && told.is_empty()) {
            return Answer::List {
                roots,
                entries: kept,
                unreadable: told,
                more: true,
            };
        }
        if entry_first {
            kept.extend(entries.next());
        } else {
            told.extend(unreadable.next());
        }
    }
    Answer::List {
        roots,
        entries: kept,
        unreadable: told,
        more: page.more,
    }
}

pub(super) fn read(
    shared: &Shared,
    target: &Target,
    path: &TreePath,
    expect: StatKey,
    offset: u64,
    budget: u32,
) -> Answered {
    only_app(shared, "read contents")?;
    let roots = Roots::open(target)?;
    let (bytes, end) = walk::read(&roots, path, expect, offset, capped(budget))?;
    Ok((Answer::Read { end }, bytes))
}

/// Whole files as long as they fit. What is wrong with one of them costs the others nothing.
pub(super) fn read_many(
    shared: &Shared,
    target: &Target,
    files: &[(TreePath, StatKey)],
    budget: u32,
    cancelled: &AtomicBool,
) -> Answered {
    only_app(shared, "read contents")?;
    let roots = Roots::open(target)?;
    let budget = capped(budget);
    let (mut body, mut lengths) = (Vec::new(), Vec::new());
    for (path, expect) in files {
        let left = budget.saturating_sub(body.len());
        let fits = usize::try_from(expect.size).is_ok_and(|size| size <= left);
        if cancelled.load(Ordering::Relaxed) || (!fits && !body.is_empty()) {
            break; // asked for again
        }
        let read = if fits {
            walk::read(&roots, path, *expect, 0, left).ok()
        } else {
            None
        };
        lengths.push(read.and_then(|(bytes, end)| {
            let length = u32::try_from(bytes.len()).ok().filter(|_| end)?;
            body.extend_from_slice(&bytes);
            Some(length)
        }));
    }
    Ok((Answer::ReadMany { lengths }, body))
}

fn capped(budget: u32) -> usize {
    usize::try_from(budget)
        .unwrap_or(usize::MAX)
        .min(BODY_BYTES_MAX)
}

pub(super) fn output(shared: &Shared, heal: &str, step: u32, offset: u64, budget: u32) -> Answered {
    check_id(heal)?;
    let (bytes, total, end) = shared
        .runner
        .witness
        .output(heal, step, offset, capped(budget))?;
    Ok((Answer::Output { total, end }, bytes))
}

pub(super) fn effects(
    shared: &Shared,
    heal: &str,
    after: Option<&TreePath>,
) -> Result<Answer, Refusal> {
    let (effects, more) = shared.runner.witness.effects(heal, after, PAGE_BYTES)?;
    Ok(Answer::Effects { effects, more })
}
