//! What others see of a desk, copied to the board after each turn.

use std::sync::PoisonError;

use super::desk::Desk;
use super::handle::{ActionView, AppView, Handle, Health};
use super::next;
use crate::catalogue::fact::Scope;
use crate::catalogue::{RootNeeds, Stack, resolve};
use crate::guard::breaker::status;
use crate::model::app::App;
use crate::model::approval::ApprovalState;
use crate::model::breaker::BreakerState;
use crate::model::heal::HealState;
use crate::model::word::{HealingMode, Status};

/// Puts the desk's present on the board.
pub(super) fn publish(handle: &Handle, desk: &Desk) {
    let view = view(desk);
    let count = |wanted: fn(Status) -> bool| {
        view.results
            .iter()
            .filter(|result| wanted(result.status))
            .count()
            .try_into()
            .unwrap_or(u64::MAX)
    };
    desk.metrics.set_app_checks(
        &desk.app.name,
        count(Status::is_bad),
        count(|status| status == Status::Error),
    );
    desk.metrics.set_app_breaker_open(
        &desk.app.name,
        view.breaker.circuit_breaker_state == BreakerState::Open,
    );
    handle
        .board
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(desk.app.name.clone(), view);
}

fn view(desk: &Desk) -> AppView {
    let now = desk.now();
    let (mode, mode_origin) = desk.shared.mode(&desk.app.name);
    let held = desk.shared.held(&desk.app.name, &desk.app.host, &now);
    AppView {
        name: desk.app.name.clone(),
        host: desk.app.host.clone(),
        stack: desk.app.stack.clone(),
        path: desk.app.target.root.clone(),
        url: desk.app.url.clone(),
        user: desk.app.user.clone(),
        root_lines: RootNeeds::of(&desk.stack, &desk.app).lines(&desk.app),
        health: health(desk),
        mode,
        mode_origin,
        breaker: status::status(&desk.breaker, &desk.app.policy.breaker, &now),
        results: desk
            .look
            .as_ref()
            .map(|look| look.round.results.clone())
            .unwrap_or_default(),
        looked: desk.look.as_ref().map(|look| look.at.clone()),
        unseen: desk.unseen_reason.clone(),
        plan: desk.plan.clone(),
        incidents: desk.incidents.clone(),
        next: next::lines(desk, &now),
        heals: desk.heals.clone(),
        waits: desk.waits.clone(),
        mutes: desk.mutes.clone(),
        approvals: desk
            .approvals
            .iter()
            .filter(|approval| approval.state == ApprovalState::Pending)
            .map(|approval| approval.created.clone())
            .collect(),
        backup_policy: desk.app.policy.backup.clone(),
        held,
        observing: desk.shared.observing(),
        due: desk.due.clone(),
    }
}

/// One word, from the latest round alone; what could not be determined is kept apart from what is bad.
fn health(desk: &Desk) -> Health {
    if desk
        .heals
        .iter()
        .any(|heal| !heal.state.is_end() && !matches!(heal.state, HealState::Soaking { .. }))
    {
        return Health::Healing;
    }
    let Some(look) = desk.look.as_ref().filter(|_| desk.blind.rounds == 0) else {
        return Health::Unknown;
    };
    let results = &look.round.results;
    if desk.is_down() {
        Health::Down
    } else if results.iter().any(|result| result.status.is_bad()) {
        Health::Degraded
    } else if results.is_empty()
        || results
            .iter()
            .any(|result| result.availability && result.status == Status::Error)
    {
        Health::Unknown
    } else {
        Health::Healthy
    }
}

/// What an app's stack can do, and what of it may run alone in which mode.
pub(super) fn actions(app: &App, stack: &Stack) -> Vec<ActionView> {
    stack
        .actions
        .iter()
        .map(|action| {
            let scope = Scope {
                app: Some(app),
                defaults: Some(&stack.vars),
                ..Scope::default()
            };
            let risk = resolve::effective_risk(stack, action, &[], &scope, &app.policy);
            let asks = app.policy.always_ask.contains(&action.name);
            ActionView {
                name: action.name.clone(),
                title: action.title.clone(),
                risk,
                writes: action.writes_text.clone(),
                proves: stack.served_by(&action.name).to_vec(),
                alone_in: HealingMode::ALL
                    .iter()
                    .copied()
                    .filter(|mode| !asks && mode.allows(risk))
                    .collect(),
            }
        })
        .collect()
}
