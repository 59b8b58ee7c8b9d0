//! What `check-config` says about settings that are valid: what cannot work, what nobody could do, and which lines the
//! root-owned list of allowed operations needs. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::host::DEFAULT_KEY;
use super::settings::{Role, Settings};
use crate::catalogue::RootNeeds;
use crate::model::app::App;
use crate::model::host::ALLOW_FILE;
use crate::model::word::{HealingMode, words};

words! {
    /// How much it matters.
    Weight, "weight" {
        /// For information.
        Note = "note",
        /// Works, and is probably not meant.
        Warning = "warning",
        /// Cannot work: `check-config` fails.
        Refusal = "refusal",
    }
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    pub weight: Weight,
    pub text: String,
    /// Lines to add to a file, ready to copy; empty where there are none.
    pub lines: String,
}

fn advice(weight: Weight, text: String) -> Advice {
    Advice {
        weight,
        text,
        lines: String::new(),
    }
}

/// Judges settings for a daemon that runs as `daemon_uid`. Groups count as one person each, for who is in them is the
/// directory's matter. `root_needs` tells what the stack of an app would do as root; for an app whose stack holds nothing
/// of the kind there is no line to add.
pub fn check(
    settings: &Settings,
    daemon_uid: u32,
    root_needs: &dyn Fn(&App) -> RootNeeds,
) -> Vec<Advice> {
    let mut said = Vec::new();
    if settings.apps.is_empty() {
        said.push(advice(
            Weight::Warning,
            "no application is configured, so nothing is watched; add [app.NAME]".to_owned(),
        ));
    }
    for app in settings.apps.values() {
        if !settings.hosts.contains_key(&app.host)
            && daemon_uid != 0
            && app.target.uid != daemon_uid
        {
            said.push(advice(
                Weight::Refusal,
                format!(
                    "app `{}` runs as `{}`, and a daemon that is not root cannot become that user; run healerd as root or as `{}`",
                    app.name, app.user, app.user
                ),
            ));
        }
    }
    said.extend(approvers(settings));
    if settings.notify.webhook.is_none() {
        said.push(advice(
            Weight::Warning,
            "nobody is told of incidents and approvals; set [notify.webhook] url".to_owned(),
        ));
    }
    if settings
        .metrics
        .listen
        .is_some_and(|address| !address.ip().is_loopback())
    {
        said.push(advice(
            Weight::Warning,
            "metrics can be read from other machines without a password".to_owned(),
        ));
    }
    let watching: Vec<_> = settings
        .apps
        .values()
        .filter(|app| app.policy.mode == HealingMode::Manual)
        .map(|app| app.name.as_str())
        .collect();
    if !watching.is_empty() {
        said.push(advice(
            Weight::Note,
            format!(
                "in MANUAL nothing runs without a person: {}",
                watching.join(", ")
            ),
        ));
    }
    said.extend(hosts(settings, root_needs));
    for app in settings
        .apps
        .values()
        .filter(|app| !settings.hosts.contains_key(&app.host))
    {
        let needs = root_needs(app);
        let Some(work) = needs.work(app) else {
            continue;
        };
        said.push(Advice {
            weight: Weight::Note,
            text: format!(
                "root operations for app `{}` ({}) run only with these lines in {}",
                app.name,
                work,
                settings.daemon.agent_allow.display()
            ),
            lines: needs.lines(app),
        });
    }
    said
}

/// What is missing for hosts that are reached by SSH, and for the apps on them.
fn hosts(settings: &Settings, root_needs: &dyn Fn(&App) -> RootNeeds) -> Vec<Advice> {
    let mut said = Vec::new();
    for (name, host) in &settings.hosts {
        let ssh = &host.ssh;
        let apps: Vec<_> = settings
            .apps
            .values()
            .filter(|app| app.host == *name)
            .collect();
        let is_jump = settings
            .hosts
            .values()
            .any(|other| other.jumps.contains(name));
        if apps.is_empty() && !is_jump {
            said.push(advice(
                Weight::Note,
                format!("no application is on host `{name}`, so it is not looked at"),
            ));
        }
        if ssh.target.host_keys.is_empty() {
            said.push(advice(
                Weight::Warning,
                format!(
                    "host `{name}` has no `host_key`: nothing is tried there until `healerctl host enrol {name}`, \
                     or until its key stands in the configuration"
                ),
            ));
        }
        if ssh.keys.is_empty() && ssh.agent.is_none() && !apps.is_empty() {
            said.push(advice(
                Weight::Refusal,
                format!(
                    "host `{name}` has nothing to log in with: make a key with \
                     `ssh-keygen -t ed25519 -N '' -f {DEFAULT_KEY}`, or name one with `key`, or an ssh-agent with `agent`"
                ),
            ));
        }
        for app in apps {
            let needs = root_needs(app);
            let Some(work) = needs.work(app) else {
                continue;
            };
            said.push(match &ssh.r#become {
                None => advice(
                    Weight::Note,
                    format!(
                        "root operations for app `{}` are off, since host `{name}` has no `become`; \
                         with `become = \"sudo\"` it could {work}",
                        app.name
                    ),
                ),
                Some(root) => Advice {
                    weight: Weight::Note,
                    text: format!(
                        "root operations for app `{}` on host `{name}` ({work}) run only with these lines in its sudoers \
                         (visudo) and in its {ALLOW_FILE}, and with {} there, root's own",
                        app.name,
                        root.program.display()
                    ),
                    lines: format!(
                        "{}\n\n{}",
                        root.sudoers_line(&ssh.target.address.user),
                        needs.lines(app)
                    ),
                },
            });
        }
    }
    said
}

/// HIGH needs an approver who is not the requester, CRITICAL two. Root is one person.
fn approvers(settings: &Settings) -> Vec<Advice> {
    let roles = &settings.control.roles;
    let may = |role: &Role| match role {
        Role::Approver | Role::Admin => true,
        Role::Viewer | Role::Operator => false,
    };
    let users: BTreeSet<u32> = roles
        .users
        .iter()
        .filter(|(uid, role)| **uid != 0 && may(role))
        .map(|(uid, _)| *uid)
        .collect();
    let groups = roles.groups.values().filter(|role| may(role)).count();
    let persons = 1 + users.len() + groups;
    let asking: Vec<_> = settings
        .apps
        .values()
        .filter(|app| !app.policy.approval.one_person)
        .map(|app| app.name.as_str())
        .collect();
    let mut said = Vec::new();
    if persons < 2 && !asking.is_empty() {
        said.push(advice(
            Weight::Warning,
            format!(
                "nobody but root may approve: what root asks for, and every CRITICAL action, could never be approved for {}; \
                 name approvers in [control.roles], or write `persons = \"one\"` in [approval]",
                asking.join(", ")
            ),
        ));
    }
    let alone: Vec<_> = settings
        .apps
        .values()
        .filter(|app| app.policy.approval.one_person)
        .map(|app| app.name.as_str())
        .collect();
    if !alone.is_empty() {
        said.push(advice(
            Weight::Note,
            format!(
                "one person may approve what he asked for himself: {}",
                alone.join(", ")
            ),
        ));
    }
    said
}
