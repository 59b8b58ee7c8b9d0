//! Which function answers which request, and how long each may take.
//!
//! A table and nothing more.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::{Shared, changes, reads, room};
use crate::probe::Deadline;
use crate::protocol::{Answer, Hello, Refusal, RefusalCode, Request, VERSION};
use crate::witness::{boot_clock_ms, boot_id, refuse, system};

/// Longest time a `Look` waits, whatever it asks for.
pub(super) const LOOK_WAIT_MS_MAX: u64 = 60_000;

/// Requests without a deadline of their own have this one.
const ORDINARY: Duration = Duration::from_mins(1);

/// Longest deadline that is taken seriously.
const DEADLINE_MS_MAX: u64 = 3_600_000;

/// An answer and its raw bytes.
pub(super) type Answered = Result<(Answer, Vec<u8>), Refusal>;

/// The time a request may take. `None`: it is carried to its end, because half of it is worse than late.
pub(super) fn time(request: &Request) -> Option<Duration> {
    match request {
        Request::Round { deadline_ms, .. } | Request::List { deadline_ms, .. } => {
            Some(Duration::from_millis((*deadline_ms).min(DEADLINE_MS_MAX)))
        }
        Request::Look { wait_ms, .. } => {
            Some(ORDINARY + Duration::from_millis((*wait_ms).min(LOOK_WAIT_MS_MAX)))
        }
        Request::Start(_)
        | Request::Settle { .. }
        | Request::Undo { .. }
        | Request::Forget { .. }
        | Request::Stage { .. }
        | Request::CancelAction { .. } => None,
        Request::Hello { .. }
        | Request::Read { .. }
        | Request::ReadMany { .. }
        | Request::Output { .. }
        | Request::Effects { .. }
        | Request::Room { .. }
        | Request::Cancel { .. } => Some(ORDINARY),
    }
}

/// Does it change anything on the host?
pub(super) fn changes(request: &Request) -> bool {
    time(request).is_none()
}

/// Answers one request.
pub(super) fn answer(
    shared: &Arc<Shared>,
    request: Request,
    body: &[u8],
    cancelled: &AtomicBool,
) -> Answered {
    let plain = |answer: Answer| (answer, Vec::new());
    match request {
        Request::Hello { .. } | Request::Cancel { .. } => Err(refuse(
            RefusalCode::Malformed,
            "this request has no work to do".to_owned(),
        )),
        Request::Round {
            target,
            checks,
            deadline_ms,
        } => {
            let deadline = Deadline::after(Duration::from_millis(deadline_ms.min(DEADLINE_MS_MAX)));
            reads::round(shared, &target, &checks, deadline, cancelled).map(plain)
        }
        Request::List {
            target,
            members,
            after,
            digests,
            entries_max,
            deadline_ms,
        } => {
            let list = reads::List {
                target,
                members,
                after,
                digests,
                entries_max,
            };
            reads::list(shared, &list, until(deadline_ms)).map(Answer::packed)
        }
        Request::Read {
            target,
            path,
            expect,
            offset,
            budget,
        } => reads::read(shared, &target, &path, expect, offset, budget),
        Request::ReadMany {
            target,
            files,
            budget,
        } => reads::read_many(shared, &target, &files, budget, cancelled),
        Request::Room { path } => room::room(&path).map(plain),
        Request::Look { heal, wait_ms } => {
            changes::look(shared, &heal, wait_ms.min(LOOK_WAIT_MS_MAX), cancelled).map(plain)
        }
        Request::Output {
            heal,
            step,
            offset,
            budget,
        } => reads::output(shared, &heal, step, offset, budget),
        Request::Effects { heal, after } => {
            reads::effects(shared, &heal, after.as_ref()).map(plain)
        }
        Request::Start(start) => changes::start(shared, &start).map(plain),
        Request::CancelAction { heal } => changes::cancel(shared, &heal).map(plain),
        Request::Settle { heal, fence } => changes::settle(shared, &heal, fence).map(plain),
        Request::Stage {
            heal,
            digest,
            offset,
            last,
        } => changes::stage(shared, &heal, digest, offset, last, body).map(plain),
        Request::Undo {
            heal,
            target,
            items,
            deadline_ms,
        } => changes::undo(shared, &heal, &target, &items, until(deadline_ms)).map(plain),
        Request::Forget { heal, witness } => changes::forget(shared, &heal, witness).map(plain),
    }
}

fn until(deadline_ms: u64) -> std::time::Instant {
    std::time::Instant::now() + Duration::from_millis(deadline_ms.min(DEADLINE_MS_MAX))
}

/// Says who answers here.
pub(super) fn hello(shared: &Shared, version: u32, owner: &str) -> Result<Hello, Refusal> {
    if version != VERSION {
        return Err(refuse(
            RefusalCode::Version,
            format!("this agent speaks version {VERSION}, not {version}"),
        ));
    }
    if owner.is_empty() {
        return Err(refuse(RefusalCode::Owner, "an owner is needed".to_owned()));
    }
    let mut allowed = shared.runner.allowed.lines();
    if let Some(complaint) = &shared.complaint {
        allowed.push(format!("nothing: {complaint}"));
    }
    Ok(Hello {
        version: VERSION,
        boot_id: boot_id().map_err(|error| system("read the boot id", &error))?,
        machine_id: std::fs::read_to_string("/etc/machine-id")
            .unwrap_or_default()
            .trim()
            .to_owned(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        landlock: crate::confine::abi(),
        uptime_ms: boot_clock_ms(),
        allowed,
        owner: shared.runner.witness.owner()?,
    })
}
