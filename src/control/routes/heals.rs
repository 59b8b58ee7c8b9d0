//! Heals: what ran, what runs, and what a person must decide.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, query, shown_heal};
use crate::config::Role;
use crate::control::extract::{Asked, At, Body, Caller, keep_or_undo, named, reason};
use crate::control::problem::Failure;
use crate::control::{show, wire};
use crate::model::id::HealId;

/// Lines of a journal at most; the newest count.
const JOURNAL_MAX: usize = 1000;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(one))
        .routes(routes!(decide))
}

/// Heals, newest first.
#[utoipa::path(get, path = "/heals", tag = "heals", params(wire::ListQuery),
    responses((status = 200, body = Vec<wire::Heal>)))]
async fn list(
    State(state): State<Shared>,
    caller: Caller,
    Asked(asked): Asked<wire::ListQuery>,
) -> Result<Json<Vec<wire::Heal>>, Failure> {
    caller.may(Role::Viewer, "look")?;
    let rows = state.backend.store().heals(query(&asked)?).await?;
    Ok(Json(
        rows.iter().map(|heal| shown_heal(&state, heal)).collect(),
    ))
}

/// One heal with its journal.
#[utoipa::path(get, path = "/heals/{id}", tag = "heals", params(("id" = String, Path)),
    responses((status = 200, body = wire::Heal)))]
async fn one(
    State(state): State<Shared>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<wire::Heal>, Failure> {
    caller.may(Role::Viewer, "look")?;
    let heal_id: HealId = named(&id, "heal", "healerctl heals")?;
    let store = state.backend.store();
    let heal = store
        .heal(heal_id)
        .await?
        .ok_or_else(|| Failure::unknown("heal", &id, "healerctl heals"))?;
    let events = store.heal_events(heal_id).await?;
    let mut shown = shown_heal(&state, &heal);
    let first = events.len().saturating_sub(JOURNAL_MAX);
    shown.details.journal = events
        .iter()
        .skip(first)
        .map(|(at, event)| show::journal(at, event))
        .collect();
    Ok(Json(shown))
}

/// Decides what was left for a person. Approver.
#[utoipa::path(post, path = "/heals/{id}/decide", tag = "heals", params(("id" = String, Path)),
    request_body = wire::DecideRequest, responses((status = 200, body = wire::Heal)))]
async fn decide(
    State(state): State<Shared>,
    caller: Caller,
    At(id): At<String>,
    Body(request): Body<wire::DecideRequest>,
) -> Result<Json<wire::Heal>, Failure> {
    caller.may(Role::Approver, "decide")?;
    let id = named(&id, "heal", "healerctl heals")?;
    let undo = keep_or_undo(request.keep, request.undo)?;
    let heal = state
        .backend
        .decide(id, undo, reason(&request.reason)?, caller.person)
        .await?;
    Ok(Json(shown_heal(&state, &heal)))
}
