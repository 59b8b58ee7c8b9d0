//! Backups that a person takes, reads back or deletes.

use serde_json::json;

use super::super::desk::Desk;
use super::super::handle::{OpError, OpErrorKind, unknown};
use super::{Done, by_person, conflict};
use crate::model::approval::Person;
use crate::model::backup::{BackupKind, BackupRow};
use crate::model::id::BackupId;
use crate::protect;
use crate::seam::store::Query;
use crate::seam::{Login, Write};

pub(super) async fn backup_now(desk: &mut Desk, reason: &str, person: &Person) -> Done<BackupRow> {
    let request = protect::Protect {
        id: BackupId::from_raw(desk.world.new_id()),
        kind: BackupKind::Manual,
        app: &desk.app,
        login: Login::of_app(&desk.app),
        heal: None,
        action: None,
        members: Vec::new(),
        base: desk.stack.base_set.clone(),
        limits: protect::Limits::new(&desk.app.policy.backup, 0),
    };
    let backup = protect::protect(&desk.world, &request)
        .await
        .map_err(|error| {
            OpError::new(
                OpErrorKind::Conflict,
                "backup_failed",
                error.to_string(),
                error.advice().to_owned(),
            )
        })?;
    let now = desk.now();
    let row = backup.row().clone();
    let changes = by_person(desk, person, &now)
        .write(Write::Backup(Box::new(row.clone())))
        .audit(
            "backup_taken",
            &desk.object(),
            json!({"backup": row.id, "reason": reason}),
        );
    desk.commit(changes).await?;
    Ok(row)
}

async fn row_of(desk: &Desk, backup: BackupId) -> Done<BackupRow> {
    let query = Query {
        app: Some(desk.app.name.clone()),
        open_only: false,
        limit: 10_000,
    };
    let rows = desk.world.store.backups(query).await?;
    let found = rows.into_iter().find(|row| row.id == backup);
    Ok(found.ok_or_else(|| {
        unknown(
            "backup",
            &backup.to_string(),
            &format!("healerctl backups {}", desk.app.name),
        )
    })?)
}

pub(super) async fn verify_backup(
    desk: &mut Desk,
    backup: BackupId,
    person: &Person,
) -> Done<BackupRow> {
    let row = row_of(desk, backup).await?;
    let now = desk.now();
    let (row, refusal) = match desk.world.vault.verify(backup).await {
        Ok(()) => (
            BackupRow {
                verified: now.clone(),
                ..row
            },
            None,
        ),
        Err(error) => {
            let text = error.to_string();
            let refusal = OpError::new(
                OpErrorKind::Conflict,
                "backup_damaged",
                text.clone(),
                "It will not be used. See the disk below the vault.",
            );
            (
                BackupRow {
                    damaged: Some(text),
                    ..row
                },
                Some(refusal),
            )
        }
    };
    let verb = if refusal.is_some() {
        "backup_found_damaged"
    } else {
        "backup_verified"
    };
    let changes = by_person(desk, person, &now)
        .write(Write::Backup(Box::new(row.clone())))
        .audit(verb, &desk.object(), json!({"backup": backup}));
    desk.commit(changes).await?;
    refusal.map_or(Ok(row), |refusal| Err(refusal.into()))
}

pub(super) async fn delete_backup(
    desk: &mut Desk,
    backup: BackupId,
    reason: &str,
    person: &Person,
) -> Done<()> {
    let row = row_of(desk, backup).await?;
    let needed = desk
        .heals
        .iter()
        .any(|heal| heal.state.backup() == Some(backup))
        || desk.known_good == Some(backup);
    if row.pinned || needed {
        return Err(conflict(
            "pinned",
            format!("Backup {backup} is still needed."),
            "It can go once its heal or incident is over.",
        ));
    }
    let query = Query {
        app: Some(desk.app.name.clone()),
        open_only: false,
        limit: 10_000,
    };
    let good = desk
        .world
        .store
        .backups(query)
        .await?
        .into_iter()
        .filter(|row| row.damaged.is_none())
        .count();
    if row.damaged.is_none() && good <= 1 {
        return Err(conflict(
            "last_good",
            "It is the last good backup of this application.",
            "Take another one first.",
        ));
    }
    let now = desk.now();
    // First the row, then the bytes: a crash in between leaves bytes without a row, never a row without bytes.
    let changes = by_person(desk, person, &now)
        .write(Write::BackupRemoved(backup))
        .audit(
            "backup_deleted",
            &desk.object(),
            json!({"backup": backup, "reason": reason}),
        );
    desk.commit(changes).await?;
    if let Err(error) = desk.world.vault.remove(backup).await {
        tracing::warn!(app = %desk.app.name, %backup, reason = %error, "the bytes of a deleted backup stay until the next sweep");
    }
    Ok(())
}
