//! Approvals: what waits for persons.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::backups::digest;
use super::{Shared, query, refused};
use crate::config::Role;
use crate::control::extract::{Asked, At, Body, Caller, named, reason};
use crate::control::problem::Failure;
use crate::control::{show, wire};
use crate::model::approval::Approval;
use crate::model::id::ApprovalId;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(one))
        .routes(routes!(approve))
        .routes(routes!(reject))
}

fn shown(state: &Shared, row: &Approval) -> wire::Approval {
    show::approval(row, state.access.borrow().one_person)
}

fn approval_id(text: &str) -> Result<ApprovalId, Failure> {
    named(text, "approval", "healerctl approvals")
}

/// Approvals, newest first.
#[utoipa::path(get, path = "/approvals", tag = "approvals", params(wire::ListQuery),
    responses((status = 200, body = Vec<wire::Approval>)))]
async fn list(
    State(state): State<Shared>,
    caller: Caller,
    Asked(asked): Asked<wire::ListQuery>,
) -> Result<Json<Vec<wire::Approval>>, Failure> {
    caller.may(Role::Viewer, "look")?;
    let rows = state.backend.store().approvals(query(&asked)?).await?;
    Ok(Json(rows.iter().map(|row| shown(&state, row)).collect()))
}

/// One approval.
#[utoipa::path(get, path = "/approvals/{id}", tag = "approvals", params(("id" = String, Path)),
    responses((status = 200, body = wire::Approval)))]
async fn one(
    State(state): State<Shared>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<wire::Approval>, Failure> {
    caller.may(Role::Viewer, "look")?;
    let row = state.backend.store().approval(approval_id(&id)?).await?;
    let row = row.ok_or_else(|| Failure::unknown("approval", &id, "healerctl approvals"))?;
    Ok(Json(shown(&state, &row)))
}

/// Votes for exactly what has this digest; it says what it waits for. Approver.
#[utoipa::path(post, path = "/approvals/{id}/approve", tag = "approvals", params(("id" = String, Path)),
    request_body = wire::ApproveRequest, responses((status = 200, body = wire::Approval)))]
async fn approve(
    State(state): State<Shared>,
    caller: Caller,
    At(id): At<String>,
    Body(request): Body<wire::ApproveRequest>,
) -> Result<Json<wire::Approval>, Failure> {
    caller.may(Role::Approver, "approve")?;
    let (id, digest, reason) = (
        approval_id(&id)?,
        digest(&request.digest)?,
        reason(&request.reason)?,
    );
    let row = state
        .backend
        .approve(id, digest, reason, caller.person)
        .await;
    row.map(|row| Json(shown(&state, &row)))
        .map_err(|error| refused(&state, error))
}

/// Votes against it, which ends it. Approver.
#[utoipa::path(post, path = "/approvals/{id}/reject", tag = "approvals", params(("id" = String, Path)),
    request_body = wire::ReasonRequest, responses((status = 200, body = wire::Approval)))]
async fn reject(
    State(state): State<Shared>,
    caller: Caller,
    At(id): At<String>,
    Body(request): Body<wire::ReasonRequest>,
) -> Result<Json<wire::Approval>, Failure> {
    caller.may(Role::Approver, "reject")?;
    let row = state
        .backend
        .reject(approval_id(&id)?, reason(&request.reason)?, caller.person)
        .await;
    row.map(|row| Json(shown(&state, &row)))
        .map_err(|error| refused(&state, error))
}
