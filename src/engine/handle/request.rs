//! What people may ask of one application's desk.

use std::time::Duration;

use tokio::sync::oneshot;

use super::refusal::OpError;
use crate::model::action::ResolvedAction;
use crate::model::approval::{Approval, Person};
use crate::model::backup::BackupRow;
use crate::model::breaker::ForcedState;
use crate::model::heal::Heal;
use crate::model::id::{ApprovalId, BackupId, HealId, IncidentId};
use crate::model::name::{ActionName, CheckName};
use crate::model::plan::Params;
use crate::model::{Digest, TreePath};
use crate::undo::RollbackPreview;

/// A person's wish for a heal.
#[derive(Debug, Clone)]
pub struct HealRequest {
    pub action: ActionName,
    pub params: Params,
    pub reason: String,
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug, Clone)]
pub enum HealAnswer {
    /// Admitted; it goes on by itself.
    Started(Box<Heal>),
    /// What would run.
    WouldRun {
        action: Box<ResolvedAction>,
        denials: Vec<String>,
    },
}

/// A person's rollback.
#[derive(Debug, Clone)]
pub struct RollbackRequest {
    pub backup: BackupId,
    /// Digest of the preview that was confirmed.
    pub digest: Digest,
    pub exact: bool,
    pub only: Vec<TreePath>,
    pub reason: String,
}

pub(in crate::engine) type Answer<T> = oneshot::Sender<Result<T, OpError>>;

/// Requests on an app's desk.
#[derive(Debug)]
pub(in crate::engine) enum Request {
    Diagnose {
        answer: Answer<()>,
    },
    Heal {
        request: HealRequest,
        person: Person,
        answer: Answer<HealAnswer>,
    },
    Approve {
        id: ApprovalId,
        digest: Digest,
        reason: String,
        person: Person,
        answer: Answer<Approval>,
    },
    Reject {
        id: ApprovalId,
        reason: String,
        person: Person,
        answer: Answer<Approval>,
    },
    Preview {
        backup: BackupId,
        exact: bool,
        only: Vec<TreePath>,
        answer: Answer<RollbackPreview>,
    },
    Rollback {
        request: RollbackRequest,
        person: Person,
        answer: Answer<Heal>,
    },
    Decide {
        heal: HealId,
        undo: bool,
        reason: String,
        person: Person,
        answer: Answer<Heal>,
    },
    ResetBreaker {
        reason: String,
        person: Person,
        answer: Answer<()>,
    },
    ForceBreaker {
        state: Option<ForcedState>,
        reason: String,
        length: Option<Duration>,
        person: Person,
        answer: Answer<()>,
    },
    BackupNow {
        reason: String,
        person: Person,
        answer: Answer<BackupRow>,
    },
    VerifyBackup {
        backup: BackupId,
        person: Person,
        answer: Answer<BackupRow>,
    },
    DeleteBackup {
        backup: BackupId,
        reason: String,
        person: Person,
        answer: Answer<()>,
    },
    Mute {
        check: CheckName,
        length: Duration,
        reason: String,
        person: Person,
        answer: Answer<()>,
    },
    Unmute {
        check: CheckName,
        why: Option<String>,
        person: Person,
        answer: Answer<()>,
    },
    CloseIncident {
        incident: IncidentId,
        reason: String,
        person: Person,
        answer: Answer<()>,
    },
    /// What was known of the host changed: look now, and until then say this of what could not be seen.
    LookAgain {
        why: String,
    },
    /// Something outside the desk changed (a hold ended, a mode was set): look again.
    Nudge,
}
