//! `healerctl approvals`, `approve` and `reject`: what waits for persons.
//!
//! Whoever approves has seen what the digest covers: without a digest on the command line the whole proposal is shown,
//! and the digest that is sent is that of what was shown, so that anything changed in between is refused as stale.

use super::args::Confirm;
use super::client::Client;
use super::output::{CliError, Output, tell};
use super::{ask, ids, table};
use crate::control::wire::{Approval, ApproveRequest, ReasonRequest};
use crate::telemetry::redact::escape;
use std::fmt::Write as _;

/// Lists them.
pub(super) async fn all(client: &Client, json: bool, all: bool) -> Result<Output, CliError> {
    let query: Vec<(&str, String)> = if all {
        super::all_rows()
    } else {
        vec![("open", "true".to_owned())]
    };
    let approvals: Vec<Approval> = client.get("/approvals", &query).await?;
    Ok(Output::of(json, &approvals, || list(&approvals)))
}

/// Shows one whole and approves it.
pub(super) async fn approve(
    client: &Client,
    json: bool,
    id: &str,
    digest: Option<&str>,
    confirm: &Confirm,
) -> Result<Output, CliError> {
    let seen = find(client, id).await?;
    let digest = if let Some(digest) = digest {
        digest.to_owned()
    } else {
        if !confirm.yes {
            ask::confirm(
                &preview(&seen),
                "Approve exactly this?",
                &format!(
                    "look at `healerctl explain {0}`, then `healerctl approve {0} --digest DIGEST --reason WHY`, or add --yes",
                    seen.approval_id
                ),
            )?;
        }
        seen.digest.clone()
    };
    let request = ApproveRequest {
        digest,
        reason: ask::reason(&confirm.why)?,
    };
    let approval: Approval = client
        .post(
            &format!("/approvals/{}/approve", seen.approval_id),
            &request,
        )
        .await?;
    Ok(Output::of(json, &approval, || outcome(&approval)))
}

/// Rejects one.
pub(super) async fn reject(
    client: &Client,
    json: bool,
    id: &str,
    confirm: &Confirm,
) -> Result<Output, CliError> {
    let seen = find(client, id).await?;
    if !confirm.yes {
        // To reject is the safe choice, so that nobody needs to be there to confirm it.
        if ask::is_interactive() {
            ask::confirm(&preview(&seen), "Reject this?", "")?;
        } else if !json {
            tell(&preview(&seen));
        }
    }
    let request = ReasonRequest {
        reason: ask::reason(&confirm.why)?,
    };
    let approval: Approval = client
        .post(&format!("/approvals/{}/reject", seen.approval_id), &request)
        .await?;
    Ok(Output::of(json, &approval, || outcome(&approval)))
}

/// One approval by the beginning of its id.
pub(super) async fn find(client: &Client, given: &str) -> Result<Approval, CliError> {
    let id = if ids::is_whole(given) {
        given.to_ascii_lowercase()
    } else {
        let known: Vec<Approval> = client.get("/approvals", &super::all_rows()).await?;
        let known = known.iter().map(|approval| approval.approval_id.as_str());
        ids::resolve("approval", "healerctl approvals --all", given, known)?
    };
    client.get(&format!("/approvals/{id}"), &[]).await
}

/// A table of approvals.
pub(super) fn list(approvals: &[Approval]) -> String {
    let length = ids::shown_length(
        approvals
            .iter()
            .map(|approval| approval.approval_id.as_str()),
    );
    let mut text = table::rows(
        [
            "APPROVAL", "APP", "ACTION", "RISK", "STATE", "VOTES", "EXPIRES", "BY", "CHECKS",
        ],
        approvals.iter().map(|approval| {
            let votes = approval.votes.iter().filter(|vote| vote.approve).count();
            [
                ids::short(&approval.approval_id, length),
                approval.application_id.clone(),
                approval.action_name.clone(),
                approval.risk_level.to_string(),
                approval.state.to_string(),
                format!("{votes}/{}", approval.votes_needed),
                approval.expires.clone(),
                approval.requester.clone(),
                table::joined(&approval.checks),
            ]
        }),
        "Nothing waits for approval.",
    );
    for approval in approvals {
        for line in &approval.puts_back {
            let id = ids::short(&approval.approval_id, length);
            writeln!(text, "  {id} puts back: {}", escape(line)).ok();
        }
    }
    text
}

/// All that the digest covers.
pub(super) fn preview(approval: &Approval) -> String {
    let params = approval
        .params
        .iter()
        .map(|(name, value)| format!("{name} = {value}"));
    let evidence = approval.evidence.iter().map(|line| match line.rule {
        Some(rule) => format!("{} is {} (rule {rule})", line.check_name, line.status),
        None => format!("{} is {}", line.check_name, line.status),
    });
    let votes = approval.votes.iter().map(|vote| {
        let word = if vote.approve { "approves" } else { "rejects" };
        format!("{} {word} at {}: {}", vote.person, vote.at, vote.reason)
    });
    let mut text = table::fields([
        ("approval", Some(approval.approval_id.clone())),
        ("state", Some(approval.state.to_string())),
        ("application", Some(approval.application_id.clone())),
        ("host", Some(approval.host.clone())),
        ("action", Some(approval.action_name.clone())),
        ("risk", Some(approval.risk_level.to_string())),
        ("mode", Some(approval.healing_mode.to_string())),
        ("match", Some(approval.matched.to_string())),
        ("requested by", Some(approval.requester.clone())),
        ("why", table::some(&approval.reason)),
        ("created", Some(approval.created.clone())),
        ("decide until", Some(approval.expires.clone())),
        ("votes needed", Some(approval.votes_needed.to_string())),
        ("digest", Some(approval.digest.clone())),
    ]);
    text.push_str(&table::list("parameters", params));
    text.push_str(&table::list("steps", approval.steps.clone()));
    text.push_str(&table::list("puts back", approval.puts_back.clone()));
    text.push_str(&table::list("may write", approval.write_set.clone()));
    text.push_str(&table::list("below", approval.roots.clone()));
    text.push_str(&table::list("evidence", evidence));
    text.push_str(&table::list("rules of the policy", approval.rules.clone()));
    text.push_str(&table::list("votes", votes));
    text
}

fn outcome(approval: &Approval) -> String {
    let votes = approval.votes.iter().filter(|vote| vote.approve).count();
    let mut text = table::fields([
        ("approval", Some(approval.approval_id.clone())),
        (
            "action",
            Some(format!(
                "{} on {}",
                approval.action_name, approval.application_id
            )),
        ),
        ("state", Some(approval.state.to_string())),
        ("votes", Some(format!("{votes}/{}", approval.votes_needed))),
        ("waits for", approval.waits_for.clone()),
        ("heal", approval.heal_id.clone()),
    ]);
    if let Some(heal) = &approval.heal_id {
        writeln!(text, "next: `healerctl heals {heal}`").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn the_preview_shows_all_that_the_digest_covers() {
        insta::assert_snapshot!(preview(&made_up::approval()));
    }

    #[test]
    fn an_empty_list_says_so() {
        assert_eq!(list(&[]), "Nothing waits for approval.\n");
    }
}
