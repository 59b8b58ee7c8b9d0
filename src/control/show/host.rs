//! Hosts as the wire shows them.

use healer_agent::protocol::VERSION;

use super::{text, texts, wire};
use crate::engine::{HostState, HostView, Offer};
use crate::model::host::Finding;
use crate::model::host_key::HostKey;
use crate::telemetry::redact::escape;

pub(in crate::control) fn host(view: &HostView) -> wire::Host {
    let names =
        |all: &[crate::model::name::HostName]| all.iter().map(ToString::to_string).collect();
    let was_seen = match view.state {
        HostState::Seen | HostState::OtherMachine => true,
        HostState::Local => view.machine_id.is_some(),
        HostState::NotEnrolled
        | HostState::InDoubt
        | HostState::NotOurs
        | HostState::Unseen
        | HostState::NotLooked => false,
    };
    wire::Host {
        host: view.name.to_string(),
        state: view.state.as_str().to_owned(),
        address: view.address.as_deref().map(text),
        jumps: names(&view.jumps),
        fingerprints: texts(&view.fingerprints),
        configured: view.configured,
        // Versions are matched exactly, so one that was seen speaks ours.
        agent_version: was_seen.then_some(VERSION),
        applications: view.apps.iter().map(ToString::to_string).collect(),
        machine_id: view.machine_id.as_deref().map(text),
        note: view.note.as_deref().map(text),
    }
}

pub(in crate::control) fn offer(offer: &Offer) -> wire::HostKeyOffer {
    let kind = HostKey::parse(&offer.key.key)
        .map_or_else(|_| "unknown".to_owned(), |key| key.kind().to_owned());
    wire::HostKeyOffer {
        host: offer.host.to_string(),
        address: text(&offer.address),
        kind,
        fingerprint: text(&offer.key.fingerprint),
        key: text(&offer.key.key),
        pinned: texts(&offer.pinned),
        is_pinned: offer.is_pinned,
    }
}

pub(in crate::control) fn finding(finding: &Finding) -> wire::HostFinding {
    wire::HostFinding {
        step: text(&finding.step),
        found: finding.found.as_str().to_owned(),
        text: text(&finding.text),
        // Made here of names and public keys, and to be copied: the redactor would take `NOPASSWD: …` for a secret.
        lines: finding
            .lines
            .lines()
            .map(escape)
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::host::Found;

    #[test]
    fn lines_to_copy_are_whole_and_cannot_steer_a_terminal() {
        let shown = finding(&Finding {
            step: "root operations".to_owned(),
            found: Found::Wrong,
            text: "password: canary".to_owned(),
            lines: "shop ALL=(root) NOPASSWD: /x --identity root\n\nnext\u{1b}[2J".to_owned(),
        });
        let lines: Vec<_> = shown.lines.split('\n').collect();
        assert_eq!(lines[0], "shop ALL=(root) NOPASSWD: /x --identity root");
        assert_eq!(lines.len(), 3);
        assert!(!shown.lines.contains('\u{1b}'));
        assert!(!shown.text.contains("canary"), "free text is redacted");
    }
}
