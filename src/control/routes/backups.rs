//! Backups, and a person's way back to one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, app_name, done, limit, shown_heal, view};
use crate::config::Role;
use crate::control::extract::{Asked, At, Body, Caller, MaybeBody, named, reason};
use crate::control::problem::Failure;
use crate::control::{show, wire};
use crate::engine::handle::RollbackRequest;
use crate::model::id::BackupId;
use crate::model::name::AppName;
use crate::model::{Digest, TreePath};
use crate::seam::store::Query;

/// Paths of one request at most.
const PATHS_MAX: usize = 1000;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(delete))
        .routes(routes!(verify))
        .routes(routes!(preview))
        .routes(routes!(rollback))
}

fn names(app: &str, id: &str) -> Result<(AppName, BackupId), Failure> {
    Ok((
        app_name(app)?,
        named(id, "backup", &format!("healerctl backups {app}"))?,
    ))
}

/// An application's backups, newest first.
#[utoipa::path(get, path = "/applications/{app}/backups", tag = "backups",
    params(("app" = String, Path), wire::ListQuery), responses((status = 200, body = Vec<wire::Backup>)))]
async fn list(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
    Asked(asked): Asked<wire::ListQuery>,
) -> Result<Json<Vec<wire::Backup>>, Failure> {
    caller.may(Role::Viewer, "look")?;
    let query = Query {
        app: Some(view(&state, &app)?.name),
        open_only: false,
        limit: limit(asked.limit)?,
    };
    let rows = state.backend.store().backups(query).await?;
    Ok(Json(rows.iter().map(show::backup).collect()))
}

/// Takes a backup of the stack's base set now. Operator.
#[utoipa::path(post, path = "/applications/{app}/backups", tag = "backups", params(("app" = String, Path)),
    request_body = wire::BackupRequest, responses((status = 201, body = wire::Backup)))]
async fn create(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
    MaybeBody(request): MaybeBody<wire::BackupRequest>,
) -> Result<(StatusCode, Json<wire::Backup>), Failure> {
    caller.may(Role::Operator, "take a backup")?;
    let why = match &request.reason {
        Some(text) => reason(text)?,
        None => "asked for".to_owned(),
    };
    let row = state
        .backend
        .backup_now(&app_name(&app)?, why, caller.person)
        .await?;
    Ok((StatusCode::CREATED, Json(show::backup(&row))))
}

/// Removes a backup that nothing needs; the reason stands in the body. Admin.
#[utoipa::path(delete, path = "/applications/{app}/backups/{id}", tag = "backups",
    params(("app" = String, Path), ("id" = String, Path)), request_body = wire::ReasonRequest,
    responses((status = 200, body = wire::Done)))]
async fn delete(
    State(state): State<Shared>,
    caller: Caller,
    At((app, id)): At<(String, String)>,
    Body(request): Body<wire::ReasonRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Admin, "delete a backup")?;
    let (app, id) = names(&app, &id)?;
    state
        .backend
        .delete_backup(&app, id, reason(&request.reason)?, caller.person)
        .await?;
    Ok(done(format!("Backup {id} of {app} is deleted.")))
}

/// Reads a backup back and compares. Operator.
#[utoipa::path(post, path = "/applications/{app}/backups/{id}/verify", tag = "backups",
    params(("app" = String, Path), ("id" = String, Path)), request_body = wire::BackupRequest,
    responses((status = 200, body = wire::Backup)))]
async fn verify(
    State(state): State<Shared>,
    caller: Caller,
    At((app, id)): At<(String, String)>,
    MaybeBody(request): MaybeBody<wire::BackupRequest>,
) -> Result<Json<wire::Backup>, Failure> {
    caller.may(Role::Operator, "verify a backup")?;
    request.reason.as_deref().map(reason).transpose()?;
    let (app, id) = names(&app, &id)?;
    Ok(Json(show::backup(
        &state.backend.verify_backup(&app, id, caller.person).await?,
    )))
}

/// What a rollback would change and overwrite. Operator.
#[utoipa::path(get, path = "/applications/{app}/backups/{id}/preview", tag = "backups",
    params(("app" = String, Path), ("id" = String, Path), wire::PreviewQuery),
    responses((status = 200, body = wire::RollbackPreview)))]
async fn preview(
    State(state): State<Shared>,
    caller: Caller,
    At((app, id)): At<(String, String)>,
    Asked(pairs): Asked<Vec<(String, String)>>,
) -> Result<Json<wire::RollbackPreview>, Failure> {
    caller.may(Role::Operator, "preview a rollback")?;
    let (app, id) = names(&app, &id)?;
    let asked = preview_query(pairs)?;
    let found = state
        .backend
        .preview(&app, id, asked.exact, paths(&asked.only)?)
        .await?;
    Ok(Json(show::preview(&app, id, &found)))
}

/// Goes back to a backup, as its preview said; the present is backed up first. Approver.
#[utoipa::path(post, path = "/applications/{app}/backups/{id}/rollback", tag = "backups",
    params(("app" = String, Path), ("id" = String, Path)), request_body = wire::RollbackRequest,
    responses((status = 202, body = wire::Heal)))]
async fn rollback(
    State(state): State<Shared>,
    caller: Caller,
    At((app, id)): At<(String, String)>,
    Body(request): Body<wire::RollbackRequest>,
) -> Result<(StatusCode, Json<wire::Heal>), Failure> {
    caller.may(Role::Approver, "roll back")?;
    let (app, backup) = names(&app, &id)?;
    let wish = RollbackRequest {
        backup,
        digest: digest(&request.digest)?,
        exact: request.exact,
        only: paths(&request.only)?,
        reason: reason(&request.reason)?,
    };
    let heal = state.backend.rollback(&app, wish, caller.person).await?;
    Ok((StatusCode::ACCEPTED, Json(shown_heal(&state, &heal))))
}

pub(super) fn digest(text: &str) -> Result<Digest, Failure> {
    Digest::parse(text).ok_or_else(|| {
        Failure::invalid(
            "digest",
            "A digest is 64 hex digits.",
            "Take it from what you looked at just now.",
        )
    })
}

fn paths(list: &[String]) -> Result<Vec<TreePath>, Failure> {
    if list.len() > PATHS_MAX {
        return Err(Failure::invalid(
            "paths",
            format!("At most {PATHS_MAX} paths can be named."),
            "Name a folder above them.",
        ));
    }
    let parse = |text: &String| {
        TreePath::parse(text).map_err(|error| {
            Failure::invalid(
                "paths",
                format!("{error}."),
                "Name paths below the application's root.",
            )
        })
    };
    list.iter().map(parse).collect()
}

/// `only` may come more than once, which a typed query cannot say.
fn preview_query(pairs: Vec<(String, String)>) -> Result<wire::PreviewQuery, Failure> {
    let mut asked = wire::PreviewQuery::default();
    for (key, value) in pairs {
        match (key.as_str(), value.as_str()) {
            ("only", _) => asked.only.push(value),
            ("exact", "true") => asked.exact = true,
            ("exact", "false") => asked.exact = false,
            _ => {
                return Err(Failure::invalid(
                    "bad_query",
                    format!("`{key}={value}` is not known here."),
                    "Write `exact=true`, and `only=PATH` as often as needed.",
                ));
            }
        }
    }
    Ok(asked)
}
