//! One app's desk: everything the engine knows of it, and the only way it changes what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast;

use super::handle::EventLine;
use super::shared::Shared;
use crate::catalogue::Stack;
use crate::decide::incident::Blind;
use crate::guard::breaker::By;
use crate::model::app::App;
use crate::model::approval::{Approval, ApprovalState};
use crate::model::backup::BackupManifest;
use crate::model::breaker::{Breaker, BreakerState};
use crate::model::check::{CheckResult, Round};
use crate::model::heal::{Event, Heal, Origin};
use crate::model::id::{ApprovalId, BackupId, HealId, IncidentId};
use crate::model::incident::{Incident, IncidentKind, IncidentState};
use crate::model::ledger::Bar;
use crate::model::name::{AppName, CheckName};
use crate::model::plan::Plan;
use crate::model::stop::Mute;
use crate::model::time::Moment;
use crate::model::word::{HealingMode, Status};
use crate::observe::Known;
use crate::seam::notify::Notice;
use crate::seam::{Changes, Login, StoreError, World, Write};
use crate::telemetry::metrics::{Metrics, Success, Trigger};
use crate::telemetry::redact_facts;

/// Why a desk cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The desk reads everything anew and goes on.
    #[error(transparent)]
    Store(StoreError),
    /// The daemon stops deciding and exits: whether something was written is not known.
    #[error("the store failed for good")]
    Fatal(#[source] StoreError),
    /// A rule of our own was broken; the heal stays as it is and a person is told.
    #[error(transparent)]
    Illegal(#[from] crate::model::heal::IllegalEvent),
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::CommitUnknown(_) | StoreError::Closed => Self::Fatal(error),
            StoreError::Conflict { .. }
            | StoreError::Denied(_)
            | StoreError::Failed { .. }
            | StoreError::Damaged { .. } => Self::Store(error),
        }
    }
}

/// A round and when it was made.
#[derive(Debug, Clone)]
pub struct Look {
    pub round: Round,
    pub at: Moment,
}

/// Where an app's paths lead, and since when they no longer lead where they did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub roots: Vec<String>,
    pub deployed: Option<Moment>,
}

impl Place {
    fn key(app: &AppName) -> String {
        format!("place:{app}")
    }

    /// What the store knows of an app. A value that cannot be read is nothing known.
    pub(super) fn stored(settings: &[(String, String)], app: &AppName) -> Option<Self> {
        let key = Self::key(app);
        let (_, value) = settings.iter().find(|(known, _)| *known == key)?;
        serde_json::from_str(value).ok()
    }
}

/// One app's desk.
#[derive(Debug)]
pub struct Desk {
    pub app: Arc<App>,
    pub stack: Arc<Stack>,
    /// Periods that the configuration sets for checks of this app.
    pub check_every: BTreeMap<CheckName, Duration>,
    pub world: Arc<World>,
    pub shared: Arc<Shared>,
    pub metrics: Arc<Metrics>,
    pub events: broadcast::Sender<EventLine>,

    /// Not closed.
    pub incidents: Vec<Incident>,
    /// Unfinished, and those that wait for a person's decision.
    pub heals: Vec<Heal>,
    pub breaker: Breaker,
    /// Pending and granted; and those ended lately, so that they are not proposed again.
    pub approvals: Vec<Approval>,
    pub mutes: Vec<Mute>,
    pub bars: Vec<Bar>,

    pub look: Option<Look>,
    /// Checks whose latest result only stands here: heals look too, and store nothing of it.
    pub unstored: BTreeSet<CheckName>,
    pub plan: Plan,
    /// What could not be determined, and since when.
    pub blind: Blind,
    /// Why the last round could not see the host.
    pub unseen_reason: Option<String>,
    pub due: Moment,
    /// When the paths were last seen to lead somewhere else.
    pub deployed: Option<Moment>,
    /// The directories that the paths were last seen to lead to.
    pub roots: Vec<String>,
    /// What the store knows of the two.
    pub roots_stored: Option<Place>,
    /// Ask again then; set by guards that named a time.
    pub ask_again: Option<Moment>,
    /// How often a heal's backup was found stale.
    pub stale_backups: BTreeMap<HealId, u32>,
    /// Wall and boot time since when every check has been PASS, for known-good snapshots.
    pub healthy_since: Option<Moment>,
    /// The newest known-good snapshot.
    pub known_good: Option<BackupId>,
    /// Heals whose records were dropped on the target, by this process.
    pub forgotten: BTreeSet<HealId>,
    /// When records were last dropped.
    pub forgot: Option<Moment>,
    /// Heals whose staged contents were taken away again.
    pub cleared: BTreeSet<HealId>,
    /// Heals found after an absence longer than a verdict may take while only the witness could say what became of
    /// them, and when they were found.
    pub found_late: BTreeMap<HealId, Moment>,
    /// Cures behind which a rollback has gone back, by that rollback.
    pub disowned: BTreeMap<HealId, BTreeSet<HealId>>,
    /// Heals that this process has started or settled, as opposed to found in the store.
    pub started_here: Vec<HealId>,
    /// What it holds, for checks that compare with it.
    pub known: Option<(BackupId, Known)>,
    /// What was last said of a matter that comes up with every look: it is said once, and again when it is another.
    pub said: BTreeMap<&'static str, String>,
    /// A snapshot of something else than the known-good one, and when it was first seen.
    pub known_good_seen: Option<(BackupManifest, Moment)>,
    /// When checks with a period of their own were last asked.
    pub asked_at: BTreeMap<CheckName, Moment>,
    /// When a snapshot was last considered.
    pub known_good_checked: Option<Moment>,
    /// When the last turn was, for clocks that stand still.
    pub last_turn: Option<Moment>,
    /// Why a heal could not go on when it was last tried.
    pub waits: BTreeMap<HealId, String>,
    /// Last `next:` line of each incident.
    pub next: BTreeMap<IncidentId, String>,
}

impl Desk {
    pub(super) fn now(&self) -> Moment {
        self.world.clock.now()
    }

    /// The mode that counts now.
    pub(super) fn mode(&self) -> HealingMode {
        self.shared.mode(&self.app.name).0
    }

    /// The app's agent.
    pub(super) fn login(&self) -> Login {
        Login::of_app(&self.app)
    }

    /// Is that news about this matter?
    pub(super) fn says_anew(&mut self, matter: &'static str, reason: &str) -> bool {
        let last = self.said.insert(matter, reason.to_owned());
        last.as_deref() != Some(reason)
    }

    /// For breaker steps.
    pub(super) fn by<'a>(&self, heal: Option<HealId>, now: &'a Moment) -> By<'a> {
        let draw = u16::try_from(self.world.random.next() % 1001).unwrap_or(500);
        By {
            actor: "healerd",
            heal,
            now,
            draw,
        }
    }

    /// Begins a transaction of the daemon's own.
    #[expect(
        clippy::unused_self,
        reason = "a desk's own word for a transaction in the daemon's name"
    )]
    pub(super) fn changes(&self, now: &Moment) -> Changes {
        Changes::new(now.clone(), "healerd")
    }

    /// One transaction, then the copies in memory that it changed.
    pub(super) async fn commit(&mut self, changes: Changes) -> Result<(), EngineError> {
        let writes = changes.writes.clone();
        let began = self.now();
        self.world.store.apply(changes).await?;
        self.metrics
            .committed(self.now().since(&began, Duration::from_mins(10)));
        self.remember_all(writes);
        Ok(())
    }

    /// As `commit` does, for a transaction that somebody else applied.
    pub(super) fn remember_all(&mut self, writes: Vec<Write>) {
        for write in writes {
            self.remember(write);
        }
    }

    /// Whoever looks first notices that the paths lead somewhere else: a deploy, from which grace is counted.
    pub(super) fn note_roots(&mut self, round: &Round) {
        if !self.roots.is_empty() && self.roots != round.roots {
            self.deployed = Some(self.now());
            tracing::info!(app = %self.app.name, "the application's paths changed; this is a deploy");
        }
        self.roots.clone_from(&round.roots);
    }

    /// Puts a round's results over the last ones, and notes whose the store does not know yet.
    pub(super) fn note_results(&mut self, round: &Round, at: Moment) {
        let last = self.look.take().map(|look| look.round);
        let known = |check: &CheckName| last.as_ref().and_then(|last| last.result(check));
        let is_news = |new: &&CheckResult| known(&new.check).is_none_or(|old| !old.says_as(new));
        let news = round.results.iter().filter(is_news);
        self.unstored.extend(news.map(|new| new.check.clone()));
        let mut results = round.results.clone();
        // A round of some checks leaves the latest results of the others.
        let others = last.into_iter().flat_map(|last| last.results);
        results.extend(others.filter(|old| round.result(&old.check).is_none()));
        let roots = round.roots.clone();
        let round = Round { results, roots };
        self.look = Some(Look { round, at });
    }

    /// Stores the results that only stand here.
    pub(super) fn store_results(&self, changes: Changes) -> Changes {
        let results = self.look.iter().flat_map(|look| &look.round.results);
        let results: Vec<_> = results
            .filter(|result| self.unstored.contains(&result.check))
            .map(redact_facts::result)
            .collect();
        if results.is_empty() {
            return changes;
        }
        changes.write(Write::Checks {
            app: self.app.name.clone(),
            results,
        })
    }

    /// Makes durable what [`Desk::note_roots`] noted, so that a restart neither forgets a deploy nor misses one.
    pub(super) fn store_roots(&mut self, changes: Changes) -> Changes {
        let place = Place {
            roots: self.roots.clone(),
            deployed: self.deployed.clone(),
        };
        if self.roots_stored.as_ref() == Some(&place) {
            return changes;
        }
        let Ok(value) = serde_json::to_string(&place) else {
            return changes;
        };
        self.roots_stored = Some(place);
        changes.write(Write::Setting {
            key: Place::key(&self.app.name),
            value,
        })
    }

    /// Is an availability check of this app FAIL?
    pub(super) fn is_down(&self) -> bool {
        self.look.as_ref().is_some_and(|look| {
            look.round
                .results
                .iter()
                .any(|result| result.availability && result.status == Status::Fail)
        })
    }

    /// Brings the copies in memory to what was just stored.
    fn remember(&mut self, write: Write) {
        match write {
            Write::Heal { heal, event } => {
                self.count_heal(&heal, event.as_ref());
                let heal = Heal {
                    version: heal.version + 1,
                    ..*heal
                };
                self.heals.retain(|known| known.id != heal.id);
                self.heals.push(heal);
            }
            Write::Incident { incident, .. } => {
                self.log_incident(&incident);
                self.tell_incident(&incident);
                self.incidents.retain(|known| known.id != incident.id);
                self.incidents.push(*incident);
            }
            Write::Breaker {
                breaker,
                transitions,
            } => {
                for transition in &transitions {
                    self.metrics.breaker_moved(transition.from, transition.to);
                    self.log_breaker(transition.to, &transition.cause);
                    self.tell(
                        "breaker",
                        format!(
                            "{} → {}: {}",
                            transition.from, transition.to, transition.cause
                        ),
                        None,
                    );
                }
                self.breaker = Breaker {
                    version: breaker.version + 1,
                    ..*breaker
                };
            }
            Write::Approval(approval) => {
                let approval = Approval {
                    version: approval.version + 1,
                    ..*approval
                };
                self.log_approval(&approval);
                self.approvals.retain(|known| known.id != approval.id);
                self.approvals.push(approval);
            }
            Write::Mute(mute) => {
                self.mutes.retain(|known| known.check != mute.check);
                self.mutes.push(mute);
            }
            Write::MuteEnded { check, .. } => self.mutes.retain(|known| known.check != check),
            Write::Bar(bar) => {
                self.bars.retain(|known| known.action != bar.action);
                self.bars.push(bar);
            }
            Write::BarLifted { action, .. } => self.bars.retain(|known| known.action != action),
            Write::Due { due, .. } => self.due = due,
            Write::Checks { results, .. } => {
                for result in &results {
                    self.unstored.remove(&result.check);
                }
            }
            Write::Hold(hold) => {
                self.tell(
                    "hold",
                    format!("held by {}: {}", hold.owner, hold.reason),
                    None,
                );
                self.shared.remember_hold(hold);
            }
            Write::Backup(_) => self.metrics.backup_taken(Success::Ok),
            Write::BackupRemoved(_)
            | Write::Pin { .. }
            | Write::LeaseTaken(_)
            | Write::LeaseReleased { .. }
            | Write::HoldEnded { .. }
            | Write::Mode(_)
            | Write::ModeCleared { .. }
            | Write::Notice(_)
            | Write::NoticeSent { .. }
            | Write::NoticeFailed { .. }
            | Write::Setting { .. } => {}
        }
    }

    fn count_heal(&self, heal: &Heal, event: Option<&Event>) {
        match event {
            None => self.metrics.heal_started(match heal.origin {
                Origin::Unattended => Trigger::Daemon,
                Origin::Requested(_) | Origin::Approved(_) | Origin::Rollback { .. } => {
                    Trigger::Person
                }
            }),
            Some(Event::BackupFailed { .. }) => self.metrics.backup_taken(Success::Failed),
            Some(_) => {}
        }
    }

    /// Says what became of an incident, when its state is another than before.
    fn log_incident(&self, incident: &Incident) {
        if self.incident(incident.id).map(|known| known.state) == Some(incident.state) {
            return;
        }
        macro_rules! log {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    app = %incident.app, host = %self.app.host, incident = %incident.id,
                    check = incident.check.as_ref().map_or("", CheckName::as_str),
                    status = %incident.status, reason = %incident.message, $message
                )
            };
        }
        match incident.state {
            IncidentState::Open => log!(warn, "incident opened"),
            IncidentState::Closed => log!(info, "incident closed"),
            IncidentState::Escalated => log!(error, "incident escalated"),
            IncidentState::Healing | IncidentState::Watching => {}
        }
    }

    /// For the event stream, when an incident's state is another than before.
    fn tell_incident(&self, incident: &Incident) {
        if self.incident(incident.id).map(|known| known.state) == Some(incident.state) {
            return;
        }
        let is_request = incident.kind == IncidentKind::Request;
        let name = match &incident.check {
            _ if is_request => "a person's request",
            Some(check) => check.as_str(),
            None => "the host",
        };
        let text = match incident.state {
            IncidentState::Open if is_request => {
                format!("{name} {}: {}", incident.state, incident.message)
            }
            IncidentState::Open | IncidentState::Escalated => {
                format!(
                    "{name} {}: {} {}",
                    incident.state, incident.status, incident.message
                )
            }
            IncidentState::Healing | IncidentState::Watching | IncidentState::Closed => {
                format!("{name} {}", incident.state)
            }
        };
        self.tell("incident", text, None);
    }

    fn log_breaker(&self, to: BreakerState, cause: &str) {
        match to {
            BreakerState::Open => {
                tracing::warn!(app = %self.app.name, reason = cause, "breaker opened");
            }
            BreakerState::Closed => {
                tracing::info!(app = %self.app.name, reason = cause, "breaker closed");
            }
            BreakerState::HalfOpen => {}
        }
    }

    /// Says what became of an approval, when its state is another than before.
    fn log_approval(&self, approval: &Approval) {
        if self.approval(approval.id).map(|known| known.state) == Some(approval.state) {
            return;
        }
        macro_rules! log {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    app = %self.app.name, approval = %approval.id,
                    action = %approval.bound.action.name, $message
                )
            };
        }
        match approval.state {
            ApprovalState::Pending => log!(warn, "approval needed"),
            ApprovalState::Granted => log!(info, "approval granted"),
            ApprovalState::Rejected => log!(info, "approval rejected"),
            ApprovalState::Expired => log!(warn, "approval expired"),
            ApprovalState::Used | ApprovalState::Stale => {}
        }
    }

    /// A line for whoever watches the event stream.
    pub(super) fn tell(&self, kind: &'static str, text: String, heal: Option<HealId>) {
        let line = EventLine {
            at: self.now(),
            kind,
            app: Some(self.app.name.clone()),
            text,
            heal,
        };
        drop(self.events.send(line)); // nobody may be listening
    }

    /// A notice about this app.
    pub(super) fn notice(
        &self,
        event: &str,
        key: String,
        title: String,
        text: String,
        now: &Moment,
    ) -> Write {
        Write::Notice(Notice {
            event: event.to_owned(),
            app: Some(self.app.name.to_string()),
            host: Some(self.app.host.to_string()),
            title,
            text,
            key,
            at: now.clone(),
        })
    }

    pub(super) fn heal(&self, id: HealId) -> Option<&Heal> {
        self.heals.iter().find(|heal| heal.id == id)
    }

    pub(super) fn incident(&self, id: IncidentId) -> Option<&Incident> {
        self.incidents.iter().find(|incident| incident.id == id)
    }

    pub(super) fn approval(&self, id: ApprovalId) -> Option<&Approval> {
        self.approvals.iter().find(|approval| approval.id == id)
    }

    /// Is a heal under way that holds the app? One that soaks does not, once it gave its lease back.
    pub(super) fn active_heal(&self) -> Option<&Heal> {
        self.heals.iter().find(|heal| !heal.state.is_end())
    }

    /// Files of heals that ended stay in memory only while a person must decide.
    pub(super) fn forget_ended(&mut self) {
        use crate::model::heal::HealState;
        self.heals.retain(|heal| match &heal.state {
            HealState::Kept { decided, .. } => decided.is_none(),
            HealState::Cured { .. }
            | HealState::NotCured { .. }
            | HealState::Undone { .. }
            | HealState::Aborted { .. } => false,
            HealState::UndoBlocked { .. }
            | HealState::UndoFailed { .. }
            | HealState::Admitted
            | HealState::Protected { .. }
            | HealState::Acting { .. }
            | HealState::InDoubt { .. }
            | HealState::Settling { .. }
            | HealState::Verifying { .. }
            | HealState::Soaking { .. }
            | HealState::Undoing { .. }
            | HealState::Rechecking { .. } => true,
        });
        let heals = &self.heals;
        self.disowned
            .retain(|id, _| heals.iter().any(|heal| heal.id == *id));
        self.incidents
            .retain(|incident| incident.state != crate::model::incident::IncidentState::Closed);
        let (now, remember) = (self.now(), self.app.policy.approval.remember);
        self.approvals.retain(|approval| {
            approval
                .ended
                .as_ref()
                .is_none_or(|ended| !now.is_past(ended, remember))
        });
    }

    /// Key of the app's lease, and of its host's.
    pub(super) fn lease_keys(&self) -> (String, String) {
        (
            format!("app:{}", self.app.name),
            format!("host:{}", self.app.host),
        )
    }

    /// For audit rows about this app.
    pub(super) fn object(&self) -> String {
        format!("app:{}", self.app.name)
    }

    /// An audit row for a rule of our own that was broken: never silent, never a panic.
    pub(super) async fn audit_illegal(
        &mut self,
        heal: HealId,
        error: &EngineError,
    ) -> Result<(), EngineError> {
        let now = self.now();
        let changes = self.changes(&now).audit(
            "illegal_event_refused",
            &format!("heal:{heal}"),
            json!({"app": self.app.name, "error": error.to_string()}),
        );
        self.commit(changes).await
    }
}
