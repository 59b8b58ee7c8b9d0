//! `healerctl diagnose` and `plan`: what was found, and what follows from it.

use super::client::Client;
use super::output::{CliError, Output};
use super::{apps, ids, table};
use crate::control::wire::{Diagnosis, Plan, PlanItem, Stop};
use crate::model::name::AppName;
use crate::telemetry::redact::escape;
use std::fmt::Write as _;

/// Runs the checks now.
pub(super) async fn diagnose(client: &Client, json: bool, app: &str) -> Result<Output, CliError> {
    let app: AppName = ids::name(app)?;
    let found: Diagnosis = client
        .post(
            &format!("/applications/{app}/diagnose"),
            &serde_json::json!({}),
        )
        .await?;
    let output = Output::of(json, &found, || {
        let mut text = table::fields([
            ("health", Some(found.health.clone())),
            ("looked", found.looked.clone()),
            ("cannot be seen", found.unseen.clone()),
        ]);
        text.push('\n');
        text.push_str(&apps::results(&found.results));
        text.push('\n');
        text.push_str(&plan_text(&found.plan));
        text
    });
    let code = if found.unseen.is_some() {
        super::output::code::UNHEALTHY
    } else {
        apps::exit_of(&found.results)
    };
    Ok(output.exit(code))
}

/// Shows the plan.
pub(super) async fn plan(client: &Client, json: bool, app: &str) -> Result<Output, CliError> {
    let app: AppName = ids::name(app)?;
    let plan: Plan = client
        .get(&format!("/applications/{app}/plan"), &[])
        .await?;
    Ok(Output::of(json, &plan, || plan_text(&plan)))
}

fn plan_text(plan: &Plan) -> String {
    let summary = match &plan.not_looked {
        Some(why) => format!("{}\n", escape(why)),
        None => format!("{}\n", escape(&plan.summary)),
    };
    let row = |list: &str, item: &PlanItem| {
        [
            list.to_owned(),
            item.action_name.clone(),
            item.risk_level.to_string(),
            item.matched.to_string(),
            table::joined(&item.checks),
            table::seconds(item.estimated_seconds),
            item.reason.clone(),
        ]
    };
    let rows: Vec<_> = plan
        .auto_heal
        .iter()
        .map(|item| row("alone", item))
        .chain(plan.require_approval.iter().map(|item| row("ask", item)))
        .chain(plan.cannot_heal.iter().map(|cannot| {
            [
                "cannot".to_owned(),
                String::new(),
                String::new(),
                String::new(),
                cannot.check_name.clone(),
                String::new(),
                cannot.reason.clone(),
            ]
        }))
        .collect();
    let stopped = stops(&plan.stops);
    if rows.is_empty() {
        return format!("{summary}{stopped}");
    }
    let table = table::rows(
        ["", "ACTION", "RISK", "MATCH", "CHECKS", "TAKES", "REASON"],
        rows,
        "",
    );
    format!("{table}\n{summary}{stopped}")
}

/// Why nothing of it starts now, and what to do.
pub(super) fn stops(stops: &[Stop]) -> String {
    let mut text = String::new();
    for stop in stops {
        let whom = if stop.refuses_persons {
            "nothing starts now"
        } else {
            "nothing starts by itself now"
        };
        // Writing to a String cannot fail.
        writeln!(
            text,
            "\n{whom}: {}\n  next: {}",
            escape(&stop.reason),
            escape(&stop.next)
        )
        .ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn a_plan_names_all_three_lists() {
        insta::assert_snapshot!(plan_text(&made_up::plan()));
    }

    #[test]
    fn a_plan_that_nothing_may_start_of_says_why_and_what_to_do() {
        let stop = |by: &str, refuses_persons: bool| Stop {
            by: by.to_owned(),
            refuses_persons,
            reason: format!("the {by} is in the way"),
            next: format!("move the {by}"),
        };
        let plan = Plan {
            stops: vec![stop("breaker", true), stop("hold", false)],
            ..made_up::plan()
        };
        let text = plan_text(&plan);
        assert!(
            text.ends_with(
                "\nnothing starts now: the breaker is in the way\n  next: move the breaker\n\
                 \nnothing starts by itself now: the hold is in the way\n  next: move the hold\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn an_empty_plan_is_its_summary() {
        let plan = Plan {
            auto_heal: Vec::new(),
            require_approval: Vec::new(),
            cannot_heal: Vec::new(),
            summary: "Auto-heal (0): none | Require approval (0): none | Cannot heal (0): none"
                .to_owned(),
            not_looked: None,
            stops: Vec::new(),
        };
        assert_eq!(plan_text(&plan), format!("{}\n", plan.summary));
        let why = "Nothing was looked at yet; the first look is due at 2026-11-24T03:00:00Z.";
        let before = Plan {
            not_looked: Some(why.to_owned()),
            ..plan
        };
        assert_eq!(plan_text(&before), format!("{why}\n"));
    }
}
