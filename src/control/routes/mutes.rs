//! Mutes: bad results that are shown and lead to nothing for a while.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Shared, app_name, done};
use crate::config::Role;
use crate::control::extract::{At, Body, Caller, MaybeBody, length, named, reason};
use crate::control::problem::Failure;
use crate::control::wire;
use crate::model::name::CheckName;
use crate::model::time::{Moment, duration_text, wall_of};

/// Longest mute; one that is forgotten ends.
const MUTE_MAX: Duration = Duration::from_hours(366 * 24);

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(mute, unmute))
}

/// Mutes a check. Operator.
#[utoipa::path(post, path = "/applications/{app}/checks/{check}/mute", tag = "applications",
    params(("app" = String, Path), ("check" = String, Path)), request_body = wire::MuteRequest,
    responses((status = 200, body = wire::Done)))]
async fn mute(
    State(state): State<Shared>,
    caller: Caller,
    At((app, check)): At<(String, String)>,
    Body(request): Body<wire::MuteRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Operator, "mute a check")?;
    let app = app_name(&app)?;
    let check: CheckName = named(&check, "check", "healerctl checks APP")?;
    let reason = reason(&request.reason)?;
    let span = until(&request.until, &state.backend.now())?;
    state
        .backend
        .mute(&app, check.clone(), span, reason, caller.person)
        .await?;
    Ok(done(format!(
        "{check} of {app} is muted for {}.",
        duration_text(span)
    )))
}

/// Ends a mute. Operator.
#[utoipa::path(delete, path = "/applications/{app}/checks/{check}/mute", tag = "applications",
    params(("app" = String, Path), ("check" = String, Path)), request_body = wire::WhyRequest,
    responses((status = 200, body = wire::Done)))]
async fn unmute(
    State(state): State<Shared>,
    caller: Caller,
    At((app, check)): At<(String, String)>,
    MaybeBody(request): MaybeBody<wire::WhyRequest>,
) -> Result<Json<wire::Done>, Failure> {
    caller.may(Role::Operator, "unmute a check")?;
    let app = app_name(&app)?;
    let check: CheckName = named(&check, "check", "healerctl checks APP")?;
    let why = request.reason.as_deref().map(reason).transpose()?;
    state
        .backend
        .unmute(&app, check.clone(), why, caller.person)
        .await?;
    Ok(done(format!("{check} of {app} is no longer muted.")))
}

/// From now until then.
fn until(text: &str, now: &Moment) -> Result<Duration, Failure> {
    let span = match wall_of(text) {
        Some(wall_ms) => u64::try_from(wall_ms.saturating_sub(now.wall_ms))
            .map(Duration::from_millis)
            .ok(),
        None => Some(length(text)?),
    };
    match span {
        Some(span) if !span.is_zero() && span <= MUTE_MAX => Ok(span),
        Some(_) | None => Err(Failure::invalid(
            "until",
            format!("`{text}` is over already, or more than a year away."),
            "Write a time as in `2026-08-01T06:00:00Z`, or a length of time as in `2h`.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_mute_is_a_time_or_a_length_of_time() {
        let now = Moment {
            boot_id: "a".to_owned(),
            boot_ms: 0,
            wall_ms: 1_800_000_000_000,
        };
        for (text, want) in [
            ("2h", Some(7200)),
            ("2027-01-15T08:00:10Z", Some(10)),
            ("2027-01-15T09:00:10+01:00", Some(10)),
            ("2027-01-15T08:00:00Z", None),
            ("2020-01-01T00:00:00Z", None),
            ("2999-01-01T00:00:00Z", None),
            ("0s", None),
            ("500d", None),
            ("tomorrow", None),
            ("", None),
        ] {
            assert_eq!(
                until(text, &now).ok(),
                want.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}
