//! `healerctl mode`: which healing mode counts where, why, and setting or clearing one at run time.

use super::args::Reason;
use super::client::Client;
use super::output::{CliError, Output, code};
use super::{ask, ids, table};
use crate::catalogue::fields::did_you_mean;
use crate::control::wire::{
    ApplicationSummary, Done, ModeOverride, ModeRequest, ReasonRequest, Status,
};
use crate::model::name::AppName;
use crate::model::word::HealingMode;
use crate::telemetry::redact::escape;

/// What is wanted, for one application or for everything.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    app: Option<AppName>,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Show,
    Set(HealingMode),
    Clear,
}

/// Reads the words of the command line: an application, a mode, or both in this order.
///
/// # Errors
/// When they are none of these, or say two things at once.
pub(super) fn wanted(words: &[String], app: Option<&str>, clear: bool) -> Result<Wanted, CliError> {
    let (first, second) = (words.first(), words.get(1));
    // Names of applications have no capitals, modes have nothing else; one in small letters is a slip, not a name.
    let is_mode = |word: &str| {
        word.chars().any(char::is_uppercase) || word.to_uppercase().parse::<HealingMode>().is_ok()
    };
    let (named, mode) = match (first, second) {
        (None, _) => (None, None),
        (Some(word), None) if is_mode(word) => (None, Some(word)),
        (Some(word), None) => (Some(word), None),
        (Some(name), Some(mode)) => (Some(name), Some(mode)),
    };
    if let (Some(named), Some(app)) = (named, app)
        && named != app
    {
        return Err(CliError::usage("two applications are named")
            .hint("name one: `healerctl mode APP MODE`"));
    }
    let app: Option<AppName> = named
        .map(String::as_str)
        .or(app)
        .map(ids::name)
        .transpose()?;
    let what = match (mode, clear) {
        (Some(_), true) => {
            return Err(CliError::usage("--clear sets no mode, and one is named").hint(
                "`healerctl mode APP --clear` lifts what was set; `healerctl mode APP MODE` sets another one",
            ));
        }
        (Some(mode), false) => What::Set(mode_of(mode)?),
        (None, true) => What::Clear,
        (None, false) => What::Show,
    };
    Ok(Wanted { app, what })
}

/// Shows, sets or clears.
pub(super) async fn run(
    client: &Client,
    json: bool,
    wanted: &Wanted,
    why: &Reason,
) -> Result<Output, CliError> {
    let path = wanted.app.as_ref().map_or_else(
        || "/mode".to_owned(),
        |app| format!("/applications/{app}/mode"),
    );
    let done: Done = match wanted.what {
        What::Show => return show(client, json, wanted.app.as_ref()).await,
        What::Set(healing_mode) => {
            let request = ModeRequest {
                healing_mode,
                reason: ask::reason(why)?,
            };
            client.post(&path, &request).await?
        }
        What::Clear => {
            let request = ReasonRequest {
                reason: ask::reason(why)?,
            };
            client.delete(&path, Some(&request)).await?
        }
    };
    Ok(super::done(json, &done))
}

async fn show(client: &Client, json: bool, app: Option<&AppName>) -> Result<Output, CliError> {
    let status: Status = client.get("/status", &[]).await?;
    let mut apps: Vec<ApplicationSummary> = client.get("/applications", &[]).await?;
    apps.retain(|row| app.is_none_or(|app| row.application_id == app.as_str()));
    if let (Some(app), true) = (app, apps.is_empty()) {
        return Err(CliError::new(
            code::FAILED,
            "unknown",
            format!("there is no application `{app}`"),
        )
        .hint("`healerctl apps` shows what there is"));
    }
    Ok(Output::of(json, &status.modes, || {
        modes_text(&status.modes, &apps)
    }))
}

fn mode_of(text: &str) -> Result<HealingMode, CliError> {
    text.parse().map_err(|_| {
        let known: Vec<_> = HealingMode::ALL.iter().map(|mode| mode.as_str()).collect();
        let near = did_you_mean(&text.to_uppercase(), known.iter().copied());
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
        ["APP", "MODE", "ORIGIN"],
        apps.iter().map(|app| {
            [
                app.application_id.clone(),
                app.healing_mode.to_string(),
                app.mode_origin.clone(),
            ]
        }),
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
        text.push_str("  next: `healerctl mode [APP] --clear` lifts one\n");
    }
    text
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
    fn an_application_and_a_mode_are_told_apart() {
        let shop: AppName = "shop".parse().unwrap();
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        for (text, app, clear, want) in [
            ("", None, false, (None, What::Show)),
            ("shop", None, false, (Some(&shop), What::Show)),
            (
                "MANUAL",
                None,
                false,
                (None, What::Set(HealingMode::Manual)),
            ),
            (
                "MANUAL",
                Some("shop"),
                false,
                (Some(&shop), What::Set(HealingMode::Manual)),
            ),
            (
                "shop SEMI_AUTO",
                None,
                false,
                (Some(&shop), What::Set(HealingMode::SemiAuto)),
            ),
            ("shop", None, true, (Some(&shop), What::Clear)),
            ("", Some("shop"), true, (Some(&shop), What::Clear)),
            ("", None, true, (None, What::Clear)),
        ] {
            let found = wanted(&words(text), app, clear).unwrap();
            assert_eq!((found.app.as_ref(), found.what), want, "{text} {app:?}");
        }
        for (text, app, clear) in [
            ("shop blog", None, false),
            ("MANUAL", None, true),
            ("shop", Some("blog"), false),
            ("Shop", None, false),
            ("shop full_auto", None, false),
            ("semi_auto", None, false),
        ] {
            let error = wanted(&words(text), app, clear).unwrap_err();
            assert_eq!(error.exit, code::USAGE, "{text} {app:?}");
            assert!(error.hint.is_some(), "{text}");
        }
    }

    #[test]
    fn modes_show_where_they_come_from() {
        insta::assert_snapshot!(modes_text(&made_up::status().modes, &made_up::apps()));
    }
}
