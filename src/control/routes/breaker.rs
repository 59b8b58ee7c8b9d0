//! Circuit breakers.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, limit, view};
use crate::config::Role;
use crate::control::extract::{Asked, At, Body, Caller, length, reason};
use crate::control::problem::Failure;
use crate::control::{show, wire};
use crate::model::breaker::ForcedState;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(reset))
        .routes(routes!(force))
        .routes(routes!(history))
}

/// What the breaker says of itself; reading changes nothing.
#[utoipa::path(get, path = "/applications/{app}/circuit-breaker", tag = "circuit breaker",
    params(("app" = String, Path)), responses((status = 200, body = wire::BreakerStatus)))]
async fn status(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
) -> Result<Json<wire::BreakerStatus>, Failure> {
    caller.may(Role::Viewer, "look")?;
    Ok(Json(show::breaker(&view(&state, &app)?.breaker)))
}

/// CLOSED with no failures. Admin.
#[utoipa::path(post, path = "/applications/{app}/circuit-breaker/reset", tag = "circuit breaker",
    params(("app" = String, Path)), request_body = wire::ReasonRequest,
    responses((status = 200, body = wire::BreakerStatus)))]
async fn reset(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
    Body(request): Body<wire::ReasonRequest>,
) -> Result<Json<wire::BreakerStatus>, Failure> {
    caller.may(Role::Admin, "reset a circuit breaker")?;
    let name = view(&state, &app)?.name;
    state
        .backend
        .reset_breaker(&name, reason(&request.reason)?, caller.person)
        .await?;
    Ok(Json(show::breaker(&view(&state, &app)?.breaker)))
}

/// Forces the breaker, or lifts the force. Admin.
#[utoipa::path(post, path = "/applications/{app}/circuit-breaker/force", tag = "circuit breaker",
    params(("app" = String, Path)), request_body = wire::ForceRequest,
    responses((status = 200, body = wire::BreakerStatus)))]
async fn force(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
    Body(request): Body<wire::ForceRequest>,
) -> Result<Json<wire::BreakerStatus>, Failure> {
    caller.may(Role::Admin, "force a circuit breaker")?;
    let name = view(&state, &app)?.name;
    let forced = match request.state {
        wire::ForceState::Open => Some(ForcedState::Open),
        wire::ForceState::ObserveOnly => Some(ForcedState::ObserveOnly),
        wire::ForceState::None => None,
    };
    let reason = reason(&request.reason)?;
    let length = request.length.as_deref().map(length).transpose()?;
    state
        .backend
        .force_breaker(&name, forced, reason, length, caller.person)
        .await?;
    Ok(Json(show::breaker(&view(&state, &app)?.breaker)))
}

/// Transitions, newest first.
#[utoipa::path(get, path = "/applications/{app}/circuit-breaker/history", tag = "circuit breaker",
    params(("app" = String, Path), wire::ListQuery), responses((status = 200, body = Vec<wire::BreakerTransition>)))]
async fn history(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
    Asked(asked): Asked<wire::ListQuery>,
) -> Result<Json<Vec<wire::BreakerTransition>>, Failure> {
    caller.may(Role::Viewer, "look")?;
    let name = view(&state, &app)?.name;
    let rows = state
        .backend
        .store()
        .breaker_history(&name, limit(asked.limit)?)
        .await?;
    Ok(Json(rows.iter().map(show::transition).collect()))
}
