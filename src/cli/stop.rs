//! `healerctl mute`, `unmute`, `mode` and `adopt`: what a person sets at run time.

use super::args::Reason;
use super::client::Client;
use super::output::{CliError, Output, code};
use super::{ask, ids, table};
use crate::catalogue::fields::did_you_mean;
use crate::control::wire::{
    ApplicationSummary, Done, ModeOverride, ModeRequest, MuteRequest, ReasonRequest, Status,
};
use crate::model::name::{AppName, CheckName, HostName};
use crate::model::word::HealingMode;
use crate::telemetry::redact::escape;

/// Mutes a check.
pub(super) async fn mute(
    client: &Client,
    json: bool,
    app: &str,
    check: &str,
    until: &str,
    why: &Reason,
) -> Result<Output, CliError> {
    let path = mute_path(app, check)?;
    let request = MuteRequest {
        reason: ask::reason(why)?,
        until: until.to_owned(),
    };
    let done: Done = client.post(&path, &request).await?;
    Ok(super::done(json, &done))
}

/// Ends a mute.
pub(super) async fn unmute(
    client: &Client,
    json: bool,
    app: &str,
    check: &str,
) -> Result<Output, CliError> {
    let path = mute_path(app, check)?;
    let done: Done = client.delete(&path, None::<&()>).await?;
    Ok(super::done(json, &done))
}

fn mute_path(app: &str, check: &str) -> Result<String, CliError> {
    let app: AppName = ids::name(app)?;
    let check: CheckName = ids::name(check)?;
    Ok(format!("/applications/{app}/checks/{check}/mute"))
}

/// Shows the modes, or sets one.
pub(super) async fn mode(
    client: &Client,
    json: bool,
    mode: Option<&str>,
    app: Option<&str>,
    why: &Reason,
) -> Result<Output, CliError> {
    let app: Option<AppName> = app.map(ids::name).transpose()?;
    let Some(mode) = mode else {
        let status: Status = client.get("/status", &[]).await?;
        let mut apps: Vec<ApplicationSummary> = client.get("/applications", &[]).await?;
        apps.retain(|row| {
            app.as_ref()
                .is_none_or(|app| row.application_id == app.as_str())
        });
        return Ok(Output::of(json, &status.modes, || {
            modes_text(&status.modes, &apps)
        }));
    };
    let request = ModeRequest {
        healing_mode: mode_of(mode)?,
        reason: ask::reason(why)?,
    };
    let path = app.map_or_else(
        || "/mode".to_owned(),
        |app| format!("/applications/{app}/mode"),
    );
    let done: Done = client.post(&path, &request).await?;
    Ok(super::done(json, &done))
}

fn mode_of(text: &str) -> Result<HealingMode, CliError> {
    text.parse().map_err(|_| {
        let known: Vec<_> = HealingMode::ALL.iter().map(|mode| mode.as_str()).collect();
        let near = did_you_mean(text, known.iter().copied());
        CliError::new(
            code::USAGE,
            "unknown_mode",
            format!("`{}` is not a healing mode", escape(text)),
        )
        .hint(if near.is_empty() {
            format!("use one of {}", known.join(", "))
        } else {
            near
        })
    })
}

fn modes_text(set: &[ModeOverride], apps: &[ApplicationSummary]) -> String {
    let mut text = table::rows(
        ["APP", "MODE"],
        apps.iter()
            .map(|app| [app.application_id.clone(), app.healing_mode.to_string()]),
        "No application is configured.",
    );
    if !set.is_empty() {
        text.push_str("\nSet at run time\n");
        text.push_str(&table::rows(
            ["FOR", "MODE", "OWNER", "SINCE", "REASON"],
            set.iter().map(|mode| {
                [
                    mode.application_id
                        .clone()
                        .unwrap_or_else(|| "everything".to_owned()),
                    mode.healing_mode.to_string(),
                    mode.owner.clone(),
                    mode.since.clone(),
                    mode.reason.clone(),
                ]
            }),
            "",
        ));
    }
    text
}

/// Takes a host's present machine as the right one.
pub(super) async fn adopt(
    client: &Client,
    json: bool,
    host: &str,
    why: &Reason,
) -> Result<Output, CliError> {
    let host: HostName = ids::name(host)?;
    let request = ReasonRequest {
        reason: ask::reason(why)?,
    };
    let done: Done = client
        .post(&format!("/hosts/{host}/adopt"), &request)
        .await?;
    Ok(super::done(json, &done))
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn a_misspelt_mode_is_named_with_its_neighbour() {
        let error = mode_of("FULL_AUT").unwrap_err();
        assert_eq!(error.exit, code::USAGE);
        assert!(error.hint.unwrap().contains("FULL_AUTO"));
        assert_eq!(mode_of("MANUAL").unwrap(), HealingMode::Manual);
    }

    #[test]
    fn modes_show_where_they_come_from() {
        insta::assert_snapshot!(modes_text(&made_up::status().modes, &made_up::apps()));
    }
}
