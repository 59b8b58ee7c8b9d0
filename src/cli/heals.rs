//! `healerctl heals` and `decide`: what was done, and what becomes of what was left for persons.

use super::args::{Choice, Reason, Which};
use super::client::Client;
use super::output::{CliError, Output};
use super::{ask, ids, table};
use crate::control::wire::{DecideRequest, Heal, Hold, UndoReport};
use std::fmt::Write as _;

/// Lists heals.
pub(super) async fn all(client: &Client, json: bool, which: &Which) -> Result<Output, CliError> {
    let heals: Vec<Heal> = client.get("/heals", &super::query(which)?).await?;
    Ok(Output::of(json, &heals, || list(&heals)))
}

/// Shows one whole.
pub(super) async fn one(client: &Client, json: bool, id: &str) -> Result<Output, CliError> {
    let heal = find(client, id).await?;
    Ok(Output::of(json, &heal, || whole(&heal)))
}

/// Keeps or undoes what a heal did.
pub(super) async fn decide(
    client: &Client,
    json: bool,
    id: &str,
    choice: Choice,
    why: &Reason,
) -> Result<Output, CliError> {
    let heal = find(client, id).await?;
    let request = DecideRequest {
        keep: choice == Choice::Keep,
        undo: choice == Choice::Undo,
        reason: ask::reason(why)?,
    };
    let heal: Heal = client
        .post(&format!("/heals/{}/decide", heal.heal_id), &request)
        .await?;
    Ok(Output::of(json, &heal, || whole(&heal)))
}

/// One heal by the beginning of its id.
pub(super) async fn find(client: &Client, given: &str) -> Result<Heal, CliError> {
    let id = if ids::is_whole(given) {
        given.to_ascii_lowercase()
    } else {
        let heals: Vec<Heal> = client.get("/heals", &super::all_rows()).await?;
        let known = heals.iter().map(|heal| heal.heal_id.as_str());
        ids::resolve("heal", "healerctl heals", given, known)?
    };
    client.get(&format!("/heals/{id}"), &[]).await
}

/// A table of heals.
pub(super) fn list(heals: &[Heal]) -> String {
    let length = ids::shown_length(heals.iter().map(|heal| heal.heal_id.as_str()));
    table::rows(
        [
            "HEAL", "APP", "ACTION", "STATE", "RISK", "BY", "SINCE", "MESSAGE",
        ],
        heals.iter().map(|heal| {
            [
                ids::short(&heal.heal_id, length),
                heal.application_id.clone(),
                heal.action_name.clone(),
                heal.state.clone(),
                heal.risk_level.to_string(),
                by(heal),
                heal.details.moved.clone(),
                message(heal),
            ]
        }),
        "No heal.",
    )
}

/// What happened last, and what it waits for.
fn message(heal: &Heal) -> String {
    match &heal.details.waits_for {
        Some(why) => format!("{}; waits: {why}", heal.message),
        None => heal.message.clone(),
    }
}

/// Who wanted it.
fn by(heal: &Heal) -> String {
    match &heal.details.person {
        Some(person) => format!("{} {person}", heal.details.origin),
        None => heal.details.origin.clone(),
    }
}

/// What a hold means for this heal.
fn under_hold(heal: &Heal, hold: &Hold) -> String {
    let means = match heal.details.origin.as_str() {
        "requested" | "rollback" => "a person asked for this, so it runs all the same",
        _ => "it waits for the resume, once what is running has ended",
    };
    format!("{}; {means}", super::hold::one(hold))
}

/// All about one.
pub(super) fn whole(heal: &Heal) -> String {
    let details = &heal.details;
    let mut text = table::fields([
        ("heal", Some(heal.heal_id.clone())),
        ("application", Some(heal.application_id.clone())),
        ("subdomain", heal.subdomain.clone()),
        ("host", Some(details.host.clone())),
        ("action", Some(heal.action_name.clone())),
        ("state", Some(heal.state.clone())),
        ("what happened", table::some(&heal.message)),
        ("waits for", details.waits_for.clone()),
        ("risk", Some(heal.risk_level.to_string())),
        ("mode", Some(heal.healing_mode.to_string())),
        ("breaker", Some(heal.circuit_breaker_state.to_string())),
        ("by", Some(by(heal))),
        (
            "held",
            details.held.as_ref().map(|hold| under_hold(heal, hold)),
        ),
        (
            "trial",
            details.trial.then(|| "of the half-open breaker".to_owned()),
        ),
        ("for", table::some(&table::joined(&details.checks))),
        ("incident", table::some(&details.incident_id)),
        ("approval", details.approval_id.clone()),
        ("backup", heal.backup_id.clone()),
        ("admitted", table::some(&details.admitted)),
        ("moved", table::some(&details.moved)),
        ("steps ended", details.outcome.clone()),
        ("reason", details.reason.clone()),
    ]);
    if let Some(undo) = &details.undo {
        text.push_str(&undone(undo));
    }
    if !details.journal.is_empty() {
        text.push('\n');
        text.push_str(&table::rows(
            ["AT", "EVENT", "DETAIL"],
            details.journal.iter().map(|line| {
                [
                    line.at.clone(),
                    line.event.clone(),
                    line.detail.clone().unwrap_or_default(),
                ]
            }),
            "",
        ));
    }
    if details.waits_for_person {
        writeln!(
            text,
            "next: `healerctl decide {} keep` or `undo`",
            heal.heal_id
        )
        .ok();
    } else if !details.ended {
        writeln!(text, "next: `healerctl heals {}`", heal.heal_id).ok();
    }
    text
}

fn undone(undo: &UndoReport) -> String {
    let mut text = format!(
        "undo: {} restored, {} were as before already\n",
        undo.restored, undo.already
    );
    text.push_str(&table::list(
        "left, for somebody else changed it since",
        undo.kept.clone(),
    ));
    text.push_str(&table::list("could not be restored", undo.failed.clone()));
    text.push_str(&table::list("for a person to decide", undo.blocked.clone()));
    text
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn a_list_of_heals_shows_short_ids() {
        let mut other = made_up::heal();
        other.heal_id = "01jd8a0zz00000000000000009".to_owned();
        other.state = "cured".to_owned();
        other.success = Some(true);
        insta::assert_snapshot!(list(&[made_up::heal(), other]));
    }

    #[test]
    fn a_heal_that_cannot_go_on_says_why_in_the_list_and_alone() {
        let mut heal = made_up::heal();
        heal.details.waits_for = Some("web1 does not answer".to_owned());
        assert!(list(&[heal.clone()]).contains("; waits: web1 does not answer"));
        assert!(
            whole(&heal).contains("waits for:      web1 does not answer"),
            "{}",
            whole(&heal)
        );
    }

    #[test]
    fn a_heal_that_waits_says_how_to_decide() {
        let mut heal = made_up::heal();
        heal.state = "undo_blocked".to_owned();
        heal.success = Some(false);
        heal.details.waits_for_person = true;
        heal.details.undo = Some(UndoReport {
            restored: 2,
            already: 1,
            kept: vec!["storage/a.log".to_owned()],
            failed: Vec::new(),
            blocked: vec!["vendor/\u{1b}[31mx".to_owned()],
        });
        insta::assert_snapshot!(whole(&heal));
    }
}
