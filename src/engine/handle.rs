//! What others may ask of the engine: look at the board, or put a request on an app's desk.
//!
//! The control socket holds a [`Handle`] and nothing else of the engine. Roles were checked before; here a person is
//! only a name for the record. Requests of one app are answered one at a time, between its rounds.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};

use super::network::Network;
use super::shared::Shared;
use crate::guard::breaker::status::BreakerStatus;
use crate::model::action::ResolvedAction;
use crate::model::approval::{Approval, Person};
use crate::model::backup::BackupRow;
use crate::model::breaker::ForcedState;
use crate::model::check::CheckResult;
use crate::model::heal::Heal;
use crate::model::id::{ApprovalId, BackupId, HealId, HoldId, IncidentId};
use crate::model::incident::Incident;
use crate::model::name::{ActionName, AppName, CheckName, HostName, StackName};
use crate::model::plan::{Params, Plan};
use crate::model::policy::BackupPolicy;
use crate::model::stop::{Hold, ModeOverride, Mute, Scope};
use crate::model::time::Moment;
use crate::model::word::{HealingMode, Risk};
use crate::model::{Digest, TreePath};
use crate::seam::World;
use crate::undo::RollbackPreview;

/// Health of an app, from its latest round alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Healthy,
    Degraded,
    Down,
    Unknown,
    Healing,
    Held,
}

impl Health {
    /// Every word, for metrics.
    pub const ALL: &[Self] = &[
        Self::Healthy,
        Self::Degraded,
        Self::Down,
        Self::Unknown,
        Self::Healing,
        Self::Held,
    ];

    /// The word people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Down => "DOWN",
            Self::Unknown => "UNKNOWN",
            Self::Healing => "HEALING",
            Self::Held => "HELD",
        }
    }
}

/// One app as the engine sees it now. A copy; reading it waits for nobody.
#[derive(Debug, Clone)]
pub struct AppView {
    pub name: AppName,
    pub host: HostName,
    pub stack: StackName,
    pub path: String,
    pub url: Option<String>,
    pub user: String,
    pub health: Health,
    pub mode: HealingMode,
    /// `configured`, or who set it and why.
    pub mode_origin: String,
    pub breaker: BreakerStatus,
    pub results: Vec<CheckResult>,
    /// When `results` were read.
    pub looked: Option<Moment>,
    /// Why the last round could not be made.
    pub unseen: Option<String>,
    pub plan: Plan,
    /// Not closed.
    pub incidents: Vec<Incident>,
    /// What comes next for each incident: `restart_app at 03:17, dwell 2/3`.
    pub next: BTreeMap<IncidentId, String>,
    /// Unfinished.
    pub heals: Vec<Heal>,
    pub mutes: Vec<Mute>,
    /// When each approval that is pending was asked for.
    pub approvals: Vec<Moment>,
    pub backup_policy: BackupPolicy,
    pub held: Option<Hold>,
    pub due: Moment,
}

/// One action of an app's stack, for `actions`.
#[derive(Debug, Clone)]
pub struct ActionView {
    pub name: ActionName,
    pub title: String,
    pub risk: Risk,
    pub writes: Vec<String>,
    pub proves: Vec<CheckName>,
    /// Modes in which it may run alone.
    pub alone_in: Vec<HealingMode>,
}

/// What happened, for the event stream.
#[derive(Debug, Clone)]
pub struct EventLine {
    pub at: Moment,
    /// `round`, `incident`, `heal`, `approval`, `breaker`, `hold`.
    pub kind: &'static str,
    pub app: Option<AppName>,
    pub text: String,
    pub heal: Option<HealId>,
}

/// Kinds of refusal; they decide the HTTP status and the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpErrorKind {
    NotFound,
    Forbidden,
    /// Busy, stale, breaker open, needs approval, held.
    Conflict,
    Invalid,
    Unavailable,
}

/// A refusal for people: a stable code, a sentence, and what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct OpError {
    pub kind: OpErrorKind,
    pub code: &'static str,
    pub message: String,
    pub hint: String,
    /// The approval that was created or is needed.
    pub approval: Option<Box<Approval>>,
}

impl OpError {
    /// A refusal.
    pub fn new(
        kind: OpErrorKind,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            code,
            message: message.into(),
            hint: hint.into(),
            approval: None,
        }
    }
}

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

type Answer<T> = oneshot::Sender<Result<T, OpError>>;

/// Requests on an app's desk.
#[derive(Debug)]
pub(super) enum Request {
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
        person: Person,
        answer: Answer<()>,
    },
    CloseIncident {
        incident: IncidentId,
        reason: String,
        person: Person,
        answer: Answer<()>,
    },
    /// Something outside the desk changed (a hold ended, a mode was set): look again.
    Nudge,
}

/// The engine, as others see it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) world: Arc<World>,
    pub(super) shared: Arc<Shared>,
    pub(super) desks: Arc<RwLock<BTreeMap<AppName, mpsc::Sender<Request>>>>,
    pub(super) board: Arc<RwLock<BTreeMap<AppName, AppView>>>,
    pub(super) actions: Arc<RwLock<BTreeMap<AppName, Vec<ActionView>>>>,
    pub(super) events: broadcast::Sender<EventLine>,
    pub(super) network: Arc<Network>,
}

/// Longest wait for a desk to answer; a backup of a large tree may stand before it.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);

macro_rules! ask {
    ($self:ident, $app:expr, $variant:ident { $($field:ident),* $(,)? }) => {
        $self.put($app, |answer| Request::$variant { $($field,)* answer }).await
    };
}

impl Handle {
    /// All apps.
    pub fn apps(&self) -> Vec<AppView> {
        self.board
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// One app.
    ///
    /// # Errors
    /// When there is no such app.
    pub fn app(&self, app: &AppName) -> Result<AppView, OpError> {
        let found = self
            .board
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(app)
            .cloned();
        found.ok_or_else(|| unknown_app(app))
    }

    /// The actions of an app's stack.
    ///
    /// # Errors
    /// When there is no such app.
    pub fn actions(&self, app: &AppName) -> Result<Vec<ActionView>, OpError> {
        let found = self
            .actions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(app)
            .cloned();
        found.ok_or_else(|| unknown_app(app))
    }

    /// For rows that are only read: history, audit, backups.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// What happens from now on. A slow reader loses the oldest lines, and is told how many.
    pub fn events(&self) -> broadcast::Receiver<EventLine> {
        self.events.subscribe()
    }

    /// Runs all cheap checks now; the result stands on the board.
    ///
    /// # Errors
    /// Unknown app, or the host cannot be seen.
    pub async fn diagnose(&self, app: &AppName) -> Result<AppView, OpError> {
        ask!(self, app, Diagnose {})?;
        self.app(app)
    }

    /// A person's heal.
    ///
    /// # Errors
    /// Unknown app or action, a guard's denial, or a needed approval (which then exists and is in the error).
    pub async fn heal(
        &self,
        app: &AppName,
        request: HealRequest,
        person: Person,
    ) -> Result<HealAnswer, OpError> {
        ask!(self, app, Heal { request, person })
    }

    /// A vote for an approval.
    ///
    /// # Errors
    /// Unknown, decided already, stale, another digest, the requester's own, too short a reason.
    pub async fn approve(
        &self,
        id: ApprovalId,
        digest: Digest,
        reason: String,
        person: Person,
    ) -> Result<Approval, OpError> {
        let app = self.app_of_approval(id).await?;
        ask!(
            self,
            &app,
            Approve {
                id,
                digest,
                reason,
                person
            }
        )
    }

    /// A vote against it, which ends it.
    ///
    /// # Errors
    /// Unknown or decided already.
    pub async fn reject(
        &self,
        id: ApprovalId,
        reason: String,
        person: Person,
    ) -> Result<Approval, OpError> {
        let app = self.app_of_approval(id).await?;
        ask!(self, &app, Reject { id, reason, person })
    }

    /// What a rollback would change and overwrite.
    ///
    /// # Errors
    /// Unknown or damaged backup, host unseen.
    pub async fn preview(
        &self,
        app: &AppName,
        backup: BackupId,
        exact: bool,
        only: Vec<TreePath>,
    ) -> Result<RollbackPreview, OpError> {
        ask!(
            self,
            app,
            Preview {
                backup,
                exact,
                only
            }
        )
    }

    /// A person's rollback, confirmed by the preview's digest.
    ///
    /// # Errors
    /// As `preview`; and stale, when the tree changed since.
    pub async fn rollback(
        &self,
        app: &AppName,
        request: RollbackRequest,
        person: Person,
    ) -> Result<Heal, OpError> {
        ask!(self, app, Rollback { request, person })
    }

    /// What to do with a heal that was left for persons.
    ///
    /// # Errors
    /// Unknown, or not one that waits for a person.
    pub async fn decide(
        &self,
        id: HealId,
        undo: bool,
        reason: String,
        person: Person,
    ) -> Result<Heal, OpError> {
        let heal = self
            .world
            .store
            .heal(id)
            .await
            .map_err(|error| store_error(&error))?;
        let app = heal
            .ok_or_else(|| unknown("heal", &id.to_string(), "healerctl heals"))?
            .app;
        let heal = id;
        ask!(
            self,
            &app,
            Decide {
                heal,
                undo,
                reason,
                person
            }
        )
    }

    /// Clears a breaker.
    ///
    /// # Errors
    /// Unknown app.
    pub async fn reset_breaker(
        &self,
        app: &AppName,
        reason: String,
        person: Person,
    ) -> Result<(), OpError> {
        ask!(self, app, ResetBreaker { reason, person })
    }

    /// Forces a breaker, or lifts the force with `None`.
    ///
    /// # Errors
    /// Unknown app.
    pub async fn force_breaker(
        &self,
        app: &AppName,
        state: Option<ForcedState>,
        reason: String,
        length: Option<Duration>,
        person: Person,
    ) -> Result<(), OpError> {
        ask!(
            self,
            app,
            ForceBreaker {
                state,
                reason,
                length,
                person
            }
        )
    }

    /// A backup of the stack's base set, now.
    ///
    /// # Errors
    /// Unknown app, or the backup failed.
    pub async fn backup_now(
        &self,
        app: &AppName,
        reason: String,
        person: Person,
    ) -> Result<BackupRow, OpError> {
        ask!(self, app, BackupNow { reason, person })
    }

    /// Reads a backup back and compares.
    ///
    /// # Errors
    /// Unknown, or damaged.
    pub async fn verify_backup(
        &self,
        app: &AppName,
        backup: BackupId,
        person: Person,
    ) -> Result<BackupRow, OpError> {
        ask!(self, app, VerifyBackup { backup, person })
    }

    /// Removes a backup that nothing needs.
    ///
    /// # Errors
    /// Unknown, pinned, or the last good one.
    pub async fn delete_backup(
        &self,
        app: &AppName,
        backup: BackupId,
        reason: String,
        person: Person,
    ) -> Result<(), OpError> {
        ask!(
            self,
            app,
            DeleteBackup {
                backup,
                reason,
                person
            }
        )
    }

    /// Lets a check's bad results lead to nothing for a while.
    ///
    /// # Errors
    /// Unknown app or check.
    pub async fn mute(
        &self,
        app: &AppName,
        check: CheckName,
        length: Duration,
        reason: String,
        person: Person,
    ) -> Result<(), OpError> {
        ask!(
            self,
            app,
            Mute {
                check,
                length,
                reason,
                person
            }
        )
    }

    /// Ends a mute.
    ///
    /// # Errors
    /// Unknown app, or not muted.
    pub async fn unmute(
        &self,
        app: &AppName,
        check: CheckName,
        person: Person,
    ) -> Result<(), OpError> {
        ask!(self, app, Unmute { check, person })
    }

    /// Closes an incident.
    ///
    /// # Errors
    /// Unknown, closed already, or a heal is working on it.
    pub async fn close_incident(
        &self,
        id: IncidentId,
        reason: String,
        person: Person,
    ) -> Result<(), OpError> {
        let row = self
            .world
            .store
            .incident(id)
            .await
            .map_err(|error| store_error(&error))?;
        let app = row
            .ok_or_else(|| unknown("incident", &id.to_string(), "healerctl incidents"))?
            .app;
        let incident = id;
        ask!(
            self,
            &app,
            CloseIncident {
                incident,
                reason,
                person
            }
        )
    }

    /// All holds.
    pub fn holds(&self) -> Vec<Hold> {
        self.shared.holds()
    }

    /// Modes set at run time.
    pub fn modes(&self) -> Vec<ModeOverride> {
        self.shared.modes()
    }

    /// Why nothing starts by itself, while the daemon only observes.
    pub fn observing(&self) -> Option<String> {
        self.shared.observing()
    }

    /// Stops all automation in a scope, durably, before it answers.
    ///
    /// # Errors
    /// Unknown app or host, or the store failed.
    pub async fn hold(
        &self,
        scope: Scope,
        reason: String,
        length: Option<Duration>,
        person: &Person,
    ) -> Result<HoldId, OpError> {
        self.check_scope(&scope)?;
        let id = self
            .shared
            .hold(&self.world, scope, &reason, length, &person.to_text())
            .await?;
        self.nudge_all();
        Ok(id)
    }

    /// Ends holds of exactly this scope. What waited for it is kept or undone, as asked; the first round after only
    /// observes.
    ///
    /// # Errors
    /// When nothing is held there.
    pub async fn resume(
        &self,
        scope: &Scope,
        undo: bool,
        reason: String,
        person: &Person,
    ) -> Result<usize, OpError> {
        let count = self
            .shared
            .resume(&self.world, scope, undo, &reason, &person.to_text())
            .await?;
        self.nudge_all();
        Ok(count)
    }

    /// Sets a mode at run time, for one app or for everything.
    ///
    /// # Errors
    /// Unknown app, or above `max_mode`.
    pub async fn set_mode(
        &self,
        app: Option<AppName>,
        mode: HealingMode,
        reason: String,
        person: &Person,
    ) -> Result<(), OpError> {
        if let Some(app) = &app {
            self.app(app)?;
        }
        self.shared
            .set_mode(&self.world, app, mode, &reason, &person.to_text())
            .await?;
        self.nudge_all();
        Ok(())
    }

    /// Takes a host's present machine as the right one.
    ///
    /// # Errors
    /// Unknown host, or it cannot be seen.
    pub async fn adopt(
        &self,
        host: &HostName,
        reason: String,
        person: &Person,
    ) -> Result<(), OpError> {
        self.shared
            .adopt(&self.world, host, &reason, &person.to_text())
            .await?;
        self.nudge_all();
        Ok(())
    }

    fn check_scope(&self, scope: &Scope) -> Result<(), OpError> {
        match scope {
            Scope::Everything => Ok(()),
            Scope::App(app) => self.app(app).map(|_| ()),
            Scope::Host(host) if self.world.hosts.has(host) => Ok(()),
            Scope::Host(host) => Err(unknown("host", host.as_str(), "healerctl host")),
        }
    }

    async fn app_of_approval(&self, id: ApprovalId) -> Result<AppName, OpError> {
        let row = self
            .world
            .store
            .approval(id)
            .await
            .map_err(|error| store_error(&error))?;
        Ok(row
            .ok_or_else(|| unknown("approval", &id.to_string(), "healerctl approvals"))?
            .bound
            .app)
    }

    async fn put<T>(
        &self,
        app: &AppName,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, OpError> {
        let desk = self
            .desks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(app)
            .cloned();
        let desk = desk.ok_or_else(|| unknown_app(app))?;
        let (sender, receiver) = oneshot::channel();
        let stopping = || {
            OpError::new(
                OpErrorKind::Unavailable,
                "stopping",
                "The daemon is stopping.",
                "Try again in a minute.",
            )
        };
        let exchange = async {
            desk.send(request(sender)).await.map_err(|_| stopping())?;
            receiver.await.map_err(|_| stopping())?
        };
        tokio::time::timeout(ANSWER_WITHIN, exchange)
            .await
            .unwrap_or_else(|_| {
                Err(OpError::new(
                    OpErrorKind::Unavailable,
                    "busy",
                    format!(
                        "{app} did not answer within two minutes; whether it was done is unknown."
                    ),
                    format!("`healerctl heals` and `healerctl events` show what {app} is doing."),
                ))
            })
    }

    pub(super) fn nudge_all(&self) {
        for desk in self
            .desks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            drop(desk.try_send(Request::Nudge)); // a full desk looks again anyway
        }
    }
}

pub(super) fn unknown_app(app: &AppName) -> OpError {
    unknown("application", app.as_str(), "healerctl apps")
}

pub(super) fn unknown(what: &str, name: &str, list: &str) -> OpError {
    OpError::new(
        OpErrorKind::NotFound,
        "unknown",
        format!("There is no {what} `{name}`."),
        format!("`{list}` shows what there is."),
    )
}

pub(super) fn store_error(error: &crate::seam::StoreError) -> OpError {
    OpError::new(
        OpErrorKind::Unavailable,
        "store",
        format!("The store did not answer: {error}"),
        "See the journal: `journalctl -u healerd`.",
    )
}
