//! Approvals and their votes.
//!
//! What an approval is bound to never changes, votes are only added, and each one ends once: a state that is an end is
//! never left, and USED is reached from GRANTED alone.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::job::Job;
use super::script::{body, conflict, damaged, int, integer, json, refused, row, rows};
use crate::model::approval::{Approval, ApprovalState};
use crate::model::id::ApprovalId;
use crate::seam::StoreError;
use crate::seam::store::Query;

const WHAT: &str = "write an approval";

pub(super) async fn write(job: &mut Job<'_>, approval: &Approval) -> Result<(), StoreError> {
    let id = approval.id.to_string();
    let stored = job
        .row(
            "approval",
            "SELECT version, body FROM approval WHERE id = ?",
            [id.as_str().into()],
        )
        .await?
        .map(|row| read(&row))
        .transpose()?;
    if stored.as_ref().map_or(0, |stored| stored.version) != approval.version {
        return Err(conflict(format!("approval {id}")));
    }
    legal(stored.as_ref(), approval)?;
    let votes_before = stored.as_ref().map_or(0, |stored| stored.votes.len());
    let counts_only = stored.as_ref().is_some_and(|stored| {
        stored.state == approval.state && votes_before == approval.votes.len()
    });
    if !counts_only {
        job.must_be_audited(WHAT);
    }
    let mut next = approval.clone();
    next.version += 1;
    let is_over = is_end(next.state);
    let ended_ms = next
        .ended
        .as_ref()
        .map_or(job.at.wall_ms, |ended| ended.wall_ms);
    job.add(
        "approval",
        "INSERT INTO approval (id, app, host, action, state, version, digest, created_ms, ended_ms, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, version = excluded.version,
            ended_ms = excluded.ended_ms, body = excluded.body",
        [
            id.as_str().into(),
            next.bound.app.as_str().into(),
            next.bound.host.as_str().into(),
            next.bound.action.name.as_str().into(),
            next.state.as_str().into(),
            integer(next.version, WHAT)?.into(),
            json(&next.digest)?.into(),
            next.created.wall_ms.into(),
            is_over.then_some(ended_ms).into(),
            json(&next)?.into(),
        ],
    );
    for vote in next.votes.iter().skip(votes_before) {
        job.add(
            "approval_vote",
            "INSERT INTO approval_vote (approval, uid, approve, name, reason, at_ms) VALUES (?, ?, ?, ?, ?, ?)",
            [
                id.as_str().into(),
                i64::from(vote.person.uid).into(),
                vote.approve.into(),
                vote.person.name.as_str().into(),
                vote.reason.as_str().into(),
                vote.at.wall_ms.into(),
            ],
        );
    }
    Ok(())
}

fn legal(stored: Option<&Approval>, approval: &Approval) -> Result<(), StoreError> {
    let Some(stored) = stored else {
        return if approval.state == ApprovalState::Pending {
            Ok(())
        } else {
            Err(refused(WHAT, "a new approval is PENDING"))
        };
    };
    if stored.bound != approval.bound || stored.digest != approval.digest {
        return Err(refused(WHAT, "what it is bound to cannot change"));
    }
    if !approval.votes.starts_with(&stored.votes) {
        return Err(refused(WHAT, "a vote that was given cannot change"));
    }
    if moves(stored.state, approval.state) {
        Ok(())
    } else {
        Err(refused(
            WHAT,
            format!(
                "one that is {} cannot become {}",
                stored.state, approval.state
            ),
        ))
    }
}

const fn moves(from: ApprovalState, to: ApprovalState) -> bool {
    match (from, to) {
        (
            ApprovalState::Pending,
            ApprovalState::Pending
            | ApprovalState::Granted
            | ApprovalState::Rejected
            | ApprovalState::Expired
            | ApprovalState::Stale,
        )
        | (
            ApprovalState::Granted,
            ApprovalState::Granted
            | ApprovalState::Used
            | ApprovalState::Rejected
            | ApprovalState::Expired
            | ApprovalState::Stale,
        ) => true,
        (ApprovalState::Pending, ApprovalState::Used)
        | (ApprovalState::Granted, ApprovalState::Pending)
        | (
            ApprovalState::Used
            | ApprovalState::Rejected
            | ApprovalState::Expired
            | ApprovalState::Stale,
            _,
        ) => false,
    }
}

const fn is_end(state: ApprovalState) -> bool {
    match state {
        ApprovalState::Pending | ApprovalState::Granted => false,
        ApprovalState::Used
        | ApprovalState::Rejected
        | ApprovalState::Expired
        | ApprovalState::Stale => true,
    }
}

/// Columns: version, body.
pub(super) fn read(row: &SqliteRow) -> Result<Approval, StoreError> {
    let approval: Approval = body(row, 1, "approval")?;
    if u64::try_from(int(row, 0)?) != Ok(approval.version) {
        return Err(damaged("approval", "its version is not the one of its row"));
    }
    Ok(approval)
}

pub(super) async fn get(
    conn: &mut SqliteConnection,
    id: ApprovalId,
) -> Result<Option<Approval>, StoreError> {
    row(
        conn,
        "SELECT version, body FROM approval WHERE id = ?",
        [id.to_string().into()],
    )
    .await?
    .map(|row| read(&row))
    .transpose()
}

pub(super) async fn list(
    conn: &mut SqliteConnection,
    query: &Query,
) -> Result<Vec<Approval>, StoreError> {
    let limit = i64::from(query.limit);
    let found = match (&query.app, query.open_only) {
        (Some(app), open_only) => {
            rows(
                conn,
                "SELECT version, body FROM approval WHERE app = ? AND (? = 0 OR ended_ms IS NULL)
                 ORDER BY id DESC LIMIT ?",
                [app.as_str().into(), open_only.into(), limit.into()],
            )
            .await?
        }
        (None, true) => rows(
            conn,
            "SELECT version, body FROM approval WHERE ended_ms IS NULL ORDER BY id DESC LIMIT ?",
            [limit.into()],
        )
        .await?,
        (None, false) => {
            rows(
                conn,
                "SELECT version, body FROM approval ORDER BY id DESC LIMIT ?",
                [limit.into()],
            )
            .await?
        }
    };
    found.iter().map(read).collect()
}
