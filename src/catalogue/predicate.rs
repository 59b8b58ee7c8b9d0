//! The predicate language: one small typed language in TOML, for checks, detection and preconditions alike.
//!
//! A table names facts and what must hold of each; several entries all must. `{ fact = { eq = 1 } }` compares,
//! `{ fact = 1 }` is short for it. The other side is a literal, a text with `{vars.x|default}` in it, `{ fact = "…" }`
//! or `{ var = "…", default = "…" }`. Absent is neither empty nor equal to anything: an absent fact satisfies only
//! `exists = false`, `ne`, and what `not` turns round. Unknown stays unknown.
//!
//! | operator | of | holds when |
//! |---|---|---|
//! | `eq ne in` | bool, number, text, time, bytes, mode | equal, not equal, one of a list |
//! | `lt le gt ge` | number, time, bytes | compared as numbers |
//! | `matches` | text | the whole text fits the literal, `*` standing for any run |
//! | `contains` | text, list | holds the text, has the entry |
//! | `empty` | text, list, map, secret | has no character, entry or key |
//! | `length` | text, list, secret | its length fulfils the inner test |
//! | `exists` | everything | is there |
//! | `satisfies` | text | a version in the range |
//! | `has_bits lacks_bits` | mode | all of the bits, none of the bits |
//! | `any_of all_of` | list | one entry, every entry fulfils the inner test |
//! | `count` | list | the number of entries (with `where`: of those that fulfil it) fulfils the inner test |
//! | `not` | everything | the inner test does not hold |
//!
//! Between facts: `all = [ … ]`, `any = [ … ]`, `not = { … }`.

mod evaluate;

use healer_agent::probe::spec::FactType;

use super::fact::FactPath;
use super::fields::{Fields, did_you_mean};
use super::literal::{from_text, satisfies};
use super::source::{At, Errors, Node, Value};
use super::template::Template;
use crate::model::Fact;

/// A condition over facts.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Fact(FactPath, Test),
}

/// What must hold of one value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    All(Vec<Self>),
    Not(Box<Self>),
    Exists(bool),
    Empty(bool),
    Equal(Operand),
    In(Vec<Operand>),
    Order(OrderTest, Operand),
    Matches(Operand),
    Contains(Operand),
    Satisfies(Operand),
    HasBits(Operand),
    LacksBits(Operand),
    Length(Box<Self>),
    AnyOf(Box<Self>),
    AllOf(Box<Self>),
    Count {
        chosen: Option<Box<Self>>,
        test: Box<Self>,
    },
}

/// Comparison by size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderTest {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The other side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Value(Fact),
    /// Filled in when asked, then read as a literal of this type.
    Text(Template, FactType),
    Fact(FactPath),
}

/// What a predicate may name, and of which type it is.
pub type TypeOf<'a> = &'a dyn Fn(&FactPath) -> Result<FactType, String>;

const OPERATORS: &[&str] = &[
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "in",
    "matches",
    "contains",
    "empty",
    "exists",
    "satisfies",
    "has_bits",
    "lacks_bits",
    "any_of",
    "all_of",
    "count",
    "length",
    "not",
];

/// Reads a predicate, checking names and types.
pub fn parse(
    node: &Node,
    key: &str,
    type_of: TypeOf<'_>,
    errors: &mut Errors,
) -> Option<Predicate> {
    let Value::Table(entries) = &node.value else {
        errors.push(
            &node.at,
            key,
            format!("is {}, a condition was expected", node.value.kind()),
            "write `{ \"probe.fact\" = { eq = … } }`",
        );
        return None;
    };
    if entries.is_empty() {
        errors.push(
            &node.at,
            key,
            "an empty condition always holds",
            "name a fact, or leave the key away",
        );
        return None;
    }
    let mut parts = Vec::new();
    for (name, inner) in entries {
        let inner_key = format!("{key}.{}", name.text);
        let part = match name.text.as_str() {
            "all" => parse_list(inner, &inner_key, type_of, errors).map(Predicate::All),
            "any" => parse_list(inner, &inner_key, type_of, errors).map(Predicate::Any),
            "not" => parse(inner, &inner_key, type_of, errors)
                .map(|inner| Predicate::Not(Box::new(inner))),
            text => match path(text, &name.at, &inner_key, type_of, errors) {
                Some((path, kind)) => test(inner, &inner_key, kind, type_of, errors)
                    .map(|test| Predicate::Fact(path, test)),
                None => None,
            },
        };
        parts.extend(part);
    }
    match parts.len() {
        1 => parts.pop(),
        _ => Some(Predicate::All(parts)),
    }
}

fn parse_list(
    node: &Node,
    key: &str,
    type_of: TypeOf<'_>,
    errors: &mut Errors,
) -> Option<Vec<Predicate>> {
    let Value::List(items) = &node.value else {
        errors.push(&node.at, key, "a list of conditions was expected", "");
        return None;
    };
    if items.is_empty() {
        errors.push(
            &node.at,
            key,
            "the list of conditions is empty",
            "name one, or leave the key away",
        );
        return None;
    }
    Some(
        items
            .iter()
            .filter_map(|item| parse(item, key, type_of, errors))
            .collect(),
    )
}

fn path(
    text: &str,
    at: &At,
    key: &str,
    type_of: TypeOf<'_>,
    errors: &mut Errors,
) -> Option<(FactPath, FactType)> {
    let Some(path) = FactPath::parse(text) else {
        errors.push(
            at,
            key,
            format!("`{text}` is not the name of a fact"),
            "write it as `probe.fact` or `probe.fact.key`, in quotes",
        );
        return None;
    };
    match type_of(&path) {
        Ok(kind) => Some((path, kind)),
        Err(message) => {
            errors.push(at, key, message, "");
            None
        }
    }
}

/// Which operators make sense for a type.
fn fits(operator: &str, kind: FactType) -> bool {
    let is_list = matches!(
        kind,
        FactType::ListOfText | FactType::ListOfInt | FactType::Any
    );
    let is_text = matches!(kind, FactType::Text | FactType::Any);
    let is_number = matches!(
        kind,
        FactType::Int | FactType::Millis | FactType::Bytes | FactType::Any
    );
    match operator {
        "exists" | "not" => true,
        "eq" | "ne" | "in" => !matches!(
            kind,
            FactType::ListOfText | FactType::ListOfInt | FactType::Map
        ),
        "lt" | "le" | "gt" | "ge" => is_number,
        "matches" | "satisfies" => is_text,
        "contains" | "length" => is_text || is_list,
        "empty" => is_text || is_list || kind == FactType::Map,
        "has_bits" | "lacks_bits" => matches!(kind, FactType::Mode | FactType::Any),
        "any_of" | "all_of" | "count" => is_list,
        _ => false,
    }
}

const fn type_name(kind: FactType) -> &'static str {
    match kind {
        FactType::Bool => "true or false",
        FactType::Int => "a number",
        FactType::Millis => "a length of time",
        FactType::Bytes => "a number of bytes",
        FactType::Mode => "a mode",
        FactType::Text => "a text",
        FactType::ListOfText => "a list of texts",
        FactType::ListOfInt => "a list of numbers",
        FactType::Map => "a map",
        FactType::Any => "any value",
    }
}

/// Type of a list's entries.
const fn entry_type(kind: FactType) -> FactType {
    match kind {
        FactType::ListOfText => FactType::Text,
        FactType::ListOfInt => FactType::Int,
        FactType::Bool
        | FactType::Int
        | FactType::Millis
        | FactType::Bytes
        | FactType::Mode
        | FactType::Text
        | FactType::Map
        | FactType::Any => FactType::Any,
    }
}

fn test(
    node: &Node,
    key: &str,
    kind: FactType,
    type_of: TypeOf<'_>,
    errors: &mut Errors,
) -> Option<Test> {
    let Value::Table(entries) = &node.value else {
        if !fits("eq", kind) {
            errors.push(
                &node.at,
                key,
                format!("is {}; it cannot be equal to a literal", type_name(kind)),
                "use `contains`, `empty`, `any_of` or `count`",
            );
            return None;
        }
        return operand(node, key, kind, type_of, errors).map(Test::Equal);
    };
    let mut tests = Vec::new();
    for (name, inner) in entries {
        let operator = name.text.as_str();
        let inner_key = format!("{key}.{operator}");
        if !OPERATORS.contains(&operator) {
            errors.push(&name.at, &inner_key, "unknown operator", {
                let near = did_you_mean(operator, OPERATORS.iter().copied());
                if near.is_empty() {
                    format!("known: {}", OPERATORS.join(", "))
                } else {
                    near
                }
            });
            continue;
        }
        if !fits(operator, kind) {
            errors.push(
                &name.at,
                &inner_key,
                format!("`{operator}` cannot be asked of {}", type_name(kind)),
                "see the table of operators in docs/stacks.md",
            );
            continue;
        }
        tests.extend(one_test(operator, inner, &inner_key, kind, type_of, errors));
    }
    if entries.is_empty() {
        errors.push(
            &node.at,
            key,
            "an empty test always holds",
            format!("use one of {}", OPERATORS.join(", ")),
        );
    }
    match tests.len() {
        0 => None,
        1 => tests.pop(),
        _ => Some(Test::All(tests)),
    }
}

fn one_test(
    operator: &str,
    node: &Node,
    key: &str,
    kind: FactType,
    type_of: TypeOf<'_>,
    errors: &mut Errors,
) -> Option<Test> {
    let flag = |errors: &mut Errors| match node.value {
        Value::Bool(flag) => Some(flag),
        Value::Int(_) | Value::Text(_) | Value::List(_) | Value::Table(_) => {
            errors.push(&node.at, key, "true or false was expected", "");
            None
        }
    };
    let order = |which| move |operand| Test::Order(which, operand);
    match operator {
        "exists" => flag(errors).map(Test::Exists),
        "empty" => flag(errors).map(Test::Empty),
        "eq" => operand(node, key, kind, type_of, errors).map(Test::Equal),
        "ne" => operand(node, key, kind, type_of, errors)
            .map(|operand| Test::Not(Box::new(Test::Equal(operand)))),
        "lt" => operand(node, key, kind, type_of, errors).map(order(OrderTest::Less)),
        "le" => operand(node, key, kind, type_of, errors).map(order(OrderTest::LessOrEqual)),
        "gt" => operand(node, key, kind, type_of, errors).map(order(OrderTest::Greater)),
        "ge" => operand(node, key, kind, type_of, errors).map(order(OrderTest::GreaterOrEqual)),
        "in" => {
            let Value::List(items) = &node.value else {
                errors.push(&node.at, key, "a list was expected", "");
                return None;
            };
            Some(Test::In(
                items
                    .iter()
                    .filter_map(|item| operand(item, key, kind, type_of, errors))
                    .collect(),
            ))
        }
        "matches" => operand(node, key, FactType::Text, type_of, errors).map(Test::Matches),
        "satisfies" => {
            let range = operand(node, key, FactType::Text, type_of, errors)?;
            if let Operand::Value(Fact::Text(text)) = &range
                && satisfies("1.0.0", text).is_none()
            {
                errors.push(
                    &node.at,
                    key,
                    format!("`{text}` is not a range of versions"),
                    "write for example \">=8.1 <9\" or \"^18 || ^20\"",
                );
                return None;
            }
            Some(Test::Satisfies(range))
        }
        "contains" => {
            let entry = if kind == FactType::ListOfInt {
                FactType::Int
            } else {
                FactType::Text
            };
            operand(node, key, entry, type_of, errors).map(Test::Contains)
        }
        "has_bits" => operand(node, key, FactType::Mode, type_of, errors).map(Test::HasBits),
        "lacks_bits" => operand(node, key, FactType::Mode, type_of, errors).map(Test::LacksBits),
        "length" => test(node, key, FactType::Int, type_of, errors)
            .map(|inner| Test::Length(Box::new(inner))),
        "any_of" => test(node, key, entry_type(kind), type_of, errors)
            .map(|inner| Test::AnyOf(Box::new(inner))),
        "all_of" => test(node, key, entry_type(kind), type_of, errors)
            .map(|inner| Test::AllOf(Box::new(inner))),
        "not" => test(node, key, kind, type_of, errors).map(|inner| Test::Not(Box::new(inner))),
        _ => count(node, key, kind, type_of, errors),
    }
}

fn count(
    node: &Node,
    key: &str,
    kind: FactType,
    type_of: TypeOf<'_>,
    errors: &mut Errors,
) -> Option<Test> {
    let mut rest = node.clone();
    let mut chosen = None;
    if let Value::Table(entries) = &mut rest.value
        && let Some(place) = entries.iter().position(|(name, _)| name.text == "where")
    {
        let (_, inner) = entries.remove(place);
        chosen = Some(Box::new(test(
            &inner,
            key,
            entry_type(kind),
            type_of,
            errors,
        )?));
    }
    let test = Box::new(test(&rest, key, FactType::Int, type_of, errors)?);
    Some(Test::Count { chosen, test })
}

fn operand(
    node: &Node,
    key: &str,
    kind: FactType,
    type_of: TypeOf<'_>,
    errors: &mut Errors,
) -> Option<Operand> {
    match &node.value {
        Value::Bool(flag) if matches!(kind, FactType::Bool | FactType::Any) => {
            Some(Operand::Value(Fact::Bool(*flag)))
        }
        Value::Int(number)
            if matches!(kind, FactType::Int | FactType::ListOfInt | FactType::Any) =>
        {
            Some(Operand::Value(Fact::Int(*number)))
        }
        // Nothing is nothing in every unit.
        Value::Int(0) if matches!(kind, FactType::Millis | FactType::Bytes) => {
            Some(Operand::Value(Fact::Int(0)))
        }
        Value::Text(text) => {
            let template = Template::parse(text);
            let Some(literal) = template.literal() else {
                for (path, _) in template.names() {
                    if let Err(message) = type_of(path) {
                        errors.push(&node.at, key, message, "");
                        return None;
                    }
                }
                return Some(Operand::Text(template, kind));
            };
            if kind == FactType::Bool || kind == FactType::Int {
                errors.push(
                    &node.at,
                    key,
                    format!("is a text, {} was expected", type_name(kind)),
                    "leave the quotes away",
                );
                return None;
            }
            match from_text(literal, kind) {
                Ok(value) => Some(Operand::Value(value)),
                Err(message) => {
                    errors.push(&node.at, key, message, "");
                    None
                }
            }
        }
        Value::Table(_) => other_side(node, key, kind, type_of, errors),
        Value::Bool(_) | Value::Int(_) | Value::List(_) => {
            errors.push(
                &node.at,
                key,
                format!("is {}, {} was expected", node.value.kind(), type_name(kind)),
                match kind {
                    FactType::Millis => "write a length of time such as \"90s\"",
                    FactType::Bytes => "write a number of bytes such as \"64KiB\"",
                    FactType::Mode => "write octal digits in quotes such as \"0644\"",
                    FactType::Bool
                    | FactType::Int
                    | FactType::Text
                    | FactType::ListOfText
                    | FactType::ListOfInt
                    | FactType::Map
                    | FactType::Any => "",
                },
            );
            None
        }
    }
}

/// `{ fact = "…" }` or `{ var = "…", default = "…" }`.
fn other_side(
    node: &Node,
    key: &str,
    kind: FactType,
    type_of: TypeOf<'_>,
    errors: &mut Errors,
) -> Option<Operand> {
    let before = errors.count();
    let mut fields = Fields::of(node, key, errors)?;
    let (fact, var) = (fields.text("fact", errors), fields.text("var", errors));
    let default = fields.text("default", errors);
    fields.finish(errors);
    let found = match (fact, var) {
        (Some(text), None) => {
            let (path, other) = path(text, &node.at, key, type_of, errors)?;
            if other != kind && other != FactType::Any && kind != FactType::Any {
                errors.push(
                    &node.at,
                    key,
                    format!(
                        "`{path}` is {}, it is compared with {}",
                        type_name(other),
                        type_name(kind)
                    ),
                    "compare facts of one type",
                );
            }
            Some(Operand::Fact(path))
        }
        (None, Some(name)) => {
            let text = match default {
                Some(default) => format!("{{vars.{name}|{default}}}"),
                None => format!("{{vars.{name}}}"),
            };
            let template = Template::parse(&text);
            if template.literal().is_some() {
                errors.push(
                    &node.at,
                    key,
                    format!("`{name}` is not the name of a var"),
                    "",
                );
            }
            if let Some(default) = default
                && let Err(message) = from_text(default, kind)
            {
                errors.push(&node.at, key, message, "");
            }
            Some(Operand::Text(template, kind))
        }
        (Some(_), Some(_)) | (None, None) => {
            errors.push(
                &node.at,
                key,
                "names no other side",
                "write `{ fact = \"probe.fact\" }` or `{ var = \"name\" }`",
            );
            None
        }
    };
    found.filter(|_| errors.count() == before)
}

#[cfg(test)]
#[path = "predicate_tests.rs"]
mod tests;
