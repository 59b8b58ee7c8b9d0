//! What others may ask of the engine: look at the board, or put a request on an app's desk.
//!
//! The control socket holds a [`Handle`] and nothing else of the engine. Roles were checked before; here a person is
//! only a name for the record. Requests of one app are answered one at a time, between its rounds.

mod refusal;
mod request;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};

use super::network::Network;
use super::shared::Shared;
use crate::model::approval::{Approval, Person};
use crate::model::backup::BackupRow;
use crate::model::breaker::ForcedState;
use crate::model::heal::Heal;
use crate::model::id::{ApprovalId, BackupId, HealId, HoldId, IncidentId};
use crate::model::name::{AppName, CheckName, HostName};
use crate::model::stop::{Hold, ModeOverride, Scope};
use crate::model::word::HealingMode;
use crate::model::{Digest, TreePath};
use crate::seam::{StoreError, World};
use crate::undo::RollbackPreview;
pub use refusal::{OpError, OpErrorKind};
pub(super) use refusal::{store_error, unknown, unknown_app};
use request::Answer;
pub(super) use request::Request;
pub use request::{HealAnswer, HealRequest, RollbackRequest};
pub use view::{ActionView, AppView, EventLine, Health};

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
        why: Option<String>,
        person: Person,
    ) -> Result<(), OpError> {
        ask!(self, app, Unmute { check, why, person })
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
        let (held, why) = (scope.to_text(), reason.clone());
        let id = self
            .shared
            .hold(&self.world, scope, &reason, length, &person.to_text())
            .await?;
        self.tell(
            "hold",
            None,
            format!("{held} held by {}: {why}", person.to_text()),
        );
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
        let word = if undo { "undo" } else { "keep" };
        let text = format!(
            "{} resumed by {}, {word}: {reason}",
            scope.to_text(),
            person.to_text()
        );
        self.tell("hold", None, text);
        self.nudge_all();
        Ok(count)
    }

    /// Sets a mode at run time, for one app or for everything. Gives the apps for which it does not count, because a
    /// mode is set or configured for them alone.
    ///
    /// # Errors
    /// Unknown app, or above `max_mode`.
    pub async fn set_mode(
        &self,
        app: Option<AppName>,
        mode: HealingMode,
        reason: String,
        person: &Person,
    ) -> Result<Vec<AppName>, OpError> {
        if let Some(app) = &app {
            self.app(app)?;
        }
        let for_all = app.is_none();
        self.shared
            .set_mode(&self.world, app.clone(), mode, &reason, &person.to_text())
            .await?;
        self.tell(
            "mode",
            app,
            format!("{mode} set by {}: {reason}", person.to_text()),
        );
        self.nudge_all();
        Ok(if for_all {
            self.shared.with_own_mode()
        } else {
            Vec::new()
        })
    }

    /// Lifts a mode set at run time, for one app or for everything; what is configured counts again.
    ///
    /// # Errors
    /// Unknown app, or none is set.
    pub async fn clear_mode(
        &self,
        app: Option<AppName>,
        reason: String,
        person: &Person,
    ) -> Result<(), OpError> {
        if let Some(app) = &app {
            self.app(app)?;
        }
        self.shared
            .clear_mode(&self.world, app.clone(), &reason, &person.to_text())
            .await?;
        self.tell(
            "mode",
            app,
            format!("cleared by {}: {reason}", person.to_text()),
        );
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
        self.tell(
            "host",
            None,
            format!("{host} adopted by {}: {reason}", person.to_text()),
        );
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

    /// Ends holds whose time is over.
    pub(super) async fn end_timed_holds(&self) -> Result<(), StoreError> {
        for hold in self.shared.end_timed_holds(&self.world).await? {
            let scope = hold.scope.to_text();
            self.tell(
                "hold",
                None,
                format!("{scope} held no longer: its time is over"),
            );
        }
        Ok(())
    }

    /// A line of the event stream about something that is no desk's own.
    pub(super) fn tell(&self, kind: &'static str, app: Option<AppName>, text: String) {
        let line = EventLine {
            at: self.world.clock.now(),
            kind,
            app,
            text,
            heal: None,
        };
        drop(self.events.send(line)); // nobody may be listening
    }

    /// What was known of a host changed: its apps are looked at now. One that could not be seen says so until then.
    pub(super) fn look_again(&self, host: &HostName, why: &str) {
        let apps = self.apps().into_iter().filter(|app| app.host == *host);
        for app in apps {
            let desk = self
                .desks
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&app.name)
                .cloned();
            if let Some(desk) = desk {
                let why = why.to_owned();
                drop(desk.try_send(Request::LookAgain { why })); // a full desk looks again anyway
            }
        }
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
