//! The only conductor: it alone knows every stage, and it alone touches metrics.
//!
//! Each app has a desk ([`desk`]) and a task that takes one turn after another ([`cycle`]): the heals under way
//! ([`life`]) go on first, then a due round is made and at most one heal admitted ([`admit`]). What people ask is put
//! on the desk ([`requests`]) through a [`Handle`]. At a start the store's memory becomes desks again ([`recover`]).

mod accounts;
mod admit;
mod board;
pub mod cycle;
mod desk;
mod doctor;
mod forget;
mod gate;
pub mod handle;
mod housekeeping;
mod known_good;
mod life;
mod look;
mod network;
mod next;
mod outage;
mod proposals;
mod recover;
mod requests;
mod rollback;
mod schedule;
mod shared;
mod start;
mod take_back;
mod who;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, broadcast, mpsc, watch};
use tokio::task::JoinHandle;

pub use desk::{Desk, EngineError};
pub use handle::{
    ActionView, AppView, EventLine, Handle, HealAnswer, HealRequest, Health, OpError, OpErrorKind,
    RollbackRequest,
};
pub use network::{HostState, HostView, Offer};
pub use shared::Shared;

use crate::catalogue::Catalogue;
use crate::guard::mode::Modes;
use crate::model::app::App;
use crate::model::host::RemoteHost;
use crate::model::name::{AppName, CheckName, HostName};
use crate::model::time::Moment;
use crate::seam::store::Restart;
use crate::seam::{Notifier, Pulse, Remotes, World};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sd::{Part, Progress};
use handle::Request;
use network::Network;
use recover::Anchor as _;

/// Requests that may wait on one desk.
const REQUESTS_MAX: usize = 64;

/// Event lines that a slow reader may fall behind.
const EVENTS_KEPT: usize = 1024;

/// After an error that only concerns its own desk, a desk reads everything anew and goes on after this.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// Everything that the engine runs with, apart from the world.
#[derive(Debug, Clone)]
pub struct Setup {
    pub apps: BTreeMap<AppName, Arc<App>>,
    /// Checks whose period the configuration sets, per app.
    pub check_every: BTreeMap<AppName, BTreeMap<CheckName, Duration>>,
    pub catalogue: Arc<Catalogue>,
    pub modes: Modes,
    /// Hosts that are reached over a network.
    pub hosts: BTreeMap<HostName, RemoteHost>,
}

/// The running engine.
pub struct Engine {
    handle: Handle,
    metrics: Arc<Metrics>,
    pulse: Arc<Notify>,
    desks: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    stop_desks: watch::Sender<bool>,
    fatal: mpsc::Sender<EngineError>,
    progress: Arc<Progress>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("desks", &self.desks.len())
            .finish_non_exhaustive()
    }
}

/// What the engine runs beside the desks.
pub struct Outside {
    pub pulse: Option<Arc<dyn Pulse>>,
    /// Whoever reaches other machines; `None`: this daemon looks after its own alone.
    pub remotes: Option<Arc<dyn Remotes>>,
    /// How people are told, and after how long a repeat is news.
    pub notices: Option<(Arc<dyn Notifier>, Duration)>,
    pub metrics: Arc<Metrics>,
    pub progress: Arc<Progress>,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}

impl Engine {
    /// Recovers what is unfinished and starts all desks. Errors that end the daemon arrive at the receiver.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(
        world: Arc<World>,
        setup: &Setup,
        outside: Outside,
    ) -> Result<(Self, mpsc::Receiver<EngineError>), EngineError> {
        let (fatal, fatal_receiver) = mpsc::channel(1);
        let shared = Arc::new(Shared::default());
        let restart = world.store.restart().await?;
        let now = world.clock.now();
        shared.load(&restart, &now);
        shared.observe_only(recover::count_start(&world, &restart.settings).await?);
        if let Some(reason) = shared.observing() {
            tracing::error!(%reason, "only observing until `healerctl resume all`");
        }
        let handle = Handle {
            world: Arc::clone(&world),
            shared,
            desks: Arc::default(),
            board: Arc::default(),
            actions: Arc::default(),
            events: broadcast::channel(EVENTS_KEPT).0,
            network: Arc::new(Network::new(outside.remotes)),
        };
        handle.configure_hosts(&setup.hosts).await;
        let (stop, _) = watch::channel(false);
        let mut engine = Self {
            handle,
            metrics: outside.metrics,
            pulse: Arc::default(),
            desks: Vec::new(),
            others: Vec::new(),
            stop_desks: watch::channel(false).0,
            stop,
            fatal,
            progress: outside.progress,
        };
        if let Some(pulse) = outside.pulse {
            engine.others.push(tokio::spawn(beat(
                pulse,
                Arc::clone(&engine.pulse),
                engine.stop.subscribe(),
            )));
        }
        engine.others.push(tokio::spawn(housekeeping::keep(
            engine.handle.clone(),
            Arc::clone(&engine.metrics),
            Arc::clone(&engine.progress),
            outside.notices,
            engine.fatal.clone(),
            engine.stop.subscribe(),
        )));
        engine.seat(setup, restart);
        Ok((engine, fatal_receiver))
    }

    /// For the control socket.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Takes over a new configuration that was checked whole: all desks finish their turn and begin again with it.
    /// Running actions go on under their own supervisors and are settled by the new desks.
    ///
    /// # Errors
    /// When the store cannot be read; the old desks have stopped then, and the daemon should exit.
    pub async fn reload(&mut self, setup: &Setup) -> Result<(), EngineError> {
        self.stop_desks().await;
        self.handle.configure_hosts(&setup.hosts).await;
        let restart = self.handle.world.store.restart().await?;
        self.seat(setup, restart);
        Ok(())
    }

    /// No new intent from here on; every desk finishes its turn. Running actions go on.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.stop_desks().await;
        for task in self.others.drain(..) {
            drop(task.await); // a panic was counted where it happened
        }
        if let Err(error) = recover::count_orderly_end(&self.handle.world).await {
            tracing::warn!(reason = %error, "the orderly end could not be recorded");
        }
        for host in self.handle.world.hosts.all() {
            host.close().await;
        }
    }

    async fn stop_desks(&mut self) {
        self.stop_desks.send_replace(true);
        for task in self.desks.drain(..) {
            drop(task.await);
        }
    }

    /// Gives every app a desk.
    fn seat(&mut self, setup: &Setup, restart: Restart) {
        self.stop_desks = watch::channel(false).0;
        let facts = setup.apps.values().map(|app| {
            let modes = Modes {
                mode: app.policy.mode,
                max_mode: app.policy.max_mode,
                is_own: app.policy.mode_is_own,
            };
            (
                app.name.clone(),
                shared::AppFacts {
                    host: app.host.clone(),
                    modes,
                },
            )
        });
        self.handle.shared.configure(facts.collect(), setup.modes);
        let restart = Arc::new(restart);
        let mut senders = BTreeMap::new();
        let mut actions = BTreeMap::new();
        for (name, app) in &setup.apps {
            let Some(stack) = setup.catalogue.get(&app.stack) else {
                continue; // the configuration was checked against the same catalogue
            };
            actions.insert(name.clone(), board::actions(app, stack));
            let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
            senders.insert(name.clone(), sender);
            let seat = Seat {
                app: Arc::clone(app),
                stack: Arc::clone(stack),
                check_every: setup.check_every.get(name).cloned().unwrap_or_default(),
                handle: self.handle.clone(),
                metrics: Arc::clone(&self.metrics),
                pulse: Arc::clone(&self.pulse),
                stop: self.stop_desks.subscribe(),
                progress: Arc::clone(&self.progress),
            };
            // On the board before READY is told, so that no application is missing there.
            board::publish(&self.handle, &seat.desk(&restart));
            let (fatal, restart) = (self.fatal.clone(), Arc::clone(&restart));
            self.desks.push(tokio::spawn(async move {
                if let Err(error) = seat.occupy(restart, receiver).await {
                    drop(fatal.try_send(error)); // one is enough: the daemon exits
                }
            }));
        }
        let gone = |name: &AppName| !setup.apps.contains_key(name);
        self.handle
            .board
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|name, _| !gone(name));
        *self
            .handle
            .actions
            .write()
            .unwrap_or_else(PoisonError::into_inner) = actions;
        *self
            .handle
            .desks
            .write()
            .unwrap_or_else(PoisonError::into_inner) = senders;
    }
}

/// Passes the pulse on to the desks: a hint that time has passed, and nothing else.
async fn beat(pulse: Arc<dyn Pulse>, desks: Arc<Notify>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            () = pulse.beat() => desks.notify_waiters(),
        }
    }
}

/// One app's place: what its desk is made of, and made again after an error.
#[derive(Debug, Clone)]
struct Seat {
    app: Arc<App>,
    stack: Arc<crate::catalogue::Stack>,
    check_every: BTreeMap<CheckName, Duration>,
    handle: Handle,
    metrics: Arc<Metrics>,
    pulse: Arc<Notify>,
    stop: watch::Receiver<bool>,
    progress: Arc<Progress>,
}

impl Seat {
    /// Turns until stopped. A panic is counted and the desk begins again from the store; only what makes the store
    /// unsure ends the daemon.
    async fn occupy(
        self,
        restart: Arc<Restart>,
        requests: mpsc::Receiver<Request>,
    ) -> Result<(), EngineError> {
        let requests = Arc::new(Mutex::new(requests));
        let mut restart = restart;
        loop {
            let desk = self.desk(&restart);
            drop(restart); // it holds the rows of all apps, and an app's desk lives as long as the daemon
            let task = tokio::spawn(self.clone().work(desk, Arc::clone(&requests)));
            match task.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error @ EngineError::Fatal(_))) => return Err(error),
                Ok(Err(error)) => {
                    tracing::error!(app = %self.app.name, reason = %error, "desk begins again");
                }
                Err(panic) => {
                    self.metrics.panicked();
                    tracing::error!(app = %self.app.name, reason = %panic, "desk panicked and begins again");
                }
            }
            if self.pause().await {
                return Ok(());
            }
            restart = Arc::new(self.handle.world.store.restart().await?);
        }
    }

    /// Waits a little; true when stopped meanwhile.
    async fn pause(&self) -> bool {
        let mut stop = self.stop.clone();
        let clock = &self.handle.world.clock;
        tokio::select! {
            _ = stop.changed() => true,
            () = clock.sleep_until(clock.now().plus(AFTER_ERROR).boot_ms) => false,
        }
    }

    async fn work(
        self,
        mut desk: Desk,
        requests: Arc<Mutex<mpsc::Receiver<Request>>>,
    ) -> Result<(), EngineError> {
        let mut requests = requests.lock().await;
        let mut stop = self.stop.clone();
        Box::pin(recover::unfinished(&mut desk)).await?;
        let mut wake = desk.now();
        loop {
            board::publish(&self.handle, &desk);
            if *stop.borrow() {
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = stop.changed() => return Ok(()),
                request = requests.recv() => match request {
                    Some(request) => Box::pin(requests::answer(&mut desk, request)).await?,
                    None => return Ok(()),
                },
                () = desk.world.clock.sleep_until(wake.boot_ms) => {}
                () = self.pulse.notified() => if desk.now().boot_ms < wake.boot_ms { continue },
            }
            let late_ms = desk.now().boot_ms.saturating_sub(wake.boot_ms);
            self.metrics
                .round_started(Duration::from_millis(u64::try_from(late_ms).unwrap_or(0)));
            // Boxed, so that a desk that waits does not keep room for the largest thing that it may ever do.
            wake = Box::pin(cycle::turn(&mut desk)).await?;
            self.progress.advance(Part::Scheduler);
        }
    }

    /// A desk with what the store remembers of its app.
    fn desk(&self, restart: &Restart) -> Desk {
        let world = &self.handle.world;
        let now = world.clock.now();
        let name = &self.app.name;
        let stored_due = restart
            .due
            .iter()
            .find(|(app, _)| app == name)
            .map(|(_, due)| due);
        let known_good = restart
            .backups
            .iter()
            .filter(|row| row.app == *name && row.damaged.is_none())
            .filter(|row| row.kind == crate::model::backup::BackupKind::KnownGood)
            .map(|row| row.id)
            .max();
        let results: Vec<_> = restart
            .checks
            .iter()
            .filter(|(app, _)| app == name)
            .map(|(_, result)| result.clone())
            .collect();
        let place = desk::Place::stored(&restart.settings, name);
        drop(results); // shown from the store until the first round; facts of another boot decide nothing
        Desk {
            app: Arc::clone(&self.app),
            stack: Arc::clone(&self.stack),
            check_every: self.check_every.clone(),
            world: Arc::clone(world),
            shared: Arc::clone(&self.handle.shared),
            metrics: Arc::clone(&self.metrics),
            events: self.handle.events.clone(),
            incidents: of_app(&restart.incidents, |incident| incident.app == *name, &now),
            heals: of_app(&restart.heals, |heal| heal.app == *name, &now),
            breaker: restart
                .breakers
                .iter()
                .find(|breaker| breaker.app == *name)
                .cloned()
                .map_or_else(
                    || crate::model::breaker::Breaker::new(name.clone()),
                    |breaker| breaker.anchored(&now),
                ),
            approvals: of_app(
                &restart.approvals,
                |approval| approval.bound.app == *name,
                &now,
            ),
            mutes: of_app(&restart.mutes, |mute| mute.app == *name, &now),
            bars: restart
                .bars
                .iter()
                .filter(|bar| bar.app == *name)
                .cloned()
                .collect(),
            look: None,
            unstored: BTreeSet::new(),
            plan: crate::model::plan::Plan::default(),
            blind: crate::decide::incident::Blind::default(),
            unseen_reason: None,
            due: schedule::due_after_start(&self.app, stored_due, &now, world.random.next()),
            deployed: place
                .as_ref()
                .and_then(|place| place.deployed.as_ref())
                .map(|deployed| deployed.anchored(&now)),
            roots: place
                .as_ref()
                .map(|place| place.roots.clone())
                .unwrap_or_default(),
            roots_stored: place,
            ask_again: None,
            stale_backups: BTreeMap::new(),
            healthy_since: None,
            known_good,
            asked_at: BTreeMap::new(),
            known_good_checked: None,
            known: None,
            said: BTreeMap::new(),
            known_good_seen: None,
            last_turn: None,
            cleared: std::collections::BTreeSet::new(),
            forgotten: std::collections::BTreeSet::new(),
            forgot: None,
            found_late: BTreeMap::new(),
            disowned: BTreeMap::new(),
            started_here: Vec::new(),
            waits: BTreeMap::new(),
            next: BTreeMap::new(),
        }
    }
}

fn of_app<T: Clone + recover::Anchor>(
    rows: &[T],
    is_ours: impl Fn(&T) -> bool,
    now: &Moment,
) -> Vec<T> {
    rows.iter()
        .filter(|row| is_ours(row))
        .cloned()
        .map(|row| row.anchored(now))
        .collect()
}

/// A desk outside of any task, for whoever drives turns by hand: tests on a simulated clock, and benches.
#[derive(Debug)]
pub struct ByHand {
    pub desk: Desk,
    pub handle: Handle,
    requests: mpsc::Receiver<Request>,
}

impl ByHand {
    /// One turn, with what the housekeeping does for it; gives the moment of the next one.
    ///
    /// # Errors
    /// When the desk cannot go on.
    pub async fn turn(&mut self) -> Result<Moment, EngineError> {
        self.handle.end_timed_holds().await?;
        let wake = cycle::turn(&mut self.desk).await?;
        board::publish(&self.handle, &self.desk);
        Ok(wake)
    }

    /// Waits for what was asked through the [`Handle`], while the desk answers.
    ///
    /// # Errors
    /// When the desk cannot go on.
    pub async fn ask<T>(&mut self, asked: impl Future<Output = T>) -> Result<T, EngineError> {
        let mut asked = std::pin::pin!(asked);
        loop {
            tokio::select! {
                biased;
                answer = &mut asked => {
                    board::publish(&self.handle, &self.desk);
                    return Ok(answer);
                }
                Some(request) = self.requests.recv() => requests::answer(&mut self.desk, request).await?,
            }
        }
    }
}

/// Seats one app at a desk by hand: everything that a start does, without a task. `None`: there is no such app.
///
/// # Errors
/// When the store cannot be read.
pub async fn desk_by_hand(
    world: Arc<World>,
    setup: &Setup,
    app: &AppName,
    metrics: Arc<Metrics>,
) -> Result<Option<ByHand>, EngineError> {
    let restart = world.store.restart().await?;
    let shared = Arc::new(Shared::default());
    shared.load(&restart, &world.clock.now());
    let facts = setup.apps.values().map(|app| {
        let modes = Modes {
            mode: app.policy.mode,
            max_mode: app.policy.max_mode,
            is_own: app.policy.mode_is_own,
        };
        (
            app.name.clone(),
            shared::AppFacts {
                host: app.host.clone(),
                modes,
            },
        )
    });
    shared.configure(facts.collect(), setup.modes);
    let (Some(app), Some(stack)) = (
        setup.apps.get(app),
        setup
            .apps
            .get(app)
            .and_then(|app| setup.catalogue.get(&app.stack)),
    ) else {
        return Ok(None);
    };
    let (sender, requests) = mpsc::channel(REQUESTS_MAX);
    let handle = Handle {
        world,
        shared,
        desks: Arc::new(RwLock::new(BTreeMap::from([(app.name.clone(), sender)]))),
        board: Arc::default(),
        actions: Arc::default(),
        events: broadcast::channel(EVENTS_KEPT).0,
        network: Arc::default(),
    };
    let seat = Seat {
        app: Arc::clone(app),
        stack: Arc::clone(stack),
        check_every: setup
            .check_every
            .get(&app.name)
            .cloned()
            .unwrap_or_default(),
        handle: handle.clone(),
        metrics,
        pulse: Arc::default(),
        stop: watch::channel(false).1,
        progress: Arc::default(),
    };
    let mut desk = seat.desk(&restart);
    Box::pin(recover::unfinished(&mut desk)).await?;
    board::publish(&handle, &desk);
    Ok(Some(ByHand {
        desk,
        handle,
        requests,
    }))
}
