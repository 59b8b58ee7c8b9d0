//! What an undo did, for people.

use healer_agent::protocol::{UndoOutcome, UndoResult};
use healer_agent::tree::TreePath;

use super::plan::UndoPlan;
use crate::model::heal::UndoReport;

/// Lines of one list; of the rest the number is told.
const LINES_MAX: usize = 500;

/// Puts plan and outcomes together. A path without an outcome is a failed one: silence is no success.
pub fn report(plan: &UndoPlan, outcomes: &[UndoOutcome]) -> UndoReport {
    let mut report = UndoReport::default();
    let mut kept: Vec<String> = plan.kept.iter().map(line).collect();
    let mut failed = Vec::new();
    for item in &plan.items {
        // A path may have been sent twice; the last word counts.
        let outcome = outcomes
            .iter()
            .rev()
            .find(|outcome| outcome.path == item.path);
        match outcome.map(|outcome| (outcome.result, &outcome.detail)) {
            Some((UndoResult::Restored, _)) => report.restored += 1,
            Some((UndoResult::Already, _)) => report.already += 1,
            Some((UndoResult::Kept, detail)) => kept.push(sentence(&item.path, detail)),
            Some((UndoResult::Failed, detail)) => failed.push(sentence(&item.path, detail)),
            None => failed.push(sentence(&item.path, "the host said nothing about it")),
        }
    }
    report.kept = bounded(kept);
    report.failed = bounded(failed);
    report.blocked = bounded(plan.blocked.iter().map(line).collect());
    report
}

fn line((path, reason): &(TreePath, String)) -> String {
    sentence(path, reason)
}

fn sentence(path: &TreePath, reason: &str) -> String {
    if reason.is_empty() {
        path.to_string()
    } else {
        format!("{path}: {reason}")
    }
}

fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(LINES_MAX);
    if more > 0 {
        lines.truncate(LINES_MAX);
        lines.push(format!("and {more} more"));
    }
    lines
}
