//! Judges the tables that stand at the top only: `[daemon]`, `[control]`, `[metrics]`, `[notify]`, `[heartbeat]`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::input::{Input, RoleTable};
use super::judge::{Judge, key};
use super::problem::shown;
use super::settings::{
    ControlSettings, DaemonSettings, HeartbeatSettings, MetricsSettings, NotifySettings, Role,
    Roles, Secret, WebhookSettings,
};
use super::value::TimeSpan;

impl Judge<'_> {
    pub(super) fn daemon(&mut self, input: &Input) -> DaemonSettings {
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

    pub(super) fn control(&mut self, input: &Input) -> ControlSettings {
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

    pub(super) fn metrics(&mut self, input: &Input) -> MetricsSettings {
        let at = key(&["metrics", "listen"]);
        let text = input.metrics.listen.as_deref().unwrap_or("127.0.0.1:9464");
        let listen: Option<SocketAddr> = text.parse().ok();
        match listen {
            Some(address) if !address.ip().is_loopback() && input.metrics.expose != Some(true) => {
                self.report(
                    &at,
                    format!("`{address}` can be reached from other machines"),
                    "listen on 127.0.0.1, or write `expose = true` beside it",
                );
            }
            Some(_) => {}
            None => self.report(
                &at,
                format!("`{}` is not an address with a port", shown(text)),
                "write it as \"127.0.0.1:9464\"",
            ),
        }
        MetricsSettings {
            listen: listen.filter(|_| input.metrics.enabled != Some(false)),
        }
    }

    pub(super) fn notify(&mut self, input: &Input) -> NotifySettings {
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
        if timeout.is_zero() || timeout > Duration::from_mins(1) {
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
                .map_or(Duration::from_hours(4), |span| span.0),
        }
    }

    pub(super) fn heartbeat(&mut self, input: &Input) -> Option<HeartbeatSettings> {
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
            every: every.map_or(Duration::from_mins(1), |span| span.0),
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

/// Opens a file that nobody but root or the daemon can read or change. Reason and remedy, where it is not one.
pub(super) fn open_private(path: &Path, daemon_uid: u32) -> Result<File, (String, String)> {
    let unreadable = |error: std::io::Error| {
        (
            format!("cannot be read: {error}"),
            "put the secret there, readable by the daemon alone".to_owned(),
        )
    };
    let file = File::open(path).map_err(unreadable)?;
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
    Ok(file)
}

fn read_secret(path: &Path, daemon_uid: u32) -> Result<Secret, (String, String)> {
    let file = open_private(path, daemon_uid)?;
    let mut text = String::new();
    file.take(4097).read_to_string(&mut text).map_err(|error| {
        (
            format!("cannot be read: {error}"),
            "put the secret there, readable by the daemon alone".to_owned(),
        )
    })?;
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    if text.is_empty() || text.len() > 4096 {
        return Err((
            "is empty or longer than 4 KiB".to_owned(),
            "write one line with the secret".to_owned(),
        ));
    }
    Ok(Secret::new(text))
}
