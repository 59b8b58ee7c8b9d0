//! What `healerctl` does, one file per command or small family.
//!
//! A command is a function from its arguments to what is printed and the exit code; [`output`] alone prints. What comes
//! from the daemon is foreign text, and is escaped where it becomes a table or an error. Nothing is decided here: what
//! the daemon refuses, is refused.

mod approvals;
mod apps;
pub mod args;
mod ask;
pub mod audit;
mod audit_log;
mod backups;
mod breaker;
pub mod check_config;
pub mod client;
mod events;
mod explain;
mod heal;
mod heals;
mod hold;
mod host;
mod host_import;
mod ids;
mod incidents;
#[cfg(test)]
mod made_up;
pub mod mode;
pub mod output;
mod plan;
pub mod policy;
mod run;
mod status;
mod stop;
mod table;

pub use run::run;

use args::Which;
use output::{CliError, Output};

use crate::control::wire::Done;
use crate::model::name::AppName;
use crate::telemetry::redact::escape;

/// Rows that are asked for when an id must be found: as many as one answer holds.
const ROWS_MAX: u32 = 1000;

/// A sentence that says it was done.
fn done(json: bool, done: &Done) -> Output {
    Output::of(json, done, || format!("{}\n", escape(&done.message)))
}

/// The query of a list.
fn query(which: &Which) -> Result<Vec<(&'static str, String)>, CliError> {
    let mut query = vec![("limit", which.limit.to_string())];
    if let Some(app) = &which.app {
        query.push(("application", ids::name::<AppName>(app)?.to_string()));
    }
    Ok(query)
}

/// The query of a list that an id is looked for in.
fn all_rows() -> Vec<(&'static str, String)> {
    vec![("limit", ROWS_MAX.to_string())]
}
