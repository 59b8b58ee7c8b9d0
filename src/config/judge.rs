//! Judges what was read, and collects everything that is wrong with it.
//!
//! The values around a wrong one are still judged: a value that cannot be used is taken as absent, and its problem
//! alone is enough to refuse the whole.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use figment::Figment;
use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::Value;

use super::Paths;
use super::explain::{explain, remove};
use super::input::{Input, Scope};
use super::layers::Layers;
use super::policy;
use super::problem::{Problem, key_text, shown};
use super::settings::Settings;
use super::users::Users;
use crate::model::app::Schedule;
use crate::model::name::StackName;
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
    pub(super) paths: &'a Paths,
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
            .map_or(Duration::from_mins(1), |span| span.0);
        self.at_least(&key(&["check", "interval"]), interval, INTERVAL_MIN);
        let schedule = Schedule::Every(interval);
        let hosts = self.hosts(input);
        let apps = self.apps(input, &global, &schedule, &daemon);
        let watchdog = input
            .watchdog
            .interval
            .map_or(Duration::from_mins(3), |span| span.0);
        self.at_least(
            &key(&["watchdog", "interval"]),
            watchdog,
            Duration::from_mins(3),
        );
        let history = input
            .history
            .keep
            .map_or(Duration::from_hours(24 * 90), |span| span.0);
        self.at_least(
            &key(&["history", "keep"]),
            history,
            Duration::from_hours(24),
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
            apps: apps.all,
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
        made.mode_is_own = !at.is_empty() && scope.mode.is_some();
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

    pub(super) fn group(&mut self, path: &[String], name: &str) -> Option<u32> {
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
}
