//! Requests that only look: rounds of probes, lists and contents of files, output and effects of actions.
//!
//! A root agent looks at the metadata that its allow list covers, because that is what it may have to give back, and
//! at nothing else: it runs no probes and reads no contents.

use std::time::Instant;

use super::Shared;
use super::answer::Answered;
use crate::identity::Identity;
use crate::protocol::{Answer, BODY_BYTES_MAX, CheckProbes, Refusal, RefusalCode, Target};
use crate::tree::{Pattern, StatKey, TreePath};
use crate::witness::{check_id, refuse};

/// JSON of one page of entries or effects: fits a frame with room to spare.
const PAGE_BYTES: usize = 700 << 10;

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
    deadline: Instant,
) -> Result<Answer, Refusal> {
    only_app(shared, "run probes")?;
    let _ = (target, checks, deadline);
    Err(refuse(
        RefusalCode::System,
        "probes are not there yet".to_owned(),
    ))
}

pub(super) fn list(shared: &Shared, list: &List, deadline: Instant) -> Result<Answer, Refusal> {
    let _ = (shared, list, deadline, PAGE_BYTES);
    Err(refuse(
        RefusalCode::System,
        "lists are not there yet".to_owned(),
    ))
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
    let _ = (target, path, expect, offset, budget);
    Err(refuse(
        RefusalCode::System,
        "reading is not there yet".to_owned(),
    ))
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
