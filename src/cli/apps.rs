//! `healerctl apps`, `checks` and `actions`: what is watched, what was seen, what could be done.

use super::client::Client;
use super::output::{CliError, Output, code};
use super::{ids, table};
use crate::control::wire::{Action, Application, ApplicationSummary, CheckResult, Plan};
use crate::model::name::AppName;
use crate::model::word::Status;

/// Lists all applications.
pub(super) async fn all(client: &Client, json: bool) -> Result<Output, CliError> {
    let apps: Vec<ApplicationSummary> = client.get("/applications", &[]).await?;
    Ok(Output::of(json, &apps, || list(apps.iter())))
}

/// Shows an application's checks.
pub(super) async fn checks(client: &Client, json: bool, app: &str) -> Result<Output, CliError> {
    let app: AppName = ids::name(app)?;
    let whole: Application = client.get(&format!("/applications/{app}"), &[]).await?;
    let output = Output::of(json, &whole.checks, || checks_text(&whole));
    Ok(output.exit(exit_of(&whole.checks)))
}

/// Shows an application's actions.
pub(super) async fn actions(client: &Client, json: bool, app: &str) -> Result<Output, CliError> {
    let app: AppName = ids::name(app)?;
    let actions: Vec<Action> = client
        .get(&format!("/applications/{app}/actions"), &[])
        .await?;
    if json {
        return Ok(Output::of(json, &actions, String::new));
    }
    let plan: Plan = client
        .get(&format!("/applications/{app}/plan"), &[])
        .await?;
    let text = actions_text(&actions) + &super::plan::stops(&plan.stops);
    Ok(Output::fine(text))
}

/// Would somebody want to look at it?
pub(super) fn is_sick(app: &ApplicationSummary) -> bool {
    matches!(app.health.as_str(), "DEGRADED" | "DOWN" | "UNKNOWN") || !app.bad.is_empty()
}

/// The exit code that results stand for.
pub(super) fn exit_of(results: &[CheckResult]) -> u8 {
    let is_bad = results.iter().any(|result| match result.status {
        Status::Pass => false,
        Status::Warn | Status::Fail | Status::Error => true,
    });
    if is_bad { code::UNHEALTHY } else { code::FINE }
}

/// Its health, and whether it is held: the one hides nothing of the other.
pub(super) fn health(app: &ApplicationSummary) -> String {
    match &app.held {
        Some(_) => format!("{} (held)", app.health),
        None => app.health.clone(),
    }
}

/// A table of applications.
pub(super) fn list<'a>(apps: impl Iterator<Item = &'a ApplicationSummary>) -> String {
    table::rows(
        [
            "APP", "HEALTH", "MODE", "BREAKER", "STACK", "HOST", "LOOKED", "BAD",
        ],
        apps.map(|app| {
            let bad = match &app.unseen {
                Some(reason) => format!("cannot be seen: {reason}"),
                None => table::joined(&app.bad),
            };
            [
                app.application_id.clone(),
                health(app),
                app.healing_mode.to_string(),
                match &app.circuit_breaker_forced {
                    Some(forced) => format!("{} ({forced})", app.circuit_breaker_state),
                    None => app.circuit_breaker_state.to_string(),
                },
                app.stack.clone(),
                app.host.clone(),
                app.looked.clone().unwrap_or_else(|| "never".to_owned()),
                bad,
            ]
        }),
        "No application is configured.",
    )
}

/// A table of results.
pub(super) fn results(results: &[CheckResult]) -> String {
    let rank = |status: Status| match status {
        Status::Fail => 0,
        Status::Warn => 1,
        Status::Error => 2,
        Status::Pass => 3,
    };
    let mut sorted: Vec<&CheckResult> = results.iter().collect();
    sorted.sort_by_key(|result| (rank(result.status), &result.check_name));
    table::rows(
        ["CHECK", "STATUS", "SEVERITY", "CATEGORY", "MS", "MESSAGE"],
        sorted.into_iter().map(|result| {
            let severity = match result.status {
                Status::Warn | Status::Fail => result.severity.to_string(),
                Status::Pass | Status::Error => String::new(),
            };
            [
                result.check_name.clone(),
                result.status.to_string(),
                severity,
                result.category.to_string(),
                result.execution_time.to_string(),
                result.message.clone(),
            ]
        }),
        "No check has a result yet.",
    )
}

fn checks_text(app: &Application) -> String {
    let mut text = table::fields([
        ("health", Some(health(&app.summary))),
        ("held", app.summary.held.as_ref().map(super::hold::one)),
        ("looked", app.summary.looked.clone()),
        ("cannot be seen", app.summary.unseen.clone()),
        ("next look", table::some(&app.due)),
    ]);
    text.push('\n');
    text.push_str(&results(&app.checks));
    let mutes = app.mutes.iter().map(|mute| {
        format!(
            "{} until {} by {}: {}",
            mute.check_name, mute.until, mute.owner, mute.reason
        )
    });
    let mutes = table::list("\nMuted", mutes);
    text.push_str(&mutes);
    text
}

/// What happens with it in the present mode; what stops it for now stands behind.
fn now(action: &Action) -> String {
    let word = if action.runs_alone { "alone" } else { "asks" };
    if action.stopped_by.is_empty() {
        word.to_owned()
    } else {
        format!("{word}, not now ({})", table::joined(&action.stopped_by))
    }
}

fn actions_text(actions: &[Action]) -> String {
    table::rows(
        ["ACTION", "RISK", "NOW", "ALONE IN", "ANSWERS", "TITLE"],
        actions.iter().map(|action| {
            let modes: Vec<_> = action
                .runs_alone_in
                .iter()
                .map(ToString::to_string)
                .collect();
            [
                action.action_name.clone(),
                action.risk_level.to_string(),
                now(action),
                if modes.is_empty() {
                    "never".to_owned()
                } else {
                    table::joined(&modes)
                },
                table::joined(&action.checks),
                action.title.clone(),
            ]
        }),
        "Its stack knows no action.",
    )
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;
    use crate::model::word::{HealingMode, Risk};

    #[test]
    fn bad_results_come_first() {
        let results_made = made_up::results();
        assert_eq!(exit_of(&results_made), code::UNHEALTHY);
        insta::assert_snapshot!(results(&results_made));
    }

    #[test]
    fn only_passed_checks_are_fine() {
        let mut made = made_up::results();
        made.retain(|result| result.status == Status::Pass);
        assert_eq!(exit_of(&made), code::FINE);
    }

    #[test]
    fn actions_say_what_runs_alone() {
        insta::assert_snapshot!(actions_text(&[
            Action {
                action_name: "clear_cache".to_owned(),
                title: "Clear the cache".to_owned(),
                risk_level: Risk::Low,
                write_set: vec!["cache/".to_owned()],
                checks: vec!["cache_size".to_owned()],
                runs_alone_in: vec![HealingMode::SemiAuto, HealingMode::FullAuto],
                runs_alone: true,
                stopped_by: Vec::new(),
            },
            Action {
                action_name: "composer_update".to_owned(),
                title: "Update the dependencies".to_owned(),
                risk_level: Risk::High,
                write_set: vec!["vendor/".to_owned()],
                checks: vec!["composer_audit".to_owned(), "composer_lock".to_owned()],
                runs_alone_in: Vec::new(),
                runs_alone: false,
                stopped_by: vec!["breaker".to_owned(), "hold".to_owned()],
            },
        ]));
    }
}
