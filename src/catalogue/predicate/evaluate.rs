//! Does a predicate hold? Three-valued, over facts that are looked up when asked.

use std::cmp::Ordering;

use super::{Operand, OrderTest, Predicate, Test};
use crate::catalogue::fact::{FactPath, Scope, show};
use crate::catalogue::literal::{from_text, glob, satisfies};
use crate::catalogue::truth::Truth;
use crate::model::Fact;

impl Predicate {
    /// Does it hold?
    pub fn holds(&self, scope: &Scope<'_>) -> Truth {
        match self {
            Self::All(parts) => Truth::all(parts.iter().map(|part| part.holds(scope))),
            Self::Any(parts) => Truth::any(parts.iter().map(|part| part.holds(scope))),
            Self::Not(inner) => !inner.holds(scope),
            Self::Fact(path, test) => test.holds(&scope.fact(path), &path.to_string(), scope),
        }
    }

    /// Every fact that it names.
    pub fn names(&self) -> Vec<&FactPath> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a FactPath>) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                for part in parts {
                    part.collect(found);
                }
            }
            Self::Not(inner) => inner.collect(found),
            Self::Fact(path, test) => {
                found.push(path);
                test.collect(found);
            }
        }
    }
}

impl Test {
    fn collect<'a>(&'a self, found: &mut Vec<&'a FactPath>) {
        let mut operand = |operand: &'a Operand| match operand {
            Operand::Value(_) => {}
            Operand::Text(template, _) => found.extend(template.names().map(|(path, _)| path)),
            Operand::Fact(path) => found.push(path),
        };
        match self {
            Self::Exists(_) | Self::Empty(_) => {}
            Self::Equal(one)
            | Self::Order(_, one)
            | Self::Matches(one)
            | Self::Contains(one)
            | Self::Satisfies(one)
            | Self::HasBits(one)
            | Self::LacksBits(one) => operand(one),
            Self::In(many) => many.iter().for_each(operand),
            Self::All(tests) => tests.iter().for_each(|test| test.collect(found)),
            Self::Not(test) | Self::Length(test) | Self::AnyOf(test) | Self::AllOf(test) => {
                test.collect(found);
            }
            Self::Count { chosen, test } => {
                if let Some(chosen) = chosen {
                    chosen.collect(found);
                }
                test.collect(found);
            }
        }
    }

    fn holds(&self, fact: &Fact, name: &str, scope: &Scope<'_>) -> Truth {
        match self {
            Self::All(tests) => {
                return Truth::all(tests.iter().map(|test| test.holds(fact, name, scope)));
            }
            Self::Not(inner) => return !inner.holds(fact, name, scope),
            Self::Exists(_)
            | Self::Empty(_)
            | Self::Equal(_)
            | Self::In(_)
            | Self::Order(..)
            | Self::Matches(_)
            | Self::Contains(_)
            | Self::Satisfies(_)
            | Self::HasBits(_)
            | Self::LacksBits(_)
            | Self::Length(_)
            | Self::AnyOf(_)
            | Self::AllOf(_)
            | Self::Count { .. } => {}
        }
        match (fact, self) {
            (Fact::Unknown(reason), _) => Truth::Unknown(if reason.starts_with(name) {
                reason.clone()
            } else {
                format!("{name}: {reason}")
            }),
            (Fact::Absent, Self::Exists(want)) => (!want).into(),
            (_, Self::Exists(want)) => (*want).into(),
            (Fact::Absent, _) => Truth::False,
            (present, test) => test.holds_of_present(present, name, scope),
        }
    }

    fn holds_of_present(&self, fact: &Fact, name: &str, scope: &Scope<'_>) -> Truth {
        let odd = |want: &str| {
            Truth::Unknown(format!(
                "{name} is `{}`, {want} was expected",
                show(fact, None)
            ))
        };
        match self {
            // Answered before; listed so that a new operator must be looked at here.
            Self::All(_) | Self::Not(_) | Self::Exists(_) => {
                Truth::Unknown(format!("{name}: undecided"))
            }
            Self::Empty(want) => match length(fact) {
                Some(length) => ((length == 0) == *want).into(),
                None => odd("a text, list or map"),
            },
            Self::Length(inner) => match length(fact) {
                Some(length) => {
                    inner.holds(&Fact::Int(length), &format!("length of {name}"), scope)
                }
                None => odd("a text or list"),
            },
            Self::Equal(operand) => compare(fact, operand, name, scope, equal),
            Self::In(operands) => Truth::any(
                operands
                    .iter()
                    .map(|operand| compare(fact, operand, name, scope, equal)),
            ),
            Self::Order(which, operand) => compare(fact, operand, name, scope, |have, want| {
                let order = number(have)?.cmp(&number(want)?);
                Some(match which {
                    OrderTest::Less => order == Ordering::Less,
                    OrderTest::LessOrEqual => order != Ordering::Greater,
                    OrderTest::Greater => order == Ordering::Greater,
                    OrderTest::GreaterOrEqual => order != Ordering::Less,
                })
            }),
            Self::Matches(operand) => compare(fact, operand, name, scope, |have, want| {
                Some(glob(text(want)?, text(have)?))
            }),
            Self::Contains(operand) => {
                compare(fact, operand, name, scope, |have, want| match have {
                    Fact::Text(have) => Some(have.contains(text(want)?)),
                    Fact::List(items) => {
                        Some(items.iter().any(|item| equal(item, want) == Some(true)))
                    }
                    Fact::Unknown(_)
                    | Fact::Absent
                    | Fact::Bool(_)
                    | Fact::Int(_)
                    | Fact::Map(_)
                    | Fact::Secret { .. } => None,
                })
            }
            Self::Satisfies(operand) => compare(fact, operand, name, scope, |have, want| {
                satisfies(text(have)?, text(want)?)
            }),
            Self::HasBits(operand) => compare(fact, operand, name, scope, |have, want| {
                let want = number(want)?;
                Some(number(have)? & want == want)
            }),
            Self::LacksBits(operand) => compare(fact, operand, name, scope, |have, want| {
                Some(number(have)? & number(want)? == 0)
            }),
            Self::AnyOf(inner) => {
                let Fact::List(items) = fact else {
                    return odd("a list");
                };
                Truth::any(items.iter().map(|item| inner.holds(item, name, scope)))
            }
            Self::AllOf(inner) => {
                let Fact::List(items) = fact else {
                    return odd("a list");
                };
                Truth::all(items.iter().map(|item| inner.holds(item, name, scope)))
            }
            Self::Count { chosen, test } => {
                let Fact::List(items) = fact else {
                    return odd("a list");
                };
                let mut count = 0_i64;
                for item in items {
                    match chosen
                        .as_ref()
                        .map_or(Truth::True, |chosen| chosen.holds(item, name, scope))
                    {
                        Truth::True => count += 1,
                        Truth::False => {}
                        Truth::Unknown(reason) => return Truth::Unknown(reason),
                    }
                }
                test.holds(&Fact::Int(count), &format!("count of {name}"), scope)
            }
        }
    }
}

/// Number of characters, entries or keys.
fn length(fact: &Fact) -> Option<i64> {
    match fact {
        Fact::Text(text) => i64::try_from(text.chars().count()).ok(),
        Fact::List(items) => i64::try_from(items.len()).ok(),
        Fact::Map(entries) => i64::try_from(entries.len()).ok(),
        Fact::Secret { length } => i64::try_from(*length).ok(),
        Fact::Unknown(_) | Fact::Absent | Fact::Bool(_) | Fact::Int(_) => None,
    }
}

/// A number, also out of a text such as a port in an env file.
fn number(fact: &Fact) -> Option<i64> {
    match fact {
        Fact::Int(number) => Some(*number),
        Fact::Text(text) => text.trim().parse().ok(),
        Fact::Unknown(_)
        | Fact::Absent
        | Fact::Bool(_)
        | Fact::List(_)
        | Fact::Map(_)
        | Fact::Secret { .. } => None,
    }
}

fn text(fact: &Fact) -> Option<&str> {
    match fact {
        Fact::Text(text) => Some(text),
        Fact::Unknown(_)
        | Fact::Absent
        | Fact::Bool(_)
        | Fact::Int(_)
        | Fact::List(_)
        | Fact::Map(_)
        | Fact::Secret { .. } => None,
    }
}

/// `None` where the two cannot be compared: a secret equals nothing that may be known here.
fn equal(have: &Fact, want: &Fact) -> Option<bool> {
    match (have, want) {
        (Fact::Bool(have), Fact::Bool(want)) => Some(have == want),
        (Fact::Text(have), Fact::Text(want)) => Some(have == want),
        (Fact::Text(have), Fact::Bool(want)) => {
            Some(have.eq_ignore_ascii_case(if *want { "true" } else { "false" }))
        }
        (Fact::Int(_) | Fact::Text(_), Fact::Int(_) | Fact::Text(_)) => {
            Some(number(have)? == number(want)?)
        }
        _ => None,
    }
}

fn compare(
    fact: &Fact,
    operand: &Operand,
    name: &str,
    scope: &Scope<'_>,
    holds: impl Fn(&Fact, &Fact) -> Option<bool>,
) -> Truth {
    let want = match operand {
        Operand::Value(value) => value.clone(),
        Operand::Fact(path) => scope.fact(path).into_owned(),
        Operand::Text(template, kind) => match template.fill(scope) {
            Ok(text) => match from_text(&text, *kind) {
                Ok(value) => value,
                Err(message) => return Truth::Unknown(format!("{name}: {message}")),
            },
            Err(error) => return Truth::Unknown(format!("{name}: {error}")),
        },
    };
    match &want {
        Fact::Unknown(reason) => return Truth::Unknown(reason.clone()),
        Fact::Absent => return Truth::False,
        Fact::Bool(_)
        | Fact::Int(_)
        | Fact::Text(_)
        | Fact::List(_)
        | Fact::Map(_)
        | Fact::Secret { .. } => {}
    }
    holds(fact, &want).map_or_else(
        || {
            Truth::Unknown(format!(
                "{name} is `{}`, which cannot be compared with `{}`",
                show(fact, None),
                show(&want, None)
            ))
        },
        Truth::from,
    )
}
