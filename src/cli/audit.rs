//! `healerctl audit`: the newest rows of the log, and the proof that a copy of it is whole.

use super::client::Client;
use super::output::{CliError, Output};
use super::table;
use crate::control::wire::{AuditRow, Status};

pub mod verify;

/// Shows the newest rows.
pub(super) async fn list(client: &Client, json: bool, limit: u32) -> Result<Output, CliError> {
    let status: Status = client.get("/status", &[]).await?;
    // The log is read from a row on; the newest ones begin so many before its head.
    let head = status.audit_head.map_or(0, |head| head.seq);
    let after = head.saturating_sub(i64::from(limit)).max(0);
    let query = [("after", after.to_string()), ("limit", limit.to_string())];
    let rows: Vec<AuditRow> = client.get("/audit", &query).await?;
    Ok(Output::of(json, &rows, || text(&rows)))
}

fn text(rows: &[AuditRow]) -> String {
    table::rows(
        ["SEQ", "AT", "ACTOR", "VERB", "OBJECT", "DETAIL"],
        rows.iter().map(|row| {
            [
                row.seq.to_string(),
                row.at.clone(),
                row.actor.clone(),
                row.verb.clone(),
                row.object.clone(),
                row.detail.to_string(),
            ]
        }),
        "The log is empty.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_control_character_stays_in_its_cell() {
        let rows = [AuditRow {
            seq: 7,
            at: "2026-11-24T03:00:00Z".to_owned(),
            actor: "ann(1000)\n\u{1b}[2J".to_owned(),
            verb: "approved".to_owned(),
            object: "shop".to_owned(),
            detail: serde_json::json!({"reason": "tested"}),
            hash: "ab".repeat(32),
        }];
        insta::assert_snapshot!(text(&rows));
    }
}
