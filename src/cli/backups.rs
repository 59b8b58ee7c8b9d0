//! `healerctl backups`: list, create, verify, roll back, delete.

use super::args::{BackupsCommand, Confirm};
use super::client::Client;
use super::output::{CliError, Output, code};
use super::{ask, heals, ids, table};
use crate::control::wire::{
    Backup, BackupRequest, Done, FromTo, Heal, PreviewChange, ReasonRequest, RollbackPreview,
    RollbackRequest,
};
use crate::model::name::AppName;

/// Lists them, or does something with one.
pub(super) async fn run(
    client: &Client,
    json: bool,
    app: &str,
    command: Option<&BackupsCommand>,
) -> Result<Output, CliError> {
    let app: AppName = ids::name(app)?;
    let path = format!("/applications/{app}/backups");
    match command {
        None => {
            let backups: Vec<Backup> = client.get(&path, &[]).await?;
            Ok(Output::of(json, &backups, || list(&backups)))
        }
        Some(BackupsCommand::Create { why }) => {
            let request = BackupRequest {
                reason: why.reason.clone(),
            };
            let backup: Backup = client.post(&path, &request).await?;
            Ok(Output::of(json, &backup, || {
                list(std::slice::from_ref(&backup))
            }))
        }
        Some(BackupsCommand::Verify { id, why }) => {
            let id = find(client, &path, id).await?;
            let request = BackupRequest {
                reason: why.reason.clone(),
            };
            let backup: Backup = client
                .post(&format!("{path}/{id}/verify"), &request)
                .await?;
            let code = if backup.damaged.is_some() {
                code::FAILED
            } else {
                code::FINE
            };
            Ok(Output::of(json, &backup, || list(std::slice::from_ref(&backup))).exit(code))
        }
        Some(BackupsCommand::Rollback {
            id,
            exact,
            only,
            digest,
            confirm,
        }) => {
            let id = find(client, &path, id).await?;
            let going = Going {
                path: format!("{path}/{id}"),
                exact: *exact,
                only,
                digest: digest.as_deref(),
                confirm,
            };
            rollback(client, json, going).await
        }
        Some(BackupsCommand::Delete { id, confirm }) => {
            let id = find(client, &path, id).await?;
            if !confirm.yes {
                ask::confirm(
                    &format!("Backup {id} of {app} will be gone.\n"),
                    "Delete it?",
                    "add --yes --reason WHY",
                )?;
            }
            let request = ReasonRequest {
                reason: ask::reason(&confirm.why)?,
            };
            let done: Done = client
                .delete(&format!("{path}/{id}"), Some(&request))
                .await?;
            Ok(super::done(json, &done))
        }
    }
}

struct Going<'a> {
    path: String,
    exact: bool,
    only: &'a [String],
    digest: Option<&'a str>,
    confirm: &'a Confirm,
}

/// Goes back exactly as the shown preview says.
async fn rollback(client: &Client, json: bool, going: Going<'_>) -> Result<Output, CliError> {
    let mut query = vec![("exact", going.exact.to_string())];
    query.extend(going.only.iter().map(|path| ("only", path.clone())));
    let seen: RollbackPreview = client
        .get(&format!("{}/preview", going.path), &query)
        .await?;
    if seen.changes.is_empty() {
        // No heal is made of nothing; only what cannot be brought back is a failure.
        let code = if seen.blocked.is_empty() {
            code::FINE
        } else {
            code::FAILED
        };
        return Ok(Output::of(json, &seen, || preview(&seen)).exit(code));
    }
    let digest = if let Some(digest) = going.digest {
        digest.to_owned()
    } else {
        if !going.confirm.yes {
            ask::confirm(
                &preview(&seen),
                "Go back exactly like this?",
                &format!(
                    "add --yes --reason WHY, or --digest {} --reason WHY for what the preview shows now",
                    seen.digest
                ),
            )?;
        }
        seen.digest
    };
    let request = RollbackRequest {
        digest,
        exact: going.exact,
        only: going.only.to_vec(),
        reason: ask::reason(&going.confirm.why)?,
    };
    let heal: Heal = client
        .post(&format!("{}/rollback", going.path), &request)
        .await?;
    Ok(Output::of(json, &heal, || heals::whole(&heal)))
}

async fn find(client: &Client, path: &str, given: &str) -> Result<String, CliError> {
    if ids::is_whole(given) {
        return Ok(given.to_ascii_lowercase());
    }
    let known: Vec<Backup> = client.get(path, &[]).await?;
    ids::resolve(
        "backup",
        "healerctl backups APP",
        given,
        known.iter().map(|backup| backup.backup_id.as_str()),
    )
}

fn list(backups: &[Backup]) -> String {
    let length = ids::shown_length(backups.iter().map(|backup| backup.backup_id.as_str()));
    table::rows(
        [
            "BACKUP", "TAKEN", "KIND", "BEFORE", "FILES", "BYTES", "STORED", "VERIFIED", "NOTE",
        ],
        backups.iter().map(|backup| {
            let note = match &backup.damaged {
                Some(reason) => format!("damaged: {reason}"),
                None if backup.pinned => "pinned".to_owned(),
                None => String::new(),
            };
            [
                ids::short(&backup.backup_id, length),
                backup.taken.clone(),
                backup.kind.to_string(),
                backup.action_name.clone().unwrap_or_default(),
                backup.files.to_string(),
                table::bytes(backup.bytes),
                table::bytes(backup.stored_bytes),
                backup.verified.clone(),
                note,
            ]
        }),
        "No backup.",
    )
}

/// `attributes config.php  mode 0666 → 0644`.
fn change_line(change: &PreviewChange) -> String {
    let both = |what: &str, change: &Option<FromTo>| {
        let FromTo { from, to } = change.as_ref()?;
        Some(format!("{what} {from} → {to}"))
    };
    let mut said: Vec<String> = [both("mode", &change.mode), both("owner", &change.owner)]
        .into_iter()
        .flatten()
        .collect();
    if said.is_empty() && change.kind == "attributes" {
        said.push("times or extended attributes".to_owned());
    }
    let line = format!("{:10} {}", change.kind, change.path);
    if said.is_empty() {
        line
    } else {
        format!("{line}  {}", said.join(", "))
    }
}

fn preview(seen: &RollbackPreview) -> String {
    let mut text = table::fields([
        ("application", Some(seen.application_id.clone())),
        ("backup", Some(seen.backup_id.clone())),
        ("digest", Some(seen.digest.clone())),
    ]);
    text.push_str(&table::list(
        "changes",
        seen.changes.iter().map(change_line),
    ));
    text.push_str(&table::list(
        "present content that would be gone from the site (it is backed up first)",
        seen.overwrites.clone(),
    ));
    text.push_str(&table::list(
        "newer shared files that stay (--exact takes them back too)",
        seen.kept_newer_shared.clone(),
    ));
    text.push_str(&table::list(
        "cannot be brought back",
        seen.blocked
            .iter()
            .map(|blocked| format!("{}: {}", blocked.path, blocked.reason)),
    ));
    if seen.changes.is_empty() {
        let is_same = seen.kept_newer_shared.is_empty() && seen.blocked.is_empty();
        text.push_str(if is_same {
            "Nothing differs from the backup; nothing was done.\n"
        } else {
            "Nothing would change; nothing was done.\n"
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::BlockedPath;
    use crate::model::backup::BackupKind;

    #[test]
    fn backups_tell_age_size_and_damage() {
        let backup = Backup {
            backup_id: "01jd8a000000000000000000bb".to_owned(),
            application_id: "shop".to_owned(),
            host: "local".to_owned(),
            kind: BackupKind::ALL[0],
            heal_id: None,
            action_name: Some("fix_permissions".to_owned()),
            taken: "2026-11-24T03:00:00Z".to_owned(),
            files: 12,
            bytes: 5 << 20,
            stored_bytes: 1500,
            verified: "2026-11-24T03:00:01Z".to_owned(),
            damaged: None,
            pinned: true,
        };
        let damaged = Backup {
            backup_id: "01jd8a000000000000000000cc".to_owned(),
            damaged: Some("an object is missing".to_owned()),
            ..backup.clone()
        };
        insta::assert_snapshot!(list(&[backup, damaged]));
    }

    #[test]
    fn a_preview_says_what_would_be_overwritten_and_what_modes_and_owners_become() {
        let from_to = |from: &str, to: &str| FromTo {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        insta::assert_snapshot!(preview(&RollbackPreview {
            application_id: "shop".to_owned(),
            backup_id: "01jd8a000000000000000000bb".to_owned(),
            changes: vec![
                PreviewChange {
                    path: "index.php".to_owned(),
                    kind: "rewrite".to_owned(),
                    mode: Some(from_to("0600", "0644")),
                    owner: Some(from_to("0:0", "33:33")),
                },
                PreviewChange {
                    path: "new.php".to_owned(),
                    kind: "remove".to_owned(),
                    mode: None,
                    owner: None,
                },
                PreviewChange {
                    path: "logs".to_owned(),
                    kind: "attributes".to_owned(),
                    mode: Some(from_to("2777", "2775")),
                    owner: None,
                },
                PreviewChange {
                    path: "seen".to_owned(),
                    kind: "attributes".to_owned(),
                    mode: None,
                    owner: None,
                },
            ],
            overwrites: vec!["index.php".to_owned()],
            kept_newer_shared: vec!["uploads/cat.png".to_owned()],
            blocked: vec![BlockedPath {
                path: "mnt".to_owned(),
                reason: "is a mount".to_owned()
            }],
            digest: "ab".repeat(32),
        }));
    }
}
