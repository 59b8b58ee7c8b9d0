//! What can be asked of a host: the probe kinds with their parameters and the facts that each one gives.
//!
//! Pure. The daemon's validator reads [`KINDS`] to refuse an unknown fact; the agent reads the typed [`Probe`].
//! A parameter may name another probe's fact of the same check as `{probe.fact}` or `{probe.fact.key}`, with a
//! default as `{probe.fact|default}` for when it is absent (an unknown fact stays unknown); the agent fills it in, so
//! that one round trip carries the whole graph.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::params::{
    Access, BisectProbe, Dialect, FileFormat, HttpProbe, Number, Output, PhpConstantsProbe,
};
use super::params::{entries_max, log_tail, mysql_timeout, program_timeout, yes};
pub use super::reference::Reference;
pub use super::validate::check;

/// A typed value read from a host. Unknown is not absent, and absent is not empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "v", rename_all = "snake_case")]
pub enum Fact {
    /// Could not be determined, with the reason.
    Unknown(String),
    /// Surely not there.
    Absent,
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Fact>),
    Map(BTreeMap<String, Fact>),
    /// There, but it never leaves the host: only its length does.
    Secret {
        length: u64,
    },
}

/// The facts of one probe by name.
pub type Facts = BTreeMap<String, Fact>;

/// What kind of value a fact is; the validator checks predicates against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactType {
    Bool,
    Int,
    /// A length of time in milliseconds; compared with duration literals.
    Millis,
    /// A number of bytes; compared with byte literals.
    Bytes,
    /// Permission bits; compared with mode literals.
    Mode,
    Text,
    ListOfText,
    ListOfInt,
    /// Keyed values: `env.values.APP_KEY`.
    Map,
    /// Whatever JSON the program or file held.
    Any,
}

/// One probe kind: its name in stack files, and the facts it gives.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub facts: &'static [(&'static str, FactType)],
}

/// Every probe kind. The order is that of the documentation.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "http",
        facts: &[
            ("reachable", FactType::Bool),
            ("error", FactType::Text), // absent, or: refused timeout tls protocol other
            ("status", FactType::Int),
            ("server_error", FactType::Int), // the status from 500 on but 503, which is meant; else absent
            ("body_bytes", FactType::Bytes),
            ("empty", FactType::Bool),
            ("location", FactType::Text),
            ("time", FactType::Millis),
            ("found", FactType::ListOfText), // those of `find` that stand in the body
        ],
    },
    Kind {
        name: "file",
        facts: &[
            ("exists", FactType::Bool),
            ("kind", FactType::Text), // file directory link other; of a link into a declared root: what it leads to
            ("readable", FactType::Bool),
            ("size", FactType::Bytes),
            ("mode", FactType::Mode),
            ("uid", FactType::Int),
            ("gid", FactType::Int),
            ("owned_by_app", FactType::Bool),
            ("age", FactType::Millis),   // since mtime
            ("mtime", FactType::Millis), // since the epoch
            ("link_target", FactType::Text),
            ("json_error", FactType::Text), // with `parse = "json"`: absent when it parses
            ("known_good", FactType::Text), // when the snapshot that holds this file was taken; the daemon adds it
        ],
    },
    Kind {
        name: "tree",
        facts: &[
            ("exists", FactType::Bool),
            ("count", FactType::Int), // without the directory itself that a `dir/**` names
            ("bytes", FactType::Bytes),
            ("newest", FactType::Millis), // mtime since the epoch of the newest entry
            ("newest_path", FactType::Text),
            ("newest_age", FactType::Millis), // since that mtime
            ("paths", FactType::ListOfText),  // at most 100
            ("truncated", FactType::Bool),
        ],
    },
    Kind {
        name: "access",
        facts: &[
            ("missing", FactType::ListOfText),
            ("denied", FactType::ListOfText), // the topmost of `paths` that hold something denied
            ("examples", FactType::ListOfText), // at most 20 of the entries themselves
            ("truncated", FactType::Bool),
        ],
    },
    Kind {
        name: "mode",
        facts: &[
            ("missing", FactType::ListOfText),
            ("too_open", FactType::ListOfText), // entries with a bit of `forbid`, at most 100
            ("too_tight", FactType::ListOfText), // entries that lack a bit of `need`, at most 100
            ("truncated", FactType::Bool),
        ],
    },
    Kind {
        name: "env",
        facts: &[
            ("exists", FactType::Bool),
            ("readable", FactType::Bool),
            ("parsed", FactType::Bool),
            ("error", FactType::Text),
            ("size", FactType::Bytes),
            ("keys", FactType::ListOfText),
            ("values", FactType::Map), // those of `reveal` as text, all others as secrets
            ("missing", FactType::ListOfText), // of `need`: not there
            ("blank", FactType::ListOfText), // of `need`: there and empty
            ("known_good", FactType::Text), // when the snapshot that holds this file was taken; the daemon adds it
        ],
    },
    Kind {
        name: "php_constants",
        facts: &[
            ("exists", FactType::Bool),
            ("readable", FactType::Bool),
            ("parsed", FactType::Bool), // false: it surely breaks off
            ("error", FactType::Text),
            ("size", FactType::Bytes),
            ("keys", FactType::ListOfText), // constants by name, variables as `$name`
            ("values", FactType::Map), // those of `reveal` as text, all others as secrets; unknown where not plain
            ("missing", FactType::ListOfText), // of `need`: nowhere in it, and it includes no other file
            ("blank", FactType::ListOfText),   // of `need`: there and empty
            ("loads", FactType::Bool),         // does it include the file of that ending
            ("compared", FactType::Bool), // is there a snapshot from healthy days to compare with
            ("changed", FactType::ListOfText), // of `unchanged`: there with another plain value than in that snapshot
            ("time_age", FactType::Millis), // since the Unix time in the value `time_of`; absent: no plain number
        ],
    },
    Kind {
        name: "wp_core",
        facts: &[
            ("version", FactType::Text),
            ("checked", FactType::Int),
            ("missing", FactType::ListOfText), // at most 50
            ("empty", FactType::ListOfText),   // at most 50
            ("broken", FactType::ListOfText), // breaks off in the middle, or holds no PHP; at most 50
            ("complete", FactType::Bool),
        ],
    },
    Kind {
        name: "mysql",
        facts: &[
            ("local", FactType::Bool), // only a server of this host is asked
            ("reachable", FactType::Bool),
            ("error", FactType::Text), // absent, or: refused timeout protocol other
            ("refusal", FactType::Int), // the server's own error number, in place of its version
            ("version", FactType::Text),
            ("time", FactType::Millis),
        ],
    },
    Kind {
        name: "json",
        facts: &[
            ("exists", FactType::Bool),
            ("parsed", FactType::Bool),
            ("error", FactType::Text),
            ("values", FactType::Map), // `pick = { name = "/json/pointer" }`
        ],
    },
    Kind {
        name: "npm_lock",
        facts: &[
            ("package_exists", FactType::Bool),
            ("package_parsed", FactType::Bool),
            ("lock_exists", FactType::Bool),
            ("lock_parsed", FactType::Bool),
            ("modules_exist", FactType::Bool),
            ("checked", FactType::Int),
            ("missing", FactType::ListOfText), // packages of the lock that are not installed, at most 50
            ("mismatched", FactType::ListOfText), // installed in another version, at most 50
            ("complete", FactType::Bool),
        ],
    },
    Kind {
        name: "process",
        facts: &[
            ("count", FactType::Int),
            ("pids", FactType::ListOfInt),
            ("oldest", FactType::Millis),       // age
            ("youngest", FactType::Millis),     // age
            ("names", FactType::ListOfText),    // comm
            ("managers", FactType::ListOfText), // pm2 systemd supervisor other
            ("pm2_names", FactType::ListOfText),
            ("units", FactType::ListOfText),
        ],
    },
    Kind {
        name: "port",
        facts: &[
            ("listening", FactType::Bool),
            ("accepts", FactType::Bool),
            ("pids", FactType::ListOfInt), // holders that could be seen
            ("held_by_app", FactType::Bool), // a holder runs below the root as the app's user
        ],
    },
    Kind {
        name: "pm2",
        facts: &[
            ("installed", FactType::Bool),
            ("alive", FactType::Bool),       // its daemon
            ("names", FactType::ListOfText), // processes whose script or directory lies below the root
            ("online", FactType::ListOfText),
            ("stopped", FactType::ListOfText),
            ("errored", FactType::ListOfText),
            ("restarting", FactType::ListOfText),
            ("restarts", FactType::Int),
        ],
    },
    Kind {
        name: "unit",
        facts: &[
            ("manager", FactType::Bool), // is there a systemd to ask
            ("loaded", FactType::Bool),
            ("active", FactType::Text), // active inactive failed activating …
            ("sub", FactType::Text),
            ("main_pid", FactType::Int),
            ("restarts", FactType::Int),
            ("restarting", FactType::Bool), // systemd itself is about to start it again
        ],
    },
    Kind {
        name: "disk",
        facts: &[
            ("used_percent", FactType::Int),
            ("free", FactType::Bytes),
            ("inodes_used_percent", FactType::Int),
        ],
    },
    Kind {
        name: "memory",
        facts: &[
            ("used_percent", FactType::Int),
            ("available", FactType::Bytes),
            ("swap_used_percent", FactType::Int),
            ("load_per_core_percent", FactType::Int), // 1 minute
        ],
    },
    Kind {
        name: "log",
        facts: &[
            ("exists", FactType::Bool),
            ("readable", FactType::Bool),
            ("size", FactType::Bytes),
            ("age", FactType::Millis),
            ("counts", FactType::Map), // `count = { name = "literal" }` over the last `tail` bytes, by line
        ],
    },
    Kind {
        name: "php_log",
        facts: &[
            ("exists", FactType::Bool),
            ("readable", FactType::Bool),
            ("age", FactType::Millis),
            ("suspect", FactType::Text), // the latest of `suspects`
            ("suspects", FactType::ListOfText), // what fatal errors name below `below`, the latest first, at most 10
        ],
    },
    Kind {
        name: "bisect",
        facts: &[
            ("starts", FactType::Bool),          // with everything in place
            ("starts_bare", FactType::Bool),     // with everything left out
            ("leave_out", FactType::ListOfText), // the smallest set without which it starts
            ("one", FactType::Text),             // when that is one
            ("clash", FactType::ListOfText), // the smallest set that does not start together, `leave_out` first
            ("runs", FactType::Int),
        ],
    },
    Kind {
        name: "program",
        facts: &[
            ("found", FactType::Bool),
            ("exit", FactType::Int), // absent after a signal or a timeout
            ("timed_out", FactType::Bool),
            ("text", FactType::Text),        // stdout, at most 64 KiB
            ("error_text", FactType::Text),  // stderr, at most 4 KiB
            ("lines", FactType::ListOfText), // with `output = "lines"`
            ("json", FactType::Any), // with `output = "json"`; absent when it does not parse
        ],
    },
];

/// The facts of a kind; `None` for an unknown kind.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// A probe with its parameters, as stack files write it (`{ access = { paths = ["storage"], want = "write" } }`)
/// once every `{reference}` is filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Probe {
    /// One HTTP request. Redirects are reported, not followed.
    Http(HttpProbe),
    /// One path.
    File {
        path: String,
        /// `json`: also say whether it parses.
        #[serde(default)]
        parse: Option<FileFormat>,
    },
    /// Everything that matches, as numbers.
    Tree {
        paths: Vec<String>,
        /// At most this many entries are looked at.
        #[serde(default = "entries_max")]
        entries_max: u32,
    },
    /// Can the agent's user read or write these?
    Access {
        paths: Vec<String>,
        want: Access,
        /// Also everything below.
        #[serde(default)]
        recursive: bool,
        #[serde(default = "entries_max")]
        entries_max: u32,
    },
    /// Permission bits, bitwise.
    Mode {
        paths: Vec<String>,
        /// Symbolic, for example `o+w`: none of these may be set.
        #[serde(default)]
        forbid: Option<String>,
        /// Symbolic: all of these must be set (`X`: on directories only).
        #[serde(default)]
        need: Option<String>,
        #[serde(default)]
        recursive: bool,
        #[serde(default = "entries_max")]
        entries_max: u32,
    },
    /// A `.env` file in PHP's or Node's dialect.
    Env {
        path: String,
        #[serde(default)]
        dialect: Dialect,
        /// Keys whose values may leave the host.
        #[serde(default)]
        reveal: Vec<String>,
        /// Keys that should be there.
        #[serde(default)]
        need: Vec<String>,
    },
    /// What a PHP file defines, without running it.
    PhpConstants(PhpConstantsProbe),
    /// WordPress' own files.
    WpCore {
        /// Directory of wp-load.php, below the root.
        #[serde(default)]
        path: String,
    },
    /// A MySQL or MariaDB server of this host.
    Mysql {
        /// As in `DB_HOST`.
        host: String,
        /// Means nothing. It is there for a reference: as long as that is absent, nobody is asked. Servers complain about
        /// every greeting that stays unanswered.
        #[serde(default)]
        when: Option<String>,
        #[serde(default = "mysql_timeout")]
        timeout: String,
    },
    /// Values out of a JSON file by pointer.
    Json {
        path: String,
        #[serde(default)]
        pick: BTreeMap<String, String>,
    },
    /// `package.json`, `package-lock.json` and `node_modules` against each other.
    NpmLock {
        /// Directory of package.json, below the root.
        #[serde(default)]
        path: String,
    },
    /// Live processes of the application's user.
    Process {
        /// Any of these as the base name of an argument or of the executable (`artisan`, `composer`).
        #[serde(default)]
        any: Vec<String>,
        /// Not those that were told one of these right after such a name (`artisan queue:work`): they live on and on.
        #[serde(default)]
        except: Vec<String>,
        /// Only those whose working directory or script lies below the root.
        #[serde(default = "yes")]
        below_root: bool,
    },
    /// A TCP port on this host.
    Port {
        port: Number,
        #[serde(default)]
        address: Option<String>,
    },
    /// The pm2 daemon of the application's user.
    Pm2 {
        #[serde(default)]
        home: Option<String>,
        #[serde(default = "program_timeout")]
        timeout: String,
    },
    /// A systemd unit.
    Unit {
        name: String,
    },
    /// The file system below a path.
    Disk {
        path: String,
    },
    Memory {},
    /// A log file's size, and counts of literals in its tail.
    Log {
        path: String,
        /// How much of the end is read, as bytes text (`"64KiB"`).
        #[serde(default = "log_tail")]
        tail: String,
        #[serde(default)]
        count: BTreeMap<String, String>,
    },
    /// What the fatal errors in the tail of a PHP log name.
    PhpLog {
        path: String,
        #[serde(default = "log_tail")]
        tail: String,
        /// The folder whose parts are named: `wp-content/plugins`.
        below: String,
    },
    /// Which parts keep an application from starting.
    Bisect(BisectProbe),
    /// A program, as the application's user, in its root. No shell.
    Program {
        argv: Vec<String>,
        #[serde(default = "program_timeout")]
        timeout: String,
        #[serde(default)]
        output: Output,
    },
}
