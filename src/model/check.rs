//! Check results.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Facts;
use super::name::CheckName;
use super::word::{About, Category, Severity, Status};

/// What one check said in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    pub check: CheckName,
    pub category: Category,
    pub status: Status,
    /// Of a symptom; LOW for PASS.
    pub severity: Severity,
    /// One sentence for people, foreign text escaped.
    pub message: String,
    pub suggested_fix: Option<String>,
    pub execution_ms: u64,
    /// The rule that decided: its place in the check, from 0; absent when none matched (PASS) or it was undecidable.
    pub rule: Option<u32>,
    pub about: About,
    /// Does a FAIL mean that the application is unavailable?
    pub availability: bool,
    /// What it was decided from, so that the verdict can be recomputed.
    pub facts: BTreeMap<String, Facts>,
}

impl CheckResult {
    /// Would a person be told the same? The facts that it was decided from may differ.
    pub fn says_as(&self, other: &Self) -> bool {
        (self.status, self.rule, &self.message) == (other.status, other.rule, &other.message)
    }
}

/// The results of one round over one application, in the order of the stack file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    pub results: Vec<CheckResult>,
    /// Real directories that the application's paths led to; a change means a deploy.
    pub roots: Vec<String>,
}

impl Round {
    /// The result of a check, when it gave one.
    pub fn result(&self, check: &CheckName) -> Option<&CheckResult> {
        self.results.iter().find(|result| &result.check == check)
    }

    /// Status of a check; `ERROR` when it gave no result.
    pub fn status(&self, check: &CheckName) -> Status {
        self.result(check)
            .map_or(Status::Error, |result| result.status)
    }

    /// The sorted (check, status, rule) set: what an approval is bound to.
    pub fn evidence(&self) -> Evidence {
        let mut lines: Vec<_> = self
            .results
            .iter()
            .filter(|result| result.status.is_bad())
            .map(|result| EvidenceLine {
                check: result.check.clone(),
                status: result.status,
                rule: result.rule,
            })
            .collect();
        lines.sort();
        Evidence(lines)
    }
}

/// One line of evidence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EvidenceLine {
    pub check: CheckName,
    pub status: Status,
    pub rule: Option<u32>,
}

/// The bad results that a decision rests on, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Evidence(pub Vec<EvidenceLine>);

impl Evidence {
    /// Only the lines about these checks.
    #[must_use]
    pub fn about(&self, checks: &[CheckName]) -> Self {
        Self(
            self.0
                .iter()
                .filter(|line| checks.contains(&line.check))
                .cloned()
                .collect(),
        )
    }
}
