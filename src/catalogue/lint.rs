//! What only a whole stack can tell: dangling names, write sets that do not cover the steps, risks that are too low.

use healer_agent::probe::spec::FactType;
use healer_agent::protocol::WriteKind;

use super::action::{Action, ParamSource, Write};
use super::fact::FactPath;
use super::fields::did_you_mean;
use super::source::{At, Errors};
use super::stack::{Stack, covers};
use super::step::{StepSource, is_final_name};
use super::template::{Template, json_names};
use crate::model::Pattern;
use crate::model::name::{ActionName, CheckName};
use crate::model::word::Risk;

/// Everything about one stack.
pub(super) fn check(stack: &Stack, errors: &mut Errors) {
    for check in &stack.checks {
        let key = format!("check.{}", check.name);
        for remedy in check.remedies.iter().flatten() {
            known_action(stack, remedy, &check.at, &format!("{key}.remedies"), errors);
        }
        let names = check
            .probes
            .0
            .values()
            .flat_map(|probe| json_names(&probe.params));
        for (path, has_default) in names {
            known_var(stack, &path, has_default, &check.at, &key, errors);
        }
    }
    for action in &stack.actions {
        action_names(stack, action, errors);
        action_writes(stack, action, errors);
        action_risk(action, errors);
    }
}

/// Type of what an action's conditions may name: facts of the checks it serves, and statuses of all checks.
pub(super) fn type_in_action(
    stack: &Stack,
    action: &Action,
    path: &FactPath,
) -> Result<FactType, String> {
    if path.scope == "checks" {
        return match path.fact.parse::<CheckName>() {
            Ok(name) if stack.check(&name).is_some() => Ok(FactType::Text),
            Ok(_) | Err(_) => Err(format!("the stack has no check `{}`", path.fact)),
        };
    }
    let mut first = None;
    for name in stack.served_by(&action.name) {
        if let Some(check) = stack.check(name) {
            match check.probes.type_of(path) {
                Ok(kind) => return Ok(kind),
                Err(message) => _ = first.get_or_insert(message),
            }
        }
    }
    Err(first.unwrap_or_else(|| format!("no check names this action, so nobody gives `{path}`")))
}

fn known_action(stack: &Stack, name: &ActionName, at: &At, key: &str, errors: &mut Errors) {
    if stack.action(name).is_none() {
        let names = || stack.actions.iter().map(|action| action.name.as_str());
        let near = did_you_mean(name.as_str(), names());
        let remedy = if near.is_empty() {
            format!("known: {}", names().collect::<Vec<_>>().join(", "))
        } else {
            near
        };
        errors.push(at, key, format!("there is no action `{name}`"), remedy);
    }
}

fn known_var(
    stack: &Stack,
    path: &FactPath,
    has_default: bool,
    at: &At,
    key: &str,
    errors: &mut Errors,
) {
    // A stack that lists its vars wants typing mistakes in them found; a default given on the spot is a list of one.
    let is_listed = stack.vars.is_empty() || stack.vars.contains_key(&path.fact);
    if path.scope == "vars" && !has_default && !is_listed {
        let near = did_you_mean(&path.fact, stack.vars.keys().map(String::as_str));
        let remedy = if near.is_empty() {
            "give it a default in [vars] or as `{vars.name|default}`".to_owned()
        } else {
            near
        };
        errors.push(
            at,
            key,
            format!("`{path}` is not one of the stack's vars"),
            remedy,
        );
    }
}

fn action_names(stack: &Stack, action: &Action, errors: &mut Errors) {
    let key = format!("action.{}", action.name);
    for check in &action.proves {
        if stack.check(check).is_none() {
            let near = did_you_mean(
                check.as_str(),
                stack.checks.iter().map(|check| check.name.as_str()),
            );
            errors.push(
                &action.at,
                &format!("{key}.proves"),
                format!("there is no check `{check}`"),
                near,
            );
        }
    }
    for other in &action.conflicts {
        known_action(
            stack,
            other,
            &action.at,
            &format!("{key}.conflicts"),
            errors,
        );
    }
    for param in &action.params {
        for source in &param.sources {
            match source {
                ParamSource::Fact(path) => {
                    if let Err(message) = type_in_action(stack, action, path) {
                        errors.push(
                            &action.at,
                            &format!("{key}.params.{}", param.name),
                            message,
                            "name a fact of a check whose remedy this is",
                        );
                    }
                }
                ParamSource::Value(template) => {
                    names_in(
                        stack,
                        action,
                        template,
                        &format!("{key}.params.{}", param.name),
                        false,
                        errors,
                    );
                }
            }
        }
    }
    for (place, step) in action.steps.iter().chain(&action.finally).enumerate() {
        for template in step.templates() {
            names_in(
                stack,
                action,
                template,
                &format!("{key}.steps[{place}]"),
                true,
                errors,
            );
        }
        if let StepSource::PutKnownGood { path } = step
            && let Some(text) = path.literal()
            && !stack
                .known_good
                .iter()
                .any(|known| known.to_string() == text)
        {
            errors.push(
                &action.at,
                &format!("{key}.steps[{place}]"),
                format!("`{text}` is no member of known_good"),
                "add it to the stack's known_good",
            );
        }
    }
    for write in &action.writes {
        if let Write::Files { pattern, .. } = write {
            names_in(
                stack,
                action,
                pattern,
                &format!("{key}.writes"),
                true,
                errors,
            );
        }
    }
    for template in &action.scratch {
        names_in(
            stack,
            action,
            template,
            &format!("{key}.scratch"),
            false,
            errors,
        );
    }
}

fn names_in(
    stack: &Stack,
    action: &Action,
    template: &Template,
    key: &str,
    params: bool,
    errors: &mut Errors,
) {
    for (path, has_default) in template.names() {
        known_var(stack, path, has_default, &action.at, key, errors);
        if !is_final_name(path) || (path.scope == "params" && !params) {
            errors.push(
                &action.at,
                key,
                format!("`{path}` is not known when the action starts"),
                "take it in as a parameter: params.x = { from = \"probe.fact\" }",
            );
        } else if path.scope == "params"
            && !action.params.iter().any(|param| param.name == path.fact)
        {
            let near = did_you_mean(
                &path.fact,
                action.params.iter().map(|param| param.name.as_str()),
            );
            errors.push(
                &action.at,
                key,
                format!("there is no parameter `{}`", path.fact),
                near,
            );
        }
    }
}

fn action_writes(stack: &Stack, action: &Action, errors: &mut Errors) {
    let key = format!("action.{}.writes", action.name);
    let kinds: Vec<_> = action
        .steps
        .iter()
        .chain(&action.finally)
        .map(StepSource::kind)
        .collect();
    let restarts = kinds.iter().any(|step| !step.writes_files());
    if restarts && !action.writes.contains(&Write::Service) {
        errors.push(
            &action.at,
            &key,
            "a restart is not declared",
            "add { service = \"app\" }",
        );
    }
    if kinds.iter().any(healer_agent::step::Step::writes_files) && action.writes.is_empty() {
        errors.push(
            &action.at,
            &key,
            "it writes without a write set",
            "declare every path that its steps change, as content or metadata",
        );
        return;
    }
    for step in action.steps.iter().chain(&action.finally) {
        for (path, only_metadata, recursive) in step.changes() {
            if !is_covered(action, path, only_metadata, recursive) {
                let shown: String = path.shown().collect();
                let below = if recursive { "/**" } else { "" };
                let member = if only_metadata { "metadata" } else { "content" };
                errors.push(
                    &action.at,
                    &key,
                    format!("a step changes `{shown}{below}`, which the write set does not cover"),
                    format!("add {{ {member} = \"{shown}{below}\" }}"),
                );
            }
        }
    }
    let runs = kinds
        .iter()
        .any(|step| matches!(step, healer_agent::step::Step::Run { .. }));
    for write in action.writes.iter().filter(|_| runs) {
        if let Write::Files {
            pattern,
            kind: WriteKind::Content,
            shared,
            at,
        } = write
        {
            let prefix: String = pattern.shown().collect();
            let is_shared = shared.unwrap_or_else(|| {
                Pattern::parse(&prefix).is_ok_and(|pattern| stack.is_shared(&pattern))
            });
            if is_shared {
                errors.push(
                    at,
                    &key,
                    format!("a program may not write `{prefix}`, which the live site writes too"),
                    "change it with native steps, or name a smaller member",
                );
            }
        }
    }
}

/// Does some member take in this path of a step?
fn is_covered(action: &Action, path: &Template, only_metadata: bool, recursive: bool) -> bool {
    let shown: String = path.shown().collect();
    action.writes.iter().any(|write| {
        let Write::Files { pattern, kind, .. } = write else {
            return false;
        };
        if *kind == WriteKind::Metadata && !only_metadata {
            return false;
        }
        let member: String = pattern.shown().collect();
        match (path.literal(), pattern.literal()) {
            (Some(path), Some(member)) => {
                let path = if recursive {
                    format!("{path}/**")
                } else {
                    path.to_owned()
                };
                match (Pattern::parse(member), Pattern::parse(&path)) {
                    (Ok(member), Ok(path)) => covers(&member, &path),
                    (Ok(_) | Err(_), _) => false,
                }
            }
            _ => member == format!("{shown}/**") || (!recursive && member == shown),
        }
    })
}

fn action_risk(action: &Action, errors: &mut Errors) {
    if action.risk < Risk::High && action.writes.iter().any(|write| !write.is_undoable()) {
        errors.push(
            &action.at,
            &format!("action.{}.risk", action.name),
            format!(
                "is {}, although no backup can take back what it writes",
                action.risk
            ),
            "make it HIGH or CRITICAL",
        );
    }
}
