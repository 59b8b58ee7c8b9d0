//! The whole daemon in simulation: one app on one machine that exists only in memory.
//!
//! Everything of the program is the real one, the store too; only what lies behind the other seams is simulated. Time
//! stands until [`Sim::pass`] or [`Sim::until`] moves it from one wake-up to the next.

pub(crate) mod clock;
pub(crate) mod crash;
pub(crate) mod host;
pub(crate) mod store;
pub(crate) mod tree;
pub(crate) mod vault;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use healer_agent::protocol::Target;
use healerd::catalogue::Catalogue;
use healerd::engine::{ByHand, Desk, EngineError, EventLine, Handle, OpError, Setup, desk_by_hand};
use healerd::guard::mode::Modes;
use healerd::model::app::{App, Schedule};
use healerd::model::approval::{Approval, ApprovalState, Person};
use healerd::model::breaker::BreakerTransition;
use healerd::model::heal::{Event, Heal};
use healerd::model::host::UNKNOWN_ID;
use healerd::model::id::IdMaker;
use healerd::model::incident::Incident;
use healerd::model::name::{AppName, HostName};
use healerd::model::policy::Policy;
use healerd::model::time::{Moment, duration_text};
use healerd::model::word::HealingMode;
use healerd::record::store::{Limits, SqliteStore};
use healerd::seam::store::{AuditRow, Query};
use healerd::seam::{Clock as _, Host, Store as _, World};
use healerd::telemetry::metrics::Metrics;
use tokio::sync::broadcast::Receiver;

use clock::{SimClock, SimRandom};
use crash::Fuse;
use host::{Behaviour, Fault, SimHost};
use store::SimStore;
use vault::SimVault;

/// A desk that turns so often without time passing is spinning.
const TURNS_AT_ONCE_MAX: u32 = 100;

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

pub(crate) const fn hours(count: u64) -> Duration {
    Duration::from_secs(count * 3600)
}

/// A person by number.
pub(crate) fn person(uid: u32) -> Person {
    Person {
        uid,
        name: format!("person{uid}"),
    }
}

/// The simulation.
pub(crate) struct Sim {
    pub(crate) clock: Arc<SimClock>,
    pub(crate) host: SimHost,
    pub(crate) vault: SimVault,
    pub(crate) fuse: Arc<Fuse>,
    /// Processes so far.
    pub(crate) lives: u32,
    setup: Setup,
    dir: tempfile::TempDir,
    store: Option<Arc<SqliteStore>>,
    hand: Option<ByHand>,
    events: Option<Receiver<EventLine>>,
    began: Moment,
    /// What the event stream said, with the time since the story began.
    lines: Vec<String>,
    /// All of it, by kind.
    heard: Vec<(&'static str, String)>,
}

impl Sim {
    /// A healthy app with default policy, but `FULL_AUTO` and without jitter, so that stories can count.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Policy)) -> Self {
        Self::on(HostName::local(), change).await
    }

    /// The same app on a machine that is not this one.
    pub(crate) async fn remote() -> Self {
        Self::on("web1".parse().unwrap(), |_| {}).await
    }

    async fn on(on: HostName, change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = Policy {
            mode: HealingMode::FullAuto,
            ..Policy::default()
        };
        policy.timing.jitter_percent = 0;
        policy.breaker.jitter_percent = 0;
        change(&mut policy);
        let is_local = on == HostName::local();
        let app = App {
            name: "shop".parse().unwrap(),
            host: on.clone(),
            stack: "sim".parse().unwrap(),
            target: Target {
                root: "/srv/shop/current".to_owned(),
                roots: vec![],
                uid: if is_local { 1001 } else { UNKNOWN_ID },
                gid: if is_local { 1002 } else { UNKNOWN_ID },
                volatile: vec![],
            },
            user: "shop".to_owned(),
            url: Some("http://shop.example.org/".to_owned()),
            origin: None,
            vars: BTreeMap::new(),
            schedule: Schedule::Every(seconds(60)),
            policy,
        };
        let catalogue =
            Catalogue::load(&[("sim".to_owned(), include_str!("stack.toml").to_owned())]).unwrap();
        let setup = Setup {
            apps: BTreeMap::from([(app.name.clone(), Arc::new(app))]),
            check_every: BTreeMap::new(),
            hosts: BTreeMap::new(),
            catalogue: Arc::new(catalogue),
            modes: Modes {
                mode: HealingMode::Manual,
                max_mode: HealingMode::FullAuto,
                is_own: true,
            },
        };
        let clock = Arc::new(SimClock::default());
        let fuse = Arc::new(Fuse::default());
        let host = SimHost::new(Arc::clone(&clock), Arc::clone(&fuse)).named(&on);
        for (path, text) in [
            ("config.php", "<?php"),
            ("cache/data", "cached"),
            ("storage/upload", "theirs"),
        ] {
            host.machine().tree.write(
                &tree::path(path),
                text.as_bytes(),
                clock::START_MS - 86_400_000,
            );
        }
        let mut sim = Self {
            vault: SimVault::new(Arc::clone(&fuse)),
            began: clock.now(),
            clock,
            host,
            fuse,
            lives: 0,
            setup,
            dir: dir(),
            store: None,
            hand: None,
            events: None,
            lines: Vec::new(),
            heard: Vec::new(),
        };
        sim.start().await;
        // Stories begin right after a look at a healthy app; the next one comes after 60 s.
        sim.until("looked at", seconds(60), |desk| desk.look.is_some())
            .await;
        sim.lines.clear();
        sim.heard.clear();
        sim.began = sim.clock.now();
        sim
    }

    /// A new process on what the old one left, however that ended.
    pub(crate) async fn start(&mut self) {
        loop {
            self.hand = None;
            if let Some(store) = self.store.take() {
                store.close().await;
            }
            self.fuse.revive();
            self.lives += 1;
            assert!(self.lives < 20, "it does not come to rest");
            let limits = Limits::default().without_timers();
            let store = SqliteStore::open_with(self.dir.path(), &self.clock.now(), limits)
                .await
                .unwrap();
            let store = Arc::new(store);
            self.store = Some(Arc::clone(&store));
            let last_id = store.restart().await.unwrap().last_id;
            let world = Arc::new(World {
                clock: self.clock.clone(),
                random: Arc::new(SimRandom::new(u64::from(self.lives))),
                hosts: [(
                    self.host.name().clone(),
                    Arc::new(self.host.clone()) as Arc<dyn Host>,
                )]
                .into(),
                store: Arc::new(SimStore {
                    inner: store,
                    fuse: Arc::clone(&self.fuse),
                }),
                vault: Arc::new(self.vault.clone()),
                owner: "simulated daemon".to_owned(),
                ids: Mutex::new(IdMaker::after(last_id)),
            });
            let metrics = Arc::new(Metrics::new().unwrap());
            match desk_by_hand(world, &self.setup, &self.app_name(), metrics).await {
                Ok(hand) => {
                    let hand = hand.unwrap();
                    self.events = Some(hand.handle.events());
                    self.hand = Some(hand);
                    if !self.fuse.is_dead() {
                        return;
                    }
                }
                Err(error) if self.fuse.is_dead() => drop(error),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Another configuration, as after a reload.
    pub(crate) async fn configure(&mut self, change: impl FnOnce(&mut App)) {
        let name = self.app_name();
        let mut app = (*self.setup.apps[&name]).clone();
        change(&mut app);
        self.setup.apps.insert(name, Arc::new(app));
        self.start().await;
    }

    pub(crate) fn app_name(&self) -> AppName {
        self.setup.apps.keys().next().unwrap().clone()
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.hand.as_ref().unwrap().desk
    }

    pub(crate) fn handle(&self) -> Handle {
        self.hand.as_ref().unwrap().handle.clone()
    }

    pub(crate) fn store(&self) -> &SqliteStore {
        self.store.as_ref().unwrap()
    }

    /// Every byte of the state directory, so that what must not be stored can be looked for.
    pub(crate) fn stored_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                bytes.extend(std::fs::read(path).unwrap());
            }
        }
        bytes
    }

    /// One turn; the wake-up it asked for, or now after the process was replaced.
    async fn turn(&mut self) -> Moment {
        let wake = self.hand.as_mut().unwrap().turn().await;
        self.note();
        match wake {
            Ok(wake) if !self.fuse.is_dead() => wake,
            Ok(_) => self.again().await,
            Err(EngineError::Fatal(error)) if !self.fuse.is_dead() => panic!("{error}"),
            Err(error) => {
                if !self.fuse.is_dead() {
                    self.line("desk", &format!("begins again: {error}"));
                    self.clock.pass(seconds(5));
                }
                self.again().await
            }
        }
    }

    async fn again(&mut self) -> Moment {
        self.start().await;
        self.clock.now()
    }

    /// Lets time pass, with every turn that it brings.
    pub(crate) async fn pass(&mut self, length: Duration) {
        let end = self.clock.now().plus(length).boot_ms;
        self.drive(end, |_| false).await;
    }

    /// Lets time pass until something holds, and fails after `limit`. Gives the time it took.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Desk) -> bool,
    ) -> Duration {
        let began = self.clock.now();
        let end = began.plus(limit).boot_ms;
        let reached = self.drive(end, holds).await;
        assert!(
            reached,
            "after {} still not: {what}\n{}",
            duration_text(limit),
            self.transcript()
        );
        self.clock.now().since(&began, limit + hours(1))
    }

    async fn drive(&mut self, end_ms: i64, holds: impl Fn(&Desk) -> bool) -> bool {
        let mut at_once = 0;
        loop {
            let wake = self.turn().await;
            if holds(self.desk()) {
                return true;
            }
            let now_ms = self.clock.now().boot_ms;
            if wake.boot_ms > now_ms {
                at_once = 0;
                self.clock.reach(wake.boot_ms.min(end_ms));
                if wake.boot_ms > end_ms {
                    return false;
                }
            } else {
                at_once += 1;
                assert!(
                    at_once < TURNS_AT_ONCE_MAX,
                    "it spins\n{}",
                    self.transcript()
                );
                if now_ms > end_ms {
                    return false;
                }
            }
        }
    }

    /// Waits for what a person asked, while the desk answers.
    pub(crate) async fn ask<T>(
        &mut self,
        ask: impl AsyncFnOnce(Handle) -> Result<T, OpError>,
    ) -> Result<T, OpError> {
        let handle = self.handle();
        let answer = self.hand.as_mut().unwrap().ask(ask(handle)).await;
        self.note();
        if self.fuse.is_dead() {
            self.start().await;
        }
        match answer {
            Ok(answer) => answer,
            Err(error) => Err(OpError::new(
                healerd::engine::OpErrorKind::Unavailable,
                "store",
                error.to_string(),
                "the process was replaced",
            )),
        }
    }

    // What happens on the machine.

    /// All clocks now.
    pub(crate) fn clock_now(&self) -> Moment {
        self.clock.now()
    }

    /// Time since a moment of this boot.
    pub(crate) fn since(&self, earlier: &Moment) -> Duration {
        self.clock.now().since(earlier, hours(24 * 365))
    }

    /// Requests of one kind so far.
    pub(crate) fn calls(&self, verb: &str) -> u32 {
        self.host.machine().calls.get(verb).copied().unwrap_or(0)
    }

    /// A file appears.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let wall_ms = self.clock.now().wall_ms;
        self.host
            .machine()
            .tree
            .write(&tree::path(path), text.as_bytes(), wall_ms);
    }

    /// A file goes away.
    pub(crate) fn remove(&self, path: &str) {
        self.host.machine().tree.remove(&tree::path(path));
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.host.machine().tree.has(path)
    }

    /// What an action does here.
    pub(crate) fn behaves(&self, action: &str, behaviour: Behaviour) {
        self.host
            .machine()
            .behaviours
            .insert(action.to_owned(), behaviour);
    }

    /// The next call of this kind fails so.
    pub(crate) fn fails(&self, verb: &'static str, fault: Fault) {
        self.host.machine().faults.push((verb, fault));
    }

    /// Actions that truly ran, in order.
    pub(crate) fn ran(&self) -> Vec<String> {
        self.host
            .machine()
            .ran
            .iter()
            .map(|(_, action)| action.clone())
            .collect()
    }

    // What can be seen of it all.

    fn note(&mut self) {
        let Some(events) = self.events.as_mut() else {
            return;
        };
        let mut heard = Vec::new();
        while let Ok(line) = events.try_recv() {
            heard.push(line);
        }
        for line in heard {
            self.heard.push((line.kind, without_ids(&line.text)));
            // What a story is about; the rest follows from it.
            if !matches!(line.kind, "heal" | "breaker" | "approval") {
                continue;
            }
            let at = duration_since(&self.began, &line.at);
            self.lines
                .push(format!("+{at} {}: {}", line.kind, without_ids(&line.text)));
        }
    }

    fn line(&mut self, kind: &str, text: &str) {
        let at = duration_since(&self.began, &self.clock.now());
        self.lines
            .push(format!("+{at} {kind}: {}", without_ids(text)));
    }

    /// Everything of one kind that the event stream told so far.
    pub(crate) fn heard(&self, kind: &str) -> Vec<&str> {
        self.heard
            .iter()
            .filter(|(known, _)| *known == kind)
            .map(|(_, text)| text.as_str())
            .collect()
    }

    /// What the event stream told of heals, approvals and the breaker so far, a line each.
    pub(crate) fn transcript(&self) -> String {
        self.lines.join("\n")
    }

    /// The rows of every heal, oldest first.
    pub(crate) async fn heals(&self) -> Vec<Heal> {
        let mut heals = self
            .store()
            .heals(Query {
                limit: 1000,
                ..Query::default()
            })
            .await
            .unwrap();
        heals.sort_by_key(|heal| heal.id);
        heals
    }

    /// The newest heal of an action.
    pub(crate) async fn heal(&self, action: &str) -> Heal {
        let heals = self.heals().await;
        let found = heals
            .into_iter()
            .rev()
            .find(|heal| heal.action.name.as_str() == action);
        found.unwrap_or_else(|| panic!("no heal of {action}\n{}", self.transcript()))
    }

    pub(crate) async fn incidents(&self) -> Vec<Incident> {
        let mut incidents = self
            .store()
            .incidents(Query {
                limit: 1000,
                ..Query::default()
            })
            .await
            .unwrap();
        incidents.sort_by_key(|incident| incident.id);
        incidents
    }

    pub(crate) async fn approvals(&self) -> Vec<Approval> {
        let mut approvals = self
            .store()
            .approvals(Query {
                limit: 1000,
                ..Query::default()
            })
            .await
            .unwrap();
        approvals.sort_by_key(|approval| approval.id);
        approvals
    }

    /// The approval that waits.
    pub(crate) async fn pending(&self) -> Approval {
        let approvals = self.approvals().await;
        let found = approvals
            .into_iter()
            .find(|approval| approval.state == ApprovalState::Pending);
        found.unwrap_or_else(|| panic!("no approval waits\n{}", self.transcript()))
    }

    pub(crate) async fn audit(&self) -> Vec<AuditRow> {
        self.store().audit(0, 100_000).await.unwrap()
    }

    /// Notices of one kind that people would get.
    pub(crate) async fn notices(&self, event: &str) -> Vec<String> {
        let mut far = self.clock.now();
        far.wall_ms += 1000;
        let rows = self.store().outbox(&far).await.unwrap();
        rows.into_iter()
            .filter(|row| row.notice.event == event)
            .map(|row| row.notice.title)
            .collect()
    }

    /// The journal of a heal as it is stored.
    pub(crate) async fn events(&self, heal: &Heal) -> Vec<(Moment, Event)> {
        self.store().heal_events(heal.id).await.unwrap()
    }

    /// Transitions of the breaker, oldest first.
    pub(crate) async fn breaker_history(&self) -> Vec<BreakerTransition> {
        let mut rows = self
            .store()
            .breaker_history(&self.app_name(), 1000)
            .await
            .unwrap();
        rows.sort_by_key(|row| row.at.boot_ms);
        rows
    }

    /// The journal of a heal: time since the story began, and event.
    pub(crate) async fn journal(&self, heal: &Heal) -> String {
        let mut text = String::new();
        for (at, event) in self.store().heal_events(heal.id).await.unwrap() {
            writeln!(
                text,
                "+{} {}",
                duration_since(&self.began, &at),
                event.name()
            )
            .unwrap();
        }
        writeln!(
            text,
            "{}: {}",
            heal.state.name(),
            without_ids(&heal.message)
        )
        .unwrap();
        text
    }
}

/// Is a heal of this action in a state of this name?
pub(crate) fn is(desk: &Desk, action: &str, state: &str) -> bool {
    desk.heals
        .iter()
        .any(|heal| heal.action.name.as_str() == action && heal.state.name() == state)
}

/// In memory where there is such a place: what a power cut does to a disk is not simulated here.
fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn duration_since(began: &Moment, at: &Moment) -> String {
    duration_text(at.since(began, hours(24 * 365))).replace("0ms", "0s")
}

/// Ids are told apart by nobody who reads a story.
fn without_ids(text: &str) -> String {
    let is_id =
        |word: &str| word.len() == 26 && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let shown = |word: &str| {
        let bare = word.trim_end_matches(['.', ',', ';', ':', ')']);
        if is_id(bare) {
            word.replace(bare, "ID")
        } else {
            word.to_owned()
        }
    };
    text.split(' ').map(shown).collect::<Vec<_>>().join(" ")
}
