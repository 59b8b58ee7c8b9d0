//! A stack: everything known about one kind of application, ready to be asked.

use std::collections::{BTreeMap, HashMap};

use healer_agent::protocol::{CheckFacts, CheckProbes};

use super::action::Action;
use super::check::{Check, Probes};
use super::fact::Scope;
use super::index::Index;
use super::predicate::Predicate;
use super::resolve::{ResolveError, resolve};
use super::template::FillError;
use crate::model::action::ResolvedAction;
use crate::model::app::App;
use crate::model::check::CheckResult;
use crate::model::name::{ActionName, CheckName, StackName};
use crate::model::plan::Params;
use crate::model::{Facts, Pattern, TreePath};

/// One kind of application.
#[derive(Debug, Clone)]
pub struct Stack {
    pub name: StackName,
    pub title: String,
    pub extends: Option<StackName>,
    /// Only there to be extended; no application is of this kind.
    pub is_base: bool,
    /// Defaults of vars.
    pub vars: BTreeMap<String, String>,
    /// In file order, inherited ones first.
    pub checks: Vec<Check>,
    /// In file order, inherited ones first.
    pub actions: Vec<Action>,
    /// Kept beside the write set, and always before HIGH and CRITICAL.
    pub base_set: Vec<Pattern>,
    /// Config members of the known-good snapshot.
    pub known_good: Vec<TreePath>,
    /// Written by the live site too.
    pub shared: Vec<Pattern>,
    /// Nobody needs them back.
    pub volatile: Vec<Pattern>,
    pub detection: Option<Detection>,
    pub(super) index: Index,
    pub(super) check_places: HashMap<CheckName, usize>,
    pub(super) action_places: HashMap<ActionName, usize>,
    /// Per action: the checks whose remedy it is.
    pub(super) served: Vec<Vec<CheckName>>,
}

/// How an application of a stack is recognised.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    pub probes: Probes,
    /// The first that holds gives the confidence in percent.
    pub rules: Vec<(Predicate, u8)>,
}

impl Detection {
    /// What to ask of a directory.
    pub fn probes(&self) -> CheckProbes {
        CheckProbes {
            check: "detect".to_owned(),
            probes: self.probes.filled(&Scope::default()).unwrap_or_default(),
        }
    }

    /// Confidence in percent; 0: surely or possibly something else.
    pub fn confidence(&self, facts: &BTreeMap<String, Facts>) -> u8 {
        let scope = Scope {
            probes: Some(facts),
            ..Scope::default()
        };
        self.rules
            .iter()
            .find(|(when, _)| when.holds(&scope).is_true())
            .map_or(0, |(_, confidence)| *confidence)
    }
}

impl Stack {
    /// A check by name.
    pub fn check(&self, name: &CheckName) -> Option<&Check> {
        self.check_place(name)
            .and_then(|place| self.checks.get(place))
    }

    /// Where a check stands in the file.
    pub fn check_place(&self, name: &CheckName) -> Option<usize> {
        self.check_places.get(name).copied()
    }

    /// An action by name.
    pub fn action(&self, name: &ActionName) -> Option<&Action> {
        self.action_place(name)
            .and_then(|place| self.actions.get(place))
    }

    /// Where an action stands in the file.
    pub fn action_place(&self, name: &ActionName) -> Option<usize> {
        self.action_places.get(name).copied()
    }

    /// How checks find actions by name, text and category.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The checks whose remedy an action is, or that it says it proves.
    pub fn served_by(&self, action: &ActionName) -> &[CheckName] {
        self.action_place(action)
            .and_then(|place| self.served.get(place))
            .map_or(&[], Vec::as_slice)
    }

    /// The checks that prove an action when it heals `checks`: those it declares, else those of `checks` whose remedy
    /// it is, else all whose remedy it is. What it was only matched to by name or text proves it when nothing else
    /// was meant to be healed, so that a guess cannot turn a good heal into an undo.
    pub fn proofs_of(&self, action: &Action, checks: &[CheckName]) -> Vec<CheckName> {
        let served = self.served_by(&action.name);
        let healed: Vec<_> = checks
            .iter()
            .filter(|check| served.contains(check))
            .cloned()
            .collect();
        match (
            healed.is_empty(),
            checks.is_empty(),
            action.proves.is_empty(),
        ) {
            (true, false, _) => checks.to_vec(),
            (_, _, false) => action.proves.clone(),
            (false, _, true) => healed,
            (true, true, true) => served.to_vec(),
        }
    }

    /// Does the live site write there too, in a place whose content matters?
    pub fn is_shared(&self, pattern: &Pattern) -> bool {
        overlaps_any(&self.shared, pattern)
            && !self.volatile.iter().any(|outer| covers(outer, pattern))
    }

    /// What to ask of an application in one round, in file order. Checks that surely do not apply are left out, and
    /// so are those whose values are absent: [`Stack::evaluate`] answers them.
    pub fn probes(&self, app: &App, which: &dyn Fn(&Check) -> bool) -> Vec<CheckProbes> {
        self.checks
            .iter()
            .filter(|check| which(check))
            .filter_map(|check| check.probes_for(app, &self.vars).ok().flatten())
            .collect()
    }

    /// Takes out of a round whatever would start the application.
    pub fn spare(&self, asked: &mut [CheckProbes]) {
        for check in &self.checks {
            let same = |asked: &&mut CheckProbes| asked.check == check.name.as_str();
            if let (false, Some(asked)) = (check.starts_app.is_empty(), asked.iter_mut().find(same))
            {
                check.spare(asked);
            }
        }
    }

    /// The results of one round, in file order.
    ///
    /// `which` must be the choice that [`Stack::probes`] was asked with. A check that was asked and not answered is
    /// ERROR; one that does not apply has no result.
    pub fn evaluate(
        &self,
        app: &App,
        which: &dyn Fn(&Check) -> bool,
        facts: &[CheckFacts],
    ) -> Vec<CheckResult> {
        self.checks
            .iter()
            .filter(|check| which(check))
            .filter_map(|check| {
                if let Some(found) = facts
                    .iter()
                    .find(|found| found.check == check.name.as_str())
                {
                    return check.evaluate(found, app, &self.vars);
                }
                match check.probes_for(app, &self.vars) {
                    Ok(None) => None,
                    Ok(Some(_)) => {
                        let why = FillError::Unknown(
                            check.name.to_string(),
                            "the agent gave no answer".to_owned(),
                        );
                        check.unasked(&why, app, &self.vars)
                    }
                    Err(why) => check.unasked(&why, app, &self.vars),
                }
            })
            .collect()
    }

    /// Makes an action final; see [`resolve`].
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn resolve(
        &self,
        action: &ActionName,
        checks: &[CheckName],
        results: &[CheckResult],
        app: &App,
        only: &Params,
    ) -> Result<ResolvedAction, ResolveError> {
        resolve(self, action, checks, results, app, only)
    }
}

fn overlaps_any(patterns: &[Pattern], pattern: &Pattern) -> bool {
    patterns.iter().any(|other| overlaps(other, pattern))
}

/// Could some path be in both? Errs towards yes.
pub(super) fn overlaps(a: &Pattern, b: &Pattern) -> bool {
    let (a_start, b_start) = (a.fixed_prefix(), b.fixed_prefix());
    if !a_start.is_below(&b_start) && !b_start.is_below(&a_start) {
        return false;
    }
    match (a.as_path(), b.as_path()) {
        (Some(path), _) => b.matches(path),
        (_, Some(path)) => a.matches(path),
        (None, None) => {
            let (lower, upper) = if a_start.is_below(&b_start) {
                (&a_start, b)
            } else {
                (&b_start, a)
            };
            upper.matches(lower) || upper.may_match_below(lower)
        }
    }
}

/// Is everything of `inner` surely in `outer`? Errs towards no.
pub(super) fn covers(outer: &Pattern, inner: &Pattern) -> bool {
    outer == inner
        || match inner.as_path() {
            Some(path) => outer.matches(path),
            None => outer.is_recursive() && outer.matches(&inner.fixed_prefix()),
        }
}
