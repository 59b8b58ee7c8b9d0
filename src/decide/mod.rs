//! Facts in, plan out: which action for which symptom, and whether it may run alone.
//!
//! Pure and total: the same input gives the same bytes, whatever the order of the results. It asks no guard and
//! resolves no path; what is still unknown stays unknown in the plan and is resolved before anything runs.

mod choose;
mod order;

pub mod incident;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalogue::Stack;
use crate::catalogue::fact::Scope;
use crate::model::app::App;
use crate::model::check::CheckResult;
use crate::model::name::{ActionName, CheckName};
use crate::model::plan::Plan;
use crate::model::policy::Policy;
use crate::model::word::HealingMode;

use choose::Chosen;

/// Everything a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct DecisionInput<'a> {
    pub stack: &'a Stack,
    /// The mode that holds now: set at run time or configured, never above the policy's highest.
    pub mode: HealingMode,
    pub policy: &'a Policy,
    pub results: &'a [CheckResult],
    /// Actions that had their one try, per check with an open incident.
    pub tried: &'a BTreeMap<CheckName, Vec<ActionName>>,
    /// Actions that were undone here, until their stack file changes.
    pub bars: &'a [Bar],
    /// Checks whose bad results lead to nothing for now.
    pub muted: &'a [CheckName],
    /// Absent where only recorded results are looked at: what would come from it is unknown.
    pub app: Option<&'a App>,
}

/// An action that was undone on this application.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bar {
    pub action: ActionName,
    /// Version of the action that was undone; another version is another action.
    pub version: String,
    /// What happened, for people.
    pub reason: String,
}

/// A plan, and what was found on the way to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub plan: Plan,
    pub report: Report,
}

/// Why each bad result became what it became, so that "nothing to do" is explained too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One sentence a line, in the order of the checks.
    pub lines: Vec<String>,
}

/// Decides.
pub fn decide(input: &DecisionInput<'_>) -> Decision {
    match order::without_twins(input.results) {
        None => decide_once_each(input),
        Some(results) => decide_once_each(&DecisionInput {
            results: &results,
            ..*input
        }),
    }
}

/// Decides over results in which each check stands once.
fn decide_once_each(input: &DecisionInput<'_>) -> Decision {
    let scope = Scope {
        app: input.app,
        defaults: Some(&input.stack.vars),
        results: Some(input.results),
        ..Scope::default()
    };
    let mut report = Report::default();
    let mut drafts = order::Drafts::default();
    let mut cannot = Vec::new();
    for (place, result) in order::bad_results(input, &mut report) {
        match choose::choose(input, result, &scope, &mut report) {
            Chosen::Action(choice) => drafts.add(input, place, result, choice, &scope),
            Chosen::Nothing(reason) => {
                report
                    .lines
                    .push([result.check.as_str(), ": ", &reason].concat());
                cannot.push(crate::model::plan::CannotHeal {
                    check: result.check.clone(),
                    status: result.status,
                    reason,
                });
            }
        }
    }
    let (auto_heal, require_approval) = drafts.finish(input);
    Decision {
        plan: Plan {
            auto_heal,
            require_approval,
            cannot_heal: cannot,
        },
        report,
    }
}

#[cfg(test)]
mod tests;
