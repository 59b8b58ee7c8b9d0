//! From answers to a plan: one item per action and parameters, what may run alone, and in which order.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::choose::Choice;
use super::{DecisionInput, Report};
use crate::catalogue::action::{Action, RaiseWhen};
use crate::catalogue::fact::Scope;
use crate::catalogue::resolve::{effective_risk, params_of};
use crate::model::check::CheckResult;
use crate::model::name::{ActionName, CheckName};
use crate::model::plan::{Params, PlanItem};
use crate::model::word::{MatchKind, Risk, Status};

/// The results with each check once, when a caller gave some several times: the worst counts, and a symptom counts more
/// than not knowing. `None`: they are so already.
pub(super) fn without_twins(results: &[CheckResult]) -> Option<Vec<CheckResult>> {
    let mut seen = HashSet::with_capacity(results.len());
    if results
        .iter()
        .all(|result| seen.insert(result.check.as_str()))
    {
        return None;
    }
    let mut sorted: Vec<&CheckResult> = results.iter().collect();
    sorted.sort_by(|a, b| {
        (&a.check, !a.status.is_bad())
            .cmp(&(&b.check, !b.status.is_bad()))
            .then_with(|| worse_first(a, b))
    });
    sorted.dedup_by(|later, kept| later.check == kept.check);
    Some(sorted.into_iter().cloned().collect())
}

/// WARN and FAIL in the order of the stack file and then by name; what is muted or disabled is only reported.
pub(super) fn bad_results<'a>(
    input: &DecisionInput<'a>,
    report: &mut Report,
) -> Vec<((usize, &'a CheckName), &'a CheckResult)> {
    let mut bad = Vec::with_capacity(input.results.len());
    bad.extend(
        input
            .results
            .iter()
            .filter(|result| result.status.is_bad())
            .map(|result| {
                let place = input.stack.check_place(&result.check).unwrap_or(usize::MAX);
                ((place, &result.check), result)
            }),
    );
    // Each check stands once, so the keys differ.
    bad.sort_unstable_by_key(|(key, _)| *key);
    bad.retain(|(_, result)| {
        let why = if input.muted.contains(&result.check) {
            "muted"
        } else if input.policy.disabled_checks.contains(&result.check) {
            "disabled"
        } else {
            return true;
        };
        report
            .lines
            .push(format!("{}: left out, the check is {why}", result.check));
        false
    });
    bad
}

/// A total order over results of one check that does not depend on how they came in.
fn worse_first(a: &CheckResult, b: &CheckResult) -> Ordering {
    (b.status, b.severity)
        .cmp(&(a.status, a.severity))
        .then_with(|| {
            (&a.message, &a.suggested_fix, a.category).cmp(&(
                &b.message,
                &b.suggested_fix,
                b.category,
            ))
        })
        .then_with(|| (a.rule, a.execution_ms).cmp(&(b.rule, b.execution_ms)))
        // Only twins get here; their facts have no order of their own.
        .then_with(|| format!("{:?}", a.facts).cmp(&format!("{:?}", b.facts)))
}

struct Draft<'a> {
    place: usize,
    action: &'a Action,
    item: PlanItem,
    /// How each of the item's checks came to it.
    matches: Vec<MatchKind>,
    /// An earlier draft of the same action with other parameters.
    same_action: Option<usize>,
}

/// Items while they are collected.
#[derive(Default)]
pub(super) struct Drafts<'a> {
    drafts: Vec<Draft<'a>>,
    /// The last draft of each action.
    by_action: HashMap<usize, usize>,
}

impl<'a> Drafts<'a> {
    /// Takes in the answer for one result; the same action with the same parameters is one item.
    pub(super) fn add(
        &mut self,
        input: &DecisionInput<'a>,
        _place: (usize, &CheckName),
        result: &CheckResult,
        choice: Choice<'a>,
        scope: &Scope<'_>,
    ) {
        let checks = std::slice::from_ref(&result.check);
        let params = if choice.action.params.is_empty() {
            Params::new()
        } else {
            params_of(input.stack, choice.action, checks, scope)
        };
        let risk = effective_risk(input.stack, choice.action, checks, scope, input.policy);
        let unavailable = result.availability && result.status == Status::Fail;
        let last = self.by_action.get(&choice.place).copied();
        let mut same = last;
        while let Some(draft) = same.and_then(|at| self.drafts.get(at))
            && draft.item.params != params
        {
            same = draft.same_action;
        }
        if let Some(draft) = same.and_then(|at| self.drafts.get_mut(at)) {
            let item = &mut draft.item;
            item.checks.push(result.check.clone());
            draft.matches.push(choice.matched);
            item.status = item.status.max(result.status);
            item.severity = item.severity.max(result.severity);
            item.unavailable |= unavailable;
            item.risk = item.risk.max(risk);
            // The strongest reason counts: it would be there without the weaker one.
            item.matched = item.matched.min(choice.matched);
            for other in choice.alternatives {
                if !item.alternatives.contains(&other) {
                    item.alternatives.push(other);
                }
            }
            return;
        }
        self.by_action.insert(choice.place, self.drafts.len());
        self.drafts.push(Draft {
            place: choice.place,
            action: choice.action,
            matches: vec![choice.matched],
            same_action: last,
            item: PlanItem {
                action: choice.action.name.clone(),
                params,
                risk,
                matched: choice.matched,
                checks: vec![result.check.clone()],
                status: result.status,
                severity: result.severity,
                unavailable,
                reason: String::new(),
                alternatives: choice.alternatives,
                writes: choice.action.writes_text.clone(),
                estimate: choice.action.estimate,
            },
        });
    }

    /// Orders the items and splits them: what may run alone, and what must be asked.
    pub(super) fn finish(mut self, input: &DecisionInput<'_>) -> (Vec<PlanItem>, Vec<PlanItem>) {
        self.drafts.sort_by(|a, b| {
            (
                !a.item.unavailable,
                a.item.risk,
                a.item.estimate,
                &a.item.action,
                &a.item.params,
            )
                .cmp(&(
                    !b.item.unavailable,
                    b.item.risk,
                    b.item.estimate,
                    &b.item.action,
                    &b.item.params,
                ))
        });
        let drafts = after_what_they_need(self.drafts);
        let rivals = rivals(&drafts);
        let (mut alone, mut ask) = (Vec::new(), Vec::new());
        for (mut draft, rival) in drafts.into_iter().zip(rivals) {
            let action = draft.action;
            let bar = input
                .bars
                .iter()
                .find(|bar| bar.action == action.name && bar.version == action.version);
            let blocked = verdict(input, &draft.item)
                .or_else(|| bar.map(|bar| format!("it was undone here before ({})", bar.reason)));
            let blocked = blocked.or_else(|| {
                rival.map(|name| format!("it conflicts with {name}, which comes before it"))
            });
            draft.item.reason = reason(&draft, input, blocked.as_deref());
            if blocked.is_some() {
                ask.push(draft.item);
            } else {
                alone.push(draft.item);
            }
        }
        (alone, ask)
    }
}

/// For each item an earlier one that it conflicts with, whichever of the two says so.
fn rivals<'a>(drafts: &[Draft<'a>]) -> Vec<Option<&'a ActionName>> {
    let mut declared: BTreeMap<&ActionName, &ActionName> = BTreeMap::new();
    drafts
        .iter()
        .map(|draft| {
            let action = draft.action;
            let conflicts = &action.conflicts;
            let rival = declared.get(&action.name).copied().or_else(|| {
                let earlier = if conflicts.is_empty() { &[] } else { drafts };
                earlier
                    .iter()
                    .take_while(|other| other.place != draft.place)
                    .map(|other| &other.action.name)
                    .find(|name| conflicts.contains(name))
            });
            for conflict in conflicts {
                declared.entry(conflict).or_insert(&action.name);
            }
            rival
        })
        .collect()
}

/// Why an item may not run alone; `None`: it may.
fn verdict(input: &DecisionInput<'_>, item: &PlanItem) -> Option<String> {
    let mode = input.mode.min(input.policy.max_mode);
    if input.policy.always_ask.contains(&item.action) {
        return Some("the policy says that it always asks".to_owned());
    }
    if !mode.allows(item.risk) {
        return Some(match item.risk {
            Risk::High | Risk::Critical => format!("{} always needs approval", item.risk),
            Risk::Low | Risk::Medium => format!("{} needs approval in {mode}", item.risk),
        });
    }
    if !input.policy.unattended_matches.contains(&item.matched) {
        return Some(format!(
            "a match by {} is only a proposal",
            how(item.matched)
        ));
    }
    None
}

const fn how(matched: MatchKind) -> &'static str {
    match matched {
        MatchKind::Declared => "declaration",
        MatchKind::Exact => "exact name",
        MatchKind::Suggested => "fix text",
        MatchKind::Category => "category",
    }
}

fn reason(draft: &Draft<'_>, input: &DecisionInput<'_>, blocked: Option<&str>) -> String {
    let mut text = String::with_capacity(160);
    for kind in MatchKind::ALL {
        let how = match kind {
            MatchKind::Declared => "declared remedy of ",
            MatchKind::Exact => "bears the name of ",
            MatchKind::Suggested => "named by the suggested fix of ",
            MatchKind::Category => "belongs to the category of ",
        };
        let mut lead = how;
        for (check, _) in draft
            .item
            .checks
            .iter()
            .zip(&draft.matches)
            .filter(|(_, matched)| *matched == kind)
        {
            if lead == how && !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(lead);
            text.push_str(check.as_str());
            lead = ", ";
        }
    }
    text.push_str("; ");
    if let Some(blocked) = blocked {
        text.push_str(blocked);
    } else {
        let mode = input.mode.min(input.policy.max_mode);
        text.push_str(draft.item.risk.as_str());
        text.push_str(" may run alone in ");
        text.push_str(mode.as_str());
    }
    for raise in &draft.action.raises {
        if let RaiseWhen::Hook(hook) = raise.when
            && raise.risk > draft.item.risk
        {
            for part in ["; ", raise.risk.as_str(), " if ", hook.says()] {
                text.push_str(part);
            }
        }
    }
    text
}

/// Moves an item behind those that heal what its preconditions need (`checks.X = "PASS"`), else keeps the order.
fn after_what_they_need(drafts: Vec<Draft<'_>>) -> Vec<Draft<'_>> {
    if drafts.iter().all(|draft| draft.action.requires.is_none()) {
        return drafts;
    }
    let mut healed: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, draft) in drafts.iter().enumerate() {
        for check in &draft.item.checks {
            healed.insert(check.as_str(), at);
        }
    }
    let needs: Vec<Vec<usize>> = drafts
        .iter()
        .enumerate()
        .map(|(at, draft)| {
            draft
                .action
                .requires
                .iter()
                .flat_map(crate::catalogue::predicate::Predicate::names)
                .filter(|path| path.scope == "checks")
                .filter_map(|path| healed.get(path.fact.as_str()).copied())
                .filter(|other| *other != at)
                .collect()
        })
        .collect();
    if needs.iter().all(Vec::is_empty) {
        return drafts;
    }
    let mut slots: Vec<_> = drafts.into_iter().map(Some).collect();
    let mut placed = vec![false; slots.len()];
    let mut ordered = Vec::with_capacity(slots.len());
    while ordered.len() < slots.len() {
        let free = (0..slots.len()).find(|at| {
            !placed.get(*at).copied().unwrap_or(true)
                && needs.get(*at).is_none_or(|needs| {
                    needs
                        .iter()
                        .all(|other| placed.get(*other).copied().unwrap_or(true))
                })
        });
        // A circle: the first one left goes on, so that nothing is lost.
        let next = free.or_else(|| placed.iter().position(|placed| !placed));
        let Some(at) = next else {
            break;
        };
        if let (Some(flag), Some(slot)) = (placed.get_mut(at), slots.get_mut(at)) {
            *flag = true;
            ordered.extend(slot.take());
        }
    }
    ordered
}
