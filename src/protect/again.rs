//! Asking once more, just before the intent, whether a backup still shows what is there.

use healer_agent::protocol::{WriteKind, WriteMember};
use healer_agent::tree::{Manifest, Pattern};

use super::capture::{Limits, VerifiedBackup};
use super::error::ProtectError;
use super::reach::Reach;
use crate::model::app::App;
use crate::seam::{Login, World};

/// Is everything still as it was backed up? Asked just before the intent.
///
/// Contents must be the very same files. Of a member whose metadata alone will change, mode and owner must be the
/// same, and where the live site shares it, files may have come and gone.
///
/// # Errors
/// When it cannot be told.
pub async fn still_the_same(
    world: &World,
    backup: &VerifiedBackup,
    app: &App,
    login: Login,
) -> Result<bool, ProtectError> {
    let patterns: Vec<Pattern> = backup
        .members()
        .iter()
        .map(|member| member.pattern.clone())
        .collect();
    if patterns.is_empty() {
        return Ok(true);
    }
    let limits = Limits::new(&app.policy.backup, 0);
    let reach = Reach::new(world, app, login, limits.time)?;
    let listing = reach.list(&patterns, limits.write_entries_max).await?;
    if let Some((path, reason)) = listing.unreadable.into_iter().next() {
        return Err(ProtectError::Unreadable { path, reason });
    }
    Ok(listing.roots == backup.manifest().roots
        && same(
            backup.members(),
            &backup.manifest().members,
            &listing.entries,
        ))
}

fn same(members: &[WriteMember], then: &Manifest, now: &Manifest) -> bool {
    let paths = then.keys().chain(now.keys());
    paths.into_iter().all(|path| {
        let (old, new) = (
            then.get(path).and_then(Option::as_ref),
            now.get(path).and_then(Option::as_ref),
        );
        let mut content = false;
        let mut shared = true;
        for member in members.iter().filter(|one| one.pattern.matches(path)) {
            content |= member.what == WriteKind::Content;
            shared &= member.shared;
        }
        match (old, new) {
            (None, None) => true,
            (Some(old), Some(new)) if content => old.key == new.key,
            (Some(old), Some(new)) => {
                (old.meta.mode, old.meta.uid, old.meta.gid)
                    == (new.meta.mode, new.meta.uid, new.meta.gid)
                    && old.meta.xattrs == new.meta.xattrs
            }
            (Some(_), None) | (None, Some(_)) => !content && shared,
        }
    })
}
