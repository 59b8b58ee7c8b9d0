//! From a declared action to a final one: parameters, argv, paths, write set, risk.

use healer_agent::protocol::WriteMember;
use healer_agent::step::Step;

use super::action::{Action, Param, ParamSource, RaiseWhen, Write};
use super::fact::{FactPath, Scope, escape};
use super::stack::Stack;
use super::step::StepError;
use super::truth::Truth;
use crate::model::action::{HookedRisk, ResolvedAction};
use crate::model::app::App;
use crate::model::check::CheckResult;
use crate::model::name::{ActionName, CheckName};
use crate::model::plan::{ParamValue, Params};
use crate::model::policy::Policy;
use crate::model::word::Risk;
use crate::model::{Fact, Pattern, TreePath};

/// The most characters of a text parameter.
const TEXT_CHARS_MAX: usize = 512;

/// Why an action cannot be made final now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("the stack has no action `{0}`")]
    NoAction(ActionName),
    #[error("parameter `{name}` is not known: {reason}")]
    Unknown { name: String, reason: String },
    #[error("parameter `{name}` holds nothing, so there is nothing to do")]
    Nothing { name: String },
    #[error("parameter `{name}` may only be what the check found, or less")]
    Widened { name: String },
    #[error("step {step}: {source}")]
    Step {
        step: usize,
        #[source]
        source: StepError,
    },
    #[error("the write set names `{0}`, which is not a path below the application's root")]
    Write(String),
}

/// A value for each parameter, as far as the results give them.
pub fn params_of(
    stack: &Stack,
    action: &Action,
    checks: &[CheckName],
    scope: &Scope<'_>,
) -> Params {
    action
        .params
        .iter()
        .map(|param| {
            (
                param.name.clone(),
                value_of(stack, action, param, checks, scope),
            )
        })
        .collect()
}

/// The facts that an action's names speak of: those of the check it heals, else of another check that it serves.
fn fact_for(
    stack: &Stack,
    action: &Action,
    checks: &[CheckName],
    scope: &Scope<'_>,
    path: &FactPath,
) -> Fact {
    let results = scope.results.unwrap_or_default();
    let served = stack.served_by(&action.name);
    let mut first = None;
    for check in checks.iter().chain(served) {
        let Some(result) = results.iter().find(|result| &result.check == check) else {
            continue;
        };
        if !result.facts.contains_key(&path.scope) {
            continue;
        }
        let probes = Scope {
            probes: Some(&result.facts),
            ..*scope
        };
        let fact = probes.fact(path).into_owned();
        if !matches!(fact, Fact::Unknown(_)) {
            return fact;
        }
        first.get_or_insert(fact);
    }
    first.unwrap_or_else(|| Fact::Unknown(format!("no result gives `{path}`")))
}

fn value_of(
    stack: &Stack,
    action: &Action,
    param: &Param,
    checks: &[CheckName],
    scope: &Scope<'_>,
) -> ParamValue {
    for source in &param.sources {
        let fact = match source {
            ParamSource::Fact(path) => fact_for(stack, action, checks, scope, path),
            ParamSource::Value(template) => match template.fill(scope) {
                Ok(text) => Fact::Text(text),
                Err(_) => continue,
            },
        };
        let fact = match (param.single, fact) {
            (true, Fact::List(items)) => match <[Fact; 1]>::try_from(items) {
                Ok([only]) => only,
                Err(_) => continue, // several: which one is meant cannot be known
            },
            (_, fact) => fact,
        };
        match bounded(param, fact) {
            ParamValue::Unknown => {}
            known @ (ParamValue::Int(_) | ParamValue::Text(_) | ParamValue::List(_)) => {
                return known;
            }
        }
    }
    ParamValue::Unknown
}

/// The fact as a parameter within its declared bounds; what does not fit is unknown, never bent into shape.
fn bounded(param: &Param, fact: Fact) -> ParamValue {
    let text_fits =
        |text: &str| text.chars().count() <= TEXT_CHARS_MAX && !text.chars().any(char::is_control);
    match fact {
        Fact::Int(number)
            if param.min.is_none_or(|min| number >= min)
                && param.max.is_none_or(|max| number <= max) =>
        {
            ParamValue::Int(number)
        }
        Fact::Text(text) if text_fits(&text) => ParamValue::Text(text),
        Fact::List(items) => {
            let mut texts = Vec::new();
            for item in items.into_iter().take(param.items_max) {
                match item {
                    Fact::Text(text) if text_fits(&text) => texts.push(text),
                    Fact::Int(number) => texts.push(number.to_string()),
                    Fact::Text(_)
                    | Fact::Unknown(_)
                    | Fact::Absent
                    | Fact::Bool(_)
                    | Fact::List(_)
                    | Fact::Map(_)
                    | Fact::Secret { .. } => return ParamValue::Unknown,
                }
            }
            texts.sort();
            texts.dedup();
            ParamValue::List(texts)
        }
        Fact::Int(_)
        | Fact::Text(_)
        | Fact::Unknown(_)
        | Fact::Absent
        | Fact::Bool(_)
        | Fact::Map(_)
        | Fact::Secret { .. } => ParamValue::Unknown,
    }
}

/// Do an action's preconditions hold, as far as these results tell? No preconditions always hold.
pub fn requirements(
    stack: &Stack,
    action: &Action,
    checks: &[CheckName],
    scope: &Scope<'_>,
) -> Truth {
    match &action.requires {
        None => Truth::True,
        Some(predicate) => {
            let (probes, results) = (gathered(stack, action, checks, scope), scope.results);
            let inner = Scope {
                probes: Some(&probes),
                results,
                ..*scope
            };
            predicate.holds(&inner)
        }
    }
}

/// The facts of all checks an action serves, as one set; the healed check's come first.
fn gathered(
    stack: &Stack,
    action: &Action,
    checks: &[CheckName],
    scope: &Scope<'_>,
) -> std::collections::BTreeMap<String, crate::model::Facts> {
    let mut all = std::collections::BTreeMap::new();
    let results = scope.results.unwrap_or_default();
    for check in checks.iter().chain(stack.served_by(&action.name)) {
        if let Some(result) = results.iter().find(|result| &result.check == check) {
            for (name, facts) in &result.facts {
                all.entry(name.clone()).or_insert_with(|| facts.clone());
            }
        }
    }
    all
}

/// Effective risk: the highest of catalogue, raises by facts, shared resources and the operator's policy.
///
/// A raise that cannot be decided counts, because unknown must not make anything run alone.
pub fn effective_risk(
    stack: &Stack,
    action: &Action,
    checks: &[CheckName],
    scope: &Scope<'_>,
    policy: &Policy,
) -> Risk {
    let mut risk = action.risk;
    if !action.raises.is_empty() {
        let probes = gathered(stack, action, checks, scope);
        let inner = Scope {
            probes: Some(&probes),
            ..*scope
        };
        for raise in &action.raises {
            let counts = match &raise.when {
                RaiseWhen::Facts(predicate) => !predicate.holds(&inner).is_false(),
                RaiseWhen::Hook(_) => false,
                RaiseWhen::Unread(_) => true,
            };
            if counts {
                risk = risk.max(raise.risk);
            }
        }
    }
    if policy.shared_resources {
        risk = match risk {
            Risk::Low => Risk::Medium,
            Risk::Medium => Risk::High,
            Risk::High | Risk::Critical => Risk::Critical,
        };
    }
    policy
        .raised_risks
        .iter()
        .filter(|(name, _)| name == &action.name)
        .map(|(_, raised)| *raised)
        .fold(risk, Risk::max)
}

/// Makes an action final for one application.
///
/// `checks` are those it shall heal; `results` the fresh round; `only` narrows parameters to a part of what the round
/// found, for a person's request: it can never name more.
///
/// # Errors
/// When a parameter is unknown or empty, or a path does not fit.
pub fn resolve(
    stack: &Stack,
    name: &ActionName,
    checks: &[CheckName],
    results: &[CheckResult],
    app: &App,
    only: &Params,
) -> Result<ResolvedAction, ResolveError> {
    let action = stack
        .action(name)
        .ok_or_else(|| ResolveError::NoAction(name.clone()))?;
    let scope = Scope {
        app: Some(app),
        defaults: Some(&stack.vars),
        results: Some(results),
        ..Scope::default()
    };
    let mut params = params_of(stack, action, checks, &scope);
    for (name, value) in &mut params {
        narrow(name, value, only.get(name))?;
    }
    if let Some(name) = only.keys().find(|name| !params.contains_key(*name)) {
        return Err(ResolveError::Widened { name: name.clone() });
    }
    let risk = effective_risk(stack, action, checks, &scope, &app.policy);
    let inner = Scope {
        params: Some(&params),
        ..scope
    };
    let final_steps = |steps: &[super::step::StepSource], first: usize| {
        steps
            .iter()
            .enumerate()
            .map(|(place, step)| {
                step.resolve(&inner, app, action.timeout)
                    .map_err(|source| ResolveError::Step {
                        step: first + place,
                        source,
                    })
            })
            .collect::<Result<Vec<Step>, _>>()
    };
    let steps = final_steps(&action.steps, 0)?;
    let finally = final_steps(&action.finally, action.steps.len())?;
    let known_good = steps
        .iter()
        .chain(&finally)
        .filter_map(|step| match step {
            Step::Put { path, .. } => Some(path.clone()),
            Step::Run { .. }
            | Step::Chown { .. }
            | Step::SetBits { .. }
            | Step::EditKey { .. }
            | Step::Remove { .. }
            | Step::SwapDirectory { .. }
            | Step::TrimLog { .. }
            | Step::RestartUnit { .. }
            | Step::RestartPm2 { .. } => None,
        })
        .collect();
    let mut scratch = Vec::new();
    for template in &action.scratch {
        scratch.push(
            template
                .fill(&inner)
                .map_err(|error| ResolveError::Write(error.to_string()))?,
        );
    }
    let timing = &app.policy.timing;
    let restarts_only = action.restarts() && steps.iter().all(|step| !step.writes_files());
    Ok(ResolvedAction {
        name: action.name.clone(),
        version: action.version.clone(),
        risk,
        identity: action.identity,
        writes: write_set(stack, action, &inner)?,
        restarts: action.restarts(),
        scratch,
        timeout: action.timeout,
        settle: action.settle.unwrap_or(if restarts_only {
            timing.settle_restart
        } else {
            timing.settle
        }),
        proves: stack.proofs_of(action, checks),
        known_good,
        raises: action
            .raises
            .iter()
            .filter_map(|raise| match raise.when {
                RaiseWhen::Hook(when) => Some(HookedRisk {
                    when,
                    risk: raise.risk,
                }),
                RaiseWhen::Facts(_) | RaiseWhen::Unread(_) => None,
            })
            .collect(),
        estimate_bytes: action.estimate_bytes,
        estimate: action.estimate,
        steps,
        finally,
        params,
    })
}

fn narrow(
    name: &str,
    value: &mut ParamValue,
    only: Option<&ParamValue>,
) -> Result<(), ResolveError> {
    let widened = || ResolveError::Widened {
        name: name.to_owned(),
    };
    match (&*value, only) {
        (ParamValue::Unknown, _) => {
            return Err(ResolveError::Unknown {
                name: name.to_owned(),
                reason: "the results do not give it, or not within its bounds".to_owned(),
            });
        }
        (_, None | Some(ParamValue::Unknown)) => {}
        (ParamValue::List(have), Some(ParamValue::List(wanted))) => {
            if wanted.iter().any(|item| !have.contains(item)) {
                return Err(widened());
            }
            let mut wanted = wanted.clone();
            wanted.sort();
            wanted.dedup();
            *value = ParamValue::List(wanted);
        }
        (have, Some(wanted)) if have == wanted => {}
        (_, Some(_)) => return Err(widened()),
    }
    if matches!(value, ParamValue::List(items) if items.is_empty()) {
        return Err(ResolveError::Nothing {
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// The final write set. A path that came out of a fact must not act as a pattern, or a file named `*` would widen it.
fn write_set(
    stack: &Stack,
    action: &Action,
    scope: &Scope<'_>,
) -> Result<Vec<WriteMember>, ResolveError> {
    let mut members = Vec::new();
    for write in &action.writes {
        let Write::Files {
            pattern,
            kind,
            shared,
            ..
        } = write
        else {
            continue;
        };
        let stars: usize = pattern.literal_stars();
        for text in pattern
            .expand(scope)
            .map_err(|error| ResolveError::Write(error.to_string()))?
        {
            let bad = || ResolveError::Write(escape(&text, 120));
            // `%2A` is a star too once the path is read.
            let read = TreePath::parse(&text).map_err(|_| bad())?;
            if read.as_bytes().split(|byte| *byte == b'*').count() != stars + 1 {
                return Err(bad());
            }
            let pattern = Pattern::parse(&text).map_err(|_| bad())?;
            members.push(WriteMember {
                shared: shared.unwrap_or_else(|| stack.is_shared(&pattern)),
                pattern,
                what: *kind,
            });
        }
    }
    members.sort_by_key(|member| (member.pattern.clone(), member.what as u8));
    members.dedup();
    Ok(members)
}
