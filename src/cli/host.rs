//! `healerctl host`: which machines there are, whose key is trusted, and what one of them lacks.

use std::fmt::Write as _;

use super::args::{HostCommand, Reason};
use super::client::Client;
use super::output::{CliError, Output, code};
use super::{ask, ids, table};
use crate::control::wire::{Done, EnrolRequest, Host, HostFinding, HostKeyOffer, ReasonRequest};
use crate::model::name::HostName;
use crate::telemetry::redact::escape;

/// Lists hosts, or does something with one.
pub(super) async fn run(
    client: &Client,
    json: bool,
    command: Option<&HostCommand>,
) -> Result<Output, CliError> {
    match command {
        None => {
            let hosts: Vec<Host> = client.get("/hosts", &[]).await?;
            let output = Output::of(json, &hosts, || list(&hosts));
            let sick = hosts
                .iter()
                .any(|host| !matches!(host.state.as_str(), "LOCAL" | "SEEN" | "NOT_LOOKED"));
            Ok(output.exit(if sick { code::UNHEALTHY } else { code::FINE }))
        }
        Some(HostCommand::Enrol {
            host,
            fingerprint,
            keep,
            why,
        }) => enrol(client, json, host, fingerprint.as_deref(), *keep, why).await,
        Some(HostCommand::Forget { host, why }) => {
            let host: HostName = ids::name(host)?;
            let request = ReasonRequest {
                reason: ask::reason(why)?,
            };
            let done: Done = client
                .delete(&format!("/hosts/{host}/key"), Some(&request))
                .await?;
            Ok(super::done(json, &done))
        }
        Some(HostCommand::Doctor { host }) => {
            let host: HostName = ids::name(host)?;
            let found: Vec<HostFinding> = client
                .post(&format!("/hosts/{host}/doctor"), &serde_json::json!({}))
                .await?;
            let sick = found.iter().any(|one| one.found == "wrong");
            let output = Output::of(json, &found, || doctor(&found));
            Ok(output.exit(if sick { code::UNHEALTHY } else { code::FINE }))
        }
        Some(HostCommand::Import { .. }) => Err(CliError::new(
            code::FAILED,
            "internal",
            "this command needs no daemon",
        )),
    }
}

async fn enrol(
    client: &Client,
    json: bool,
    host: &str,
    fingerprint: Option<&str>,
    keep: bool,
    why: &Reason,
) -> Result<Output, CliError> {
    let host: HostName = ids::name(host)?;
    let fingerprint = if let Some(given) = fingerprint {
        given.to_owned()
    } else {
        let offer: HostKeyOffer = client.get(&format!("/hosts/{host}/key"), &[]).await?;
        ask::confirm(
            &offer_text(&offer),
            "Is that what the host itself says?",
            &format!(
                "compare it, then: healerctl host enrol {host} --fingerprint {}",
                escape(&offer.fingerprint)
            ),
        )?;
        offer.fingerprint
    };
    let request = EnrolRequest {
        fingerprint,
        keep,
        reason: why.reason.clone(),
    };
    let done: Done = client
        .post(&format!("/hosts/{host}/enrol"), &request)
        .await?;
    Ok(super::done(json, &done))
}

fn list(hosts: &[Host]) -> String {
    table::rows(
        [
            "HOST",
            "STATE",
            "ADDRESS",
            "FINGERPRINT",
            "AGENT",
            "APPS",
            "NOTE",
        ],
        hosts.iter().map(|host| {
            [
                host.host.clone(),
                host.state.clone(),
                host.address.clone().unwrap_or_default(),
                host.fingerprints.join(" "),
                host.agent_version
                    .map(|version| version.to_string())
                    .unwrap_or_default(),
                table::joined(&host.applications),
                host.note.clone().unwrap_or_default(),
            ]
        }),
        "There is no host.",
    )
}

/// What a person compares before he says yes.
fn offer_text(offer: &HostKeyOffer) -> String {
    let mut text = table::fields([
        ("host", Some(offer.host.clone())),
        ("address", Some(offer.address.clone())),
        ("algorithm", Some(offer.kind.clone())),
        ("fingerprint", Some(offer.fingerprint.clone())),
    ]);
    if offer.is_pinned {
        text.push_str("This key is trusted already.\n");
    } else if !offer.pinned.is_empty() {
        writeln!(
            text,
            "WARNING: another key is trusted now: {}\n\
             Unless its key was changed on purpose, somebody else may be answering.",
            escape(&offer.pinned.join(" "))
        )
        .ok();
    }
    writeln!(
        text,
        "Compare it on the host's own console, not over this connection:\n    ssh-keygen -lf {}\n",
        key_file(&offer.kind)
    )
    .ok();
    text
}

/// Where an SSH server keeps its key of a kind.
fn key_file(kind: &str) -> &'static str {
    if kind.starts_with("ecdsa") {
        "/etc/ssh/ssh_host_ecdsa_key.pub"
    } else {
        "/etc/ssh/ssh_host_ed25519_key.pub"
    }
}

fn doctor(found: &[HostFinding]) -> String {
    let mut text = String::new();
    let width = found
        .iter()
        .map(|one| one.step.chars().count())
        .max()
        .unwrap_or(0);
    for one in found {
        let mark = match one.found.as_str() {
            "fine" => "ok   ",
            "skipped" => "-    ",
            _ => "WRONG",
        };
        writeln!(
            text,
            "{mark}  {:width$}  {}",
            escape(&one.step),
            escape(&one.text)
        )
        .ok();
        for line in one.lines.lines() {
            let indent = if line.is_empty() { "" } else { "           " };
            writeln!(text, "{indent}{}", escape(line)).ok();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> HostKeyOffer {
        HostKeyOffer {
            host: "web1".to_owned(),
            address: "shop@web1.example.org:22".to_owned(),
            kind: "ssh-ed25519".to_owned(),
            fingerprint: "SHA256:new".to_owned(),
            key: "ssh-ed25519 AAAA".to_owned(),
            pinned: Vec::new(),
            is_pinned: false,
        }
    }

    #[test]
    fn an_offered_key_is_shown_with_the_way_to_compare_it() {
        let text = offer_text(&offer());
        for word in [
            "shop@web1.example.org:22",
            "ssh-ed25519",
            "SHA256:new",
            "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        ] {
            assert!(text.contains(word), "{text}");
        }
        assert!(!text.contains("WARNING"));
        let changed = offer_text(&HostKeyOffer {
            pinned: vec!["SHA256:old".to_owned()],
            ..offer()
        });
        assert!(
            changed.contains("WARNING: another key is trusted now: SHA256:old"),
            "{changed}"
        );
    }

    #[test]
    fn an_examination_shows_each_step_and_the_lines_to_add() {
        let text = doctor(&[
            HostFinding {
                step: "TCP".to_owned(),
                found: "fine".to_owned(),
                text: "connected".to_owned(),
                lines: String::new(),
            },
            HostFinding {
                step: "root operations".to_owned(),
                found: "wrong".to_owned(),
                text: "sudo: a password is required\u{1b}[2J".to_owned(),
                lines: "# visudo\nshop ALL=(root) NOPASSWD: /x".to_owned(),
            },
        ]);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn hosts_are_listed_with_what_is_to_be_done() {
        let text = list(&[Host {
            host: "web1".to_owned(),
            state: "NOT_ENROLLED".to_owned(),
            address: Some("shop@web1.example.org:22".to_owned()),
            jumps: Vec::new(),
            fingerprints: Vec::new(),
            configured: false,
            agent_version: None,
            applications: vec!["shop".to_owned()],
            machine_id: None,
            note: Some("its key is not known; `healerctl host enrol web1`".to_owned()),
        }]);
        insta::assert_snapshot!(text);
    }
}
