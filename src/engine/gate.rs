//! Gathering what guards look at, once for asking now and once for asking inside the intent's transaction.

use std::sync::Arc;
use std::time::Duration;

use healer_agent::protocol::{Request, VERSION};

use super::desk::Desk;
use crate::act;
use crate::catalogue::fact::Scope;
use crate::catalogue::{Stack, Truth, resolve};
use crate::guard::mode::{Modes, effective};
use crate::guard::{self, GuardInput, HostFacts, Permit, Room};
use crate::model::action::Identity;
use crate::model::app::App;
use crate::model::check::Round;
use crate::model::heal::Heal;
use crate::model::incident::Incident;
use crate::model::ledger::GuardRows;
use crate::model::name::HostName;
use crate::model::reason::Denied;
use crate::model::time::Moment;
use crate::seam::store::Gate;
use crate::seam::{Call, Lane, Login};

/// Root's agent says within this who it is.
const GREETING: Duration = Duration::from_secs(30);

/// Owned facts about one heal, so that a transaction can ask the guards anew.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    app: Arc<App>,
    heal: Heal,
    incident: Option<Incident>,
    modes: (Modes, Modes),
    look: Option<(Round, Moment)>,
    room: Option<Room>,
    host: Option<HostFacts>,
    deployed: Option<Moment>,
    preconditions: Option<bool>,
    now: Moment,
}

impl Facts {
    /// For the start of a heal, with the round just made, and when.
    pub(super) async fn gather(desk: &Desk, heal: &Heal, round: Round, seen: Moment) -> Self {
        let host = desk
            .shared
            .host_facts_now(&desk.world, &desk.app.host, desk.login())
            .await;
        let room = room(desk, heal).await;
        let preconditions = preconditions(&desk.stack, &desk.app, heal, &round);
        let now = desk.now();
        Self {
            app: Arc::clone(&desk.app),
            heal: heal.clone(),
            incident: desk.incident(heal.incident).cloned(),
            modes: desk.shared.configured_modes(&desk.app.name),
            look: Some((round, seen)),
            room,
            host,
            deployed: desk.deployed.clone(),
            preconditions,
            now,
        }
    }

    /// For a heal that is not admitted yet: no room, no fresh look.
    pub(super) async fn before_admission(desk: &Desk, heal: &Heal, incident: &Incident) -> Self {
        let host = desk
            .shared
            .host_facts(&desk.world, &desk.app.host, desk.login())
            .await;
        let look = desk.look.as_ref();
        Self {
            app: Arc::clone(&desk.app),
            heal: heal.clone(),
            incident: Some(incident.clone()),
            modes: desk.shared.configured_modes(&desk.app.name),
            look: look.map(|look| (look.round.clone(), look.at.clone())),
            room: None,
            host,
            deployed: desk.deployed.clone(),
            preconditions: look
                .and_then(|look| preconditions(&desk.stack, &desk.app, heal, &look.round)),
            now: desk.now(),
        }
    }

    /// Asks every guard.
    pub(super) fn ask(&self, rows: &GuardRows) -> Result<Permit, Denied> {
        self.with(rows, guard::ask)
    }

    /// Asks what can be asked before admission.
    pub(super) fn ask_before_admission(&self, rows: &GuardRows) -> Result<(), Denied> {
        self.with(rows, guard::ask_before_admission)
    }

    /// The same question, to be asked inside a transaction.
    pub(super) fn into_gate(self) -> Gate {
        Box::new(move |rows| self.ask(rows).map(drop))
    }

    fn with<T>(
        &self,
        rows: &GuardRows,
        ask: impl FnOnce(&GuardInput<'_>) -> Result<T, Denied>,
    ) -> Result<T, Denied> {
        let Some(incident) = &self.incident else {
            return Err(Denied(Vec::new())); // no incident, no reason to act
        };
        let (own, global) = self.modes;
        let (mode, _) = effective(&self.app.name, own, global, &rows.modes);
        ask(&GuardInput {
            app: &self.app,
            heal: self.heal.id,
            origin: &self.heal.origin,
            action: &self.heal.action,
            matched: self.heal.matched,
            checks: &self.heal.checks,
            incident,
            trial: self.heal.trial,
            mode,
            rows,
            look: self.look.as_ref().map(|(round, at)| (round, at)),
            room: self.room,
            host: self.host.clone(),
            deployed: self.deployed.as_ref(),
            preconditions: self.preconditions,
            now: &self.now,
        })
    }
}

/// Is this the machine that was adopted?
pub(super) fn is_the_adopted(facts: &HostFacts) -> bool {
    let adopted = facts.adopted_machine_id.as_deref();
    adopted.is_some_and(|adopted| !adopted.is_empty() && adopted == facts.machine_id)
}

/// Why whoever answers for the app's host must not be taken for the machine that was adopted: it is another one, or it is
/// not known which. `begun` is what has begun there: it belongs to the machine that it began on, and a person who adopts
/// another one later says nothing about it. `anew`: what was learned within the last minute is not enough. Of this
/// machine only what is known already counts.
pub(super) async fn elsewhere(desk: &Desk, begun: Option<&Heal>, anew: bool) -> Option<String> {
    let (host, login) = (&desk.app.host, desk.login());
    if let Some(reason) = begun.and_then(|heal| adopted_anew(desk, heal)) {
        return Some(reason);
    }
    if *host == HostName::local() {
        return desk.shared.other_machine(host);
    }
    // Asking which machine a host is would adopt it, where nobody did yet.
    let facts = match (desk.shared.is_adopted(host), anew) {
        (false, _) => None,
        (true, true) => desk.shared.host_facts_now(&desk.world, host, login).await,
        (true, false) => desk.shared.host_facts(&desk.world, host, login).await,
    };
    match facts {
        Some(facts) if is_the_adopted(&facts) => None,
        Some(_) => Some(format!(
            "{host} is another machine than the one that was adopted"
        )),
        None => Some(format!("it is not known which machine {host} is")),
    }
}

/// Why a heal can no longer be gone on with, when its host was adopted as another machine since it was admitted.
pub(super) fn adopted_anew(desk: &Desk, heal: &Heal) -> Option<String> {
    let host = &desk.app.host;
    let (its, adopted) = (heal.machine.as_ref()?, desk.shared.machine(host).0?);
    (*its != adopted).then(|| {
        format!("{host} was adopted as another machine, and this heal belongs to the one before")
    })
}

/// Why root cannot be had on the app's host for an action that needs it; none where it can, or where it needs none.
///
/// Once the intent is written, only root's own witness could say that nothing ever began.
pub(super) async fn root_is_away(desk: &Desk, heal: &Heal) -> Option<String> {
    let host = &desk.app.host;
    if heal.action.identity != Identity::Root || *host == HostName::local() {
        return None;
    }
    let call = Call {
        login: Login::of_action(&desk.app, Identity::Root),
        lane: Lane::Check,
        request: Request::Hello {
            version: VERSION,
            owner: desk.world.owner.clone(),
        },
        body: Vec::new(),
        timeout: GREETING,
    };
    let Some(there) = desk.world.hosts.get(host) else {
        return Some(format!("{host} is not configured"));
    };
    there.call(call).await.err().map(|error| error.to_string())
}

/// Do the action's `requires` hold? `None`: cannot be decided. A rollback has none.
fn preconditions(stack: &Stack, app: &App, heal: &Heal, round: &Round) -> Option<bool> {
    if guard::rollback_backup(&heal.origin).is_some() {
        return Some(true);
    }
    let action = stack.action(&heal.action.name)?;
    let scope = Scope {
        app: Some(app),
        defaults: Some(&stack.vars),
        results: Some(&round.results),
        ..Scope::default()
    };
    match resolve::requirements(stack, action, &heal.checks, &scope) {
        Truth::True => Some(true),
        Truth::False => Some(false),
        Truth::Unknown(_) => None,
    }
}

/// Free room on both sides, and what backup and action will need.
async fn room(desk: &Desk, heal: &Heal) -> Option<Room> {
    if !heal.action.writes_files() {
        return None;
    }
    let (vault_free, _) = desk.world.vault.room().await.ok()?;
    let login = Login::of_app(&desk.app);
    let target_free = act::free_bytes(&desk.world, &desk.app, login).await.ok()?;
    Some(Room {
        vault_free,
        target_free,
        estimate: heal.action.estimate_bytes,
    })
}

/// Would the same results still give exactly this action?
pub(super) async fn still_resolves(desk: &Desk, heal: &Heal, round: &Round) -> bool {
    match super::admit::resolve(
        desk,
        &heal.action.name,
        &heal.checks,
        &heal.action.params,
        round,
        heal.action.risk,
    )
    .await
    {
        Ok(action) => action == heal.action,
        Err(reason) => {
            tracing::info!(heal_id = %heal.id, %reason, "the action can no longer be resolved");
            false
        }
    }
}
