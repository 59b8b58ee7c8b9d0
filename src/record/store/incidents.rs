//! Incidents and the notes about them.

use sqlx::SqliteConnection;

use super::job::Job;
use super::script::{bodies, body, json, row, rows};
use crate::model::id::IncidentId;
use crate::model::incident::Incident;
use crate::model::name::CheckName;
use crate::seam::StoreError;
use crate::seam::store::Query;

/// A look that only counts needs no audit row; a new state does.
pub(super) async fn write(
    job: &mut Job<'_>,
    incident: &Incident,
    note: &str,
) -> Result<(), StoreError> {
    let id = incident.id.to_string();
    let stored: Option<Incident> = job
        .row(
            "incident",
            "SELECT body FROM incident WHERE id = ?",
            [id.as_str().into()],
        )
        .await?
        .map(|row| body(&row, 0, "incident"))
        .transpose()?;
    if stored.is_none_or(|stored| stored.state != incident.state) {
        job.must_be_audited("write an incident");
    }
    job.add(
        "incident",
        "INSERT INTO incident (id, app, check_name, kind, state, status, severity, opened_ms, changed_ms, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, status = excluded.status,
            severity = excluded.severity, changed_ms = excluded.changed_ms, body = excluded.body",
        [
            id.as_str().into(),
            incident.app.as_str().into(),
            incident.check.as_ref().map(CheckName::as_str).into(),
            incident.kind.as_str().into(),
            incident.state.as_str().into(),
            incident.status.as_str().into(),
            incident.severity.as_str().into(),
            incident.opened.wall_ms.into(),
            job.at.wall_ms.into(),
            json(incident)?.into(),
        ],
    );
    if !note.is_empty() {
        job.add(
            "incident_event",
            "INSERT INTO incident_event (incident, at_ms, actor, state, note) VALUES (?, ?, ?, ?, ?)",
            [
                id.into(),
                job.at.wall_ms.into(),
                job.actor.into(),
                incident.state.as_str().into(),
                note.into(),
            ],
        );
    }
    Ok(())
}

pub(super) async fn get(
    conn: &mut SqliteConnection,
    id: IncidentId,
) -> Result<Option<Incident>, StoreError> {
    row(
        conn,
        "SELECT body FROM incident WHERE id = ?",
        [id.to_string().into()],
    )
    .await?
    .map(|row| body(&row, 0, "incident"))
    .transpose()
}

pub(super) async fn list(
    conn: &mut SqliteConnection,
    query: &Query,
) -> Result<Vec<Incident>, StoreError> {
    let limit = i64::from(query.limit);
    let found = match (&query.app, query.open_only) {
        (Some(app), open_only) => {
            rows(
                conn,
                "SELECT body FROM incident WHERE app = ? AND (? = 0 OR state <> 'CLOSED') ORDER BY id DESC LIMIT ?",
                [app.as_str().into(), open_only.into(), limit.into()],
            )
            .await?
        }
        (None, true) => {
            rows(
                conn,
                "SELECT body FROM incident WHERE state <> 'CLOSED' ORDER BY id DESC LIMIT ?",
                [limit.into()],
            )
            .await?
        }
        (None, false) => {
            rows(
                conn,
                "SELECT body FROM incident ORDER BY id DESC LIMIT ?",
                [limit.into()],
            )
            .await?
        }
    };
    bodies(&found, 0, "incident")
}
