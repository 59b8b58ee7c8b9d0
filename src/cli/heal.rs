//! `healerctl heal`: a person runs an action.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::args::HealArgs;
use super::client::Client;
use super::output::{CliError, Output, code};
use super::{heals, ids, table};
use crate::control::wire::{DryRun, Heal, HealRequest, WAIT_SECONDS_MAX};
use crate::model::name::{ActionName, AppName};
use crate::telemetry::redact::escape;

/// Longest wait for a heal's end; after that it still goes on, and is looked at with `heals`.
const WAIT_MAX: Duration = Duration::from_hours(2);

/// Asks the daemon to run it.
pub(super) async fn run(client: &Client, json: bool, args: &HealArgs) -> Result<Output, CliError> {
    let app: AppName = ids::name(&args.app)?;
    let action: ActionName = ids::name(&args.action)?;
    let request = HealRequest {
        action_name: action.to_string(),
        params: params(&args.params)?,
        subdomain: args.subdomain.clone(),
        reason: args.why.reason.clone(),
        dry_run: args.dry_run,
    };
    let path = format!("/applications/{app}/heal");
    if args.dry_run {
        let would: DryRun = client.post(&path, &request).await?;
        let code = if would.denials.is_empty() && !would.requires_approval {
            code::FINE
        } else {
            code::REFUSED
        };
        return Ok(Output::of(json, &would, || dry_text(&would)).exit(code));
    }
    let heal: Heal = if args.wait {
        let wait = Duration::from_secs(WAIT_SECONDS_MAX);
        let first = client.post_and_wait(&path, &request, wait).await?;
        until_ended(client, first).await?
    } else {
        client.post(&path, &request).await?
    };
    let code = match heal.success {
        Some(false) => code::FAILED,
        None if heal.details.ended => code::FAILED,
        Some(true) | None => code::FINE,
    };
    Ok(Output::of(json, &heal, || heals::whole(&heal)).exit(code))
}

/// Looks again until it is over; what it waits for is told by its own state.
async fn until_ended(client: &Client, mut heal: Heal) -> Result<Heal, CliError> {
    let path = format!(
        "/heals/{}",
        ids::name::<crate::model::id::HealId>(&heal.heal_id)?
    );
    let look = Duration::from_secs(2);
    let mut waited = Duration::ZERO;
    while !heal.details.ended && !heal.details.waits_for_person && waited < WAIT_MAX {
        tokio::time::sleep(look).await;
        waited += look;
        heal = client.get(&path, &[]).await?;
    }
    Ok(heal)
}

/// `NAME=VALUE`; a value that is a JSON number or list of texts is one, everything else is text.
fn params(given: &[String]) -> Result<BTreeMap<String, Value>, CliError> {
    let mut params = BTreeMap::new();
    for text in given {
        let Some((name, value)) = text.split_once('=') else {
            return Err(
                CliError::usage(format!("`{}` is not a parameter", escape(text)))
                    .hint("write NAME=VALUE, as in --param port=8080"),
            );
        };
        let value = match serde_json::from_str::<Value>(value) {
            Ok(parsed @ (Value::Array(_) | Value::Number(_))) => parsed,
            Ok(Value::Null | Value::Bool(_) | Value::String(_) | Value::Object(_)) | Err(_) => {
                Value::String(value.to_owned())
            }
        };
        if params.insert(name.to_owned(), value).is_some() {
            return Err(CliError::usage(format!(
                "the parameter `{}` is given twice",
                escape(name)
            )));
        }
    }
    Ok(params)
}

fn dry_text(would: &DryRun) -> String {
    let mut text = table::fields([
        ("application", Some(would.application_id.clone())),
        ("action", Some(would.action_name.clone())),
        ("subdomain", would.subdomain.clone()),
        ("risk", Some(would.risk_level.to_string())),
        ("mode", Some(would.healing_mode.to_string())),
        ("runs as", Some(would.identity.clone())),
        (
            "held",
            would.held.as_ref().map(|hold| {
                format!(
                    "{}; what a person asks for runs all the same",
                    super::hold::one(hold)
                )
            }),
        ),
    ]);
    text.push_str(&table::list("steps", would.steps.clone()));
    text.push_str(&table::list("may write", would.write_set.clone()));
    if would.denials.is_empty() {
        text.push_str(if would.requires_approval {
            "It would ask for approval first; nothing was done.\n"
        } else {
            "It would start; nothing was done.\n"
        });
    } else {
        text.push_str(&table::list("It would be refused", would.denials.clone()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::word::{HealingMode, Risk};

    #[test]
    fn parameters_are_texts_numbers_or_lists() {
        let given = ["a=x=y", "b=8080", "c=[\"x\",\"y\"]", "d=true", "e="].map(str::to_owned);
        let want =
            serde_json::json!({"a": "x=y", "b": 8080, "c": ["x", "y"], "d": "true", "e": ""});
        assert_eq!(serde_json::to_value(params(&given).unwrap()).unwrap(), want);
        for wrong in [
            vec!["plain".to_owned()],
            vec!["a=1".to_owned(), "a=2".to_owned()],
        ] {
            assert_eq!(params(&wrong).unwrap_err().exit, code::USAGE, "{wrong:?}");
        }
    }

    #[test]
    fn a_dry_run_says_what_would_forbid_it() {
        insta::assert_snapshot!(dry_text(&DryRun {
            application_id: "shop".to_owned(),
            action_name: "fix_permissions".to_owned(),
            subdomain: None,
            risk_level: Risk::Medium,
            healing_mode: HealingMode::SemiAuto,
            identity: "app".to_owned(),
            held: None,
            steps: vec!["set bits: remove o+w of config.php".to_owned()],
            write_set: vec!["metadata config.php".to_owned()],
            denials: vec!["Circuit breaker is open. Too many consecutive failures (3).".to_owned()],
            requires_approval: false,
        }));
    }
}
