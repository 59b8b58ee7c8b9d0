//! `healerctl audit`: the newest rows of the log, and the proof that a copy of it is whole.

use std::path::Path;

use serde::Serialize;

use super::audit::{self, AuditFault, AuditReport, KnownHead};
use super::client::Client;
use super::output::{CliError, Output, code};
use super::table;
use crate::control::wire::{AuditRow, Status};

/// What was proved.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    rows: u64,
    /// `SEQUENCE:HASH` of the newest row; publish it to find a cut later.
    head: Option<String>,
    /// Was it compared with a head that was published before?
    compared_with_head: bool,
}

/// Proves a copy; a log that is not whole is an error.
pub(super) async fn verify(
    file: &Path,
    head: Option<&str>,
    json: bool,
) -> Result<Output, CliError> {
    let known: Option<KnownHead> = head
        .map(str::parse)
        .transpose()
        .map_err(|error| CliError::usage(format!("--head: {error}")))?;
    let report = audit::verify(file, known).await.map_err(|error| {
        let advice = error.advice();
        CliError::new(code::FAILED, "unreadable", error.to_string())
            .caused_by(&error)
            .hint(advice)
    })?;
    if let Some(fault) = &report.fault {
        return Err(broken(fault, &report));
    }
    let verified = Verified {
        rows: report.rows,
        head: report.head.as_ref().map(ToString::to_string),
        compared_with_head: report.compared,
    };
    Ok(Output::of(json, &verified, || verified_text(&verified)))
}

fn broken(fault: &AuditFault, report: &AuditReport) -> CliError {
    CliError::new(
        code::FAILED,
        "audit_broken",
        format!("the audit log is not whole: {fault}"),
    )
    .hint(format!(
        "the {} rows before it follow from each other; compare with an older copy, and with the heads in the journal",
        report.rows
    ))
}

fn verified_text(verified: &Verified) -> String {
    let mut text = table::fields([
        ("rows", Some(verified.rows.to_string())),
        ("head", verified.head.clone()),
    ]);
    text.push_str("Every row follows from the one before it.\n");
    if !verified.compared_with_head {
        text.push_str(
            "Rows cut off at the end are only found with --head SEQUENCE:HASH of a published head.\n",
        );
    }
    text
}

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

    #[tokio::test]
    async fn what_is_no_log_is_unreadable_and_a_wrong_head_is_usage() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("none.db");
        let error = verify(&file, None, false).await.unwrap_err();
        assert_eq!(
            (error.exit, error.code.as_ref()),
            (code::FAILED, "unreadable")
        );
        assert!(!file.exists());
        let error = verify(&file, Some("7"), false).await.unwrap_err();
        assert_eq!(error.exit, code::USAGE);
    }

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
