//! Judges the tables `[app.NAME]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use healer_agent::protocol::Target;

use super::input::{AppInput, Input};
use super::judge::{CRON_FROM_MS, INTERVAL_MIN, Judge, key};
use super::layers::closest;
use super::problem::shown;
use super::settings::DaemonSettings;
use super::users::User;
use super::value::TimeSpan;
use crate::model::app::{App, Schedule};
use crate::model::host::{UNKNOWN_ID, UserName};
use crate::model::name::{AppName, CheckName, HostName, StackName};
use crate::model::policy::Policy;
use crate::system::CronSchedule;

/// Folders of the machine; an application lies below one, it never is one.
const NO_ROOTS: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/spool",
    "/var/tmp",
];

/// Nothing below these is an application.
const NOTHING_BELOW: &[&str] = &["/boot", "/dev", "/etc", "/proc", "/sys"];

/// All applications, with what the model keeps beside them.
#[derive(Default)]
pub(super) struct Apps {
    pub(super) all: BTreeMap<AppName, App>,
    pub(super) parents: BTreeMap<AppName, AppName>,
    pub(super) check_every: BTreeMap<AppName, BTreeMap<CheckName, Duration>>,
}

impl Judge<'_> {
    pub(super) fn apps(
        &mut self,
        input: &Input,
        global: &Policy,
        schedule: &Schedule,
        daemon: &DaemonSettings,
    ) -> Apps {
        let mut made = Apps::default();
        let every = self.check_every(&[], input.check.every.as_ref());
        for (name, app) in &input.app {
            let Some(app_name) = self.name::<AppName>(&key(&["app"]), name) else {
                continue;
            };
            let mut periods = every.clone();
            periods.extend(self.check_every(&["app", name], app.check.every.as_ref()));
            if !periods.is_empty() {
                made.check_every.insert(app_name.clone(), periods);
            }
            if let Some(parent) = self.parent(name, app, input) {
                made.parents.insert(app_name.clone(), parent);
            }
            if let Some(app) = self.app(&app_name, app, input, global, schedule, daemon) {
                made.all.insert(app_name, app);
            }
        }
        self.twice(&made);
        mark_shared(&mut made);
        made
    }

    fn app(
        &mut self,
        name: &AppName,
        input: &AppInput,
        all: &Input,
        global: &Policy,
        schedule: &Schedule,
        daemon: &DaemonSettings,
    ) -> Option<App> {
        let at = |part: &str| key(&["app", name.as_str(), part]);
        let table = key(&["app", name.as_str()]);
        let policy = self.policy(&["app", name.as_str()], &input.scope(), global);
        let schedule = self.schedule(name, input, schedule, daemon);
        let host = self.host(&at("host"), input.host.as_deref(), all);
        let stack = self.stack(&table, &at("stack"), input.stack.as_deref());

        let is_remote = input
            .host
            .as_deref()
            .is_some_and(|host| all.host.contains_key(host));
        // Only this machine's folders can lie in one another with the daemon's own.
        let daemon = (!is_remote).then_some(daemon);
        let root = if let Some(text) = &input.path {
            self.root(&at("path"), text, daemon)
        } else {
            self.report(
                &table,
                "has no `path`",
                "add the folder that the application lies in",
            );
            None
        };
        let roots: Vec<String> = input
            .roots
            .iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, text)| {
                let mut path = at("roots");
                path.push(index.to_string());
                self.root(&path, text, daemon)
            })
            .collect();

        let user = if let Some(name) = &input.user {
            let user = if is_remote {
                self.remote_user(&at("user"), name)
            } else {
                self.user(&at("user"), name)
            };
            user.filter(|user| {
                let is_root = user.uid == 0 || user.name == "root";
                if is_root {
                    self.report(
                        &at("user"),
                        "is root, as whom no step of an application ever runs",
                        "name the user that the application runs as",
                    );
                }
                !is_root
            })
        } else {
            self.report(
                &table,
                "has no `user`, and without one nothing may be done to it",
                "add the user that the application runs as",
            );
            None
        };
        let url = input
            .url
            .as_deref()
            .and_then(|text| self.url(&at("url"), text));
        let origin = input
            .origin
            .as_deref()
            .and_then(|text| self.url(&at("origin"), text));
        let vars = input
            .vars
            .iter()
            .map(|(name, value)| (name.clone(), value.0.clone()))
            .collect();
        let user = user?;
        Some(App {
            name: name.clone(),
            host: host?,
            stack: stack?,
            target: Target {
                root: root?,
                roots,
                uid: user.uid,
                gid: user.gid,
                volatile: Vec::new(),
            },
            user: user.name,
            url,
            origin,
            vars,
            schedule,
            policy,
        })
    }

    fn host(&mut self, path: &[String], name: Option<&str>, all: &Input) -> Option<HostName> {
        let Some(name) = name else {
            return Some(HostName::local());
        };
        let host: HostName = self.parsed(path, name)?;
        if host == HostName::local() || all.host.contains_key(name) {
            return Some(host);
        }
        let remedy = closest(name, all.host.keys().map(String::as_str)).map_or_else(
            || {
                format!(
                    "add [host.{}], or leave `host` away for this machine",
                    shown(name)
                )
            },
            |close| format!("did you mean `{}`?", shown(close)),
        );
        self.report(
            path,
            format!("names the host `{host}`, which is not configured"),
            remedy,
        );
        None
    }

    /// A user of another machine: his numbers are learned there, before anything else is asked.
    fn remote_user(&mut self, path: &[String], name: &str) -> Option<User> {
        if UserName::parse(name).is_none() {
            self.report(
                path,
                format!("`{}` cannot be a user's name", shown(name)),
                "name the login that the application runs as, 1 to 32 of a-z, 0-9, `_`, `-` and `.`",
            );
            return None;
        }
        Some(User {
            name: name.to_owned(),
            uid: UNKNOWN_ID,
            gid: UNKNOWN_ID,
        })
    }

    fn stack(
        &mut self,
        table: &[String],
        path: &[String],
        name: Option<&str>,
    ) -> Option<StackName> {
        let Some(name) = name else {
            self.report(table, "has no `stack`", "add the one that it is built on");
            return None;
        };
        let stack: StackName = self.parsed(path, name)?;
        if let Some(known) = self.stacks
            && name == "auto"
        {
            let known: Vec<_> = known.iter().map(StackName::as_str).collect();
            self.report(
                path,
                "leaves it to healerd to find out, which it cannot do yet",
                format!("write one of {}", known.join(", ")),
            );
            return None;
        }
        if let Some(known) = self.stacks
            && !known.contains(&stack)
        {
            let remedy = closest(name, known.iter().map(StackName::as_str)).map_or_else(
                || {
                    let known: Vec<_> = known.iter().map(StackName::as_str).collect();
                    format!("write one of {}", known.join(", "))
                },
                |close| format!("did you mean `{close}`?"),
            );
            self.report(
                path,
                format!("names the stack `{stack}`, which does not exist"),
                remedy,
            );
            return None;
        }
        Some(stack)
    }

    /// A folder that an application may lie in.
    fn root(
        &mut self,
        path: &[String],
        text: &str,
        daemon: Option<&DaemonSettings>,
    ) -> Option<String> {
        let root = self.absolute(path, text)?;
        let reason = if NO_ROOTS.contains(&text) {
            format!("`{text}` is a folder of the machine, not of one application")
        } else if let Some(above) = NOTHING_BELOW.iter().find(|above| root.starts_with(above)) {
            format!(
                "`{}` lies below {above}, where no application does",
                shown(text)
            )
        } else if let Some(state) = daemon
            .map(|daemon| &daemon.state_dir)
            .filter(|state| root.starts_with(state) || state.starts_with(&root))
        {
            format!(
                "`{}` and the daemon's state_dir {} lie in one another",
                shown(text),
                state.display()
            )
        } else {
            return Some(text.to_owned());
        };
        self.report(path, reason, "name the application's own folder");
        None
    }

    fn schedule(
        &mut self,
        name: &AppName,
        input: &AppInput,
        inherited: &Schedule,
        daemon: &DaemonSettings,
    ) -> Schedule {
        let at = |parts: &[&str]| key(&[&["app", name.as_str()], parts].concat());
        let written: Vec<_> = [
            ("every", input.every.is_some()),
            ("check.interval", input.check.interval.is_some()),
            ("schedule", input.schedule.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, written)| written.then_some(key))
        .collect();
        if written.len() > 1 {
            self.report(
                &at(&["every"]),
                format!(
                    "says when to look in more than one way: {}",
                    written.join(", ")
                ),
                "keep one of them",
            );
        }
        if let Some(TimeSpan(period)) = input.every.or(input.check.interval) {
            let path = if input.every.is_some() {
                at(&["every"])
            } else {
                at(&["check", "interval"])
            };
            self.at_least(&path, period, INTERVAL_MIN);
            return Schedule::Every(period);
        }
        let zone = input.zone.clone().unwrap_or_else(|| daemon.zone.clone());
        if input.zone.is_some() {
            self.zone(&at(&["zone"]), &zone);
        }
        let Some(expression) = input.schedule.clone() else {
            if input.zone.is_some() {
                self.report(
                    &at(&["zone"]),
                    "has no `schedule` beside it",
                    "add one, or remove it",
                );
            }
            return inherited.clone();
        };
        match CronSchedule::parse(&expression, &zone, CRON_FROM_MS) {
            Ok(_) | Err(crate::system::CronError::Zone { .. }) => {}
            Err(error) => self.report(
                &at(&["schedule"]),
                format!("is wrong: {error}"),
                "write five fields, as in \"*/5 * * * *\"",
            ),
        }
        Schedule::Cron { expression, zone }
    }

    fn check_every(
        &mut self,
        at: &[&str],
        periods: Option<&BTreeMap<String, TimeSpan>>,
    ) -> BTreeMap<CheckName, Duration> {
        let path = key(&[at, &["check", "every"]].concat());
        periods
            .into_iter()
            .flatten()
            .filter_map(|(name, period)| {
                let check = self.name(&path, name)?;
                let mut at = path.clone();
                at.push(name.clone());
                self.at_least(&at, period.0, INTERVAL_MIN);
                Some((check, period.0))
            })
            .collect()
    }

    fn parent(&mut self, name: &str, app: &AppInput, all: &Input) -> Option<AppName> {
        let parent = app.parent.as_deref()?;
        let path = key(&["app", name, "parent"]);
        let known: AppName = self.parsed(&path, parent)?;
        match all.app.get(parent) {
            Some(above) if parent != name && above.parent.is_none() => Some(known),
            Some(_) => {
                self.report(
                    &path,
                    format!("names `{known}`, which is itself, or has a parent of its own"),
                    "name the main application",
                );
                None
            }
            None => {
                let remedy = closest(parent, all.app.keys().map(String::as_str)).map_or_else(
                    || "name an application of this configuration".to_owned(),
                    |close| format!("did you mean `{}`?", shown(close)),
                );
                self.report(
                    &path,
                    format!("names `{known}`, which is not configured"),
                    remedy,
                );
                None
            }
        }
    }

    /// Two applications never have one path.
    fn twice(&mut self, made: &Apps) {
        let mut seen: BTreeMap<(&HostName, &str), &AppName> = BTreeMap::new();
        for (name, app) in &made.all {
            if let Some(first) = seen.insert((&app.host, &app.target.root), name) {
                self.report(
                    &key(&["app", name.as_str(), "path"]),
                    format!(
                        "`{}` is the path of app `{first}` already",
                        shown(&app.target.root)
                    ),
                    "give each application its own folder, or remove one of them",
                );
            }
        }
    }
}

/// Folders that lie in a folder of another app are shared, unless one is declared the other's subdomain.
fn mark_shared(made: &mut Apps) {
    let mut owners: BTreeMap<(HostName, PathBuf), Vec<AppName>> = BTreeMap::new();
    for (name, app) in &made.all {
        for root in std::iter::once(&app.target.root).chain(&app.target.roots) {
            owners
                .entry((app.host.clone(), PathBuf::from(root)))
                .or_default()
                .push(name.clone());
        }
    }
    let mut shared: Vec<AppName> = Vec::new();
    for ((host, root), inner) in &owners {
        for above in root.ancestors().filter(|above| *above != Path::new("/")) {
            for outer in owners
                .get(&(host.clone(), above.to_owned()))
                .into_iter()
                .flatten()
            {
                for name in inner {
                    let related = made.parents.get(name) == Some(outer)
                        || made.parents.get(outer) == Some(name);
                    let nested_only = above != root && related;
                    if name != outer && !nested_only {
                        shared.extend([name.clone(), outer.clone()]);
                    }
                }
            }
        }
    }
    for name in shared {
        if let Some(app) = made.all.get_mut(&name) {
            app.policy.shared_resources = true;
        }
    }
}
