//! `healerctl host import`: a ready `[host.NAME]` table out of a person's ssh configuration.
//!
//! `ssh -G` says what it would do; it connects to nothing. Nothing is written: the table is printed, to be read before
//! it is put into a file. Needs no daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use super::ids;
use super::output::{CliError, Output, code};
use crate::model::name::HostName;
use crate::telemetry::redact::escape;

/// Longest time for `ssh -G`; a `Match exec` of a person's configuration runs within it.
const SSH_WITHIN: Duration = Duration::from_secs(20);

/// Longest answer of `ssh -G`.
const SSH_BYTES_MAX: u64 = 256 << 10;

/// More machines on the way are not followed.
const JUMPS_MAX: usize = 8;

/// A name that no configuration speaks of; `.invalid` is reserved for that.
const NOBODY: &str = "healerd-asks.invalid";

/// Does ssh treat this name as one that it was told nothing about? Then its answer is its defaults.
fn is_unknown(says: &str, alias: &str, says_of_nobody: &str) -> bool {
    fn rest<'a>(text: &'a str, name: &str) -> (Option<&'a str>, Vec<String>) {
        let mut host = None;
        let mut rest = Vec::new();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("hostname", value)) => host = Some(value),
                Some(("host" | "originalhost", _)) => {}
                _ => rest.push(line.replace(name, NOBODY)),
            }
        }
        (host, rest)
    }
    let (host, said) = rest(says, alias);
    let (_, nothing) = rest(says_of_nobody, NOBODY);
    host.is_some_and(|host| host.eq_ignore_ascii_case(alias)) && said == nothing
}

/// Prints the table of a host, and those of the hosts that it is reached through.
pub(super) async fn run(json: bool, name: &str, alias: Option<&str>) -> Result<Output, CliError> {
    let name: HostName = ids::name(name)?;
    let alias = alias.unwrap_or(name.as_str()).to_owned();
    let mut tables = Vec::new();
    let mut seen = BTreeSet::from([name.to_string()]);
    let mut waiting = vec![(name.to_string(), Jump::alias(&alias))];
    while let Some((name, jump)) = waiting.pop() {
        let text = ssh_says(&jump).await?;
        if tables.is_empty() && is_unknown(&text, &alias, &ssh_says(&Jump::alias(NOBODY)).await?) {
            return Err(CliError::new(
                code::FAILED,
                "unknown_alias",
                format!("your ssh configuration does not know `{}`", escape(&alias)),
            )
            .hint("name one of its `Host` entries with --from-ssh-config, or write [host.NAME] by hand"));
        }
        let host = Imported::read(&text).map_err(|reason| {
            CliError::new(
                code::FAILED,
                "ssh_config",
                format!("`ssh -G {}` {reason}", escape(&jump.host)),
            )
        })?;
        let mut names = Vec::new();
        for jump in &host.jumps {
            let hop = host_name(&jump.host);
            names.push(hop.clone());
            if seen.len() <= JUMPS_MAX && seen.insert(hop.clone()) {
                waiting.push((hop, jump.clone()));
            }
        }
        tables.push(host.table(&name, &names));
    }
    let text = tables.join("\n");
    Ok(Output::of(json, &serde_json::json!({"toml": text}), || {
        text.clone()
    }))
}

/// A place as `ProxyJump` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Jump {
    host: String,
    user: Option<String>,
    port: Option<String>,
}

impl Jump {
    fn alias(alias: &str) -> Self {
        Self {
            host: alias.to_owned(),
            user: None,
            port: None,
        }
    }

    /// `[user@]host[:port]`, or a URI of the same.
    fn parse(text: &str) -> Self {
        let text = text.strip_prefix("ssh://").unwrap_or(text);
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, text),
        };
        let (host, port) = match place
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
        {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (place, None),
            },
        };
        Self {
            host: host.to_owned(),
            user,
            port: port.map(str::to_owned),
        }
    }
}

/// What `ssh -G` says of one host.
#[derive(Debug, PartialEq, Eq)]
struct Imported {
    user: String,
    host: String,
    port: String,
    jumps: Vec<Jump>,
    keys: Vec<String>,
    certificates: Vec<String>,
    agent: Option<String>,
    proxy_command: bool,
}

impl Imported {
    fn read(text: &str) -> Result<Self, String> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            if let Some((key, value)) = line.split_once(' ') {
                all.entry(key.to_ascii_lowercase())
                    .or_default()
                    .push(value.trim().to_owned());
            }
        }
        let one = |key: &str| {
            all.get(key)
                .and_then(|values| values.first())
                .filter(|value| !value.is_empty() && *value != "none")
                .cloned()
        };
        let needed = |key: &str| one(key).ok_or_else(|| format!("names no {key}"));
        let many = |key: &str| all.get(key).cloned().unwrap_or_default();
        Ok(Self {
            user: needed("user")?,
            host: needed("hostname")?,
            port: needed("port")?,
            jumps: one("proxyjump")
                .iter()
                .flat_map(|list| list.split(','))
                .map(Jump::parse)
                .collect(),
            keys: many("identityfile"),
            certificates: many("certificatefile"),
            agent: one("identityagent").filter(|agent| agent.starts_with('/')),
            proxy_command: one("proxycommand").is_some(),
        })
    }

    fn table(&self, name: &str, jumps: &[String]) -> String {
        let quoted = |text: &str| toml_edit::Value::from(text).to_string();
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let mut text = format!("[host.{}]\n", quoted_key(name));
        let mut line = |key: &str, value: String| {
            writeln!(text, "{key} = {value}").ok();
        };
        line(
            "ssh",
            quoted(&format!("{}@{host}:{}", self.user, self.port)),
        );
        match jumps {
            [] => {}
            [one] => line("jump", quoted(one)),
            many => {
                let list: Vec<_> = many.iter().map(|jump| quoted(jump)).collect();
                line("jump", format!("[{}]", list.join(", ")));
            }
        }
        if let Some(agent) = &self.agent {
            line("# agent", quoted(agent));
        }
        if self.user == "root" {
            text.push_str(
                "# root never logs in: name the application's user, and see `become` for root operations\n",
            );
        }
        if self.proxy_command {
            text.push_str("# ProxyCommand is not used: name the machine on the way with `jump`\n");
        }
        if !self.keys.is_empty() || !self.certificates.is_empty() {
            let files: Vec<_> = self.keys.iter().chain(&self.certificates).collect();
            text.push_str("# the daemon has a key of its own, and never yours:");
            for file in files {
                write!(text, " {}", escape(file)).ok();
            }
            text.push('\n');
        }
        writeln!(
            text,
            "# its key is compared and taken with `healerctl host enrol {name}`"
        )
        .ok();
        text
    }
}

/// A bare key where TOML lets it be one.
fn quoted_key(name: &str) -> String {
    if name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    {
        name.to_owned()
    } else {
        toml_edit::Value::from(name).to_string()
    }
}

/// A host's name out of an address.
fn host_name(address: &str) -> String {
    let short: String = address
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() || letter == '.' {
                letter
            } else {
                '-'
            }
        })
        .take(60)
        .collect();
    short.trim_matches(['-', '.']).to_owned()
}

async fn ssh_says(jump: &Jump) -> Result<String, CliError> {
    let cannot = |reason: String| {
        CliError::new(code::FAILED, "ssh_config", format!("`ssh -G` {reason}"))
            .hint("write the table by hand; `ssh` must be installed for this command")
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "a person asked for what his own ssh would do; the arguments are a list, and nothing connects"
    )]
    let mut command = tokio::process::Command::new("ssh");
    command.args(["-G", "-T"]);
    if let Some(user) = &jump.user {
        command.args(["-l", user]);
    }
    if let Some(port) = &jump.port {
        command.args(["-p", port]);
    }
    let mut child = command
        .args(["--", &jump.host])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| cannot(format!("cannot be run: {error}")))?;
    let Some(stdout) = child.stdout.take() else {
        return Err(cannot("has no output".to_owned()));
    };
    let mut bytes = Vec::new();
    let read = async {
        stdout.take(SSH_BYTES_MAX).read_to_end(&mut bytes).await?;
        child.wait().await
    };
    match tokio::time::timeout(SSH_WITHIN, read).await {
        Err(_) => Err(cannot(format!(
            "did not end within {} s",
            SSH_WITHIN.as_secs()
        ))),
        Ok(Err(error)) => Err(cannot(format!("failed: {error}"))),
        Ok(Ok(status)) if !status.success() => Err(cannot(format!("ended with {status}"))),
        Ok(Ok(_)) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "host shop-prod\nuser shop\nhostname web1.example.org\nport 2222\nproxyjump hop@bastion:2200,inner\nidentityfile ~/.ssh/id_ed25519\nidentityagent none\n";

    #[test]
    fn what_ssh_says_becomes_a_table_that_the_daemon_reads() {
        let host = Imported::read(SAID).unwrap();
        assert_eq!(
            host.jumps,
            [
                Jump {
                    host: "bastion".to_owned(),
                    user: Some("hop".to_owned()),
                    port: Some("2200".to_owned())
                },
                Jump::alias("inner")
            ]
        );
        let text = host.table("web1", &["bastion".to_owned(), "inner".to_owned()]);
        assert_eq!(
            text,
            "[host.web1]\nssh = \"shop@web1.example.org:2222\"\njump = [\"bastion\", \"inner\"]\n\
             # the daemon has a key of its own, and never yours: ~/.ssh/id_ed25519\n\
             # its key is compared and taken with `healerctl host enrol web1`\n"
        );
        assert!(text.parse::<toml_edit::DocumentMut>().is_ok());
    }

    #[test]
    fn a_name_that_ssh_was_told_nothing_about_is_unknown() {
        let nobody = format!("host {NOBODY}\nuser me\nhostname {NOBODY}\nport 22\n");
        let of = |name: &str, more: &str| {
            format!("host {name}\nuser me\nhostname {name}\nport 22\n{more}")
        };
        for (case, says, unknown) in [
            ("only defaults", of("shop-prod", ""), true),
            ("another letter case", of("Shop-Prod", ""), true),
            ("a way to it", of("shop-prod", "proxyjump bastion\n"), false),
            (
                "another user",
                of("shop-prod", "").replace("user me", "user shop"),
                false,
            ),
            ("another address", of("web1.example.org", ""), false),
        ] {
            assert_eq!(is_unknown(&says, "shop-prod", &nobody), unknown, "{case}");
        }
    }

    #[test]
    fn hostile_words_stay_inside_their_quotes() {
        let host = Imported::read("user a\"\nhostname x\ny\nport 22\nproxycommand x\n").unwrap();
        let text = host.table("a.b", &[]);
        let table: toml_edit::DocumentMut = text.parse().unwrap();
        assert_eq!(table["host"]["a.b"]["ssh"].as_str(), Some("a\"@x:22"));
        assert!(text.contains("ProxyCommand is not used"));
    }

    #[test]
    fn an_answer_without_an_address_is_none() {
        assert_eq!(
            Imported::read("user shop\nport 22\n").unwrap_err(),
            "names no hostname"
        );
        assert_eq!(host_name("[2001:db8::1]"), "2001-db8--1");
        assert_eq!(
            Jump::parse("ssh://a@[2001:db8::1]:22"),
            Jump {
                host: "2001:db8::1".to_owned(),
                user: Some("a".to_owned()),
                port: Some("22".to_owned())
            }
        );
    }
}
