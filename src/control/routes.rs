//! All routes, one file per noun. Each checks the role first, then what was said, then asks the engine.

mod applications;
mod approvals;
mod backups;
mod breaker;
mod daemon;
mod heal;
mod heals;
mod hosts;
mod mutes;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;

use super::problem::Failure;
use super::{ControlState, openapi, show, wire};
use crate::engine::handle::{AppView, OpError};
use crate::model::name::AppName;
use crate::seam::store::Query;

/// Longest time for one answer; a wait for a heal's end, and a desk's own patience before it, fit in.
const ANSWER_WITHIN: Duration = Duration::from_secs(wire::WAIT_SECONDS_MAX + 150);

/// Rows of a list when nobody says how many, and at most.
const ROWS: u32 = 100;
const ROWS_MAX: u32 = 1000;

type Shared = Arc<ControlState>;

/// The routes with their documents.
pub(super) fn documented() -> OpenApiRouter<Shared> {
    let nouns = OpenApiRouter::new()
        .merge(daemon::routes())
        .merge(applications::routes())
        .merge(heal::routes())
        .merge(mutes::routes())
        .merge(breaker::routes())
        .merge(backups::routes())
        .merge(approvals::routes())
        .merge(heals::routes())
        .merge(hosts::routes());
    OpenApiRouter::new().nest(wire::BASE, nouns)
}

/// The whole service. Who calls is expected among a request's extensions.
pub(super) fn router(state: Shared) -> Router {
    let (router, found) = documented().split_for_parts();
    let document: Arc<str> = openapi::finish(found).to_json().unwrap_or_default().into();
    router
        .route(
            wire::OPENAPI,
            get(move || async move { ([("content-type", "application/json")], document.to_string()) }),
        )
        .fallback(no_route)
        .method_not_allowed_fallback(no_verb)
        .layer(middleware::from_fn(in_time))
        .with_state(state)
}

async fn no_route(request: Request) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        "no_route",
        format!("There is no route `{}`.", request.uri().path()),
        format!("`GET {}` describes all routes.", wire::OPENAPI),
    )
}

async fn no_verb(request: Request) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "no_verb",
        format!(
            "`{}` does not take {}.",
            request.uri().path(),
            request.method()
        ),
        format!("`GET {}` describes all routes.", wire::OPENAPI),
    )
}

async fn in_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(ANSWER_WITHIN, next.run(request))
        .await
        .unwrap_or_else(|_| {
            Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_slow",
                "There was no answer in time; whether it was done is unknown.",
                "`healerctl heals` and `healerctl events` show what goes on.",
            )
            .into_response()
        })
}

/// An application by its name in the path.
fn app_name(text: &str) -> Result<AppName, Failure> {
    super::extract::named(text, "application", "healerctl apps")
}

fn view(state: &Shared, name: &str) -> Result<AppView, Failure> {
    Ok(state.backend.app(&app_name(name)?)?)
}

/// Which rows a list wants.
fn query(asked: &wire::ListQuery) -> Result<Query, Failure> {
    Ok(Query {
        app: asked.application.as_deref().map(app_name).transpose()?,
        open_only: asked.open.unwrap_or(false),
        limit: limit(asked.limit)?,
    })
}

fn limit(asked: Option<u32>) -> Result<u32, Failure> {
    match asked {
        None => Ok(ROWS),
        Some(limit) if (1..=ROWS_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(Failure::invalid(
            "limit",
            format!("`limit` is 1 to {ROWS_MAX}."),
            "Ask for fewer rows, and for more pages.",
        )),
    }
}

/// A refusal of the engine, with the number of votes that an approval in it needs.
fn refused(state: &Shared, error: OpError) -> Failure {
    Failure::of(error, state.access.borrow().one_person)
}

fn shown_heal(state: &Shared, heal: &crate::model::heal::Heal) -> wire::Heal {
    let view = state.backend.app(&heal.app).ok();
    let access = state.access.borrow();
    show::heal(heal, view.as_ref(), access.parents.get(&heal.app))
}

fn done(message: impl Into<String>) -> axum::Json<wire::Done> {
    axum::Json(wire::Done {
        message: show::text(&message.into()),
    })
}
