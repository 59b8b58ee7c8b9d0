//! `healerctl mute`, `unmute` and `adopt`: what a person sets at run time.

use super::args::Reason;
use super::client::Client;
use super::output::{CliError, Output};
use super::{ask, ids};
use crate::control::wire::{Done, MuteRequest, ReasonRequest, WhyRequest};
use crate::model::name::{AppName, CheckName, HostName};

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
    why: &Reason,
) -> Result<Output, CliError> {
    let path = mute_path(app, check)?;
    let request = WhyRequest {
        reason: why.reason.clone(),
    };
    let done: Done = client.delete(&path, Some(&request)).await?;
    Ok(super::done(json, &done))
}

fn mute_path(app: &str, check: &str) -> Result<String, CliError> {
    let app: AppName = ids::name(app)?;
    let check: CheckName = ids::name(check)?;
    Ok(format!("/applications/{app}/checks/{check}/mute"))
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
