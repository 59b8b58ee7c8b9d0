//! What a person put on an app's desk, answered between two turns.
//!
//! Here each request finds its way; one file per subject does it.

mod backups;
mod heal;
mod steer;
mod vote;
mod way_back;

use tokio::sync::oneshot;

use super::cycle;
use super::desk::{Desk, EngineError};
use super::handle::{OpError, OpErrorKind, Request};
use super::look::{self, Which};
use super::{rollback, who};
use crate::model::approval::Person;
use crate::model::time::Moment;
use crate::seam::{Changes, StoreError};
use backups::{backup_now, delete_backup, verify_backup};
use heal::heal;
use steer::{close_incident, force_breaker, mute, reset_breaker, unmute};
use vote::{approve, reject};
use way_back::{decide, roll_back};

/// Why a request was not done: refused, or the desk cannot go on.
enum Stop {
    Refused(OpError),
    Engine(EngineError),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<OpError> for Stop {
    fn from(error: OpError) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Engine(error.into())
    }
}

type Done<T> = Result<T, Stop>;

/// Answers one request.
///
/// # Errors
/// Only when the desk cannot go on; a refusal is an answer.
pub(super) async fn answer(desk: &mut Desk, request: Request) -> Result<(), EngineError> {
    let may = !matches!(request, Request::Nudge | Request::LookAgain { .. });
    if let Err(error) = who::learn(desk, may).await
        && may
    {
        // Whatever needs the host refuses by itself: a login without numbers is asked for nothing.
        tracing::warn!(app = %desk.app.name, host = %desk.app.host, reason = %error, "user not known");
    }
    match request {
        Request::Nudge => {
            // What changed may be why it could not be seen.
            if desk.unseen_reason.is_some() {
                desk.ask_again = Some(desk.now());
            }
            Ok(())
        }
        Request::LookAgain { why } => {
            if desk.unseen_reason.is_some() {
                desk.unseen_reason = Some(why);
            }
            desk.ask_again = Some(desk.now());
            Ok(())
        }
        Request::Diagnose { answer } => reply(answer, diagnose(desk).await),
        Request::Heal {
            request,
            person,
            answer,
        } => reply(answer, heal(desk, request, person).await),
        Request::Approve {
            id,
            digest,
            reason,
            person,
            answer,
        } => reply(answer, approve(desk, id, digest, reason, person).await),
        Request::Reject {
            id,
            reason,
            person,
            answer,
        } => reply(answer, reject(desk, id, reason, person).await),
        Request::Preview {
            backup,
            exact,
            only,
            answer,
        } => reply(
            answer,
            rollback::preview(desk, backup, exact, &only)
                .await
                .map(|(plan, ..)| plan.preview)
                .map_err(Stop::from),
        ),
        Request::Rollback {
            request,
            person,
            answer,
        } => reply(answer, roll_back(desk, request, person).await),
        Request::Decide {
            heal,
            undo,
            reason,
            person,
            answer,
        } => reply(answer, decide(desk, heal, undo, reason, person).await),
        Request::ResetBreaker {
            reason,
            person,
            answer,
        } => reply(answer, reset_breaker(desk, reason, &person).await),
        Request::ForceBreaker {
            state,
            reason,
            length,
            person,
            answer,
        } => reply(
            answer,
            force_breaker(desk, state, reason, length, &person).await,
        ),
        Request::BackupNow {
            reason,
            person,
            answer,
        } => reply(answer, backup_now(desk, &reason, &person).await),
        Request::VerifyBackup {
            backup,
            person,
            answer,
        } => reply(answer, verify_backup(desk, backup, &person).await),
        Request::DeleteBackup {
            backup,
            reason,
            person,
            answer,
        } => reply(answer, delete_backup(desk, backup, &reason, &person).await),
        Request::Mute {
            check,
            length,
            reason,
            person,
            answer,
        } => reply(answer, mute(desk, check, length, reason, &person).await),
        Request::Unmute {
            check,
            why,
            person,
            answer,
        } => reply(answer, unmute(desk, check, why, &person).await),
        Request::CloseIncident {
            incident,
            reason,
            person,
            answer,
        } => reply(
            answer,
            close_incident(desk, incident, reason, &person).await,
        ),
    }
}

fn reply<T>(answer: oneshot::Sender<Result<T, OpError>>, done: Done<T>) -> Result<(), EngineError> {
    let (said, result) = match done {
        Ok(value) => (Ok(value), Ok(())),
        Err(Stop::Refused(refusal)) => (Err(refusal), Ok(())),
        Err(Stop::Engine(error)) => (Err(unavailable(&error)), Err(error)),
    };
    drop(answer.send(said)); // whoever asked may have gone
    result
}

fn unavailable(error: &EngineError) -> OpError {
    OpError::new(
        OpErrorKind::Unavailable,
        "store",
        format!("The daemon could not store it: {error}"),
        "See the journal: `journalctl -u healerd`.",
    )
}

fn conflict(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Stop {
    Stop::Refused(OpError::new(OpErrorKind::Conflict, code, message, hint))
}

/// A transaction in a person's name.
fn by_person(desk: &Desk, person: &Person, now: &Moment) -> Changes {
    debug_assert_eq!(now.boot_id, desk.now().boot_id);
    Changes::new(now.clone(), &person.to_text())
}

/// A round now: the same path as one by the clock.
async fn diagnose(desk: &mut Desk) -> Done<()> {
    match look::for_person(desk, Which::Cheap).await {
        Ok((round, asked)) => Ok(cycle::seen(desk, round, &asked).await?),
        Err(error) => Err(Stop::Refused(OpError::new(
            OpErrorKind::Unavailable,
            "host_unseen",
            format!("{} cannot be seen: {}", desk.app.name, error.reason),
            "See that its host can be reached and that its user may run an agent.",
        ))),
    }
}

/// The stable code of a refusal by this guard.
const fn code_of(guard: crate::model::reason::GuardName) -> &'static str {
    use crate::model::reason::GuardName;
    match guard {
        GuardName::Breaker => "breaker_open",
        GuardName::Hold => "held",
        GuardName::Lease => "busy",
        GuardName::Approval | GuardName::Mode => "needs_approval",
        GuardName::Preconditions => "preconditions",
        GuardName::HostIdentity => "host_identity",
        GuardName::Room => "no_room",
        GuardName::Freshness
        | GuardName::Dwell
        | GuardName::Grace
        | GuardName::Rate
        | GuardName::OneTry
        | GuardName::Pause
        | GuardName::Unknown
        | GuardName::Bar => "denied",
    }
}
