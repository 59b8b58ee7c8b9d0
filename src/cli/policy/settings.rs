//! The part of a configuration that a decision rests on: `[policy]` and `max_mode`. Everything else is left to
//! `check-config`.

use crate::catalogue::fields::Fields;
use crate::catalogue::source::{self, Errors, Node, Value};
use crate::cli::output::{CliError, code};
use crate::model::policy::Policy;
use crate::model::word::{HealingMode, MatchKind, Risk};

/// Reads the policy out of a configuration file.
pub(super) fn read(file: &str, text: &str) -> Result<Policy, CliError> {
    let mut errors = Errors::default();
    let mut policy = Policy::default();
    if let Some(node) = source::read(file, text, &mut errors) {
        if let Some(found) = node.get("max_mode") {
            policy.max_mode = word(found, "max_mode", &mut errors).unwrap_or(HealingMode::Manual);
        }
        if let Some(table) = node.get("policy") {
            apply(table, &mut policy, &mut errors);
        }
    }
    let errors = errors.into_sorted();
    match errors.first() {
        None => Ok(policy),
        Some(first) => Err(CliError {
            code: "bad_config".into(),
            message: first.to_string(),
            hint: (errors.len() > 1).then(|| {
                errors[1..]
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            }),
            causes: Vec::new(),
            approval: None,
            exit: code::FAILED,
        }),
    }
}

fn apply(node: &Node, policy: &mut Policy, errors: &mut Errors) {
    let Some(mut fields) = Fields::of(node, "policy", errors) else {
        return;
    };
    if let Some(mode) = fields.word::<HealingMode>("max_mode", errors) {
        policy.max_mode = mode;
    }
    if let Some(texts) = fields.texts("unattended_matches", errors) {
        policy.unattended_matches =
            parse_all::<MatchKind>(&texts, "policy.unattended_matches", errors);
    }
    if let Some(texts) = fields.texts("always_ask", errors) {
        policy.always_ask = parse_all(&texts, "policy.always_ask", errors);
    }
    if let Some(texts) = fields.texts("disabled_checks", errors) {
        policy.disabled_checks = parse_all(&texts, "policy.disabled_checks", errors);
    }
    if let Some(shared) = fields.flag("shared_resources", errors) {
        policy.shared_resources = shared;
    }
    for (key, node) in fields.entries("raised_risks", errors) {
        let name = key.text.parse();
        let risk: Option<Risk> = word(node, &format!("policy.raised_risks.{}", key.text), errors);
        match (name, risk) {
            (Ok(name), Some(risk)) => policy.raised_risks.push((name, risk)),
            (Err(error), _) => errors.push(&key.at, "policy.raised_risks", format!("{error}"), ""),
            (Ok(_), None) => {}
        }
    }
    fields.finish(errors);
}

fn parse_all<T>(texts: &[(&str, &source::At)], key: &str, errors: &mut Errors) -> Vec<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let mut found = Vec::new();
    for (text, at) in texts {
        match text.parse() {
            Ok(value) => found.push(value),
            Err(error) => errors.push(at, key, format!("{error}"), ""),
        }
    }
    found
}

fn word<T: std::str::FromStr<Err = crate::model::word::UnknownWord>>(
    node: &Node,
    key: &str,
    errors: &mut Errors,
) -> Option<T> {
    let parsed = match &node.value {
        Value::Text(text) => text
            .parse()
            .map_err(|error: crate::model::word::UnknownWord| error.to_string()),
        other @ (Value::Bool(_) | Value::Int(_) | Value::List(_) | Value::Table(_)) => {
            Err(format!("is {}, a text was expected", other.kind()))
        }
    };
    parsed
        .map_err(|message| errors.push(&node.at, key, message, ""))
        .ok()
}
