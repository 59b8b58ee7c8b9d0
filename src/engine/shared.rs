//! What all desks share: holds, modes set at run time, fence tokens, and which machine each host is.
//!
//! The store has the truth; this is its copy in memory, changed only after the store has said yes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use healer_agent::protocol::{Answer, Request as AgentRequest, VERSION};
use serde_json::json;

use super::handle::{OpError, OpErrorKind, store_error, unknown};
use crate::guard::HostFacts;
use crate::guard::mode::{Modes, effective};
use crate::model::id::{FenceToken, HoldId};
use crate::model::name::{AppName, HostName};
use crate::model::stop::{Hold, ModeOverride, Scope};
use crate::model::time::Moment;
use crate::model::word::HealingMode;
use crate::seam::store::Restart;
use crate::seam::{Call, Changes, Lane, Login, World, Write};

/// A host's answer to a greeting is asked for again after this.
const HOST_FACTS_AGE: Duration = Duration::from_mins(1);

/// Shared by all desks.
#[derive(Debug, Default)]
pub struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    holds: Vec<Hold>,
    modes: Vec<ModeOverride>,
    fences: BTreeMap<HostName, u64>,
    /// Machine id each host had when it was adopted.
    adopted: BTreeMap<HostName, String>,
    hosts: BTreeMap<HostName, (HostFacts, Moment)>,
    /// Configured for everything.
    global: Option<Modes>,
    /// Apps whose first round after a resume only observes.
    observe_first: BTreeSet<AppName>,
    /// Apps in whose frozen heals a resume asked for undo.
    undo_asked: BTreeMap<AppName, String>,
    /// Every known app.
    apps: BTreeMap<AppName, AppFacts>,
    /// Three crashes in ten minutes: nothing starts until a person resumes.
    observing: Option<String>,
}

/// What scopes and modes need to know of an app.
#[derive(Debug, Clone)]
pub struct AppFacts {
    pub host: HostName,
    pub modes: Modes,
}

/// Settings, by app, that say what a resume still owes; empty when it owes nothing.
const OBSERVE_FIRST: &str = "observe-first:";
const UNDO_ASKED: &str = "undo-asked:";

fn owed(what: &str, app: &AppName, value: &str) -> Write {
    Write::Setting {
        key: format!("{what}{app}"),
        value: value.to_owned(),
    }
}

/// What resumes before this start still owe.
fn still_owed(restart: &Restart, what: &str) -> BTreeMap<AppName, String> {
    restart
        .settings
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(key, value)| Some((key.strip_prefix(what)?.parse().ok()?, value.clone())))
        .collect()
}

/// Key of a host's machine id among the store's settings.
fn machine_key(host: &HostName) -> String {
    format!("machine:{host}")
}

impl Shared {
    /// Takes over what the store remembers.
    pub fn load(&self, restart: &Restart, now: &Moment) {
        let mut state = self.state();
        state.holds = restart
            .holds
            .iter()
            .map(|hold| Hold {
                since: hold.since.anchored(now),
                ..hold.clone()
            })
            .collect();
        state.modes.clone_from(&restart.modes);
        state.fences = restart.fences.iter().cloned().collect();
        state.observe_first = still_owed(restart, OBSERVE_FIRST).into_keys().collect();
        state.undo_asked = still_owed(restart, UNDO_ASKED);
        state.adopted = restart
            .settings
            .iter()
            .filter_map(|(key, value)| {
                Some((key.strip_prefix("machine:")?.parse().ok()?, value.clone()))
            })
            .collect();
    }

    /// Takes over a new configuration.
    pub fn configure(&self, apps: BTreeMap<AppName, AppFacts>, global: Modes) {
        let mut state = self.state();
        state.apps = apps;
        state.global = Some(global);
    }

    /// Only look, whatever the modes say (after repeated crashes), and why.
    pub fn observe_only(&self, reason: Option<String>) {
        self.state().observing = reason;
    }

    /// Why nothing may start at all.
    pub fn observing(&self) -> Option<String> {
        self.state().observing.clone()
    }

    /// All holds.
    pub fn holds(&self) -> Vec<Hold> {
        self.state().holds.clone()
    }

    /// Modes set at run time.
    pub fn modes(&self) -> Vec<ModeOverride> {
        self.state().modes.clone()
    }

    /// The hold that covers an app.
    pub fn held(&self, app: &AppName, host: &HostName, now: &Moment) -> Option<Hold> {
        self.state()
            .holds
            .iter()
            .find(|hold| hold.scope.covers(app, host) && !is_over(hold, now))
            .cloned()
    }

    /// The mode that counts for an app, and where it comes from. What is unknown is MANUAL.
    pub fn mode(&self, app: &AppName) -> (HealingMode, String) {
        let state = self.state();
        let (Some(facts), Some(global)) = (state.apps.get(app), state.global) else {
            return (HealingMode::Manual, "unknown application".to_owned());
        };
        let (mode, set) = effective(app, facts.modes, global, &state.modes);
        (
            mode,
            set.map_or_else(
                || "configured".to_owned(),
                |set| format!("set by {}: {}", set.owner, set.reason),
            ),
        )
    }

    /// Configured modes of an app and of everything, for a guard that reads the rest itself.
    pub fn configured_modes(&self, app: &AppName) -> (Modes, Modes) {
        const NONE: Modes = Modes {
            mode: HealingMode::Manual,
            max_mode: HealingMode::Manual,
        };
        let state = self.state();
        (
            state.apps.get(app).map_or(NONE, |facts| facts.modes),
            state.global.unwrap_or(NONE),
        )
    }

    /// A fence token greater than every one before it on this host.
    pub fn next_fence(&self, host: &HostName) -> FenceToken {
        let mut state = self.state();
        let last = state.fences.entry(host.clone()).or_insert(0);
        *last += 1;
        FenceToken(*last)
    }

    /// Was there no round yet since a resume?
    pub fn observes_first(&self, app: &AppName) -> bool {
        self.state().observe_first.contains(app)
    }

    /// For the transaction after the round that only observed.
    pub(super) fn observed(app: &AppName) -> Write {
        owed(OBSERVE_FIRST, app, "")
    }

    /// That transaction is durable.
    pub(super) fn forget_observe_first(&self, app: &AppName) {
        self.state().observe_first.remove(app);
    }

    /// Who asked, with a resume, to undo what was frozen, and why.
    pub fn undo_asked(&self, app: &AppName) -> Option<String> {
        self.state().undo_asked.get(app).cloned()
    }

    /// For the transaction after every undo that was asked for has begun.
    pub(super) fn undo_begun(app: &AppName) -> Write {
        owed(UNDO_ASKED, app, "")
    }

    /// That transaction is durable.
    pub(super) fn forget_undo_asked(&self, app: &AppName) {
        self.state().undo_asked.remove(app);
    }

    /// Is it known which machine a host is?
    pub fn is_adopted(&self, host: &HostName) -> bool {
        self.state().adopted.contains_key(host)
    }

    /// Which machine a host is, asked at most once a minute. The first one ever seen is adopted.
    pub async fn host_facts(
        &self,
        world: &World,
        host: &HostName,
        login: Login,
    ) -> Option<HostFacts> {
        let now = world.clock.now();
        if let Some((facts, at)) = self.state().hosts.get(host) {
            let age = now.since(at, HOST_FACTS_AGE);
            if age < HOST_FACTS_AGE {
                return Some(HostFacts {
                    uptime: facts.uptime + age,
                    ..facts.clone()
                });
            }
        }
        let seen = ask_host(world, host, login).await?;
        let adopted = self.state().adopted.get(host).cloned();
        let adopted_machine_id = if let Some(id) = adopted {
            Some(id)
        } else {
            let changes = Changes::new(now.clone(), "healerd")
                .write(Write::Setting {
                    key: machine_key(host),
                    value: seen.0.clone(),
                })
                .audit(
                    "host_adopted",
                    &format!("host:{host}"),
                    json!({"machineId": seen.0, "first": true}),
                );
            world.store.apply(changes).await.ok()?;
            self.state().adopted.insert(host.clone(), seen.0.clone());
            Some(seen.0.clone())
        };
        let facts = HostFacts {
            machine_id: seen.0,
            adopted_machine_id,
            uptime: seen.1,
        };
        self.state()
            .hosts
            .insert(host.clone(), (facts.clone(), now));
        Some(facts)
    }

    /// Takes a host's present machine as the right one.
    pub(super) async fn adopt(
        &self,
        world: &World,
        host: &HostName,
        reason: &str,
        owner: &str,
    ) -> Result<(), OpError> {
        if !world.hosts.contains_key(host) {
            return Err(unknown("host", host.as_str(), "healerctl apps"));
        }
        let login = Login::of_daemon();
        let (machine_id, _) = ask_host(world, host, login).await.ok_or_else(|| {
            OpError::new(
                OpErrorKind::Unavailable,
                "host_unseen",
                format!("{host} cannot be seen, so its machine cannot be adopted."),
                "See that it can be reached, then try again.",
            )
        })?;
        let changes = Changes::new(world.clock.now(), owner)
            .write(Write::Setting {
                key: machine_key(host),
                value: machine_id.clone(),
            })
            .audit(
                "host_adopted",
                &format!("host:{host}"),
                json!({"machineId": machine_id, "reason": reason}),
            );
        world
            .store
            .apply(changes)
            .await
            .map_err(|error| store_error(&error))?;
        let mut state = self.state();
        state.adopted.insert(host.clone(), machine_id);
        state.hosts.remove(host);
        Ok(())
    }

    /// Stores a hold; it is acknowledged only when it is durable.
    pub(super) async fn hold(
        &self,
        world: &World,
        scope: Scope,
        reason: &str,
        length: Option<Duration>,
        owner: &str,
    ) -> Result<HoldId, OpError> {
        let now = world.clock.now();
        let hold = Hold {
            id: HoldId::from_raw(world.new_id()),
            scope,
            owner: owner.to_owned(),
            reason: reason.to_owned(),
            since: now.clone(),
            for_ms: length.map(|length| u64::try_from(length.as_millis()).unwrap_or(u64::MAX)),
        };
        let detail = json!({"reason": reason, "forMs": hold.for_ms});
        let changes = Changes::new(now, owner)
            .write(Write::Hold(hold.clone()))
            .audit("held", &hold.scope.to_text(), detail);
        world
            .store
            .apply(changes)
            .await
            .map_err(|error| store_error(&error))?;
        let id = hold.id;
        self.state().holds.push(hold);
        Ok(id)
    }

    /// Takes over a hold that was stored together with something else.
    pub(super) fn remember_hold(&self, hold: Hold) {
        self.state().holds.push(hold);
    }

    /// Ends the holds of a scope.
    pub(super) async fn resume(
        &self,
        world: &World,
        scope: &Scope,
        undo: bool,
        reason: &str,
        owner: &str,
    ) -> Result<usize, OpError> {
        let ended: Vec<_> = self
            .state()
            .holds
            .iter()
            .filter(|hold| hold.scope == *scope)
            .map(|hold| hold.id)
            .collect();
        let observing = *scope == Scope::Everything && self.observing().is_some();
        if ended.is_empty() && !observing {
            return Err(OpError::new(
                OpErrorKind::NotFound,
                "not_held",
                format!(
                    "Nothing is held by exactly the scope `{}`.",
                    scope.to_text()
                ),
                "`healerctl status` shows the holds and their scopes.",
            ));
        }
        let covered = covered(&self.state(), scope);
        let undo = undo.then(|| format!("{owner}: {reason}"));
        let mut changes = Changes::new(world.clock.now(), owner);
        for app in &covered {
            changes = changes.write(owed(OBSERVE_FIRST, app, owner)).write(owed(
                UNDO_ASKED,
                app,
                undo.as_deref().unwrap_or_default(),
            ));
        }
        for id in &ended {
            changes = changes.write(Write::HoldEnded { id: *id });
        }
        if observing {
            changes = changes.write(Write::Setting {
                key: "crashes".to_owned(),
                value: "[]".to_owned(),
            });
        }
        let detail = json!({"reason": reason, "undo": undo.is_some()});
        changes = changes.audit("resumed", &scope.to_text(), detail);
        world
            .store
            .apply(changes)
            .await
            .map_err(|error| store_error(&error))?;
        let mut state = self.state();
        state.holds.retain(|hold| hold.scope != *scope);
        if observing {
            state.observing = None;
        }
        for app in covered {
            // The last word counts, where several holds covered an app.
            match &undo {
                Some(asked) => state.undo_asked.insert(app.clone(), asked.clone()),
                None => state.undo_asked.remove(&app),
            };
            state.observe_first.insert(app);
        }
        Ok(ended.len() + usize::from(observing))
    }

    /// Ends holds whose time is over; what is held by nobody any more only observes first.
    pub(super) async fn end_timed_holds(
        &self,
        world: &World,
    ) -> Result<(), crate::seam::StoreError> {
        let now = world.clock.now();
        let over: Vec<_> = self
            .state()
            .holds
            .iter()
            .filter(|hold| is_over(hold, &now))
            .cloned()
            .collect();
        for hold in over {
            let covered = covered(&self.state(), &hold.scope);
            let mut changes = Changes::new(now.clone(), "healerd");
            for app in &covered {
                changes = changes.write(owed(OBSERVE_FIRST, app, &hold.owner));
            }
            let changes = changes.write(Write::HoldEnded { id: hold.id }).audit(
                "hold_ended",
                &hold.scope.to_text(),
                json!({"why": "its time is over"}),
            );
            world.store.apply(changes).await?;
            let mut state = self.state();
            state.holds.retain(|held| held.id != hold.id);
            state.observe_first.extend(covered);
        }
        Ok(())
    }

    /// Stores a mode set at run time.
    pub(super) async fn set_mode(
        &self,
        world: &World,
        app: Option<AppName>,
        mode: HealingMode,
        reason: &str,
        owner: &str,
    ) -> Result<(), OpError> {
        let now = world.clock.now();
        let modes = {
            let state = self.state();
            match &app {
                Some(app) => state.apps.get(app).map(|facts| facts.modes),
                None => state.global,
            }
        };
        let (ceiling, configured) = modes
            .map_or((HealingMode::Manual, HealingMode::Manual), |modes| {
                (modes.max_mode, modes.mode)
            });
        if mode > ceiling {
            return Err(OpError::new(
                OpErrorKind::Invalid,
                "above_max_mode",
                format!("{mode} is above `max_mode`, which is {ceiling}."),
                "Raise `max_mode` in the configuration first.",
            ));
        }
        let set = ModeOverride {
            app,
            mode,
            configured,
            owner: owner.to_owned(),
            reason: reason.to_owned(),
            since: now.clone(),
        };
        let object = set
            .app
            .as_ref()
            .map_or_else(|| "all".to_owned(), |app| format!("app:{app}"));
        let changes = Changes::new(now, owner)
            .write(Write::Mode(set.clone()))
            .audit(
                "mode_set",
                &object,
                json!({"mode": mode.as_str(), "reason": reason}),
            );
        world
            .store
            .apply(changes)
            .await
            .map_err(|error| store_error(&error))?;
        let mut state = self.state();
        state.modes.retain(|known| known.app != set.app);
        state.modes.push(set);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn covered(state: &State, scope: &Scope) -> Vec<AppName> {
    state
        .apps
        .iter()
        .filter(|(app, facts)| scope.covers(app, &facts.host))
        .map(|(app, _)| app.clone())
        .collect()
}

fn is_over(hold: &Hold, now: &Moment) -> bool {
    hold.for_ms
        .is_some_and(|ms| now.is_past(&hold.since, Duration::from_millis(ms)))
}

/// Machine id and uptime, as the host says.
async fn ask_host(world: &World, host: &HostName, login: Login) -> Option<(String, Duration)> {
    let call = Call {
        login,
        lane: Lane::Check,
        request: AgentRequest::Hello {
            version: VERSION,
            owner: world.owner.clone(),
        },
        body: Vec::new(),
        timeout: Duration::from_secs(15),
    };
    let Answer::Hello(hello) = world.hosts.get(host)?.call(call).await.ok()?.answer else {
        return None;
    };
    Some((hello.machine_id, Duration::from_millis(hello.uptime_ms)))
}
