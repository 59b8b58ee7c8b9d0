//! Requests that change something here: starting, stopping, settling, staging, undoing, forgetting.
//!
//! Each one belongs to the daemon that owns the records; another one may look and nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Shared, lock, stage as staging};
use crate::identity::Identity;
use crate::native;
use crate::protocol::{Answer, Refusal, RefusalCode, Start, Target, UndoItem, WitnessState};
use crate::restore;
use crate::roots::Roots;
use crate::runner::descendants;
use crate::tree::Digest;
use crate::witness::{check_id, refuse, system};

/// How often a waiting `Look` looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// JSON of one page of effects when an undo is compared with them.
const EFFECTS_BYTES: usize = 1 << 20;

/// Most paths of one undo request.
const UNDO_ITEMS_MAX: usize = 10_000;

impl Shared {
    /// Makes the caller the owner, or refuses it where somebody else is.
    fn claim(&self) -> Result<(), Refusal> {
        self.runner.witness.claim(&self.owner().unwrap_or_default())
    }
}

pub(super) fn start(shared: &Arc<Shared>, start: &Start) -> Result<Answer, Refusal> {
    if shared.owner().as_deref() != Some(start.owner.as_str()) {
        return Err(refuse(
            RefusalCode::Owner,
            "the start names another owner than this connection".to_owned(),
        ));
    }
    let mut child = shared.runner.start(start)?;
    let pid = i32::try_from(child.id()).unwrap_or(0);
    lock(&shared.supervisors).insert(pid);
    // Without a thread (the system may have none left) the action runs all the same: a panic here would be answered as
    // a refusal, which says that nothing ran.
    let waits = std::thread::Builder::new().spawn({
        let shared = Arc::clone(shared);
        move || {
            // How it went stands in the record; this only keeps the process table clean.
            drop(child.wait());
            lock(&shared.supervisors).remove(&pid);
        }
    });
    drop(waits);
    Ok(Answer::Started)
}

/// The state, with nothing of a dead supervisor's action left alive: until then it still runs.
fn state(shared: &Shared, heal: &str) -> Result<WitnessState, Refusal> {
    let state = shared.runner.witness.state(heal)?;
    Ok(cleared(shared, heal, state))
}

fn cleared(shared: &Shared, heal: &str, state: WitnessState) -> WitnessState {
    if let WitnessState::Interrupted { step, same_boot } = state {
        if same_boot && !descendants::end_marked(heal) {
            return WitnessState::Running { step };
        }
        // What cannot be cleared is litter and no danger: the next look tries again.
        drop(clear_leftovers(shared, heal));
    }
    state
}

/// Temporary files of the step in which the supervisor died. Only for the owner, and while nothing else acts here.
fn clear_leftovers(shared: &Shared, heal: &str) -> Result<(), Refusal> {
    let Some(intent) = shared.runner.witness.intent(heal)? else {
        return Ok(());
    };
    let start = &intent.start;
    let roots = Roots::open(&start.target)?;
    let real = roots.real();
    let same_target = real.first() == Some(&intent.real_root);
    if !same_target || shared.owner().as_deref() != Some(start.owner.as_str()) {
        return Ok(());
    }
    let _occupied = shared.runner.witness.occupy(&intent.real_root)?;
    let began = shared.runner.witness.began(heal)?;
    native::clear(&roots, start.steps.iter().chain(&start.finally), began)
        .map_err(|error| system("clear what the dead supervisor left", &error))
}

pub(super) fn look(
    shared: &Shared,
    heal: &str,
    wait_ms: u64,
    cancelled: &AtomicBool,
) -> Result<Answer, Refusal> {
    let end = Instant::now() + Duration::from_millis(wait_ms);
    loop {
        let state = state(shared, heal)?;
        let running = matches!(state, WitnessState::Running { .. });
        if !running || Instant::now() >= end || cancelled.load(Ordering::Relaxed) {
            return Ok(Answer::Witness(state));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

pub(super) fn cancel(shared: &Shared, heal: &str) -> Result<Answer, Refusal> {
    shared.claim()?;
    shared.runner.witness.request_cancel(heal)?;
    Ok(Answer::Cancelled)
}

pub(super) fn settle(shared: &Shared, heal: &str, fence: u64) -> Result<Answer, Refusal> {
    shared.claim()?;
    let state = shared.runner.witness.settle(heal, fence)?;
    Ok(Answer::Witness(cleared(shared, heal, state)))
}

pub(super) fn stage(
    shared: &Shared,
    heal: &str,
    digest: Digest,
    offset: u64,
    last: bool,
    body: &[u8],
) -> Result<Answer, Refusal> {
    check_id(heal)?;
    shared.claim()?;
    staging::write(
        &shared.runner.witness.stage(heal),
        digest,
        offset,
        last,
        body,
    )?;
    Ok(Answer::Staged)
}

pub(super) fn undo(
    shared: &Shared,
    heal: &str,
    target: &Target,
    items: &[UndoItem],
    deadline: Instant,
) -> Result<Answer, Refusal> {
    check_id(heal)?;
    shared.claim()?;
    if items.len() > UNDO_ITEMS_MAX {
        return Err(refuse(
            RefusalCode::Limit,
            format!("an undo takes at most {UNDO_ITEMS_MAX} paths at once"),
        ));
    }
    let roots = Roots::open(target)?;
    let real = roots.real();
    let acted = shared.runner.witness.intent(heal)?;
    if acted.is_some_and(|intent| Some(&intent.real_root) != real.first()) {
        return Err(refuse(
            RefusalCode::Root,
            "the root leads elsewhere since the action; this is a deploy, and nothing is undone in it".to_owned(),
        ));
    }
    if shared.runner.identity == Identity::Root {
        root_may_undo(shared, heal, &real, items)?;
    }
    let _occupied = shared
        .runner
        .witness
        .occupy(real.first().map(String::as_str).unwrap_or_default())?;
    let staged = shared.runner.witness.stage(heal);
    let stage = |digest: &Digest| File::open(staged.join(digest.to_string()));
    let outcomes = restore::undo(&roots, &stage, heal, items, deadline);
    Ok(Answer::Undone { outcomes })
}

/// Root gives back the metadata that it changed itself, as it recorded it, or changes it so once more, and does nothing
/// else. Both only while the list of this host would still allow the action itself.
fn root_may_undo(
    shared: &Shared,
    heal: &str,
    real_roots: &[String],
    items: &[UndoItem],
) -> Result<(), Refusal> {
    let refused = |message: String| Err(refuse(RefusalCode::NotAllowed, message));
    let covered = shared
        .runner
        .allowed
        .covers(real_roots, items.iter().map(|item| &item.path));
    if !covered {
        return refused("the undo reaches beyond this host's allow list".to_owned());
    }
    let Some(intent) = shared.runner.witness.intent(heal)? else {
        return refused(format!("nothing of {heal} is recorded here"));
    };
    for step in intent.start.steps.iter().chain(&intent.start.finally) {
        shared.runner.allowed.check(step, real_roots)?;
    }
    let mut recorded = BTreeMap::new();
    let mut after = None;
    loop {
        let (page, more) = shared
            .runner
            .witness
            .effects(heal, after.as_ref(), EFFECTS_BYTES)?;
        after = page.last().map(|effect| effect.path.clone());
        recorded.extend(page.into_iter().map(|effect| (effect.path.clone(), effect)));
        if !more {
            break;
        }
    }
    for item in items {
        let as_recorded = recorded.get(&item.path).is_some_and(|effect| {
            let effect = (&effect.before, &effect.after);
            effect == (&item.before, &item.after) || effect == (&item.after, &item.before)
        });
        if !as_recorded {
            return refused(format!("`{}` is not as this agent changed it", item.path));
        }
    }
    Ok(())
}

pub(super) fn forget(shared: &Shared, heal: &str, witness: bool) -> Result<Answer, Refusal> {
    check_id(heal)?;
    shared.claim()?;
    staging::forget(&shared.runner.witness.stage(heal))?;
    if witness {
        // The record is what tells our litter from other files; without it nobody could clear it any more.
        if matches!(
            shared.runner.witness.state(heal)?,
            WitnessState::Interrupted { .. }
        ) {
            drop(clear_leftovers(shared, heal));
        }
        shared.runner.witness.forget(heal)?;
    }
    Ok(Answer::Forgotten)
}
