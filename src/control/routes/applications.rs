//! Applications: what they are, what their checks say, what would be done.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, app_name, done, view};
use crate::config::Role;
use crate::control::extract::{At, Body, Caller, reason};
use crate::control::problem::Failure;
use crate::control::{show, wire};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(one))
        .routes(routes!(checks))
        .routes(routes!(actions))
        .routes(routes!(diagnose))
        .routes(routes!(diagnostics))
        .routes(routes!(plan))
        .routes(routes!(mode, clear_mode))
}

/// All applications.
#[utoipa::path(get, path = "/applications", tag = "applications",
    responses((status = 200, body = Vec<wire::ApplicationSummary>)))]
async fn list(
    State(state): State<Shared>,
    caller: Caller,
) -> Result<Json<Vec<wire::ApplicationSummary>>, Failure> {
    caller.may(Role::Viewer, "look")?;
    Ok(Json(
        state.backend.apps().iter().map(show::summary).collect(),
    ))
}

/// One application, whole.
#[utoipa::path(get, path = "/applications/{app}", tag = "applications", params(("app" = String, Path)),
    responses((status = 200, body = wire::Application)))]
async fn one(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
) -> Result<Json<wire::Application>, Failure> {
    caller.may(Role::Viewer, "look")?;
    let view = view(&state, &app)?;
    let access = state.access.borrow();
    Ok(Json(show::application(
        &view,
        access.parents.get(&view.name),
    )))
}

/// Results of the latest round.
#[utoipa::path(get, path = "/applications/{app}/checks", tag = "applications", params(("app" = String, Path)),
    responses((status = 200, body = Vec<wire::CheckResult>)))]
async fn checks(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
) -> Result<Json<Vec<wire::CheckResult>>, Failure> {
    caller.may(Role::Viewer, "look")?;
    Ok(Json(
        view(&state, &app)?
            .results
            .iter()
            .map(show::check)
            .collect(),
    ))
}

/// The actions of the application's stack, and what of them runs alone.
#[utoipa::path(get, path = "/applications/{app}/actions", tag = "applications", params(("app" = String, Path)),
    responses((status = 200, body = Vec<wire::Action>)))]
async fn actions(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
) -> Result<Json<Vec<wire::Action>>, Failure> {
    caller.may(Role::Viewer, "look")?;
    let view = view(&state, &app)?;
    let actions = state.backend.actions(&view.name)?;
    let stops = show::stops(&view);
    Ok(Json(
        actions
            .iter()
            .map(|action| show::action(action, view.mode, &stops))
            .collect(),
    ))
}

/// Runs all cheap checks now. Operator.
#[utoipa::path(post, path = "/applications/{app}/diagnose", tag = "applications", params(("app" = String, Path)),
    responses((status = 200, body = wire::Diagnosis)))]
async fn diagnose(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
) -> Result<Json<wire::Diagnosis>, Failure> {
    caller.may(Role::Operator, "diagnose")?;
    Ok(Json(show::diagnosis(
        &state.backend.diagnose(&app_name(&app)?).await?,
    )))
}

/// Results of the latest round, and the plan.
#[utoipa::path(get, path = "/applications/{app}/diagnostics", tag = "applications", params(("app" = String, Path)),
    responses((status = 200, body = wire::Diagnosis)))]
async fn diagnostics(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
) -> Result<Json<wire::Diagnosis>, Failure> {
    caller.may(Role::Viewer, "look")?;
    Ok(Json(show::diagnosis(&view(&state, &app)?)))
}

/// What would run alone, what must be asked, what nothing can heal.
#[utoipa::path(get, path = "/applications/{app}/plan", tag = "applications", params(("app" = String, Path)),
    responses((status = 200, body = wire::Plan)))]
async fn plan(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
) -> Result<Json<wire::Plan>, Failure> {
    caller.may(Role::Viewer, "look")?;
    Ok(Json(show::plan(&view(&state, &app)?)))
}

/// Sets the healing mode of one application. Admin.
#[utoipa::path(post, path = "/applications/{app}/mode", tag = "applications", params(("app" = String, Path)),
    request_body = wire::ModeRequest, responses((status = 200, body = wire::Done)))]
async fn mode(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
    Body(request): Body<wire::ModeRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Admin, "set a mode")?;
    let app = app_name(&app)?;
    let reason = reason(&request.reason)?;
    state
        .backend
        .set_mode(
            Some(app.clone()),
            request.healing_mode,
            reason,
            &caller.person,
        )
        .await?;
    Ok(done(format!(
        "The mode of {app} is {} until it is cleared or the configured one changes.",
        request.healing_mode
    )))
}

/// Lifts the healing mode that was set at run time for one application. Admin.
#[utoipa::path(delete, path = "/applications/{app}/mode", tag = "applications", params(("app" = String, Path)),
    request_body = wire::ReasonRequest, responses((status = 200, body = wire::Done)))]
async fn clear_mode(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
    Body(request): Body<wire::ReasonRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Admin, "set a mode")?;
    let app = app_name(&app)?;
    state
        .backend
        .clear_mode(Some(app.clone()), reason(&request.reason)?, &caller.person)
        .await?;
    Ok(done(format!(
        "The mode set at run time for {app} is gone; what is configured, or set for everything, counts again."
    )))
}
