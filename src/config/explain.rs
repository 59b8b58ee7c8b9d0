//! What serde says of a wrong value, in our words.

use figment::error::{Actual, Kind};
use figment::value::Value;

use super::layers::closest;
use super::problem::shown;

/// Takes a value out; of a list, the whole list. Says whether something went.
pub(super) fn remove(value: &mut Value, path: &[String]) -> bool {
    let Value::Dict(_, dict) = value else {
        return false;
    };
    match path {
        [] => false,
        [last] => dict.remove(last).is_some(),
        [first, rest @ ..] => {
            let inner_removed = dict.get_mut(first).is_some_and(|inner| remove(inner, rest));
            inner_removed || dict.remove(first).is_some()
        }
    }
}

/// Reason and remedy of what serde said.
pub(super) fn explain(kind: &Kind) -> (String, String) {
    match kind {
        Kind::UnknownField(field, known) => (
            "is not a known key".to_owned(),
            closest(field, known.iter().copied()).map_or_else(
                || format!("known here: {}", known.join(", ")),
                |close| format!("did you mean `{close}`?"),
            ),
        ),
        Kind::UnknownVariant(word, known) => (
            format!("`{}` is not a known word", shown(word)),
            closest(&word.to_uppercase(), known.iter().copied())
                .or_else(|| closest(word, known.iter().copied()))
                .map_or_else(
                    || format!("write one of {}", known.join(", ")),
                    |close| format!("did you mean `{close}`? Known are {}", known.join(", ")),
                ),
        ),
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            let expected = plainly(expected);
            (
                format!("{} is not {expected}", actual_text(actual)),
                format!("write {expected}"),
            )
        }
        Kind::Message(text) => (
            shown(text),
            "write it as the sample configuration does".to_owned(),
        ),
        other @ (Kind::InvalidLength(..)
        | Kind::MissingField(_)
        | Kind::DuplicateField(_)
        | Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..)) => (
            format!("cannot be read: {}", shown(&other.to_string())),
            "write it as the sample configuration does".to_owned(),
        ),
    }
}

/// serde's words for types in ours.
fn plainly(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "a string" => "a text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

fn actual_text(actual: &Actual) -> String {
    match actual {
        Actual::Bool(value) => format!("`{value}`"),
        Actual::Unsigned(value) => format!("`{value}`"),
        Actual::Signed(value) => format!("`{value}`"),
        Actual::Float(value) => format!("`{value}`"),
        Actual::Char(value) => format!("`{}`", shown(&value.to_string())),
        Actual::Str(value) => format!("`\"{}\"`", shown(value)),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other @ (Actual::Bytes(_)
        | Actual::Unit
        | Actual::Option
        | Actual::NewtypeStruct
        | Actual::Enum
        | Actual::UnitVariant
        | Actual::NewtypeVariant
        | Actual::TupleVariant
        | Actual::StructVariant
        | Actual::Other(_)) => shown(&other.to_string()),
    }
}
