//! A person's heal: asked for, and waited for if wished.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, app_name, refused, shown_heal};
use crate::config::Role;
use crate::control::extract::{Asked, At, Body, Caller, named, reason};
use crate::control::problem::Failure;
use crate::control::{show, wire};
use crate::engine::handle::{EventLine, HealAnswer, HealRequest};
use crate::model::heal::Heal;
use crate::model::id::HealId;
use crate::model::name::AppName;
use crate::model::plan::{ParamValue, Params};

/// The state is read at least this often while somebody waits, whatever the events say.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Values of one list parameter at most.
const VALUES_MAX: usize = 1000;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(heal))
}

/// Runs an action. LOW and MEDIUM start at once; HIGH and CRITICAL create an approval and answer 409 with it. Operator.
#[utoipa::path(post, path = "/applications/{app}/heal", tag = "heals",
    params(("app" = String, Path), wire::WaitQuery), request_body = wire::HealRequest,
    responses(
        (status = 202, body = wire::Heal, description = "It was admitted; `success` is null until its end."),
        (status = 200, body = wire::DryRun, description = "Only for `dryRun`: what would run."),
    ))]
async fn heal(
    State(state): State<Shared>,
    caller: Caller,
    At(app): At<String>,
    Asked(wait): Asked<wire::WaitQuery>,
    Body(request): Body<wire::HealRequest>,
) -> Result<Response, Failure> {
    caller.may(Role::Operator, "heal")?;
    let wait = waiting(&wait)?;
    let app = target(&state, &app, request.subdomain.as_deref())?;
    let wish = HealRequest {
        action: named(
            &request.action_name,
            "action",
            &format!("healerctl actions {app}"),
        )?,
        params: params(request.params)?,
        reason: match &request.reason {
            Some(text) => reason(text)?,
            None => "asked for".to_owned(),
        },
        dry_run: request.dry_run,
    };
    // Before the request, so that no event about it is missed.
    let events = state.backend.events();
    let answer = state
        .backend
        .heal(&app, wish, caller.person)
        .await
        .map_err(|error| refused(&state, error))?;
    match answer {
        HealAnswer::WouldRun { action, denials } => {
            let view = state.backend.app(&app)?;
            let access = state.access.borrow();
            Ok(Json(show::dry_run(
                &view,
                access.parents.get(&app),
                &action,
                &denials,
            ))
            .into_response())
        }
        HealAnswer::Started(heal) => {
            let heal = match wait {
                Some(wait) => until_end(&state, *heal, events, wait).await?,
                None => *heal,
            };
            Ok((StatusCode::ACCEPTED, Json(shown_heal(&state, &heal))).into_response())
        }
    }
}

fn waiting(asked: &wire::WaitQuery) -> Result<Option<Duration>, Failure> {
    match asked.wait {
        None | Some(0) => Ok(None),
        Some(seconds) if seconds <= wire::WAIT_SECONDS_MAX => {
            Ok(Some(Duration::from_secs(seconds)))
        }
        Some(_) => Err(Failure::invalid(
            "wait",
            format!("`wait` is at most {} seconds.", wire::WAIT_SECONDS_MAX),
            "Look again at `GET …/heals/{id}`.",
        )),
    }
}

/// The application that is meant: the one of the path, or its subdomain.
fn target(state: &Shared, app: &str, subdomain: Option<&str>) -> Result<AppName, Failure> {
    let app = app_name(app)?;
    let Some(text) = subdomain else {
        return Ok(app);
    };
    state.backend.app(&app)?;
    let subdomain: AppName = named(text, "subdomain", "healerctl apps")?;
    if state.access.borrow().parents.get(&subdomain) == Some(&app) {
        Ok(subdomain)
    } else {
        Err(Failure::unknown(
            &format!("subdomain of {app}"),
            text,
            "healerctl apps",
        ))
    }
}

fn params(given: std::collections::BTreeMap<String, Value>) -> Result<Params, Failure> {
    let value = |name: &str, value: Value| {
        let wrong = || {
            Failure::invalid(
                "params",
                format!(
                    "The parameter `{name}` is neither a text, nor a whole number, nor a list of texts."
                ),
                "Leave it away to take what the plan has.",
            )
        };
        match value {
            Value::String(text) => Ok(ParamValue::Text(text)),
            Value::Number(number) => number.as_i64().map(ParamValue::Int).ok_or_else(wrong),
            Value::Array(list) if list.len() <= VALUES_MAX => list
                .into_iter()
                .map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect::<Result<_, _>>()
                .map(ParamValue::List),
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Object(_) => Err(wrong()),
        }
    };
    given
        .into_iter()
        .map(|(name, found)| value(&name, found).map(|found| (name, found)))
        .collect()
}

/// The heal at its end, or as it is when the wait is over. Events only say when to look; the store says how it is.
async fn until_end(
    state: &Shared,
    mut heal: Heal,
    mut events: Receiver<EventLine>,
    wait: Duration,
) -> Result<Heal, Failure> {
    let over = tokio::time::sleep(wait);
    tokio::pin!(over);
    while !heal.state.is_end() {
        let last = tokio::select! {
            () = &mut over => true,
            () = news(&mut events, heal.id) => false,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        heal = state.backend.store().heal(heal.id).await?.unwrap_or(heal);
        if last {
            break;
        }
    }
    Ok(heal)
}

/// Returns when something was told of this heal, or when something may have been.
async fn news(events: &mut Receiver<EventLine>, id: HealId) {
    loop {
        match events.recv().await {
            Ok(line) if line.heal == Some(id) => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
