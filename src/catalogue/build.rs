//! From texts to stacks: inheritance, then each table, then what only the whole can tell.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::action::{Action, RaiseWhen};
use super::check::{Check, Probes};
use super::fields::{Fields, did_you_mean};
use super::index::Index;
use super::source::{self, At, Errors, Key, Node, StackError, Value};
use super::stack::{Detection, Stack};
use super::{lint, predicate};
use crate::model::name::StackName;
use crate::model::{Pattern, TreePath};

/// Top level, then `check` or `action`, then the name, then single keys.
const MERGE_LEVELS: u32 = 3;

/// The longest chain of `extends`.
const EXTENDS_MAX: usize = 8;

struct File {
    node: Node,
    extends: Option<String>,
}

pub(super) fn load(
    built_in: &[(&str, &str)],
    extra: &[(String, String)],
) -> Result<BTreeMap<StackName, Arc<Stack>>, Vec<StackError>> {
    let mut errors = Errors::default();
    let mut files: BTreeMap<StackName, File> = BTreeMap::new();
    for (name, text) in built_in {
        if let (Ok(name), Some(node)) = (
            name.parse(),
            source::read(&format!("stacks/{name}.toml"), text, &mut errors),
        ) {
            let extends = extends_of(&node);
            files.insert(name, File { node, extends });
        }
    }
    let mut given: BTreeMap<StackName, &str> = BTreeMap::new();
    for (shown, text) in extra {
        let at = At {
            file: shown.as_str().into(),
            line: 1,
        };
        let base = shown.rsplit('/').next().unwrap_or(shown);
        let name: StackName = match base.strip_suffix(".toml").unwrap_or(base).parse() {
            Ok(name) => name,
            Err(error) => {
                errors.push(&at, "", format!("{error}"), "rename the file");
                continue;
            }
        };
        if let Some(other) = given.insert(name.clone(), shown) {
            errors.push(
                &at,
                "",
                format!("stack `{name}` is in `{other}` too"),
                "rename one of the files",
            );
            continue;
        }
        let Some(node) = source::read(shown, text, &mut errors) else {
            continue;
        };
        add(&mut files, name, node, &mut errors);
    }
    let names: Vec<_> = files.keys().cloned().collect();
    let mut stacks = BTreeMap::new();
    for name in names {
        if let Some(node) = merged(&files, &name, &mut errors)
            && let Some(stack) = stack(&name, &node, &mut errors)
        {
            stacks.insert(name, Arc::new(stack));
        }
    }
    if errors.count() == 0 {
        Ok(stacks)
    } else {
        Err(errors.into_sorted())
    }
}

/// A further file: a new stack, or one that takes the place of what it extends.
fn add(files: &mut BTreeMap<StackName, File>, name: StackName, node: Node, errors: &mut Errors) {
    let extends = extends_of(&node);
    match (files.remove(&name), &extends) {
        (Some(old), Some(extended)) if extended == name.as_str() => {
            let extends = old.extends;
            let node = source::merge(old.node, node, MERGE_LEVELS);
            files.insert(name, File { node, extends });
        }
        (Some(old), _) => {
            errors.push(
                &node.at,
                "",
                format!("there is a stack `{name}` already"),
                format!("rename the file, or say extends = \"{name}\" to change single keys of it"),
            );
            files.insert(name, old);
        }
        (None, _) => {
            files.insert(name, File { node, extends });
        }
    }
}

fn extends_of(node: &Node) -> Option<String> {
    match node.get("extends").map(|node| &node.value) {
        Some(Value::Text(name)) => Some(name.clone()),
        _ => None,
    }
}

/// The file laid on everything it extends.
fn merged(
    files: &BTreeMap<StackName, File>,
    name: &StackName,
    errors: &mut Errors,
) -> Option<Node> {
    let mut chain: Vec<&File> = Vec::new();
    let mut next = Some(name.as_str().to_owned());
    while let Some(current) = next.take() {
        let Some(file) = files.get(current.as_str()) else {
            let child = chain.last()?;
            let at = child
                .node
                .get("extends")
                .map_or_else(|| child.node.at.clone(), |node| node.at.clone());
            let near = did_you_mean(&current, files.keys().map(StackName::as_str));
            let known = files
                .keys()
                .map(StackName::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            errors.push(
                &at,
                "extends",
                format!("there is no stack `{current}`"),
                if near.is_empty() {
                    format!("known: {known}")
                } else {
                    near
                },
            );
            return None;
        };
        if chain.len() >= EXTENDS_MAX {
            errors.push(
                &file.node.at,
                "extends",
                "the stacks extend each other in a circle, or too deeply",
                "",
            );
            return None;
        }
        chain.push(file);
        next.clone_from(&file.extends);
    }
    let mut files = chain.into_iter().rev();
    let mut node = files.next()?.node.clone();
    for file in files {
        // Being only a base is not inherited.
        if let Value::Table(entries) = &mut node.value {
            entries.retain(|(key, _)| key.text != "base");
        }
        node = source::merge(node, file.node.clone(), MERGE_LEVELS);
    }
    Some(node)
}

fn stack(name: &StackName, node: &Node, errors: &mut Errors) -> Option<Stack> {
    let before = errors.count();
    let mut fields = Fields::of(node, "", errors)?;
    let title = fields
        .text("title", errors)
        .unwrap_or(name.as_str())
        .to_owned();
    let extends = fields.name("extends", errors);
    let is_base = fields.flag("base", errors).unwrap_or(false);
    let vars = vars(fields.entries("vars", errors), errors);
    let base_set = patterns(&mut fields, "base_set", errors);
    let known_good = patterns(&mut fields, "known_good", errors);
    let shared = patterns(&mut fields, "shared", errors);
    let volatile = patterns(&mut fields, "volatile", errors);
    let detection = fields
        .take("detect")
        .and_then(|node| detection(node, errors));
    let checks: Vec<_> = fields
        .entries("check", errors)
        .iter()
        .filter_map(|(key, node)| Check::parse(key, node, errors))
        .collect();
    let actions: Vec<_> = fields
        .entries("action", errors)
        .iter()
        .filter_map(|(key, node)| Action::parse(key, node, errors))
        .collect();
    let known_good = exact_paths(&known_good, &fields, errors);
    fields.finish(errors);
    let mut stack = Stack {
        name: name.clone(),
        title,
        extends,
        is_base,
        vars,
        check_places: checks
            .iter()
            .enumerate()
            .map(|(place, check)| (check.name.clone(), place))
            .collect(),
        action_places: actions
            .iter()
            .enumerate()
            .map(|(place, action)| (action.name.clone(), place))
            .collect(),
        index: Index::new(&actions),
        served: Vec::new(),
        checks,
        actions,
        base_set: base_set.into_iter().map(|(pattern, _)| pattern).collect(),
        known_good,
        shared: shared.into_iter().map(|(pattern, _)| pattern).collect(),
        volatile: volatile.into_iter().map(|(pattern, _)| pattern).collect(),
        detection,
    };
    stack.served = served(&stack);
    read_conditions(&mut stack, errors);
    lint::check(&stack, errors);
    (errors.count() == before).then_some(stack)
}

/// Per action: the checks that name it, in file order, then those it says it proves, then one that bears its name.
fn served(stack: &Stack) -> Vec<Vec<crate::model::name::CheckName>> {
    let mut served: Vec<Vec<_>> = vec![Vec::new(); stack.actions.len()];
    let mut add = |place: usize, name: &crate::model::name::CheckName| {
        if let Some(list) = served.get_mut(place)
            && !list.contains(name)
        {
            list.push(name.clone());
        }
    };
    let empty = Vec::new();
    for check in &stack.checks {
        for remedy in check.remedies.as_ref().unwrap_or(&empty) {
            if let Some(place) = stack.action_place(remedy) {
                add(place, &check.name);
            }
        }
    }
    for (place, action) in stack.actions.iter().enumerate() {
        for check in &action.proves {
            add(place, check);
        }
    }
    for check in stack.checks.iter().filter(|check| check.remedies.is_none()) {
        if let Some(place) = stack.index.exact(check.name.as_str()) {
            add(place, &check.name);
        }
    }
    served
}

/// Conditions of actions speak of their checks' facts, so they are read once those are known.
fn read_conditions(stack: &mut Stack, errors: &mut Errors) {
    let mut read = HashMap::new();
    for (place, action) in stack.actions.iter().enumerate() {
        let types = |path: &super::fact::FactPath| lint::type_in_action(stack, action, path);
        let requires = action.requires_node.as_ref().and_then(|node| {
            predicate::parse(
                node,
                &format!("action.{}.requires", action.name),
                &types,
                errors,
            )
        });
        let raises: Vec<_> = action
            .raises
            .iter()
            .map(|raise| match &raise.when {
                RaiseWhen::Unread(node) => predicate::parse(
                    node,
                    &format!("action.{}.raises", action.name),
                    &types,
                    errors,
                )
                .map(RaiseWhen::Facts),
                other @ (RaiseWhen::Facts(_) | RaiseWhen::Hook(_)) => Some(other.clone()),
            })
            .collect();
        read.insert(place, (requires, raises));
    }
    for (place, action) in stack.actions.iter_mut().enumerate() {
        if let Some((requires, raises)) = read.remove(&place) {
            action.requires = requires;
            for (raise, when) in action.raises.iter_mut().zip(raises) {
                if let Some(when) = when {
                    raise.when = when;
                }
            }
        }
    }
}

fn vars(entries: &[(Key, Node)], errors: &mut Errors) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for (key, node) in entries {
        if let Value::Text(text) = &node.value {
            vars.insert(key.text.clone(), text.clone());
        } else {
            errors.push(
                &node.at,
                &format!("vars.{}", key.text),
                format!("is {}, a text was expected", node.value.kind()),
                "write the default in quotes",
            );
        }
    }
    vars
}

fn patterns(
    fields: &mut Fields<'_>,
    name: &'static str,
    errors: &mut Errors,
) -> Vec<(Pattern, At)> {
    let mut found = Vec::new();
    let key = fields.key(name);
    for (text, at) in fields.texts(name, errors).unwrap_or_default() {
        match Pattern::parse(text) {
            Ok(pattern) => found.push((pattern, at.clone())),
            Err(error) => errors.push(
                at,
                &key,
                format!("{error}"),
                "name a path below the application's root",
            ),
        }
    }
    found
}

fn exact_paths(
    patterns: &[(Pattern, At)],
    fields: &Fields<'_>,
    errors: &mut Errors,
) -> Vec<TreePath> {
    let mut paths = Vec::new();
    for (pattern, at) in patterns {
        match pattern.as_path() {
            Some(path) => paths.push(path.clone()),
            None => errors.push(
                at,
                &fields.key("known_good"),
                format!("`{pattern}` is not a single file"),
                "name each config file",
            ),
        }
    }
    paths
}

fn detection(node: &Node, errors: &mut Errors) -> Option<Detection> {
    let mut fields = Fields::of(node, "detect", errors)?;
    let probes = Probes::parse(fields.entries("probes", errors), "detect.probes", errors);
    let types = |path: &super::fact::FactPath| probes.type_of(path);
    let mut rules = Vec::new();
    for (place, node) in fields
        .list("rules", errors)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let key = format!("detect.rules[{place}]");
        let Some(mut rule) = Fields::of(node, &key, errors) else {
            continue;
        };
        let when = rule
            .need("when", "say what must hold", errors)
            .and_then(|node| predicate::parse(node, &format!("{key}.when"), &types, errors));
        rule.need("confidence", "say how sure it is, 1 to 100", errors);
        let confidence = rule
            .int("confidence", errors)
            .and_then(|number| u8::try_from(number).ok());
        if confidence.is_some_and(|confidence| confidence > 100) {
            errors.push(
                &node.at,
                &rule.key("confidence"),
                "is more than 100 percent",
                "",
            );
        }
        rule.finish(errors);
        if let (Some(when), Some(confidence)) = (when, confidence) {
            rules.push((when, confidence));
        }
    }
    fields.finish(errors);
    Some(Detection { probes, rules })
}
