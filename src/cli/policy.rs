//! `healerctl policy eval`: the plan for recorded check results, without a daemon and without a host.
//!
//! Reads files and nothing else. Results that the stack does not know are matched by name, fix text and category.
//! Exit codes: 2 for an unknown stack or mode, 1 for a file or result that cannot be read, 0 otherwise, whatever the
//! plan says.

mod rows;
mod settings;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use comfy_table::Table;
use serde::Serialize;
use serde_json::Value;

use super::output::{CliError, Output, code, json_text};
use crate::catalogue::fields::did_you_mean;
use crate::catalogue::{Catalogue, Stack, StackError};
use crate::decide::{DecisionInput, decide};
use crate::model::name::StackName;
use crate::model::plan::{Params, PlanItem};
use crate::model::policy::Policy;
use crate::model::word::{HealingMode, MatchKind, Risk};

use rows::Row;

/// The most bytes of results that are read.
const RESULTS_BYTES_MAX: u64 = 16 << 20;

/// The most stack files of a folder.
const FILES_MAX: usize = 500;

/// Arguments of `policy eval`.
#[derive(Debug, Clone, Default)]
pub struct EvalArgs {
    pub stack: String,
    pub mode: String,
    /// `-`: standard input.
    pub results: PathBuf,
    pub json: bool,
    /// A folder of further stack files.
    pub stacks_dir: Option<PathBuf>,
    /// Where the policy comes from; its healing mode does not count, `mode` does.
    pub config: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    auto_heal: Vec<Item>,
    require_approval: Vec<Item>,
    /// The results as they came, each with a `reason`.
    cannot_heal: Vec<Value>,
    summary: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    action_name: String,
    params: Params,
    risk_level: Risk,
    #[serde(rename = "match")]
    matched: MatchKind,
    checks: Vec<String>,
    reason: String,
}

/// Runs it.
pub fn eval(args: &EvalArgs) -> Output {
    match answer(args) {
        Ok(answer) if args.json => Output::fine(json_text(&answer)),
        Ok(answer) => Output::people(table(&answer)),
        Err(error) => Output::error(&error, args.json),
    }
}

fn answer(args: &EvalArgs) -> Result<Answer, CliError> {
    let mode: HealingMode = args.mode.parse().map_err(|_| {
        let known = HealingMode::ALL
            .iter()
            .map(|mode| mode.as_str())
            .collect::<Vec<_>>();
        let near = did_you_mean(&args.mode, known.iter().copied());
        CliError {
            code: "unknown_mode".into(),
            message: format!("`{}` is not a healing mode", shown(&args.mode)),
            hint: Some(if near.is_empty() {
                format!("use one of {}", known.join(", "))
            } else {
                near
            }),
            causes: Vec::new(),
            approval: None,
            exit: code::USAGE,
        }
    })?;
    let catalogue = load(args.stacks_dir.as_deref())?;
    let stack = find(&catalogue, &args.stack)?;
    let policy = match &args.config {
        Some(path) => settings::read(&path.display().to_string(), &text_of(path)?)?,
        None => Policy::default(),
    };
    let text = text_of(&args.results)?;
    let rows = rows::read(&args.results.display().to_string(), &text, stack)?;
    Ok(plan(stack, mode, &policy, &rows))
}

/// The plan as it is printed.
fn plan(stack: &Stack, mode: HealingMode, policy: &Policy, rows: &[Row]) -> Answer {
    let results: Vec<_> = rows.iter().map(|row| row.result.clone()).collect();
    let decision = decide(&DecisionInput {
        stack,
        mode,
        policy,
        results: &results,
        tried: &BTreeMap::new(),
        bars: &[],
        muted: &[],
        app: None,
    });
    let summary = decision.plan.summary();
    let cannot_heal = decision
        .plan
        .cannot_heal
        .iter()
        .map(|cannot| {
            let row = rows
                .iter()
                .filter(|row| {
                    row.result.check == cannot.check && row.result.status == cannot.status
                })
                .max_by_key(|row| (row.result.severity, row.given.to_string()));
            let mut given = row.map_or_else(serde_json::Map::new, |row| match &row.given {
                Value::Object(entries) => entries.clone(),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_) => serde_json::Map::new(),
            });
            given.insert("reason".to_owned(), cannot.reason.clone().into());
            Value::Object(given)
        })
        .collect();
    let items = |items: Vec<PlanItem>| items.into_iter().map(item).collect();
    Answer {
        auto_heal: items(decision.plan.auto_heal),
        require_approval: items(decision.plan.require_approval),
        cannot_heal,
        summary,
    }
}

fn item(item: PlanItem) -> Item {
    Item {
        action_name: item.action.into(),
        params: item.params,
        risk_level: item.risk,
        matched: item.matched,
        checks: item.checks.into_iter().map(String::from).collect(),
        reason: item.reason,
    }
}

fn table(answer: &Answer) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["", "ACTION", "RISK", "MATCH", "CHECKS", "REASON"]);
    for (list, items) in [
        ("auto", &answer.auto_heal),
        ("ask", &answer.require_approval),
    ] {
        for item in items {
            table.add_row([
                list,
                &item.action_name,
                item.risk_level.as_str(),
                item.matched.as_str(),
                &item.checks.join(", "),
                &item.reason,
            ]);
        }
    }
    for row in &answer.cannot_heal {
        let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
        table.add_row(["cannot", "", "", "", text("checkName"), text("reason")]);
    }
    if table.row_count() == 0 {
        return format!("{}\n", answer.summary);
    }
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    format!("{}\n\n{}\n", lines.join("\n"), answer.summary)
}

fn load(folder: Option<&Path>) -> Result<Catalogue, CliError> {
    let extra = match folder {
        Some(folder) => stack_files(folder)?,
        None => Vec::new(),
    };
    Catalogue::load(&extra).map_err(|errors| CliError {
        code: "bad_stack_file".into(),
        message: match errors.as_slice() {
            [one] => one.to_string(),
            many => format!("{} mistakes in stack files", many.len()),
        },
        hint: (errors.len() > 1).then(|| {
            errors
                .iter()
                .map(StackError::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        }),
        causes: Vec::new(),
        approval: None,
        exit: code::FAILED,
    })
}

/// Every `*.toml` of a folder, by name.
fn stack_files(folder: &Path) -> Result<Vec<(String, String)>, CliError> {
    let failed = |error: std::io::Error| unreadable(folder, &error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.len() > FILES_MAX {
        return Err(CliError {
            code: "too_many_files".into(),
            message: format!(
                "`{}` holds more than {FILES_MAX} stack files",
                folder.display()
            ),
            hint: None,
            causes: Vec::new(),
            approval: None,
            exit: code::FAILED,
        });
    }
    paths
        .iter()
        .map(|path| Ok((path.display().to_string(), text_of(path)?)))
        .collect()
}

fn find<'a>(catalogue: &'a Catalogue, name: &str) -> Result<&'a Stack, CliError> {
    let found = name
        .parse::<StackName>()
        .ok()
        .and_then(|name| catalogue.get(&name))
        .or_else(|| catalogue.get(&name.to_lowercase().parse().ok()?));
    found.map(AsRef::as_ref).ok_or_else(|| {
        let known: Vec<_> = catalogue
            .stacks()
            .map(|stack| stack.name.as_str())
            .collect();
        let near = did_you_mean(name, known.iter().copied());
        CliError {
            code: "unknown_stack".into(),
            message: format!("there is no stack `{}`", shown(name)),
            hint: Some(if near.is_empty() {
                format!("known: {}", known.join(", "))
            } else {
                near
            }),
            causes: Vec::new(),
            approval: None,
            exit: code::USAGE,
        }
    })
}

fn text_of(path: &Path) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(RESULTS_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(RESULTS_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > RESULTS_BYTES_MAX {
        return Err(CliError {
            code: "too_large".into(),
            message: format!(
                "`{}` is larger than {RESULTS_BYTES_MAX} bytes",
                path.display()
            ),
            hint: None,
            causes: Vec::new(),
            approval: None,
            exit: code::FAILED,
        });
    }
    String::from_utf8(bytes).map_err(|_| CliError {
        code: "not_text".into(),
        message: format!("`{}` is not UTF-8 text", path.display()),
        hint: None,
        causes: Vec::new(),
        approval: None,
        exit: code::FAILED,
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    CliError {
        code: "unreadable".into(),
        message: format!("cannot read `{}`: {error}", path.display()),
        hint: None,
        causes: Vec::new(),
        approval: None,
        exit: code::FAILED,
    }
}

/// A word of the command line in a message.
fn shown(text: &str) -> String {
    crate::catalogue::fact::escape(text, 80)
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make and break files, start programs and read the real clock"
)]
mod tests;
