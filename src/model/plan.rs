//! The plan: what would run alone, what must be asked, what nothing can heal.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::{ActionName, CheckName};
use super::word::{MatchKind, Risk, Severity, Status};

/// A parameter's value, or that the results did not give it yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParamValue {
    /// Will be resolved by the action's own check before anything else.
    Unknown,
    Int(i64),
    Text(String),
    List(Vec<String>),
}

/// Typed parameters by name.
pub type Params = BTreeMap<String, ParamValue>;

/// One action with its parameters, and all the checks it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanItem {
    pub action: ActionName,
    pub params: Params,
    /// Effective risk.
    pub risk: Risk,
    pub matched: MatchKind,
    /// Sorted as the stack file lists them.
    pub checks: Vec<CheckName>,
    /// Worst status and severity among `checks`.
    pub status: Status,
    pub severity: Severity,
    /// Is the application unavailable because of one of `checks`?
    pub unavailable: bool,
    /// Why this action, and why it stands in this list.
    pub reason: String,
    /// Later remedies of the same checks, in the author's order.
    pub alternatives: Vec<ActionName>,
    /// The write set as people read it.
    pub writes: Vec<String>,
    pub estimate: Duration,
}

/// A bad result that no action answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CannotHeal {
    pub check: CheckName,
    pub status: Status,
    pub reason: String,
}

/// The whole plan for one app and round, in the order in which it would run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub auto_heal: Vec<PlanItem>,
    pub require_approval: Vec<PlanItem>,
    pub cannot_heal: Vec<CannotHeal>,
}

impl Plan {
    /// `Auto-heal (n): a, b | Require approval (n): c | Cannot heal (n): d`, with `none` where empty.
    pub fn summary(&self) -> String {
        fn part<'a>(label: &str, names: impl Iterator<Item = &'a str>) -> String {
            let names: Vec<_> = names.collect();
            let list = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            format!("{label} ({}): {list}", names.len())
        }
        [
            part(
                "Auto-heal",
                self.auto_heal.iter().map(|item| item.action.as_str()),
            ),
            part(
                "Require approval",
                self.require_approval
                    .iter()
                    .map(|item| item.action.as_str()),
            ),
            part(
                "Cannot heal",
                self.cannot_heal.iter().map(|item| item.check.as_str()),
            ),
        ]
        .join(" | ")
    }
}
