//! Recorded check results as they come: a JSON array in the camelCase names of the control API.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::catalogue::Stack;
use crate::catalogue::fact::escape;
use crate::cli::output::{CliError, code};
use crate::model::Facts;
use crate::model::check::CheckResult;
use crate::model::name::CheckName;
use crate::model::word::{About, Category, Severity, Status};

/// The most results.
const ROWS_MAX: usize = 100_000;

/// One result, as it came and as it was understood.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) given: Value,
    pub(super) result: CheckResult,
}

/// Reads all rows; the first that is malformed is named.
pub(super) fn read(file: &str, text: &str, stack: &Stack) -> Result<Vec<Row>, CliError> {
    let bad = |message: String| CliError {
        code: "malformed_results".into(),
        message,
        hint: Some(
            "a JSON array of objects was expected, each with at least checkName and status"
                .to_owned(),
        ),
        causes: Vec::new(),
        approval: None,
        exit: code::FAILED,
    };
    let value: Value = serde_json::from_str(text)
        .map_err(|error| bad(format!("`{file}` is not JSON: {error}")))?;
    let Value::Array(values) = value else {
        return Err(bad(format!("`{file}` is not a JSON array")));
    };
    if values.len() > ROWS_MAX {
        return Err(bad(format!("`{file}` holds more than {ROWS_MAX} results")));
    }
    values
        .into_iter()
        .enumerate()
        .map(|(place, given)| {
            row(given, stack).map_err(|(name, message)| CliError {
                code: "malformed_result".into(),
                message: match name {
                    Some(name) => format!(
                        "result {} (`{}`) in `{file}`: {message}",
                        place + 1,
                        escape(&name, 80)
                    ),
                    None => format!("result {} in `{file}`: {message}", place + 1),
                },
                hint: None,
                causes: Vec::new(),
                approval: None,
                exit: code::FAILED,
            })
        })
        .collect()
}

/// The name, as far as there is one, and what is wrong.
type Bad = (Option<String>, String);

fn row(given: Value, stack: &Stack) -> Result<Row, Bad> {
    let Value::Object(entries) = &given else {
        return Err((None, "is not an object".to_owned()));
    };
    let name = text(entries, "checkName").map_err(|error| (None, error))?;
    let name = name
        .ok_or_else(|| (None, "`checkName` is missing".to_owned()))?
        .to_owned();
    let result = result(entries, &name, stack).map_err(|message| (Some(name), message))?;
    Ok(Row { given, result })
}

fn result(entries: &Map<String, Value>, name: &str, stack: &Stack) -> Result<CheckResult, String> {
    let check: CheckName = name.parse().map_err(|error| format!("{error}"))?;
    let known = stack.check(&check);
    let status: Status = word(entries, "status")?.ok_or("`status` is missing")?;
    let severity = word(entries, "severity")?.unwrap_or(if status.is_bad() {
        Severity::Medium
    } else {
        Severity::Low
    });
    let category = word(entries, "category")?
        .or(known.map(|check| check.category))
        .unwrap_or(Category::System);
    let fix = text(entries, "suggestedFix")?
        .map(str::to_owned)
        .or_else(|| known.and_then(|check| check.suggested_fix.clone()));
    let execution_ms = match entries.get("executionTime") {
        None | Some(Value::Null) => 0,
        Some(Value::Number(number)) if number.as_f64().is_some_and(|time| time >= 0.0) => {
            number.as_u64().unwrap_or(0)
        }
        Some(_) => return Err("`executionTime` is not a number of milliseconds".to_owned()),
    };
    // Facts are there when the daemon recorded the result; then parameters and preconditions can be told.
    let facts: BTreeMap<String, Facts> = match entries.get("facts") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(value) => serde_json::from_value(value.clone()).unwrap_or_default(),
    };
    Ok(CheckResult {
        category,
        status,
        severity,
        message: text(entries, "message")?
            .map(|text| escape(text, 300))
            .unwrap_or_default(),
        suggested_fix: fix,
        execution_ms,
        rule: None,
        about: known.map_or(About::App, |check| check.about),
        availability: known.is_some_and(|check| check.availability),
        facts,
        check,
    })
}

/// A text; null is as good as absent.
fn text<'a>(entries: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    match entries.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{key}` is not a text")),
    }
}

fn word<T: FromStr<Err = crate::model::word::UnknownWord>>(
    entries: &Map<String, Value>,
    key: &str,
) -> Result<Option<T>, String> {
    match text(entries, key)? {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|error| format!("`{key}`: {}", escape(&format!("{error}"), 300))),
    }
}
