//! The daemon as a whole: status, holds, modes, incidents, audit, events, metrics, notices.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, done, limit, query};
use crate::config::Role;
use crate::control::extract::{Asked, At, Body, Caller, keep_or_undo, length, named, reason};
use crate::control::problem::Failure;
use crate::control::server::Ends;
use crate::control::{events, show, wire};
use crate::engine::handle::Health;
use crate::model::approval::ApprovalState;
use crate::model::breaker::BreakerState;
use crate::model::id::IncidentId;
use crate::model::stop::Scope;
use crate::seam::store::Query;

/// Approvals that a status counts at most; the queue itself is bounded below that.
const COUNTED_MAX: u32 = 1000;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(hold))
        .routes(routes!(resume))
        .routes(routes!(mode, clear_mode))
        .routes(routes!(incidents))
        .routes(routes!(close))
        .routes(routes!(audit))
        .routes(routes!(stream))
        .routes(routes!(metrics))
        .routes(routes!(notify_test))
}

/// The daemon as a whole.
#[utoipa::path(get, path = "/status", tag = "daemon", responses((status = 200, body = wire::Status)))]
async fn status(
    State(state): State<Shared>,
    caller: Caller,
) -> Result<Json<wire::Status>, Failure> {
    caller.may(Role::Viewer, "look")?;
    let backend = &state.backend;
    let apps = backend.apps();
    let head = backend.store().audit_head().await?;
    let waiting = backend
        .store()
        .approvals(Query {
            app: None,
            open_only: true,
            limit: COUNTED_MAX,
        })
        .await?;
    let health = Health::ALL.iter().map(|word| {
        let count = apps.iter().filter(|app| app.health == *word).count();
        (word.as_str().to_owned(), count as u64)
    });
    Ok(Json(wire::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: backend
            .now()
            .since(&state.started, std::time::Duration::MAX)
            .as_secs(),
        observing: backend.observing().as_deref().map(show::text),
        applications: apps.len() as u64,
        health: health.collect(),
        applications_held: apps.iter().filter(|app| app.held.is_some()).count() as u64,
        incidents_open: apps.iter().map(|app| app.incidents.len() as u64).sum(),
        heals_running: apps
            .iter()
            .flat_map(|app| &app.heals)
            .filter(|heal| !heal.state.is_end())
            .count() as u64,
        breakers_open: apps
            .iter()
            .filter(|app| app.breaker.circuit_breaker_state != BreakerState::Closed)
            .map(|app| app.name.to_string())
            .collect(),
        approvals_pending: waiting
            .iter()
            .filter(|row| row.state == ApprovalState::Pending)
            .count() as u64,
        holds: backend.holds().iter().map(show::hold).collect(),
        modes: backend.modes().iter().map(show::mode).collect(),
        audit_head: head.map(|(seq, hash)| wire::AuditHead { seq, hash }),
        caller: wire::Caller {
            uid: caller.person.uid,
            name: show::text(&caller.person.name),
            role: Some(caller.role.to_string()),
        },
    }))
}

fn scope(text: &str) -> Result<Scope, Failure> {
    Scope::parse(text).ok_or_else(|| {
        Failure::invalid(
            "scope",
            format!("`{text}` is not a scope."),
            "Write `all`, `host:NAME` or `app:NAME`.",
        )
    })
}

/// Stops all automation in a scope; durable when it answers. Operator.
#[utoipa::path(post, path = "/hold", tag = "daemon", request_body = wire::HoldRequest,
    responses((status = 200, body = wire::Hold)))]
async fn hold(
    State(state): State<Shared>,
    caller: Caller,
    Body(request): Body<wire::HoldRequest>,
) -> Result<Json<wire::Hold>, Failure> {
    caller.may(Role::Operator, "hold")?;
    let scope = scope(&request.scope)?;
    let reason = reason(&request.reason)?;
    let length = request.length.as_deref().map(length).transpose()?;
    let id = state
        .backend
        .hold(scope.clone(), reason.clone(), length, &caller.person)
        .await?;
    let now = state.backend.now();
    Ok(Json(wire::Hold {
        id: id.to_string(),
        scope: scope.to_text(),
        owner: show::text(&caller.person.to_text()),
        reason: show::text(&reason),
        since: now.to_text(),
        until: length.map(|length| now.plus(length).to_text()),
    }))
}

/// Ends the holds of exactly a scope; what they froze is kept or undone. Admin.
#[utoipa::path(post, path = "/resume", tag = "daemon", request_body = wire::ResumeRequest,
    responses((status = 200, body = wire::Done)))]
async fn resume(
    State(state): State<Shared>,
    caller: Caller,
    Body(request): Body<wire::ResumeRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Admin, "resume")?;
    let scope = scope(&request.scope)?;
    let undo = keep_or_undo(request.keep, request.undo)?;
    let count = state
        .backend
        .resume(&scope, undo, reason(&request.reason)?, &caller.person)
        .await?;
    let ended = if count == 1 {
        "The hold".to_owned()
    } else {
        format!("{count} holds")
    };
    let apps = state.backend.apps();
    let covered = |app: &&crate::engine::AppView| scope.covers(&app.name, &app.host);
    let due = apps
        .iter()
        .filter(covered)
        .map(|app| &app.due)
        .min_by_key(|due| due.boot_ms)
        .map_or_else(String::new, |due| format!(", at {},", due.to_text()));
    let frozen = if undo {
        "what heals did that it froze is taken back"
    } else {
        "heals that it froze go on"
    };
    Ok(done(format!(
        "{ended} of `{}` ended: {frozen}. The next look{due} only observes; from the one after it heals begin by themselves \
         again, as far as the mode lets them.",
        scope.to_text()
    )))
}

/// Sets the healing mode of everything. Admin.
#[utoipa::path(post, path = "/mode", tag = "daemon", request_body = wire::ModeRequest,
    responses((status = 200, body = wire::Done)))]
async fn mode(
    State(state): State<Shared>,
    caller: Caller,
    Body(request): Body<wire::ModeRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Admin, "set a mode")?;
    let others = state
        .backend
        .set_mode(
            None,
            request.healing_mode,
            reason(&request.reason)?,
            &caller.person,
        )
        .await?;
    let mut said = format!(
        "The mode of everything is {} until it is cleared or the configured one changes.",
        request.healing_mode
    );
    if !others.is_empty() {
        let others = show::names(&others).join(", ");
        said = format!("{said} It does not count for what has a mode of its own: {others}.");
    }
    Ok(done(said))
}

/// Lifts the healing mode that was set at run time for everything. Admin.
#[utoipa::path(delete, path = "/mode", tag = "daemon", request_body = wire::ReasonRequest,
    responses((status = 200, body = wire::Done)))]
async fn clear_mode(
    State(state): State<Shared>,
    caller: Caller,
    Body(request): Body<wire::ReasonRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Admin, "set a mode")?;
    state
        .backend
        .clear_mode(None, reason(&request.reason)?, &caller.person)
        .await?;
    Ok(done(
        "The configured modes count again, except where one is set for one application alone.",
    ))
}

/// Incidents, newest first.
#[utoipa::path(get, path = "/incidents", tag = "incidents", params(wire::ListQuery),
    responses((status = 200, body = Vec<wire::Incident>)))]
async fn incidents(
    State(state): State<Shared>,
    caller: Caller,
    Asked(asked): Asked<wire::ListQuery>,
) -> Result<Json<Vec<wire::Incident>>, Failure> {
    caller.may(Role::Viewer, "look")?;
    let rows = state.backend.store().incidents(query(&asked)?).await?;
    let shown = rows
        .iter()
        .map(|row| show::incident(row, state.backend.app(&row.app).ok().as_ref()));
    Ok(Json(shown.collect()))
}

/// Closes an incident. Approver.
#[utoipa::path(post, path = "/incidents/{id}/close", tag = "incidents", params(("id" = String, Path)),
    request_body = wire::ReasonRequest, responses((status = 200, body = wire::Done)))]
async fn close(
    State(state): State<Shared>,
    caller: Caller,
    At(id): At<String>,
    Body(request): Body<wire::ReasonRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Approver, "close an incident")?;
    let id: IncidentId = named(&id, "incident", "healerctl incidents")?;
    state
        .backend
        .close_incident(id, reason(&request.reason)?, caller.person)
        .await?;
    Ok(done(format!("Incident {id} is closed.")))
}

/// Rows of the audit log, oldest first.
#[utoipa::path(get, path = "/audit", tag = "daemon", params(wire::AuditQuery),
    responses((status = 200, body = Vec<wire::AuditRow>)))]
async fn audit(
    State(state): State<Shared>,
    caller: Caller,
    Asked(asked): Asked<wire::AuditQuery>,
) -> Result<Json<Vec<wire::AuditRow>>, Failure> {
    caller.may(Role::Viewer, "look")?;
    let rows = state
        .backend
        .store()
        .audit(asked.after.unwrap_or(0), limit(asked.limit)?)
        .await?;
    Ok(Json(rows.iter().map(show::audit).collect()))
}

/// What happens from now on, as server-sent events; each `data` is an `EventLine`.
#[utoipa::path(get, path = "/events", tag = "daemon",
    responses((status = 200, body = wire::EventLine, content_type = "text/event-stream")))]
async fn stream(
    State(state): State<Shared>,
    caller: Caller,
    ends: Option<Extension<Ends>>,
) -> Result<impl IntoResponse, Failure> {
    caller.may(Role::Viewer, "look")?;
    let backend = std::sync::Arc::clone(&state.backend);
    let ends = ends.map(|Extension(ends)| ends);
    Ok(events::stream(state.backend.events(), ends, move || {
        backend.now().to_text()
    }))
}

/// The same text as the exporter's.
#[utoipa::path(get, path = "/metrics", tag = "daemon",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(
    State(state): State<Shared>,
    caller: Caller,
) -> Result<impl IntoResponse, Failure> {
    caller.may(Role::Viewer, "look")?;
    Ok((
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        (state.metrics_text)(),
    ))
}

/// Sends a test notice to every channel. Admin.
#[utoipa::path(post, path = "/notify/test", tag = "daemon", responses((status = 200, body = wire::Done)))]
async fn notify_test(
    State(state): State<Shared>,
    caller: Caller,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Admin, "send a test notice")?;
    (state.notifier_test)().await.map(done).map_err(|error| {
        Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "notify",
            error,
            "See [notify] in the configuration, and the journal: `journalctl -u healerd`.",
        )
    })
}
