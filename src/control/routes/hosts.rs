//! Hosts: what is known of them, their keys, and what they lack.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, done, refused};
use crate::config::Role;
use crate::control::extract::{At, Body, Caller, named, reason};
use crate::control::problem::Failure;
use crate::control::{show, wire};
use crate::model::name::HostName;

/// Longest fingerprint that is looked at.
const FINGERPRINT_BYTES_MAX: usize = 100;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(hosts))
        .routes(routes!(key))
        .routes(routes!(enrol))
        .routes(routes!(forget))
        .routes(routes!(doctor))
        .routes(routes!(adopt))
}

fn host_name(text: &str) -> Result<HostName, Failure> {
    named(text, "host", "healerctl host")
}

/// All hosts, this machine first.
#[utoipa::path(get, path = "/hosts", tag = "hosts", responses((status = 200, body = Vec<wire::Host>)))]
async fn hosts(
    State(state): State<Shared>,
    caller: Caller,
) -> Result<Json<Vec<wire::Host>>, Failure> {
    caller.may(Role::Viewer, "look")?;
    Ok(Json(state.backend.hosts().iter().map(show::host).collect()))
}

/// The key that a host shows now. It is not trusted for that, and nobody logs in. Admin.
#[utoipa::path(get, path = "/hosts/{host}/key", tag = "hosts", params(("host" = String, Path)),
    responses((status = 200, body = wire::HostKeyOffer)))]
async fn key(
    State(state): State<Shared>,
    caller: Caller,
    At(host): At<String>,
) -> Result<Json<wire::HostKeyOffer>, Failure> {
    caller.may(Role::Admin, "enrol a host")?;
    let offer = state
        .backend
        .scan_host(&host_name(&host)?)
        .await
        .map_err(|error| refused(&state, error))?;
    Ok(Json(show::offer(&offer)))
}

/// Trusts the key whose fingerprint is given, if that is the one that the host shows. Admin.
#[utoipa::path(post, path = "/hosts/{host}/enrol", tag = "hosts", params(("host" = String, Path)),
    request_body = wire::EnrolRequest, responses((status = 200, body = wire::Done)))]
async fn enrol(
    State(state): State<Shared>,
    caller: Caller,
    At(host): At<String>,
    Body(request): Body<wire::EnrolRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Admin, "enrol a host")?;
    let host = host_name(&host)?;
    let fingerprint = request.fingerprint.trim();
    let why = request.reason.as_deref().map(reason).transpose()?;
    if !fingerprint.starts_with("SHA256:") || fingerprint.len() > FINGERPRINT_BYTES_MAX {
        return Err(Failure::invalid(
            "fingerprint",
            "That is not a fingerprint.",
            "Give it as `ssh-keygen -lf` prints it: SHA256:…",
        ));
    }
    state
        .backend
        .enrol_host(&host, fingerprint, request.keep, why, &caller.person)
        .await
        .map_err(|error| refused(&state, error))?;
    let apps: Vec<String> = state
        .backend
        .apps()
        .iter()
        .filter(|app| app.host == host)
        .map(|app| app.name.to_string())
        .collect();
    let next = if apps.is_empty() {
        "No application is configured there yet.".to_owned()
    } else {
        format!(
            "It is looked at now ({}); `healerctl status` shows what is seen.",
            apps.join(", ")
        )
    };
    Ok(done(format!(
        "{host} is enrolled with {fingerprint}. {next}"
    )))
}

/// Forgets the keys that were enrolled for a host: nothing is tried there any more. Admin.
#[utoipa::path(delete, path = "/hosts/{host}/key", tag = "hosts", params(("host" = String, Path)),
    request_body = wire::ReasonRequest, responses((status = 200, body = wire::Done)))]
async fn forget(
    State(state): State<Shared>,
    caller: Caller,
    At(host): At<String>,
    Body(request): Body<wire::ReasonRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Admin, "forget a host's key")?;
    let host = host_name(&host)?;
    state
        .backend
        .forget_host(&host, reason(&request.reason)?, &caller.person)
        .await
        .map_err(|error| refused(&state, error))?;
    Ok(done(format!("The enrolled key of {host} is forgotten.")))
}

/// Goes to a host step by step, and says what it finds. Operator.
#[utoipa::path(post, path = "/hosts/{host}/doctor", tag = "hosts", params(("host" = String, Path)),
    responses((status = 200, body = Vec<wire::HostFinding>)))]
async fn doctor(
    State(state): State<Shared>,
    caller: Caller,
    At(host): At<String>,
) -> Result<Json<Vec<wire::HostFinding>>, Failure> {
    caller.may(Role::Operator, "examine a host")?;
    let list = state
        .backend
        .examine_host(&host_name(&host)?)
        .await
        .map_err(|error| refused(&state, error))?;
    Ok(Json(list.iter().map(show::finding).collect()))
}

/// Takes a host's present machine as the right one. Admin.
#[utoipa::path(post, path = "/hosts/{host}/adopt", tag = "hosts", params(("host" = String, Path)),
    request_body = wire::ReasonRequest, responses((status = 200, body = wire::Done)))]
async fn adopt(
    State(state): State<Shared>,
    caller: Caller,
    At(host): At<String>,
    Body(request): Body<wire::ReasonRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Admin, "adopt a host")?;
    let host = host_name(&host)?;
    state
        .backend
        .adopt(&host, reason(&request.reason)?, &caller.person)
        .await
        .map_err(|error| refused(&state, error))?;
    Ok(done(format!("{host} is adopted as it is now.")))
}
