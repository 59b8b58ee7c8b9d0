//! From files to settings: `built-in < healerd.toml < conf.d/*.toml < environment HEALERD_…`.
//!
//! What a file may say (`input`) is another type than what the daemon runs on ([`Settings`]). A configuration is taken
//! whole or not at all: [`load`] answers with every problem at once, each with its file, line, key, reason and remedy,
//! and a reload that fails changes nothing, because nothing is changed here. The environment sets numbers and times,
//! never what decides who may do what.

mod advice;
mod app;
mod explain;
mod host;
mod input;
mod judge;
mod layers;
mod places;
mod policy;
mod problem;
mod settings;
mod top;
mod users;
mod value;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests make and break files, start programs and read the real clock"
)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use advice::{Advice, Weight, check};
pub use places::{places, records};
pub use problem::{ConfigErrors, Place, Problem, Warning};
pub use settings::{
    ControlSettings, DaemonSettings, HeartbeatSettings, MetricsSettings, NotifySettings, Role,
    Roles, Secret, Settings, WebhookSettings,
};
pub use users::{User, Users};
pub use value::{parse_bytes, parse_duration};

use crate::model::name::StackName;

/// Where the configuration lies, and what must be known to judge it.
#[derive(Debug, Clone)]
pub struct Paths {
    pub file: PathBuf,
    pub conf_dir: PathBuf,
    /// Stack files beside the built-in ones; named here because it must be known before the settings are.
    pub stacks_dir: PathBuf,
    pub passwd: PathBuf,
    pub group: PathBuf,
    /// Files may belong to root and to this user.
    pub daemon_uid: u32,
    /// State may lie in a temporary folder: for the demonstration, which keeps nothing. No file can say so.
    pub temporary_state: bool,
}

impl Paths {
    /// Everything below one folder, `/etc/healerd` in production; users as the machine has them.
    pub fn below(folder: &Path) -> Self {
        Self {
            file: folder.join("healerd.toml"),
            conf_dir: folder.join("conf.d"),
            stacks_dir: folder.join("stacks.d"),
            passwd: PathBuf::from("/etc/passwd"),
            group: PathBuf::from("/etc/group"),
            daemon_uid: rustix::process::geteuid().as_raw(),
            temporary_state: false,
        }
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self::below(Path::new("/etc/healerd"))
    }
}

/// The variables of this process that may be settings.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("HEALERD_"))
        .collect()
}

/// Reads and judges everything. `stacks` are the known stacks; `None` leaves their names unjudged.
///
/// # Errors
/// With every problem that was found; then there are no settings at all.
pub fn load(
    paths: &Paths,
    environment: &BTreeMap<String, String>,
    stacks: Option<&BTreeSet<StackName>>,
) -> Result<(Settings, Vec<Warning>), ConfigErrors> {
    let found = layers::read(&paths.file, &paths.conf_dir, environment, paths.daemon_uid);
    let mut problems = found.problems;
    if found.incomplete {
        return Err(sorted(problems));
    }
    let users = match Users::read(&paths.passwd, &paths.group) {
        Ok(users) => users,
        Err(error) => {
            problems.push(Problem {
                place: Place::File {
                    path: paths.passwd.clone(),
                    position: None,
                },
                key: String::new(),
                reason: format!("cannot be read, nor who the users are: {error}"),
                remedy: "mend the user database of this machine".to_owned(),
            });
            return Err(sorted(problems));
        }
    };
    let merged = match found.layers.merged() {
        Ok(merged) => merged,
        Err(problem) => {
            problems.push(problem);
            return Err(sorted(problems));
        }
    };
    let mut judge = judge::Judge::new(&found.layers, &users, stacks, paths, problems);
    let input = judge.read(merged);
    let settings = judge.settle(&input);
    let problems = judge.into_problems();
    if problems.is_empty() {
        Ok((settings, found.warnings))
    } else {
        Err(sorted(problems))
    }
}

fn sorted(mut problems: Vec<Problem>) -> ConfigErrors {
    problems.sort();
    problems.dedup();
    ConfigErrors(problems)
}
