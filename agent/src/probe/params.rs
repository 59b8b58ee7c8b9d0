//! Parameters of the probes that have more of them than fit on a line, and the words that they take.
//!
//! Pure. Part of [`super::spec`], which re-exports all of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::known::KnownSettings;

/// The longest search that a stack file can ask for; a round ends it in any case.
pub(super) const WITHIN_MAX: Duration = Duration::from_mins(2);

/// Parameters of [`super::spec::Probe::Http`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// The application's URL; gives scheme, Host header, TLS name, path and (without `origin`) the port.
    pub url: String,
    /// Where to connect: `127.0.0.1:8080`, `[::1]:80` or `unix:/path`. Absent: 127.0.0.1 and the URL's port.
    #[serde(default)]
    pub origin: Option<String>,
    /// Replaces the URL's path.
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default = "http_timeout")]
    pub timeout: String,
    /// Literals to look for in the first 256 KiB of the body.
    #[serde(default)]
    pub find: Vec<String>,
}

/// Parameters of [`super::spec::Probe::PhpConstants`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhpConstantsProbe {
    pub path: String,
    /// Constants, and variables as `$name`, whose values may leave the host.
    #[serde(default)]
    pub reveal: Vec<String>,
    /// Those that should be there.
    #[serde(default)]
    pub need: Vec<String>,
    /// A file that it should include, by the end of its name.
    #[serde(default)]
    pub loads: Option<String>,
    /// A value that is a Unix time.
    #[serde(default)]
    pub time_of: Option<String>,
    /// Those whose values should be as they were when the application was well.
    #[serde(default)]
    pub unchanged: Vec<String>,
    /// What they were. The daemon adds it from its snapshot; no stack file can say it.
    #[serde(default)]
    pub known: Option<KnownSettings>,
}

/// Parameters of [`super::spec::Probe::Bisect`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BisectProbe {
    /// The parts: letters, digits, `-`, `_` and `.`.
    pub items: Vec<String>,
    /// Those to begin with; names that are no parts do not count.
    #[serde(default)]
    pub suspects: Vec<String>,
    /// Starts the application. `%left_out%` in an argument stands for the parts to do without, joined by commas; with
    /// none the argument is left away.
    pub argv: Vec<String>,
    /// It has started when the program ends with 0 and says this.
    pub expect: String,
    /// Of one start.
    #[serde(default = "bisect_timeout")]
    pub timeout: String,
    /// Of the whole search, at most two minutes.
    #[serde(default = "bisect_within")]
    pub within: String,
    /// At most this many starts.
    #[serde(default = "bisect_runs")]
    pub runs_max: u32,
}

/// A number that may have come out of a text fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    Int(u64),
    Text(String),
}

/// What [`super::spec::Probe::Access`] wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Read,
    Write,
}

/// Formats that [`super::spec::Probe::File`] can try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    Json,
}

/// Rules of quoting in env files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    #[default]
    Php,
    Node,
}

/// How a program's output is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    #[default]
    Text,
    Lines,
    Json,
}

pub(super) fn entries_max() -> u32 {
    20_000
}
pub(super) fn yes() -> bool {
    true
}
fn http_timeout() -> String {
    "10s".to_owned()
}
pub(super) fn program_timeout() -> String {
    "20s".to_owned()
}
pub(super) fn mysql_timeout() -> String {
    "5s".to_owned()
}
fn bisect_timeout() -> String {
    "15s".to_owned()
}
fn bisect_within() -> String {
    "40s".to_owned()
}
fn bisect_runs() -> u32 {
    40
}
pub(super) fn log_tail() -> String {
    "64KiB".to_owned()
}
