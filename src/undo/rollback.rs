//! A person's rollback: what it would change, shown first and confirmed by the preview's digest.
//!
//! It goes to the write set of a backup (or to named paths of it) and treats what is there at the preview as "right
//! after": what somebody touches between preview and rollback stays, as with every undo.

use std::collections::BTreeSet;

use healer_agent::protocol::{UndoItem, WriteMember};
use healer_agent::tree::diff::{same_content, same_state};
use healer_agent::tree::{Content, Digest, EntryState, Manifest, TreePath};
use serde::{Deserialize, Serialize};

use super::compare::{is_file, same_inode, with_digest_of};
use super::plan::{Member, UndoPlan, needs};
use crate::model::backup::BackupManifest;

/// What would happen to one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreviewKind {
    /// It is absent and comes back.
    Recreate,
    /// It was absent and goes away.
    Remove,
    /// Its content or kind becomes another one.
    Rewrite,
    /// Only mode, owner, times or extended attributes change.
    Attributes,
}

/// One line of a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreviewChange {
    pub path: TreePath,
    pub kind: PreviewKind,
    /// Mode bits now, and those that come back; `None`: they stay, or it is not there on both sides.
    pub mode: Option<(u32, u32)>,
    /// User and group now, and those that come back.
    pub owner: Option<((u32, u32), (u32, u32))>,
}

/// What a rollback would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackPreview {
    pub changes: Vec<PreviewChange>,
    /// Paths whose present content would be gone from the site (the present is backed up first).
    pub overwrites: Vec<TreePath>,
    /// Shared files that are newer than the backup and stay; `exact` would take them back too.
    pub kept_newer_shared: Vec<TreePath>,
    /// Paths that cannot be brought back, with the reason.
    pub blocked: Vec<(TreePath, String)>,
    /// Confirms exactly this preview, of this present.
    pub digest: Digest,
}

/// A preview with the plan that carries it out.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollback {
    pub preview: RollbackPreview,
    pub plan: UndoPlan,
}

/// Plans a rollback from `present` (with digests) to a backup.
///
/// `writes` is the write set that the backup was taken of, and `present` was listed with its members (and with the
/// paths of `only`). `only` empty means that whole write set; named paths may also be of the backup's base set. Without
/// `exact` a path that the live site shares and that is newer than the backup stays. What was created since goes away
/// only where a member took in contents: attributes alone say nothing about what else may be there.
pub fn rollback_plan(
    backup: &BackupManifest,
    present: &Manifest,
    writes: &[WriteMember],
    exact: bool,
    only: &[TreePath],
) -> Rollback {
    let wanted = |path: &TreePath| only.is_empty() || only.iter().any(|one| path.is_below(one));
    let base = backup.base.iter().filter(|_| !only.is_empty());
    let mut paths: BTreeSet<&TreePath> = backup.members.keys().collect();
    paths.extend(base.map(|(path, _)| path));
    // What is there now and was not then was created since, if the backup's members would have taken it in. The
    // present was listed with those members, so it says so.
    paths.extend(present.keys());

    let mut preview = RollbackPreview {
        changes: Vec::new(),
        overwrites: Vec::new(),
        kept_newer_shared: Vec::new(),
        blocked: Vec::new(),
        digest: Digest::of(b""),
    };
    let mut plan = UndoPlan::default();
    for path in paths.into_iter().filter(|path| wanted(path)) {
        let then = entry(&backup.members, path).or_else(|| {
            if only.is_empty() {
                None
            } else {
                entry(&backup.base, path)
            }
        });
        let now = entry(present, path);
        let member = Member::of(writes, path);
        let created_inside = member.as_ref().is_some_and(|member| member.content);
        if then.is_none() && !created_inside && entry_absent(backup, path, !only.is_empty()) {
            continue;
        }
        let shared = member.is_some_and(|member| member.shared);
        match line(backup, then, now, shared, exact) {
            Line::Same => {}
            Line::Newer => preview.kept_newer_shared.push(path.clone()),
            Line::Blocked(reason) => {
                preview.blocked.push((path.clone(), reason.to_owned()));
                plan.blocked.push((path.clone(), reason.to_owned()));
            }
            Line::Change(kind) => {
                let before = match (then, now) {
                    (Some(then), Some(now)) if kind == PreviewKind::Attributes => {
                        Some(attributes_of(then, now))
                    }
                    (then, _) => then.cloned(),
                };
                if matches!(kind, PreviewKind::Rewrite | PreviewKind::Remove)
                    && now.is_some_and(|now| now.content != Content::Directory)
                {
                    preview.overwrites.push(path.clone());
                }
                let in_place = now.is_some_and(|now| {
                    is_file(now)
                        && then.is_some_and(|then| {
                            is_file(then)
                                && (now.key.nlink > 1 || (shared && same_inode(then, now)))
                        })
                });
                let item = UndoItem {
                    path: path.clone(),
                    before,
                    after: now.cloned(),
                    in_place,
                };
                plan.needed.extend(needs(&item));
                plan.items.push(item);
                preview.changes.push(PreviewChange {
                    path: path.clone(),
                    kind,
                    mode: both(now, then, |entry| entry.meta.mode & 0o7777),
                    owner: both(now, then, |entry| (entry.meta.uid, entry.meta.gid)),
                });
            }
        }
    }
    preview.digest = digest(backup, &plan, exact, only);
    Rollback { preview, plan }
}

/// What something of an entry is now and becomes, where that differs.
fn both<T: PartialEq>(
    now: Option<&EntryState>,
    then: Option<&EntryState>,
    of: impl Fn(&EntryState) -> T,
) -> Option<(T, T)> {
    let (now, then) = (of(now?), of(then?));
    (now != then).then_some((now, then))
}

/// Did the backup not see the path at all? One that it saw as absent may go away again.
fn entry_absent(backup: &BackupManifest, path: &TreePath, base: bool) -> bool {
    !(backup.members.contains_key(path) || base && backup.base.contains_key(path))
}

fn entry<'a>(manifest: &'a Manifest, path: &TreePath) -> Option<&'a EntryState> {
    manifest.get(path).and_then(Option::as_ref)
}

enum Line {
    Same,
    Newer,
    Change(PreviewKind),
    Blocked(&'static str),
}

fn line(
    backup: &BackupManifest,
    then: Option<&EntryState>,
    now: Option<&EntryState>,
    shared: bool,
    exact: bool,
) -> Line {
    let newer = |now: &EntryState| {
        shared && !exact && now.key.ctime.secs >= backup.taken.wall_ms.div_euclid(1000)
    };
    let change = match (then, now) {
        (None, None) => return Line::Same,
        (Some(then), None) => return restorable(then, PreviewKind::Recreate),
        (None, Some(now)) if newer(now) => return Line::Newer,
        (None, Some(_)) => PreviewKind::Remove,
        (Some(then), Some(now)) => {
            let attributes_only = undigested(then) && is_file(now);
            if same_state(then, now) || (attributes_only && same_attributes(then, now)) {
                return Line::Same;
            }
            // Giving attributes back loses nothing that the live site wrote.
            if attributes_only || same_content(then, now) {
                PreviewKind::Attributes
            } else if newer(now) {
                return Line::Newer;
            } else {
                return restorable(then, PreviewKind::Rewrite);
            }
        }
    };
    Line::Change(change)
}

fn restorable(then: &EntryState, kind: PreviewKind) -> Line {
    match then.content {
        Content::File { digest: None, .. } => Line::Blocked("only its attributes were backed up"),
        Content::Other => Line::Blocked("it was a socket, pipe or device"),
        Content::File { .. } | Content::Directory | Content::Link { .. } => Line::Change(kind),
    }
}

fn undigested(entry: &EntryState) -> bool {
    matches!(entry.content, Content::File { digest: None, .. })
}

fn same_attributes(one: &EntryState, other: &EntryState) -> bool {
    one.meta.mode == other.meta.mode
        && (one.meta.uid, one.meta.gid) == (other.meta.uid, other.meta.gid)
        && one.meta.xattrs == other.meta.xattrs
}

/// The attributes from then on the content of now; a content that stays keeps its time.
fn attributes_of(then: &EntryState, now: &EntryState) -> EntryState {
    let mut entry = with_digest_of(then, now);
    if undigested(then) && !same_content(then, now) {
        entry.content = now.content.clone();
        entry.meta.mtime = now.meta.mtime;
    }
    entry
}

fn digest(backup: &BackupManifest, plan: &UndoPlan, exact: bool, only: &[TreePath]) -> Digest {
    let value = serde_json::json!({
        "backup": backup.id,
        "app": backup.app,
        "host": backup.host,
        "exact": exact,
        "only": only,
        "items": plan.items,
    });
    Digest::of(value.to_string().as_bytes())
}
