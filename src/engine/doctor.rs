//! Goes to a host step by step and says what it finds: for `healerctl host doctor`.
//!
//! It looks, and changes nothing but what every first login changes (the agent is put into its place). A step that
//! fails does not end the list, unless the ones behind it stand on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use healer_agent::protocol::{Answer, CheckProbes, Hello, Request, Target, VERSION};
use serde_json::json;

use super::handle::{Handle, OpError};
use crate::model::Fact;
use crate::model::action::Identity;
use crate::model::host::{
    ALLOW_FILE, Finding, Found, LOGIN_REFUSED, RemoteHost, SshSettings, UserIds, UserName,
};
use crate::model::name::HostName;
use crate::seam::{Call, Host, HostError, Lane, Login, Remotes};

/// Longest wait for one answer; a first login may push an agent before it.
const ANSWER: Duration = Duration::from_mins(1);

/// Less room than this on a host is told.
const ROOM_BYTES: u64 = 256 << 20;

fn finding(step: &str, found: Found, text: impl Into<String>) -> Finding {
    Finding {
        step: step.to_owned(),
        found,
        text: text.into(),
        lines: String::new(),
    }
}

impl Handle {
    /// Everything that a host needs to be looked after, and what of it is there.
    ///
    /// # Errors
    /// Unknown host.
    pub async fn examine_host(&self, host: &HostName) -> Result<Vec<Finding>, OpError> {
        let (remotes, configured, settings) = self.remote(host)?;
        let mut list = remotes.examine(host, &settings).await;
        if list.iter().any(|one| one.found == Found::Wrong) {
            list.push(finding(
                "login",
                Found::Skipped,
                "nothing is tried before that is mended",
            ));
            return Ok(list);
        }
        // A host of its own, which waits for no earlier failure.
        let there = remotes.open(host, &settings);
        list.extend(
            self.examine_inside(&there, remotes.as_ref(), &configured, &settings)
                .await,
        );
        there.close().await;
        Ok(list)
    }

    /// What is behind the login.
    async fn examine_inside(
        &self,
        there: &Arc<dyn Host>,
        remotes: &dyn Remotes,
        configured: &RemoteHost,
        settings: &SshSettings,
    ) -> Vec<Finding> {
        let host = there.name();
        let mut list = Vec::new();
        let address = &settings.target.address;
        match self.greet(there, Login::unknown(None)).await {
            Ok(hello) => {
                list.push(finding(
                    "login",
                    Found::Fine,
                    format!("as {}, who is uid {} there", address.user, hello.uid),
                ));
                list.push(self.machine_found(host, &hello));
            }
            Err(error) => {
                let mut wrong = finding("login", Found::Wrong, error.to_string());
                wrong.lines = lines_that_help(
                    &error,
                    settings.forced_command,
                    &remotes.public_keys(settings),
                );
                list.push(wrong);
                return list;
            }
        }
        let apps: Vec<_> = self
            .apps()
            .into_iter()
            .filter(|app| app.host == *host)
            .collect();
        if apps.iter().any(|app| app.unseen.is_some()) {
            self.try_again(host).await;
        }
        if apps.is_empty() {
            list.push(finding(
                "applications",
                Found::Skipped,
                "none is configured on this host",
            ));
        }
        for app in &apps {
            list.extend(self.app_found(there, app).await);
        }
        list.push(self.root_found(there, configured, &apps).await);
        if !settings.forced_command {
            let mut note = finding(
                "forced command",
                Found::Skipped,
                "not used; with this line in authorized_keys, the agent installed there by root and \
                 `forced_command = true` here, the key can do nothing else",
            );
            note.lines = forced_command_line(&remotes.public_keys(settings));
            list.push(note);
        }
        list
    }

    async fn greet(&self, there: &Arc<dyn Host>, login: Login) -> Result<Hello, HostError> {
        let request = Request::Hello {
            version: VERSION,
            owner: self.world.owner.clone(),
        };
        let Answer::Hello(hello) = ask(there, login, request).await? else {
            return Err(HostError::Protocol {
                host: there.name().clone(),
            });
        };
        Ok(hello)
    }

    fn machine_found(&self, host: &HostName, hello: &Hello) -> Finding {
        let (adopted, _) = self.shared.machine(host);
        match adopted {
            Some(adopted) if adopted != hello.machine_id => finding(
                "machine",
                Found::Wrong,
                format!(
                    "it is {}, and {adopted} was adopted; `healerctl adopt {host}` if that is right",
                    hello.machine_id
                ),
            ),
            Some(_) => finding(
                "machine",
                Found::Fine,
                format!("{}, the one that was adopted", hello.machine_id),
            ),
            None => finding(
                "machine",
                Found::Fine,
                format!("{}; it is adopted with the first round", hello.machine_id),
            ),
        }
    }

    /// Who the app's user is, and whether he can read and write his app.
    async fn app_found(&self, there: &Arc<dyn Host>, app: &super::AppView) -> Vec<Finding> {
        let host = there.name();
        let step = |part: &str| format!("app {}: {part}", app.name);
        let Some(user) = UserName::parse(&app.user) else {
            return Vec::new();
        };
        let ids = match super::who::identify(there.as_ref(), &self.world.owner, user).await {
            Ok(ids) => ids,
            Err(error) => return vec![finding(&step("user"), Found::Wrong, error.to_string())],
        };
        let mut list = Vec::new();
        let learned = self.shared.user(host, user);
        list.push(match learned.filter(|known| *known != ids) {
            Some(known) => finding(
                &step("user"),
                Found::Wrong,
                format!(
                    "`{user}` is uid {} there now and was uid {}; `healerctl adopt {host}` if that is right",
                    ids.uid, known.uid
                ),
            ),
            None => finding(
                &step("user"),
                Found::Fine,
                format!("`{user}` is uid {}, gid {}", ids.uid, ids.gid),
            ),
        });
        let login = Login {
            identity: Identity::App,
            uid: ids.uid,
            gid: ids.gid,
            user: Some(user),
        };
        list.push(folder_found(there, login, app, ids).await);
        let room = Request::Room {
            path: app.path.clone(),
        };
        list.push(match ask(there, login, room).await {
            Ok(Answer::Room { free_bytes, .. }) => finding(
                &step("room"),
                if free_bytes < ROOM_BYTES {
                    Found::Wrong
                } else {
                    Found::Fine
                },
                format!("{} MiB are free", free_bytes >> 20),
            ),
            Ok(_) => finding(&step("room"), Found::Wrong, "it answers something else"),
            Err(error) => finding(&step("room"), Found::Wrong, error.to_string()),
        });
        list
    }

    /// What root may do there, or the lines that would let it.
    async fn root_found(
        &self,
        there: &Arc<dyn Host>,
        configured: &RemoteHost,
        apps: &[super::AppView],
    ) -> Finding {
        let step = "root operations";
        let Some(root) = &configured.ssh.r#become else {
            return finding(
                step,
                Found::Skipped,
                format!("off: [host.{}] has no `become = \"sudo\"`", there.name()),
            );
        };
        let login = Login {
            identity: Identity::Root,
            uid: 0,
            gid: 0,
            user: None,
        };
        let mut lines = format!(
            "# visudo\n{}\n\n# {ALLOW_FILE}\n",
            root.sudoers_line(&configured.ssh.target.address.user)
        );
        for app in apps {
            lines.push_str(&app.root_lines);
        }
        let mut found = match self.greet(there, login).await {
            Ok(hello) if hello.allowed.is_empty() => finding(
                step,
                Found::Wrong,
                format!("{ALLOW_FILE} there allows nothing"),
            ),
            Ok(hello) => {
                return finding(
                    step,
                    Found::Fine,
                    format!("allowed are: {}", hello.allowed.join("; ")),
                );
            }
            Err(error) => finding(step, Found::Wrong, error.to_string()),
        };
        found.lines = lines;
        found
    }
}

async fn ask(there: &Arc<dyn Host>, login: Login, request: Request) -> Result<Answer, HostError> {
    let call = Call {
        login,
        lane: Lane::Check,
        request,
        body: Vec::new(),
        timeout: ANSWER,
    };
    Ok(there.call(call).await?.answer)
}

/// Can the app's folder be read and written by its user?
async fn folder_found(
    there: &Arc<dyn Host>,
    login: Login,
    app: &super::AppView,
    ids: UserIds,
) -> Finding {
    let step = format!("app {}: folder", app.name);
    let round = Request::Round {
        target: Target {
            root: app.path.clone(),
            roots: Vec::new(),
            uid: ids.uid,
            gid: ids.gid,
            volatile: Vec::new(),
        },
        checks: vec![CheckProbes {
            check: "folder".to_owned(),
            probes: BTreeMap::from([
                (
                    "read".to_owned(),
                    json!({"access": {"paths": ["."], "want": "read"}}),
                ),
                (
                    "write".to_owned(),
                    json!({"access": {"paths": ["."], "want": "write"}}),
                ),
            ]),
        }],
        deadline_ms: 20_000,
    };
    match ask(there, login, round).await {
        Ok(Answer::Round { checks, .. }) => {
            let fits = |probe: &str| {
                checks
                    .iter()
                    .filter_map(|check| check.probes.get(probe))
                    .all(|facts| {
                        ["missing", "denied"]
                            .iter()
                            .all(|name| facts.get(*name).is_some_and(is_empty))
                    })
            };
            match (fits("read"), fits("write")) {
                (true, true) => finding(
                    &step,
                    Found::Fine,
                    format!("{} can be read and written by `{}`", app.path, app.user),
                ),
                (true, false) => finding(
                    &step,
                    Found::Fine,
                    format!(
                        "{} can be read and not written by `{}`: what is written there is healed by root operations only",
                        app.path, app.user
                    ),
                ),
                (false, _) => finding(
                    &step,
                    Found::Wrong,
                    format!("{} cannot be read by `{}`", app.path, app.user),
                ),
            }
        }
        Ok(_) => finding(&step, Found::Wrong, "it answers something else"),
        Err(error) => finding(&step, Found::Wrong, error.to_string()),
    }
}

/// What could not be determined is not empty.
fn is_empty(fact: &Fact) -> bool {
    matches!(fact, Fact::List(list) if list.is_empty())
}

/// What is to be added where the login did not do: only where it was our key that was not taken, or where the host is to
/// start the agent by itself and did not.
fn lines_that_help(error: &HostError, forced_command: bool, keys: &[String]) -> String {
    let is_doubt = matches!(
        error,
        HostError::Untrusted { .. } | HostError::NotOurs { .. }
    );
    if is_doubt {
        String::new()
    } else if forced_command {
        forced_command_line(keys)
    } else if error.to_string().contains(LOGIN_REFUSED) {
        format!("# ~/.ssh/authorized_keys there\n{}\n", keys.join("\n"))
    } else {
        String::new()
    }
}

/// The lines for `~/.ssh/authorized_keys` that let our key start the agent, and nothing else.
fn forced_command_line(keys: &[String]) -> String {
    let mut lines = "# once, as this user: mkdir -p ~/.local/state\n".to_owned();
    for key in keys {
        lines.push_str(
            "restrict,command=\"/usr/local/libexec/healer-agent --identity app --state $HOME/.local/state/healerd\" ",
        );
        lines.push_str(key);
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_printed_only_where_they_help() {
        let host: HostName = "web1".parse().unwrap();
        let unreachable = |reason: &str| HostError::Unreachable {
            host: host.clone(),
            reason: reason.to_owned(),
        };
        let refused = unreachable(&format!("shop@web1:22{LOGIN_REFUSED}no key fits"));
        let broken = unreachable("shop@web1:22: the agent ended with 1");
        let doubt = HostError::Untrusted {
            host: host.clone(),
            reason: "another key".to_owned(),
        };
        let keys = ["ssh-ed25519 AAAA healerd".to_owned()];
        for (case, error, forced, words) in [
            (
                "a key",
                &refused,
                false,
                Some("authorized_keys there\nssh-ed25519 AAAA"),
            ),
            ("a forced key", &refused, true, Some("restrict,command=")),
            ("a forced agent", &broken, true, Some("restrict,command=")),
            ("an agent", &broken, false, None),
            ("another machine", &doubt, true, None),
        ] {
            let lines = lines_that_help(error, forced, &keys);
            match words {
                Some(words) => assert!(lines.contains(words), "{case}: {lines}"),
                None => assert_eq!(lines, "", "{case}"),
            }
        }
    }
}
