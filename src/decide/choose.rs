//! Which action answers one bad result: declared, by exact name, by fix text, by category, in this order.

use super::{DecisionInput, Report};
use crate::catalogue::Truth;
use crate::catalogue::action::Action;
use crate::catalogue::fact::Scope;
use crate::catalogue::resolve::requirements;
use crate::model::check::CheckResult;
use crate::model::name::ActionName;
use crate::model::word::MatchKind;

/// The answer for one result.
pub(super) enum Chosen<'a> {
    Action(Choice<'a>),
    /// Why nothing heals it.
    Nothing(String),
}

/// An action for one result.
pub(super) struct Choice<'a> {
    pub(super) place: usize,
    pub(super) action: &'a Action,
    pub(super) matched: MatchKind,
    pub(super) alternatives: Vec<ActionName>,
}

pub(super) fn choose<'a>(
    input: &DecisionInput<'a>,
    result: &CheckResult,
    scope: &Scope<'_>,
    report: &mut Report,
) -> Chosen<'a> {
    let check = input.stack.check(&result.check);
    match check.and_then(|check| check.remedies.as_ref()) {
        Some(remedies) if remedies.is_empty() => Chosen::Nothing(
            result
                .suggested_fix
                .as_ref()
                .or(check.and_then(|check| check.suggested_fix.as_ref()))
                .map_or_else(
                    || "no action heals this; a person must look".to_owned(),
                    |fix| format!("no action heals this; a person must: {fix}"),
                ),
        ),
        Some(remedies) => declared(input, result, remedies, scope, report),
        None => matched(input, result, scope),
    }
}

/// The author's first remedy that was not tried yet and whose preconditions are not known false.
fn declared<'a>(
    input: &DecisionInput<'a>,
    result: &CheckResult,
    remedies: &[ActionName],
    scope: &Scope<'_>,
    report: &mut Report,
) -> Chosen<'a> {
    let mut passed = Vec::new();
    for (nth, name) in remedies.iter().enumerate() {
        let Some((place, action)) = action(input, name) else {
            passed.push(format!("{name} is not in the stack"));
            continue;
        };
        if let Some(reason) = passed_over(input, result, action, scope) {
            passed.push(format!("{name} {reason}"));
            continue;
        }
        if !passed.is_empty() {
            report
                .lines
                .push(format!("{}: {}", result.check, passed.join("; ")));
        }
        return Chosen::Action(Choice {
            place,
            action,
            matched: MatchKind::Declared,
            alternatives: remedies.get(nth + 1..).unwrap_or_default().to_vec(),
        });
    }
    Chosen::Nothing(format!("no remedy is left: {}", passed.join("; ")))
}

fn matched<'a>(input: &DecisionInput<'a>, result: &CheckResult, scope: &Scope<'_>) -> Chosen<'a> {
    let index = input.stack.index();
    let check = result.check.as_str();
    let found = index
        .exact(check)
        .map(|place| (place, MatchKind::Exact))
        .or_else(|| {
            let text = result.suggested_fix.as_deref()?;
            Some((index.suggested(text)?, MatchKind::Suggested))
        })
        .or_else(|| Some((index.category(check, result.category)?, MatchKind::Category)));
    let Some((place, matched)) = found else {
        return Chosen::Nothing(
            "no action is declared for it, and none matches by name, fix text or category"
                .to_owned(),
        );
    };
    let Some(action) = input.stack.actions.get(place) else {
        return Chosen::Nothing("the action that matches is not in the stack".to_owned());
    };
    if let Some(reason) = passed_over(input, result, action, scope) {
        return Chosen::Nothing(format!("{} {reason}", action.name));
    }
    Chosen::Action(Choice {
        place,
        action,
        matched,
        alternatives: Vec::new(),
    })
}

fn action<'a>(input: &DecisionInput<'a>, name: &ActionName) -> Option<(usize, &'a Action)> {
    let stack = input.stack;
    let place = stack.action_place(name)?;
    Some((place, stack.actions.get(place)?))
}

/// Why an action is not the one to take now. Needing approval is no such reason: a lower one behind it must not run
/// in its place.
fn passed_over(
    input: &DecisionInput<'_>,
    result: &CheckResult,
    action: &Action,
    scope: &Scope<'_>,
) -> Option<String> {
    let was_tried = input
        .tried
        .get(&result.check)
        .is_some_and(|tried| tried.contains(&action.name));
    if was_tried {
        return Some("was tried in this incident".to_owned());
    }
    let checks = std::slice::from_ref(&result.check);
    match requirements(input.stack, action, checks, scope) {
        Truth::False => Some("does not fit: its preconditions do not hold".to_owned()),
        // The guard asks again with fresh facts before anything runs.
        Truth::True | Truth::Unknown(_) => None,
    }
}
