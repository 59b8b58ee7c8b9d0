//! `check-config`: judges a configuration and its stack files without a daemon, and says what cannot work.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::output::{CliError, Output, code};
use crate::catalogue::RootNeeds;
use crate::config::{Advice, Paths, Users, Weight, check, places, records};
use crate::model::counted;
use crate::service::{self, Loaded, ServiceError};
use crate::telemetry::redact::escape;

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    file: String,
    applications: Vec<String>,
    warnings: Vec<String>,
    advice: Vec<Line>,
    /// Is there nothing that cannot work?
    fine: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    weight: String,
    text: String,
    /// To be added to a file, ready to copy.
    lines: String,
}

/// Judges and prints, for the daemon's own command line.
pub fn run(paths: &Paths) -> ExitCode {
    output(paths, false).print().into()
}

/// Judges the configuration whose main file is `file`.
pub(super) fn of_file(file: &Path, json: bool) -> Output {
    output(&service::paths_of(file), json)
}

fn output(paths: &Paths, json: bool) -> Output {
    match service::load(paths) {
        Ok(loaded) => {
            let found = found(paths, &loaded);
            let code = if found.fine { code::FINE } else { code::FAILED };
            Output::of(json, &found, || text(&found)).exit(code)
        }
        Err(error) => Output {
            stderr: problems(&error),
            ..Output::error(&refusal(&error), json)
        },
    }
}

/// Every problem as an error of its own, with its hint below it.
fn problems(error: &ServiceError) -> String {
    let mut text = String::new();
    for line in error.to_string().lines() {
        let prefix = if line.starts_with(' ') { "" } else { "error: " };
        writeln!(text, "{prefix}{}", escape(line)).ok();
    }
    text
}

fn found(paths: &Paths, loaded: &Loaded) -> Found {
    let mut advice = check(&loaded.settings, paths.daemon_uid, &|app| {
        let stack = loaded.catalogue.get(&app.stack);
        stack.map_or_else(RootNeeds::default, |stack| RootNeeds::of(stack, app))
    });
    if let Ok(users) = Users::read(&paths.passwd, &paths.group) {
        advice.splice(0..0, places(&loaded.settings, &users));
        advice.extend(records(&loaded.settings, &users, paths.daemon_uid));
    }
    let unfit = service::unfit(paths, &loaded.settings);
    advice.extend(unfit.into_iter().map(|text| Advice {
        weight: Weight::Refusal,
        text,
        lines: String::new(),
    }));
    Found {
        file: paths.file.display().to_string(),
        applications: loaded
            .settings
            .apps
            .keys()
            .map(ToString::to_string)
            .collect(),
        warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
        fine: !advice.iter().any(is_refusal),
        advice: advice
            .into_iter()
            .map(|advice| Line {
                weight: advice.weight.to_string(),
                text: advice.text,
                lines: advice.lines,
            })
            .collect(),
    }
}

fn is_refusal(advice: &Advice) -> bool {
    advice.weight.as_str() == "refusal"
}

/// Problems bring their own lines with place and remedy; they are shown as they are, one after the other.
fn refusal(error: &ServiceError) -> CliError {
    let text = error.to_string();
    let mut problems = text.lines();
    let first = problems.next().unwrap_or_default();
    let rest: Vec<&str> = problems.collect();
    let mut refused = CliError::new(code::FAILED, "bad_config", escape(first));
    let hint: Vec<String> = rest
        .iter()
        .map(|line| escape(line.trim_start().trim_start_matches("hint: ")))
        .collect();
    if !hint.is_empty() {
        refused.hint = Some(hint.join("\n"));
    }
    refused
}

fn text(found: &Found) -> String {
    let mut text = String::new();
    for warning in &found.warnings {
        writeln!(text, "warning: {warning}").ok();
    }
    for line in &found.advice {
        writeln!(text, "{}: {}", line.weight, line.text).ok();
        for added in line.lines.trim_end().lines() {
            let indent = if added.is_empty() { "" } else { "    " };
            writeln!(text, "{indent}{added}").ok();
        }
    }
    let count = counted(found.applications.len() as u64, "application");
    let verdict = if found.fine {
        format!("{} is valid: {count}\n", escape(&found.file))
    } else {
        format!("{} cannot work as it is: {count}\n", escape(&found.file))
    };
    text.push_str(&verdict);
    text
}
