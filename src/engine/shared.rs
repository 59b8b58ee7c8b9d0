//! What all desks share: holds, modes set at run time, fence tokens, and which machine each host is.
//!
//! The store has the truth; this is its copy in memory, changed only after the store has said yes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use healer_agent::protocol::{Answer, Request as AgentRequest, VERSION};
use serde_json::json;

use super::handle::{OpError, OpErrorKind, store_error, unknown};
use super::{network, outage, who};
use crate::decide::incident::OTHER_MACHINE;
use crate::guard::HostFacts;
use crate::guard::mode::{Modes, effective};
use crate::model::host::{UserIds, UserName};
use crate::model::id::{FenceToken, HoldId};
use crate::model::incident::Incident;
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
    /// Numbers of the users of hosts that are not this machine.
    users: BTreeMap<(HostName, UserName), UserIds>,
    /// Hosts that cannot be seen, each with the key under which that is told once for all of its apps.
    unseen: BTreeMap<HostName, String>,
    /// The key of each host's last outage that is over.
    seen_again: BTreeMap<HostName, String>,
    /// Apps that cannot see their host.
    away: BTreeMap<AppName, Away>,
    /// What ended for an app while others of its host stayed away: told when the last of them comes back.
    withheld: BTreeMap<HostName, Incident>,
    /// Keys of hosts that persons enrolled.
    enrolled: BTreeMap<HostName, Vec<String>>,
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

/// An app whose incident about its host is open.
#[derive(Debug, Clone, Copy, Default)]
struct Away {
    /// It was open when this process began: what the others of its host did before is not known.
    restored: bool,
    /// Rounds that failed since another app of its host came back; `None`: none did.
    behind: Option<u32>,
}

/// So many rounds fail before it is the app that is away and not its host: one may have begun before the host was back.
const LEFT_BEHIND: u32 = 2;

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
        state.users = restart
            .settings
            .iter()
            .filter_map(|(key, value)| who::read_user(key, value))
            .collect();
        state.enrolled = restart
            .settings
            .iter()
            .filter_map(|(key, value)| network::read_pins(key, value))
            .collect();
        state.away = restart
            .incidents
            .iter()
            .filter(|incident| outage::is_away(incident))
            .map(|incident| {
                let away = Away {
                    restored: true,
                    behind: None,
                };
                (incident.app.clone(), away)
            })
            .collect();
    }

    /// The numbers of a user on a host.
    pub(super) fn user(&self, host: &HostName, user: UserName) -> Option<UserIds> {
        self.state().users.get(&(host.clone(), user)).copied()
    }

    /// Takes over numbers that were stored.
    pub(super) fn remember_user(&self, host: &HostName, user: UserName, ids: UserIds) {
        self.state().users.insert((host.clone(), user), ids);
    }

    /// Keys that persons enrolled, by host.
    pub fn enrolled(&self) -> BTreeMap<HostName, Vec<String>> {
        self.state().enrolled.clone()
    }

    /// Takes over keys that were stored; none: forgotten. What was known of the host is asked for again.
    pub(super) fn remember_enrolled(&self, host: &HostName, keys: Vec<String>) {
        let mut state = self.state();
        state.hosts.remove(host);
        if keys.is_empty() {
            state.enrolled.remove(host);
        } else {
            state.enrolled.insert(host.clone(), keys);
        }
    }

    /// The machine that a host was adopted as, and what it said last.
    pub(super) fn machine(&self, host: &HostName) -> (Option<String>, Option<String>) {
        let state = self.state();
        let seen = state
            .hosts
            .get(host)
            .map(|(facts, _)| facts.machine_id.clone());
        (state.adopted.get(host).cloned(), seen)
    }

    /// The key under which it is told that a host cannot be seen: one for all its apps, as long as it lasts.
    pub(super) fn outage(&self, host: &HostName, first: &str) -> String {
        let mut state = self.state();
        let key = state.unseen.entry(host.clone());
        key.or_insert_with(|| format!("host:{host}:{first}"))
            .clone()
    }

    /// A host was seen: what comes next is another outage.
    pub(super) fn outage_over(&self, host: &HostName) {
        let mut state = self.state();
        if let Some(key) = state.unseen.remove(host) {
            state.seen_again.insert(host.clone(), key);
        }
    }

    /// The key under which it is told that a host can be seen again: one for all its apps. `first` names an outage that
    /// was told before this process began.
    pub(super) fn seen_again(&self, host: &HostName, first: &str) -> String {
        self.outage_over(host);
        let mut state = self.state();
        let key = state.seen_again.entry(host.clone());
        key.or_insert_with(|| format!("host:{host}:{first}"))
            .clone()
    }

    /// Takes over whether an app cannot see its host, and what is `over` for it. Gives what is over for the whole host:
    /// nothing, as long as one of its apps is away.
    pub(super) fn note_away(
        &self,
        app: &AppName,
        host: &HostName,
        is_away: bool,
        over: Option<&Incident>,
    ) -> Option<Incident> {
        let mut state = self.state();
        let others = others_away(&state, app, host);
        if is_away {
            let joins = !state.away.contains_key(app);
            if joins {
                state.away.insert(app.clone(), Away::default());
                // They are away together from here on.
                for other in &others {
                    if let Some(away) = state.away.get_mut(other) {
                        away.behind = None;
                    }
                }
            }
            return None;
        }
        state.away.remove(app);
        if others.is_empty() {
            let withheld = state.withheld.remove(host);
            return over.cloned().or(withheld);
        }
        if let Some(over) = over {
            state.withheld.insert(host.clone(), over.clone());
        }
        None
    }

    /// An app saw its host. What is away of the others is the more so, if this one `came_back`.
    pub(super) fn seen_beside(&self, app: &AppName, host: &HostName, came_back: bool) {
        let mut state = self.state();
        let others = others_away(&state, app, host);
        for other in &others {
            if let Some(away) = state.away.get_mut(other)
                && (came_back || away.restored)
            {
                away.behind = away.behind.or(Some(0));
            }
        }
    }

    /// One more round of an app that is away has failed. Is it left behind, the host being there for others?
    pub(super) fn failed_again(&self, app: &AppName) -> bool {
        let mut state = self.state();
        let Some(away) = state.away.get_mut(app) else {
            return false;
        };
        away.behind = away.behind.map(|rounds| rounds.saturating_add(1));
        away.behind.is_some_and(|rounds| rounds >= LEFT_BEHIND)
    }

    /// A host was not seen: who answers there next is asked anew which machine it is.
    pub(super) fn forget_facts(&self, host: &HostName) {
        self.state().hosts.remove(host);
    }

    /// Why a host that answers is not the one that was adopted; none while that is not known.
    pub(super) fn other_machine(&self, host: &HostName) -> Option<String> {
        let (Some(adopted), Some(seen)) = self.machine(host) else {
            return None;
        };
        (adopted != seen).then(|| {
            format!(
                "{OTHER_MACHINE}; nothing is healed there until `healerctl adopt {host}`, if that is right"
            )
        })
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

    /// Modes set at run time that have not yielded to a changed configuration.
    pub fn modes(&self) -> Vec<ModeOverride> {
        let state = self.state();
        let configured = |set: &ModeOverride| match &set.app {
            Some(app) => state.apps.get(app).map(|facts| facts.modes.mode),
            None => state.global.map(|global| global.mode),
        };
        state
            .modes
            .iter()
            .filter(|set| configured(set) == Some(set.configured))
            .cloned()
            .collect()
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
        let origin = match set {
            Some(set) => format!(
                "set {}by {} at {}: {}",
                if set.app.is_none() {
                    "for everything "
                } else {
                    ""
                },
                set.owner,
                set.since.to_text(),
                set.reason
            ),
            None if facts.modes.is_own => "configured".to_owned(),
            None => "configured for everything".to_owned(),
        };
        (mode, origin)
    }

    /// Apps for which what is set for everything does not count, because something is said of them alone.
    pub fn with_own_mode(&self) -> Vec<AppName> {
        let state = self.state();
        let set = |app: &AppName, facts: &AppFacts| {
            state
                .modes
                .iter()
                .any(|set| set.app.as_ref() == Some(app) && set.configured == facts.modes.mode)
        };
        state
            .apps
            .iter()
            .filter(|(app, facts)| facts.modes.is_own || set(app, facts))
            .map(|(app, _)| app.clone())
            .collect()
    }

    /// Configured modes of an app and of everything, for a guard that reads the rest itself.
    pub fn configured_modes(&self, app: &AppName) -> (Modes, Modes) {
        const NONE: Modes = Modes {
            mode: HealingMode::Manual,
            max_mode: HealingMode::Manual,
            is_own: true,
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

    /// The same, asked just now where somebody else could answer at the host's address: for what is about to begin there.
    pub(super) async fn host_facts_now(
        &self,
        world: &World,
        host: &HostName,
        login: Login,
    ) -> Option<HostFacts> {
        if *host != HostName::local() {
            self.forget_facts(host);
        }
        self.host_facts(world, host, login).await
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
        if !world.hosts.has(host) {
            return Err(unknown("host", host.as_str(), "healerctl host"));
        }
        let login = Login::of_host(host);
        let (machine_id, _) = ask_host(world, host, login).await.ok_or_else(|| {
            OpError::new(
                OpErrorKind::Unavailable,
                "host_unseen",
                format!("{host} cannot be seen, so its machine cannot be adopted."),
                "See that it can be reached, then try again.",
            )
        })?;
        let users: Vec<UserName> = self
            .state()
            .users
            .keys()
            .filter(|(on, _)| on == host)
            .map(|(_, user)| *user)
            .collect();
        let mut changes = Changes::new(world.clock.now(), owner).write(Write::Setting {
            key: machine_key(host),
            value: machine_id.clone(),
        });
        // Who its users are is learned again from the machine that is there now.
        for user in &users {
            changes = changes.write(Write::Setting {
                key: who::user_key(host, *user),
                value: String::new(),
            });
        }
        let changes = changes.audit(
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
        state.users.retain(|(on, _), _| on != host);
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
            return Err(not_held(scope, &self.holds()));
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

    /// Ends holds whose time is over, and gives them; what is held by nobody any more only observes first.
    pub(super) async fn end_timed_holds(
        &self,
        world: &World,
    ) -> Result<Vec<Hold>, crate::seam::StoreError> {
        let now = world.clock.now();
        let over: Vec<_> = self
            .state()
            .holds
            .iter()
            .filter(|hold| is_over(hold, &now))
            .cloned()
            .collect();
        for hold in &over {
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
        Ok(over)
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

    /// Lifts a mode set at run time.
    pub(super) async fn clear_mode(
        &self,
        world: &World,
        app: Option<AppName>,
        reason: &str,
        owner: &str,
    ) -> Result<(), OpError> {
        let of = app
            .as_ref()
            .map_or_else(|| "everything".to_owned(), ToString::to_string);
        let set = self
            .state()
            .modes
            .iter()
            .find(|set| set.app == app)
            .cloned();
        let Some(set) = set else {
            return Err(OpError::new(
                OpErrorKind::NotFound,
                "no_mode_set",
                format!("No mode is set at run time for {of}."),
                "`healerctl mode` shows every mode and where it comes from.",
            ));
        };
        let object = app
            .as_ref()
            .map_or_else(|| "all".to_owned(), |app| format!("app:{app}"));
        let changes = Changes::new(world.clock.now(), owner)
            .write(Write::ModeCleared { app: app.clone() })
            .audit(
                "mode_cleared",
                &object,
                json!({"mode": set.mode.as_str(), "reason": reason}),
            );
        world
            .store
            .apply(changes)
            .await
            .map_err(|error| store_error(&error))?;
        self.state().modes.retain(|known| known.app != app);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The other apps of a host that cannot see it.
fn others_away(state: &State, app: &AppName, host: &HostName) -> Vec<AppName> {
    state
        .apps
        .iter()
        .filter(|(other, facts)| *other != app && facts.host == *host)
        .filter(|(other, _)| state.away.contains_key(*other))
        .map(|(other, _)| other.clone())
        .collect()
}

fn covered(state: &State, scope: &Scope) -> Vec<AppName> {
    state
        .apps
        .iter()
        .filter(|(app, facts)| scope.covers(app, &facts.host))
        .map(|(app, _)| app.clone())
        .collect()
}

/// No hold has exactly this scope; those that there are, are named.
fn not_held(scope: &Scope, holds: &[Hold]) -> OpError {
    let scopes: BTreeSet<String> = holds.iter().map(|hold| hold.scope.to_text()).collect();
    let asked = scope.to_text();
    let (message, hint) = match scopes.first() {
        None => (
            format!("There is no hold of `{asked}`; nothing is held at all."),
            "`healerctl status` shows why something waits.".to_owned(),
        ),
        Some(first) => {
            let list: Vec<&str> = scopes.iter().map(String::as_str).collect();
            (
                format!(
                    "There is no hold of `{asked}`. What is held: {}.",
                    list.join(", ")
                ),
                format!("Name the hold's own scope: `healerctl resume {first}`."),
            )
        }
    };
    OpError::new(OpErrorKind::NotFound, "not_held", message, hint)
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
