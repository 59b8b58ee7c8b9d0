//! A machine that exists only in memory, and knows what truly ran there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use healer_agent::probe::spec::{Fact, Facts};
use healer_agent::protocol::{
    Answer, CheckFacts, CheckProbes, Finished, Hello, How, Refusal, RefusalCode, Request, Start,
    StepReport, VERSION, WitnessState,
};
use healer_agent::step::Step;
use healer_agent::tree::{Digest, Effect, EffectSource, TreePath};
use healerd::model::action::Identity;
use healerd::model::host::UNKNOWN_ID;
use healerd::model::name::HostName;
use healerd::seam::{BoxFuture, Call, Clock, Host, HostError, Reply};

use super::clock::SimClock;
use super::crash::Fuse;
use super::tree::{Tree, path};

/// Entries and effects per page: small, so that every story turns pages.
const PAGE: usize = 3;

/// What an action does here, whatever its steps say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    /// Its steps are not carried out.
    pub(crate) idle: bool,
    /// Written besides, by a program of the action.
    pub(crate) writes: Vec<(String, String)>,
    /// Removed besides, as the action's purpose but not as a file of the application.
    pub(crate) cures: Vec<String>,
    /// How it ends.
    pub(crate) how: Option<How>,
    /// Its supervisor dies without an end.
    pub(crate) dies: bool,
    /// Time until its processes are gone.
    pub(crate) lasts: Duration,
    /// The kernel did not confine its programs.
    pub(crate) loose: bool,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is sent.
    Unreachable,
    /// It is carried out, and the answer is lost at once.
    Lost,
    /// It is carried out, and no answer comes before the time is over.
    Slow,
    /// The agent refuses.
    Refused(RefusalCode),
}

#[derive(Debug, Clone)]
struct Record {
    state: WitnessState,
    ends_ms: i64,
    effects: Vec<Effect>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) tree: Tree,
    /// Real directories that the application's paths lead to.
    pub(crate) roots: Vec<String>,
    /// Its machine id.
    pub(crate) identity: String,
    pub(crate) reachable: bool,
    /// It shows another key than the pinned one.
    pub(crate) in_doubt: bool,
    /// Its agent keeps the records of another daemon.
    pub(crate) not_ours: bool,
    /// Who the application's user is here.
    pub(crate) user: (u32, u32),
    /// Boot clock of the simulation when it booted.
    pub(crate) booted_ms: i64,
    /// What every probe finds out beside its own facts.
    pub(crate) more_facts: Facts,
    /// Checks whose probes find nothing out.
    pub(crate) dark: BTreeSet<String>,
    pub(crate) behaviours: BTreeMap<String, Behaviour>,
    /// By verb, one per call, oldest first.
    pub(crate) faults: Vec<(&'static str, Fault)>,
    pub(crate) free_bytes: u64,
    /// Every action that truly started: heal and action.
    pub(crate) ran: Vec<(String, String)>,
    /// Requests so far, by verb.
    pub(crate) calls: BTreeMap<&'static str, u32>,
    /// Changes that requests made to files.
    pub(crate) changes: u32,
    witness: BTreeMap<String, Record>,
    fence: u64,
    owner: Option<String>,
    staged: BTreeMap<Digest, Vec<u8>>,
}

/// A way to the machine that dies with the process.
#[derive(Debug, Clone)]
pub(crate) struct SimHost {
    name: HostName,
    machine: Arc<Mutex<Machine>>,
    clock: Arc<SimClock>,
    fuse: Arc<Fuse>,
}

impl SimHost {
    /// The same machine under another name.
    pub(crate) fn named(mut self, name: &HostName) -> Self {
        self.name = name.clone();
        self
    }

    /// A machine that has been up for a day.
    pub(crate) fn new(clock: Arc<SimClock>, fuse: Arc<Fuse>) -> Self {
        let machine = Machine {
            tree: Tree::default(),
            roots: vec!["/srv/shop/releases/1".to_owned()],
            identity: "machine-1".to_owned(),
            reachable: true,
            in_doubt: false,
            not_ours: false,
            user: (1001, 1002),
            booted_ms: 0,
            more_facts: Facts::new(),
            dark: BTreeSet::new(),
            behaviours: BTreeMap::new(),
            faults: Vec::new(),
            free_bytes: 64 << 30,
            ran: Vec::new(),
            calls: BTreeMap::new(),
            changes: 0,
            witness: BTreeMap::new(),
            fence: 0,
            owner: None,
            staged: BTreeMap::new(),
        };
        Self {
            name: HostName::local(),
            machine: Arc::new(Mutex::new(machine)),
            clock,
            fuse,
        }
    }

    /// The machine itself, as somebody with a shell on it.
    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap()
    }
}

/// The word for a request, as faults and counts use it.
pub(crate) fn verb(request: &Request) -> &'static str {
    match request {
        Request::Hello { .. } => "hello",
        Request::Round { .. } => "round",
        Request::List { .. } => "list",
        Request::Read { .. } | Request::ReadMany { .. } => "read",
        Request::Start(_) => "start",
        Request::Look { .. } => "look",
        Request::Output { .. } => "output",
        Request::Effects { .. } => "effects",
        Request::CancelAction { .. } => "cancel_action",
        Request::Settle { .. } => "settle",
        Request::Stage { .. } => "stage",
        Request::Undo { .. } => "undo",
        Request::Forget { .. } => "forget",
        Request::Room { .. } => "room",
        Request::Cancel { .. } => "cancel",
    }
}

fn refuse<T>(code: RefusalCode, message: &str) -> Result<T, Refusal> {
    Err(Refusal {
        code,
        message: message.to_owned(),
    })
}

impl Machine {
    fn answer(
        &mut self,
        request: Request,
        body: Vec<u8>,
        clock: &SimClock,
    ) -> Result<(Answer, Vec<u8>), Refusal> {
        let wall_ms = clock.now().wall_ms;
        let plain = |answer| Ok((answer, Vec::new()));
        match request {
            Request::Hello { version, .. } if version != VERSION => {
                refuse(RefusalCode::Version, "another version")
            }
            Request::Hello { owner, .. } => {
                self.owner.get_or_insert(owner);
                let uptime_ms = u64::try_from(clock.now().boot_ms - self.booted_ms).unwrap_or(0);
                plain(Answer::Hello(Hello {
                    version: VERSION,
                    boot_id: "host-boot".to_owned(),
                    machine_id: self.identity.clone(),
                    uid: self.user.0,
                    gid: self.user.1,
                    landlock: 6,
                    uptime_ms,
                    allowed: Vec::new(),
                    owner: self.owner.clone(),
                }))
            }
            Request::Round { checks, .. } => {
                let checks = checks.iter().map(|check| self.facts(check)).collect();
                plain(Answer::Round {
                    roots: self.roots.clone(),
                    checks,
                })
            }
            Request::List {
                members,
                after,
                digests,
                ..
            } => {
                let mut entries = self.tree.list(&members, digests);
                entries.retain(|(at, _)| after.as_ref().is_none_or(|after| at > after));
                let more = entries.len() > PAGE;
                entries.truncate(PAGE);
                plain(Answer::List {
                    roots: self.roots.clone(),
                    entries,
                    unreadable: Vec::new(),
                    more,
                })
            }
            Request::Read {
                path,
                expect,
                offset,
                ..
            } => {
                let Some(state) = self.tree.state(&path, false) else {
                    return refuse(RefusalCode::Absent, "it is not there");
                };
                if state.key != expect {
                    return refuse(RefusalCode::Changed, "it is another file now");
                }
                let bytes = self.tree.read(&path).unwrap_or_default();
                let rest = bytes
                    .get(usize::try_from(offset).unwrap()..)
                    .unwrap_or_default()
                    .to_vec();
                Ok((Answer::Read { end: true }, rest))
            }
            Request::ReadMany { files, .. } => {
                let (mut body, mut lengths) = (Vec::new(), Vec::new());
                for (path, expect) in files {
                    let state = self.tree.state(&path, false);
                    let bytes = state
                        .filter(|state| state.key == expect)
                        .and_then(|_| self.tree.read(&path));
                    lengths.push(
                        bytes
                            .as_ref()
                            .map(|bytes| u32::try_from(bytes.len()).unwrap()),
                    );
                    body.extend(bytes.unwrap_or_default());
                }
                Ok((Answer::ReadMany { lengths }, body))
            }
            Request::Start(start) => self
                .start(*start, clock)
                .map(|()| (Answer::Started, Vec::new())),
            Request::Look { heal, wait_ms } => {
                let ends_ms = self.witness.get(&heal).map_or(0, |record| record.ends_ms);
                let until = ends_ms.min(clock.now().boot_ms + i64::try_from(wait_ms).unwrap());
                clock.reach(until);
                plain(Answer::Witness(self.look(&heal, clock)))
            }
            Request::Settle { heal, fence } => {
                if !self.witness.contains_key(&heal) {
                    self.fence = self.fence.max(fence);
                    let record = Record {
                        state: WitnessState::Cancelled,
                        ends_ms: 0,
                        effects: Vec::new(),
                    };
                    self.witness.insert(heal.clone(), record);
                }
                plain(Answer::Witness(self.look(&heal, clock)))
            }
            Request::Effects { heal, after } => {
                let mut effects = self
                    .witness
                    .get(&heal)
                    .map(|record| record.effects.clone())
                    .unwrap_or_default();
                effects.retain(|effect| after.as_ref().is_none_or(|after| effect.path > *after));
                let more = effects.len() > PAGE;
                effects.truncate(PAGE);
                plain(Answer::Effects { effects, more })
            }
            Request::Stage { digest, offset, .. } => {
                let content = self.staged.entry(digest).or_default();
                content.truncate(usize::try_from(offset).unwrap());
                content.extend(body);
                plain(Answer::Staged)
            }
            Request::Undo { items, .. } => {
                self.changes += 1;
                let outcomes = self.tree.undo(&items, &self.staged, wall_ms);
                plain(Answer::Undone { outcomes })
            }
            Request::Forget { heal, witness } => {
                self.staged.clear();
                if witness {
                    self.witness.remove(&heal);
                }
                plain(Answer::Forgotten)
            }
            Request::Room { .. } => plain(Answer::Room {
                free_bytes: self.free_bytes,
                free_inodes: 1 << 20,
            }),
            Request::Cancel { .. } => plain(Answer::Cancelled),
            Request::Output { .. } | Request::CancelAction { .. } => {
                refuse(RefusalCode::NotAllowed, "not simulated")
            }
        }
    }

    /// What the probes of one check find.
    /// How many heals it has records of.
    pub(crate) fn records(&self) -> usize {
        self.witness.len()
    }

    fn facts(&self, check: &CheckProbes) -> CheckFacts {
        let probes = check
            .probes
            .iter()
            .map(|(name, probe)| {
                let mut facts = self.more_facts.clone();
                facts.extend(self.probe(&check.check, probe));
                (name.clone(), facts)
            })
            .collect();
        CheckFacts {
            check: check.check.clone(),
            probes,
            time_us: 1000,
        }
    }

    fn probe(&self, check: &str, probe: &serde_json::Value) -> Facts {
        let fact = |name: &str, value: Fact| (name.to_owned(), value);
        if let Some(file) = probe
            .get("file")
            .and_then(|file| file.get("path"))
            .and_then(serde_json::Value::as_str)
        {
            let exists = if self.dark.contains(check) {
                Fact::Unknown("Permission denied".to_owned())
            } else {
                Fact::Bool(self.tree.has(file))
            };
            return Facts::from([fact("exists", exists)]);
        }
        // The page is an error wherever a poisoned file lies.
        let poisoned = self.tree.essence().keys().any(|at| at.ends_with("poison"));
        let status = if self.dark.contains(check) {
            Fact::Unknown("the network is down".to_owned())
        } else {
            Fact::Int(if poisoned { 500 } else { 200 })
        };
        Facts::from([
            fact("reachable", Fact::Bool(true)),
            fact("error", Fact::Absent),
            fact("status", status),
        ])
    }

    fn start(&mut self, start: Start, clock: &SimClock) -> Result<(), Refusal> {
        if self
            .owner
            .as_ref()
            .is_some_and(|owner| *owner != start.owner)
        {
            return refuse(RefusalCode::Owner, "the witness belongs to another daemon");
        }
        if self.witness.contains_key(&start.heal) {
            return refuse(RefusalCode::AlreadyStarted, "it was started before");
        }
        if start.fence <= self.fence {
            return refuse(RefusalCode::Fence, "a higher fence token was seen here");
        }
        self.fence = start.fence;
        self.ran.push((start.heal.clone(), start.action.clone()));
        let behaviour = self
            .behaviours
            .get(&start.action)
            .cloned()
            .unwrap_or_default();
        let wall_ms = clock.now().wall_ms;
        let mut effects: BTreeMap<TreePath, Effect> = BTreeMap::new();
        if !behaviour.idle {
            for step in &start.steps {
                self.carry_out(step, wall_ms, &mut effects);
            }
        }
        for (at, text) in &behaviour.writes {
            self.change(&path(at), EffectSource::Walk, &mut effects, |tree, at| {
                tree.write(at, text.as_bytes(), wall_ms);
            });
        }
        for at in &behaviour.cures {
            self.tree.remove(&path(at));
        }
        let how = behaviour.how.unwrap_or(How::Done);
        let message = if how == How::Done {
            String::new()
        } else {
            "it said no".to_owned()
        };
        let report = StepReport {
            step: "run".to_owned(),
            exit: Some(i32::from(how != How::Done)),
            signal: None,
            output_bytes: 0,
            message,
        };
        let state = if behaviour.dies {
            WitnessState::Interrupted {
                step: 0,
                same_boot: true,
            }
        } else {
            WitnessState::Finished(Finished {
                how,
                step: 0,
                steps: vec![report],
                effects: effects.len() as u64,
                effects_complete: true,
                confined: !behaviour.loose,
                duration_ms: u64::try_from(behaviour.lasts.as_millis()).unwrap(),
            })
        };
        let ends_ms = clock.now().plus(behaviour.lasts).boot_ms;
        let effects = if behaviour.dies {
            Vec::new()
        } else {
            effects.into_values().collect()
        };
        self.witness.insert(
            start.heal,
            Record {
                state,
                ends_ms,
                effects,
            },
        );
        Ok(())
    }

    fn change(
        &mut self,
        at: &TreePath,
        source: EffectSource,
        effects: &mut BTreeMap<TreePath, Effect>,
        work: impl FnOnce(&mut Tree, &TreePath),
    ) {
        let before = self.tree.state(at, true);
        work(&mut self.tree, at);
        self.changes += 1;
        let after = self.tree.state(at, true);
        let effect = effects.entry(at.clone()).or_insert_with(|| Effect {
            path: at.clone(),
            before,
            after: None,
            source,
        });
        effect.after = after;
        effect.source = source;
    }

    fn carry_out(&mut self, step: &Step, wall_ms: i64, effects: &mut BTreeMap<TreePath, Effect>) {
        match step {
            Step::Remove { paths, .. } => {
                for at in paths {
                    if self.tree.state(at, false).is_some() {
                        self.change(at, EffectSource::Native, effects, |tree, at| {
                            tree.remove(at);
                        });
                    }
                }
            }
            Step::SetBits {
                paths, add, remove, ..
            } => {
                for at in paths {
                    let Some(state) = self.tree.state(at, false) else {
                        continue;
                    };
                    let mode = (state.meta.mode | add.plain) & !remove.plain;
                    self.change(at, EffectSource::Native, effects, |tree, at| {
                        tree.set_mode(at, mode, wall_ms);
                    });
                }
            }
            Step::Put { path, digest, .. } => {
                let bytes = self.staged.get(digest).cloned().unwrap_or_default();
                self.change(path, EffectSource::Native, effects, |tree, at| {
                    tree.write(at, &bytes, wall_ms);
                });
            }
            Step::Run { .. }
            | Step::Chown { .. }
            | Step::EditKey { .. }
            | Step::SwapDirectory { .. }
            | Step::TrimLog { .. }
            | Step::RestartUnit { .. }
            | Step::RestartPm2 { .. } => {}
        }
    }

    fn look(&self, heal: &str, clock: &SimClock) -> WitnessState {
        match self.witness.get(heal) {
            None => WitnessState::Absent,
            Some(record) if clock.now().boot_ms < record.ends_ms => {
                WitnessState::Running { step: 0 }
            }
            Some(record) => record.state.clone(),
        }
    }
}

impl Host for SimHost {
    fn name(&self) -> &HostName {
        &self.name
    }

    fn call(&self, call: Call) -> BoxFuture<'_, Result<Reply, HostError>> {
        Box::pin(std::future::ready(self.exchange(call)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl SimHost {
    fn exchange(&self, call: Call) -> Result<Reply, HostError> {
        call.check(&self.name)?;
        let unreachable = |reason: &str| HostError::Unreachable {
            host: self.name.clone(),
            reason: reason.to_owned(),
        };
        let unknown = |reason: &str| HostError::Unknown {
            host: self.name.clone(),
            reason: reason.to_owned(),
        };
        let word = verb(&call.request);
        let dies = self
            .fuse
            .enter(&format!("host.{word}"))
            .ok_or_else(|| unreachable("the process died"))?;
        let mut machine = self.machine();
        *machine.calls.entry(word).or_default() += 1;
        if machine.in_doubt {
            return Err(HostError::Untrusted {
                host: self.name.clone(),
                reason: "it offers SHA256:new and not the pinned SHA256:old".to_owned(),
            });
        }
        if machine.not_ours {
            return Err(HostError::NotOurs {
                host: self.name.clone(),
                reason: "its records belong to `other`".to_owned(),
            });
        }
        if !machine.reachable {
            return Err(unreachable("no route to host"));
        }
        let is_app = call.login.identity == Identity::App && call.login.user.is_some();
        if is_app && call.login.uid != UNKNOWN_ID && call.login.uid != machine.user.0 {
            return Err(unreachable("the agent runs as another uid"));
        }
        let place = machine.faults.iter().position(|(verb, _)| *verb == word);
        let fault = place.map(|place| machine.faults.remove(place).1);
        match fault {
            Some(Fault::Unreachable) => return Err(unreachable("connection refused")),
            Some(Fault::Refused(code)) => {
                let refusal = Refusal {
                    code,
                    message: "Permission denied (os error 13)".to_owned(),
                };
                return Err(HostError::Refused {
                    host: self.name.clone(),
                    refusal,
                });
            }
            Some(Fault::Lost | Fault::Slow) | None => {}
        }
        let reply = machine.answer(call.request, call.body, &self.clock);
        match fault {
            Some(Fault::Slow) => {
                self.clock.pass(call.timeout);
                return Err(unknown("no answer in time"));
            }
            Some(Fault::Lost) => return Err(unknown("the connection was cut")),
            Some(Fault::Unreachable | Fault::Refused(_)) | None => {}
        }
        if dies {
            return Err(unknown("the process died"));
        }
        match reply {
            Ok((answer, body)) => Ok(Reply { answer, body }),
            Err(refusal) => Err(HostError::Refused {
                host: self.name.clone(),
                refusal,
            }),
        }
    }
}
