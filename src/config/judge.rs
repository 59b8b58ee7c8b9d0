//! Judges what was read, and collects everything that is wrong with it.
//!
//! The values around a wrong one are still judged: a value that cannot be used is taken as absent, and its problem
//! alone is enough to refuse the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use figment::Figment;
use figment::error::{Actual, Kind};
use figment::providers::Serialized;
use figment::value::Value;

use super::Paths;
use super::input::{Input, RoleTable, Scope};
use super::layers::{Layers, closest};
use super::policy;
use super::problem::{Problem, key_text, shown};
use super::settings::{
    ControlSettings, DaemonSettings, HeartbeatSettings, MetricsSettings, NotifySettings, Role,
    Roles, Secret, Settings, WebhookSettings,
};
use super::users::Users;
use super::value::TimeSpan;
use crate::model::app::Schedule;
use crate::model::name::{HostName, StackName};
use crate::model::policy::Policy;
use crate::system::CronSchedule;

/// More are not looked for: whoever has so many mends a few first.
const PROBLEMS_MAX: usize = 500;

/// Cron expressions must have a time after this (the start of 2026).
pub(super) const CRON_FROM_MS: i64 = 1_767_225_600_000;

/// Shortest period between two rounds of one app.
pub(super) const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A key with its tables.
pub(super) type KeyPath = Vec<String>;

/// A path from its parts.
pub(super) fn key(parts: &[&str]) -> KeyPath {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

/// Collects problems.
pub(super) struct Judge<'a> {
    layers: &'a Layers,
    pub(super) users: &'a Users,
    pub(super) stacks: Option<&'a BTreeSet<StackName>>,
    paths: &'a Paths,
    problems: Vec<Problem>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        layers: &'a Layers,
        users: &'a Users,
        stacks: Option<&'a BTreeSet<StackName>>,
        paths: &'a Paths,
        problems: Vec<Problem>,
    ) -> Self {
        Self {
            layers,
            users,
            stacks,
            paths,
            problems,
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Adds a problem at its key, or at the table around it.
    pub(super) fn report(
        &mut self,
        path: &[String],
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.push(Problem {
            place: self.layers.place(path),
            key: key_text(path),
            reason: reason.into(),
            remedy: remedy.into(),
        });
    }

    /// Types of all values. serde stops at the first error, so what it refuses is reported, taken out, and the rest read
    /// again.
    pub(super) fn read(&mut self, mut value: Value) -> Input {
        for _ in 0..PROBLEMS_MAX {
            let figment = Figment::from(Serialized::defaults(&value));
            let error = match figment.extract::<Input>() {
                Ok(input) => return input,
                Err(error) => error,
            };
            let mut path = error.path.clone();
            if let Kind::UnknownField(field, _) = &error.kind
                && path.last() != Some(field)
            {
                path.push(field.clone());
            }
            let (reason, remedy) = explain(&error.kind);
            self.report(&path, reason, remedy);
            if !remove(&mut value, &path) {
                break;
            }
        }
        Input::default()
    }

    /// Input to settings; what is wrong is reported on the way.
    pub(super) fn settle(&mut self, input: &Input) -> Settings {
        let global = self.policy(&[], &input.scope(), &Policy::default());
        let daemon = self.daemon(input);
        let interval = input
            .check
            .interval
            .map_or(Duration::from_secs(60), |span| span.0);
        self.at_least(&key(&["check", "interval"]), interval, INTERVAL_MIN);
        let schedule = Schedule::Every(interval);
        for name in input.host.keys() {
            if name == HostName::local().as_str() {
                self.report(
                    &key(&["host", name]),
                    "names this machine, which is always there",
                    "remove the table",
                );
            } else {
                self.report(
                    &key(&["host", name]),
                    "is reached by SSH, and SSH hosts are not supported yet",
                    "run healerd on that machine, and remove the table here",
                );
            }
        }
        let hosts = BTreeSet::from([HostName::local()]);
        let apps = self.apps(input, &global, &schedule, &daemon);
        let watchdog = input
            .watchdog
            .interval
            .map_or(Duration::from_secs(180), |span| span.0);
        self.at_least(
            &key(&["watchdog", "interval"]),
            watchdog,
            Duration::from_secs(180),
        );
        let history = input
            .history
            .keep
            .map_or(Duration::from_secs(90 * 86_400), |span| span.0);
        self.at_least(
            &key(&["history", "keep"]),
            history,
            Duration::from_secs(86_400),
        );
        Settings {
            control: self.control(input),
            metrics: self.metrics(input),
            notify: self.notify(input),
            heartbeat: self.heartbeat(input),
            daemon,
            watchdog,
            history,
            policy: global,
            schedule,
            hosts,
            apps: apps.apps,
            parents: apps.parents,
            check_every: apps.check_every,
        }
    }

    /// The policy of one scope, its ranges kept.
    pub(super) fn policy(&mut self, at: &[&str], scope: &Scope<'_>, base: &Policy) -> Policy {
        let under = |rest: &[&str]| key(&[at, rest].concat());
        let mut made = policy::apply(scope, base);
        for wrong in policy::ranges(&made) {
            let blamed = wrong
                .keys
                .iter()
                .map(|dotted| under(&dotted.split('.').collect::<Vec<_>>()))
                .find(|path| self.layers.has(path));
            // Written in neither place: it was inherited, and is reported where it was written.
            if let Some(path) = blamed {
                self.report(&path, wrong.reason, wrong.remedy);
            }
        }
        if let Some(max_mode) = scope.max_mode {
            if max_mode > base.max_mode {
                self.report(
                    &under(&["max_mode"]),
                    format!(
                        "`{max_mode}` is above the global max_mode `{}`",
                        base.max_mode
                    ),
                    format!("write `{}` or less, or raise the global one", base.max_mode),
                );
            }
            made.max_mode = max_mode.min(base.max_mode);
        }
        if let Some(mode) = scope.mode {
            if mode > made.max_mode {
                self.report(
                    &under(&["mode"]),
                    format!("`{mode}` is above max_mode `{}`", made.max_mode),
                    format!("write `{}` or less, or raise max_mode", made.max_mode),
                );
            }
            made.mode = mode;
        }
        made.mode = made.mode.min(made.max_mode);
        if let Some(names) = &scope.policy.always_ask {
            made.always_ask = self.names(&under(&["policy", "always_ask"]), names);
        }
        if let Some(names) = &scope.check.disabled {
            made.disabled_checks = self.names(&under(&["check", "disabled"]), names);
        }
        if let Some(risks) = &scope.policy.raised_risks {
            let path = under(&["policy", "raised_risks"]);
            made.raised_risks = risks
                .iter()
                .filter_map(|(name, risk)| Some((self.name(&path, name)?, *risk)))
                .collect();
        }
        made
    }

    /// A name in a list.
    fn names<T: FromStr<Err: Display>>(&mut self, path: &[String], names: &[String]) -> Vec<T> {
        names
            .iter()
            .enumerate()
            .filter_map(|(index, name)| {
                let mut at = path.to_vec();
                at.push(index.to_string());
                self.parsed(&at, name)
            })
            .collect()
    }

    /// A name that is a key of the table at `path`.
    pub(super) fn name<T: FromStr<Err: Display>>(
        &mut self,
        path: &[String],
        name: &str,
    ) -> Option<T> {
        let mut at = path.to_vec();
        at.push(name.to_owned());
        self.parsed(&at, name)
    }

    /// A text as one of the model's names.
    pub(super) fn parsed<T: FromStr<Err: Display>>(
        &mut self,
        path: &[String],
        text: &str,
    ) -> Option<T> {
        match text.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.report(path, format!("is wrong: {error}"), "choose another name");
                None
            }
        }
    }

    pub(super) fn at_least(&mut self, path: &[String], time: Duration, least: Duration) {
        if time < least {
            let least = crate::model::time::duration_text(least);
            self.report(
                path,
                format!("is shorter than {least}"),
                format!("write \"{least}\" or more"),
            );
        }
    }

    /// An absolute path without tricks.
    pub(super) fn absolute(&mut self, path: &[String], text: &str) -> Option<PathBuf> {
        let clean = text.starts_with('/')
            && (text == "/" || !text.ends_with('/'))
            && !text.chars().any(char::is_control)
            && text.len() <= 4000
            && text
                .split('/')
                .skip(1)
                .all(|part| part != "." && part != "..")
            && !text.contains("//");
        if clean {
            Some(PathBuf::from(text))
        } else {
            self.report(
                path,
                format!("`{}` is not a plain absolute path", shown(text)),
                "begin it with /, without `.`, `..`, `//` or a slash at the end",
            );
            None
        }
    }

    /// An http or https address. It is not repeated in the message, for it may hold a secret.
    pub(super) fn url(&mut self, path: &[String], text: &str) -> Option<String> {
        let reason = match reqwest::Url::parse(text) {
            Err(error) => format!("is not a URL: {error}"),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                "is not http or https".to_owned()
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                "holds a user name or password".to_owned()
            }
            Ok(_) => return Some(text.to_owned()),
        };
        self.report(path, reason, "write it as https://name.example/path");
        None
    }

    pub(super) fn zone(&mut self, path: &[String], zone: &str) {
        if let Err(error) = CronSchedule::parse("0 0 * * *", zone, CRON_FROM_MS) {
            self.report(
                path,
                format!("is wrong: {error}"),
                "write one like \"Europe/Berlin\" or \"UTC\"",
            );
        }
    }

    fn daemon(&mut self, input: &Input) -> DaemonSettings {
        let at = key(&["daemon", "state_dir"]);
        let state_dir = input
            .daemon
            .state_dir
            .as_deref()
            .and_then(|text| self.absolute(&at, text))
            .unwrap_or_else(|| PathBuf::from("/var/lib/healerd"));
        let lost = ["/tmp", "/var/tmp", "/dev", "/run", "/proc", "/sys"];
        if !self.paths.temporary_state && lost.iter().any(|folder| state_dir.starts_with(folder)) {
            self.report(
                &at,
                "lies in a temporary folder, where backups would be lost",
                "choose a persistent folder, as \"/var/lib/healerd\"",
            );
        }
        let allow = key(&["daemon", "agent_allow"]);
        let agent_allow = input
            .daemon
            .agent_allow
            .as_deref()
            .and_then(|text| self.absolute(&allow, text))
            .unwrap_or_else(|| PathBuf::from("/etc/healerd/agent.toml"));
        let zone = input
            .daemon
            .zone
            .clone()
            .unwrap_or_else(|| "UTC".to_owned());
        self.zone(&key(&["daemon", "zone"]), &zone);
        DaemonSettings {
            state_dir,
            agent_allow,
            zone,
        }
    }

    fn control(&mut self, input: &Input) -> ControlSettings {
        let control = &input.control;
        let socket = control
            .socket
            .as_deref()
            .and_then(|text| self.absolute(&key(&["control", "socket"]), text))
            .unwrap_or_else(|| PathBuf::from("/run/healerd/control.sock"));
        let group = control
            .group
            .as_deref()
            .and_then(|name| self.group(&key(&["control", "group"]), name));
        let mut roles = Roles::default();
        let tables = control.roles.clone().unwrap_or_default();
        for (role, table) in [
            (Role::Viewer, tables.viewer.as_ref()),
            (Role::Operator, tables.operator.as_ref()),
            (Role::Approver, tables.approver.as_ref()),
            (Role::Admin, tables.admin.as_ref()),
        ] {
            if let Some(table) = table {
                self.role(role, table, &mut roles);
            }
        }
        ControlSettings {
            socket,
            group,
            roles,
        }
    }

    fn role(&mut self, role: Role, table: &RoleTable, roles: &mut Roles) {
        let at = |list: &str, index: usize| {
            key(&["control", "roles", role.as_str(), list, &index.to_string()])
        };
        for (index, name) in table.users.iter().flatten().enumerate() {
            if let Some(uid) = self.user(&at("users", index), name).map(|user| user.uid) {
                raise(&mut roles.users, uid, role);
            }
        }
        for (index, name) in table.groups.iter().flatten().enumerate() {
            if let Some(gid) = self.group(&at("groups", index), name) {
                raise(&mut roles.groups, gid, role);
            }
        }
    }

    pub(super) fn user(&mut self, path: &[String], name: &str) -> Option<super::User> {
        let user = self.users.user(name).cloned();
        if user.is_none() {
            let remedy = self.users.like(name).map_or_else(
                || "create it; a user that only LDAP knows needs a line in /etc/passwd".to_owned(),
                |close| format!("did you mean `{}`?", shown(close)),
            );
            self.report(
                path,
                format!(
                    "names the user `{}`, who is not in /etc/passwd",
                    shown(name)
                ),
                remedy,
            );
        }
        user
    }

    fn group(&mut self, path: &[String], name: &str) -> Option<u32> {
        let gid = self.users.group(name);
        if gid.is_none() {
            self.report(
                path,
                format!(
                    "names the group `{}`, which is not in /etc/group",
                    shown(name)
                ),
                "create it, or name another one",
            );
        }
        gid
    }

    fn metrics(&mut self, input: &Input) -> MetricsSettings {
        let at = key(&["metrics", "listen"]);
        let text = input.metrics.listen.as_deref().unwrap_or("127.0.0.1:9464");
        let listen = match text.parse::<SocketAddr>() {
            Ok(address) => {
                if !address.ip().is_loopback() && input.metrics.expose != Some(true) {
                    self.report(
                        &at,
                        format!("`{address}` can be reached from other machines"),
                        "listen on 127.0.0.1, or write `expose = true` beside it",
                    );
                }
                Some(address)
            }
            Err(_) => {
                self.report(
                    &at,
                    format!("`{}` is not an address with a port", shown(text)),
                    "write it as \"127.0.0.1:9464\"",
                );
                None
            }
        };
        MetricsSettings {
            listen: listen.filter(|_| input.metrics.enabled != Some(false)),
        }
    }

    fn notify(&mut self, input: &Input) -> NotifySettings {
        let written = input.notify.webhook.clone();
        let webhook = written.unwrap_or_default();
        let at = |name: &str| key(&["notify", "webhook", name]);
        let url = webhook
            .url
            .as_deref()
            .and_then(|text| self.url(&at("url"), text));
        let secret = webhook
            .secret_file
            .as_deref()
            .and_then(|text| self.secret(&at("secret_file"), text));
        let timeout = webhook
            .timeout
            .map_or(Duration::from_secs(10), |span| span.0);
        if timeout.is_zero() || timeout > Duration::from_secs(60) {
            self.report(&at("timeout"), "is not between 1ms and 1m", "write \"10s\"");
        }
        if webhook.url.is_none() && (webhook.secret_file.is_some() || webhook.timeout.is_some()) {
            self.report(
                &key(&["notify", "webhook"]),
                "has no `url`",
                "add the address that notices are sent to",
            );
        }
        NotifySettings {
            webhook: url.map(|url| WebhookSettings {
                url: Secret::new(url),
                secret,
                timeout,
            }),
            repeat: input
                .notify
                .repeat
                .map_or(Duration::from_secs(4 * 3600), |span| span.0),
        }
    }

    fn heartbeat(&mut self, input: &Input) -> Option<HeartbeatSettings> {
        let every = input.heartbeat.every;
        let every_at = key(&["heartbeat", "every"]);
        if let Some(TimeSpan(time)) = every {
            self.at_least(&every_at, time, Duration::from_secs(1));
        }
        let Some(text) = input.heartbeat.url.as_deref() else {
            if every.is_some() {
                self.report(
                    &every_at,
                    "has no `url` beside it",
                    "add the address to call",
                );
            }
            return None;
        };
        let url = self.url(&key(&["heartbeat", "url"]), text)?;
        Some(HeartbeatSettings {
            url: Secret::new(url),
            every: every.map_or(Duration::from_secs(60), |span| span.0),
        })
    }

    /// The text of a file that only its owner can read.
    fn secret(&mut self, path: &[String], text: &str) -> Option<Secret> {
        let file = self.absolute(path, text)?;
        match read_secret(&file, self.paths.daemon_uid) {
            Ok(secret) => Some(secret),
            Err((reason, remedy)) => {
                self.report(
                    path,
                    format!("names {}, which {reason}", file.display()),
                    remedy,
                );
                None
            }
        }
    }
}

fn raise(known: &mut BTreeMap<u32, Role>, id: u32, role: Role) {
    let entry = known.entry(id).or_insert(role);
    *entry = role.max(*entry);
}

fn read_secret(path: &Path, daemon_uid: u32) -> Result<Secret, (String, String)> {
    let unreadable = |error: std::io::Error| {
        (
            format!("cannot be read: {error}"),
            "put the secret there, readable by the daemon alone".to_owned(),
        )
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(("is not a regular file".to_owned(), "name a file".to_owned()));
    }
    if about.mode() & 0o077 != 0 {
        return Err((
            format!(
                "has mode {:04o}, so that others can read or change it",
                about.mode() & 0o7777
            ),
            format!("chmod 0600 {}", path.display()),
        ));
    }
    if about.uid() != 0 && about.uid() != daemon_uid {
        return Err((
            format!("belongs to the user {}", about.uid()),
            format!("chown root: {}", path.display()),
        ));
    }
    let mut text = String::new();
    file.take(4097)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    if text.is_empty() || text.len() > 4096 {
        return Err((
            "is empty or longer than 4 KiB".to_owned(),
            "write one line with the secret".to_owned(),
        ));
    }
    Ok(Secret::new(text))
}

/// Takes a value out; of a list, the whole list. Says whether something went.
fn remove(value: &mut Value, path: &[String]) -> bool {
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
fn explain(kind: &Kind) -> (String, String) {
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
