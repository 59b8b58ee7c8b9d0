//! Judges the tables `[host.NAME]`.
//!
//! Nothing is connected here. A key file is opened to see that nobody else can read it; what is in it is the
//! transport's matter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::input::{BecomeWord, HostTable, Input};
use super::judge::{Judge, KeyPath, key};
use super::layers::closest;
use super::problem::shown;
use super::top::open_private;
use super::value::OneOrMany;
use crate::model::host::{Become, RemoteHost, SshAddress, SshHop, SshSettings, UserName};
use crate::model::host_key::HostKey;
use crate::model::name::HostName;

/// The daemon's own key, where a host names none.
pub(super) const DEFAULT_KEY: &str = "/etc/healerd/ssh/id_ed25519";

/// Where an administrator puts the agent that root may run.
pub(super) const DEFAULT_BECOME_PROGRAM: &str = "/usr/local/libexec/healer-agent";

/// An SSH server tries no more keys than six, and each certificate is one try more.
const KEYS_MAX: usize = 3;

/// More machines on the way are a mistake.
const JUMPS_MAX: usize = 8;

impl Judge<'_> {
    pub(super) fn hosts(&mut self, input: &Input) -> BTreeMap<HostName, RemoteHost> {
        let mut made: BTreeMap<HostName, (RemoteHost, Vec<HostName>)> = BTreeMap::new();
        for (name, table) in &input.host {
            let at = key(&["host", name]);
            if name == HostName::local().as_str() {
                self.report(
                    &at,
                    "names this machine, which is always there",
                    "remove the table",
                );
                continue;
            }
            let Some(host) = self.name::<HostName>(&key(&["host"]), name) else {
                continue;
            };
            let jumps = self.jumps(&host, table, input);
            if let Some(ssh) = self.ssh(&host, table) {
                let remote = RemoteHost {
                    ssh,
                    jumps: Vec::new(),
                };
                made.insert(host, (remote, jumps));
            }
        }
        let names: Vec<_> = made.keys().cloned().collect();
        for name in names {
            let chain = match way(&made, &name) {
                Ok(chain) => chain,
                Err(reason) => {
                    self.report(
                        &key(&["host", name.as_str(), "jump"]),
                        reason,
                        "name a host that is reached before this one",
                    );
                    continue;
                }
            };
            let hops = chain
                .iter()
                .filter_map(|jump| Some(made.get(jump)?.0.ssh.target.clone()))
                .collect();
            if let Some((host, _)) = made.get_mut(&name) {
                host.ssh.jumps = hops;
                host.jumps = chain;
            }
        }
        made.into_iter()
            .map(|(name, (host, _))| (name, host))
            .collect()
    }

    fn ssh(&mut self, name: &HostName, table: &HostTable) -> Option<SshSettings> {
        let at = |part: &str| key(&["host", name.as_str(), part]);
        let address = if let Some(text) = &table.ssh {
            address(text).map_err(|reason| {
                self.report(
                    &at("ssh"),
                    format!("`{}` {reason}", shown(text)),
                    "write it as \"shop@web1.example.org\" or \"shop@web1.example.org:22\"",
                );
            })
        } else {
            self.report(
                &key(&["host", name.as_str()]),
                "has no `ssh`",
                "add where it is reached, as \"shop@web1.example.org:22\"",
            );
            Err(())
        };
        let address = address.ok().filter(|address| {
            let is_root = address.user == "root";
            if is_root {
                self.report(
                    &at("ssh"),
                    "logs in as root, whom healerd never is by login",
                    "log in as an application's user; root operations go through `become = \"sudo\"`",
                );
            }
            !is_root
        });
        let host_keys = self.host_keys(name, table);
        let keys = self.keys(name, table);
        let certificates = self.certificates(name, table);
        let agent = table
            .agent
            .as_deref()
            .and_then(|text| self.absolute(&at("agent"), text));
        let r#become = self.r#become(name, table);
        let forced_command = table.forced_command.unwrap_or(false);
        let connect_within = table
            .connect_within
            .map_or(Duration::from_secs(15), |span| span.0);
        if connect_within < Duration::from_secs(1) || connect_within > Duration::from_mins(2) {
            self.report(
                &at("connect_within"),
                "is not between 1s and 2m",
                "write \"15s\"",
            );
        }
        let idle = table.idle.map_or(Duration::from_mins(10), |span| span.0);
        self.at_least(&at("idle"), idle, Duration::from_secs(5));
        Some(SshSettings {
            target: SshHop {
                address: address?,
                host_keys,
            },
            jumps: Vec::new(),
            keys,
            certificates,
            agent,
            r#become,
            forced_command,
            connect_within,
            idle,
        })
    }

    /// Names of the hosts to go through, as they are written.
    fn jumps(&mut self, name: &HostName, table: &HostTable, input: &Input) -> Vec<HostName> {
        let path = key(&["host", name.as_str(), "jump"]);
        let written: Vec<String> = table.jump.iter().flat_map(|all| all.0.clone()).collect();
        let mut jumps = Vec::new();
        for jump in &written {
            let Some(host) = self.parsed::<HostName>(&path, jump) else {
                continue;
            };
            if input.host.contains_key(jump) && host != *name {
                jumps.push(host);
                continue;
            }
            let remedy = closest(jump, input.host.keys().map(String::as_str)).map_or_else(
                || format!("add [host.{}]", shown(jump)),
                |close| format!("did you mean `{}`?", shown(close)),
            );
            self.report(
                &path,
                format!(
                    "names the host `{}`, which is itself or not configured",
                    shown(jump)
                ),
                remedy,
            );
        }
        jumps
    }

    fn host_keys(&mut self, name: &HostName, table: &HostTable) -> Vec<String> {
        let written = self.one_list(
            name,
            ("host_key", &table.host_key),
            ("host_keys", &table.host_keys),
        );
        let mut keys = Vec::new();
        for (path, text) in &written {
            match HostKey::parse(text) {
                Ok(key) => keys.push(key),
                Err(reason) => self.report(
                    path,
                    reason,
                    "copy the second and third field of `ssh-keyscan`, compared on the host with `ssh-keygen -lf`",
                ),
            }
        }
        if let Some((path, _)) = written.first()
            && !keys.is_empty()
            && keys.iter().all(|key| key.revoked)
        {
            self.report(
                path,
                "names revoked keys alone, so that nothing could ever be trusted",
                "add the key that is right",
            );
        }
        keys.into_iter().map(|key| key.text).collect()
    }

    /// Files of private keys, which nobody else may read.
    fn keys(&mut self, name: &HostName, table: &HostTable) -> Vec<PathBuf> {
        let written = self.one_list(name, ("key", &table.key), ("keys", &table.keys));
        if written.is_empty() {
            let default = Path::new(DEFAULT_KEY);
            // Without it nothing can log in, which is told by `check-config`; with an ssh-agent it need not exist.
            if default.exists() {
                let path = key(&["host", name.as_str()]);
                return self.private(&path, DEFAULT_KEY).into_iter().collect();
            }
            return Vec::new();
        }
        if let Some((path, _)) = written.get(KEYS_MAX) {
            self.report(
                path,
                format!("is one more than the {KEYS_MAX} that a server lets us try"),
                "keep the keys that this host knows",
            );
        }
        written
            .iter()
            .filter_map(|(path, text)| self.private(path, text))
            .collect()
    }

    fn private(&mut self, path: &[String], text: &str) -> Option<PathBuf> {
        let file = self.absolute(path, text)?;
        match open_private(&file, self.paths.daemon_uid) {
            Ok(_) => Some(file),
            Err((reason, remedy)) => {
                self.report(
                    path,
                    format!("names the key {}, which {reason}", file.display()),
                    remedy,
                );
                None
            }
        }
    }

    fn certificates(&mut self, name: &HostName, table: &HostTable) -> Vec<PathBuf> {
        let written = self.one_list(
            name,
            ("certificate", &table.certificate),
            ("certificates", &table.certificates),
        );
        let mut files = Vec::new();
        for (path, text) in &written {
            let Some(file) = self.absolute(path, text) else {
                continue;
            };
            if file.is_file() {
                files.push(file);
            } else {
                self.report(
                    path,
                    format!("names {}, which is not a file", file.display()),
                    "put the certificate there, `…-cert.pub`",
                );
            }
        }
        files
    }

    fn r#become(&mut self, name: &HostName, table: &HostTable) -> Option<Become> {
        let at = key(&["host", name.as_str(), "become_program"]);
        let program = table
            .become_program
            .as_deref()
            .and_then(|text| self.absolute(&at, text));
        let lost = [
            "/tmp", "/var/tmp", "/dev", "/run", "/proc", "/home", "/root",
        ];
        if let Some(folder) = program
            .as_ref()
            .and_then(|program| lost.iter().find(|folder| program.starts_with(folder)))
        {
            self.report(
                &at,
                format!("lies below {folder}, where others than root can put a program"),
                format!("install it as \"{DEFAULT_BECOME_PROGRAM}\", owned by root"),
            );
        }
        match table.r#become {
            Some(BecomeWord::Sudo) => Some(Become {
                program: program.unwrap_or_else(|| PathBuf::from(DEFAULT_BECOME_PROGRAM)),
            }),
            None => {
                if table.become_program.is_some() {
                    self.report(&at, "has no `become` beside it", "add `become = \"sudo\"`");
                }
                None
            }
        }
    }

    /// What is written as one or as several, each with its place.
    fn one_list(
        &mut self,
        name: &HostName,
        one: (&str, &Option<OneOrMany>),
        many: (&str, &Option<OneOrMany>),
    ) -> Vec<(KeyPath, String)> {
        if one.1.is_some() && many.1.is_some() {
            self.report(
                &key(&["host", name.as_str(), one.0]),
                format!("and `{}` say the same", many.0),
                "keep one of them",
            );
        }
        let (word, all) = if one.1.is_some() { one } else { many };
        let texts: Vec<String> = all.iter().flat_map(|all| all.0.clone()).collect();
        let path = key(&["host", name.as_str(), word]);
        texts
            .into_iter()
            .enumerate()
            .map(|(index, text)| {
                let mut place = path.clone();
                if index > 0 {
                    place.push(index.to_string());
                }
                (place, text)
            })
            .collect()
    }
}

/// All machines on the way to a host, the nearest first: what its own table names, and what those need themselves.
fn way(
    hosts: &BTreeMap<HostName, (RemoteHost, Vec<HostName>)>,
    name: &HostName,
) -> Result<Vec<HostName>, String> {
    let mut chain: Vec<HostName> = Vec::new();
    let mut seen = BTreeSet::from([name.clone()]);
    let mut front = name.clone();
    // The first of each list is reached as its own table says; from there the list goes on.
    while let Some((_, jumps)) = hosts.get(&front) {
        let Some(first) = jumps.first() else { break };
        for jump in jumps {
            if !seen.insert(jump.clone()) {
                return Err(format!("leads through `{jump}` twice"));
            }
        }
        chain.splice(0..0, jumps.iter().cloned());
        front = first.clone();
        if chain.len() > JUMPS_MAX {
            return Err(format!("leads through more than {JUMPS_MAX} hosts"));
        }
    }
    Ok(chain)
}

/// `user@host:port`, the port left away for 22; an IPv6 address in brackets.
pub(super) fn address(text: &str) -> Result<SshAddress, &'static str> {
    let (user, place) = text
        .split_once('@')
        .ok_or("names no user, who logs in there")?;
    if UserName::parse(user).is_none() {
        return Err("has a user's name that cannot be one");
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("has an open bracket")?;
            if !matches!(host.parse(), Ok(IpAddr::V6(_))) {
                return Err("has something else than an IPv6 address in brackets");
            }
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or("goes on after its bracket")?),
            };
            (host, port)
        }
        None if place.matches(':').count() > 1 => {
            return Err("needs brackets around an IPv6 address");
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let is_name = !host.is_empty()
        && host.len() <= 253
        && !host.starts_with('-')
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
    if !is_name {
        return Err("has no name or address of a machine");
    }
    let port = match port {
        None => 22,
        Some(digits) => digits
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or("has a port that is not 1 to 65535")?,
    };
    Ok(SshAddress {
        user: user.to_owned(),
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, want) in [
            (
                "shop@web1.example.org",
                Some(("shop", "web1.example.org", 22)),
            ),
            ("shop@web1:2222", Some(("shop", "web1", 2222))),
            ("shop@192.0.2.7:22", Some(("shop", "192.0.2.7", 22))),
            ("shop@[2001:db8::7]:22", Some(("shop", "2001:db8::7", 22))),
            ("shop@[2001:db8::7]", Some(("shop", "2001:db8::7", 22))),
            ("web1.example.org", None),
            ("shop@", None),
            ("@web1", None),
            ("shop@-oProxyCommand=x", None),
            ("shop@web1:0", None),
            ("shop@web1:70000", None),
            ("shop@web1:+22", None),
            ("shop@2001:db8::7", None),
            ("shop@[web1]", None),
            ("shop@[2001:db8::7]x", None),
            ("shop@web1 x", None),
            ("a b@web1", None),
            ("shop@web1/etc", None),
        ] {
            let read = address(text).ok();
            let read = read
                .as_ref()
                .map(|found| (found.user.as_str(), found.host.as_str(), found.port));
            assert_eq!(read, want, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_address_that_is_read_is_shown_as_it_reads(text in "[a-z@:.0-9\\[\\]-]{0,30}") {
            if let Ok(found) = address(&text) {
                assert_eq!(address(&found.to_string()).as_ref(), Ok(&found));
            }
        }
    }
}
