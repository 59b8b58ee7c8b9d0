//! What an undo takes back right after an action, and what it must leave.
//!
//! | how the effect is known | exclusive member | shared member |
//! |---|---|---|
//! | native step | back | back |
//! | walks around a program | back | back where nothing of others can be lost: it was removed, or only its attributes changed; else left and reported |
//! | recovery after a dead supervisor | back | left and reported |
//!
//! A directory outside the write set whose time alone changed, because the action changed members in it, is no change of
//! its own: its time goes back with them.
//!
//! A path without a known state before is never guessed at: it blocks, and a person decides; unless the stack calls it
//! volatile, then it is left and reported. Outside the write set nothing is taken back at all.

use std::collections::BTreeSet;

use healer_agent::protocol::{UndoItem, WriteKind, WriteMember};
use healer_agent::tree::diff::same_content;
use healer_agent::tree::{Content, Digest, Effect, EffectSource, EntryState, Pattern, TreePath};

use super::compare::{is_file, same_inode, with_digest_of};
use crate::model::backup::BackupManifest;

/// What to do, and everything that will not be done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UndoPlan {
    /// Paths to take back, in path order.
    pub items: Vec<UndoItem>,
    /// Contents that the host needs first.
    pub needed: BTreeSet<Digest>,
    /// Changes outside the write set that are charged to the action: the heal is Worse, and the action barred.
    pub outside: Vec<Effect>,
    /// Changes outside the write set that are the site's own.
    pub others: Vec<TreePath>,
    /// Changes within the write set that are left, with the reason.
    pub kept: Vec<(TreePath, String)>,
    /// Changes whose way back is not known, with the reason: a person decides.
    pub blocked: Vec<(TreePath, String)>,
}

/// Plans the undo of what an action did.
///
/// `volatile` are the paths that the stack declares volatile or shared: outside the write set nothing there is charged
/// to the action, and within it nothing there holds an undo up. `confined`: the kernel kept every program of the action
/// to its write set.
pub fn plan(
    manifest: &BackupManifest,
    writes: &[WriteMember],
    effects: &[Effect],
    volatile: &[Pattern],
    confined: bool,
) -> UndoPlan {
    let mut sorted: Vec<&Effect> = effects.iter().collect();
    sorted.sort_by(|one, other| one.path.cmp(&other.path));
    let mut plan = UndoPlan::default();
    let stored: BTreeSet<Digest> = manifest.digests().collect();
    let parents = parents(effects, writes);
    for effect in sorted {
        let loose = volatile.iter().any(|pattern| pattern.matches(&effect.path));
        let Some(member) = Member::of(writes, &effect.path) else {
            if only_time_of_directory(effect) {
                if parents.contains(&effect.path) {
                    plan.items.push(UndoItem {
                        path: effect.path.clone(),
                        before: effect.before.clone(),
                        after: effect.after.clone(),
                        in_place: false,
                    });
                } else {
                    plan.others.push(effect.path.clone());
                }
                continue;
            }
            let charged = match effect.source {
                // The step itself reported it.
                EffectSource::Native => true,
                EffectSource::Walk => !confined && !loose,
                // Nobody watched while it happened.
                EffectSource::Recovery => false,
            };
            if charged {
                plan.outside.push(effect.clone());
            } else {
                plan.others.push(effect.path.clone());
            }
            continue;
        };
        match way_back(manifest, effect, &member, &stored) {
            Way::Back(item) => {
                plan.needed.extend(needs(&item));
                plan.items.push(*item);
            }
            Way::Nothing => {}
            Way::Keep(reason) => plan.kept.push((effect.path.clone(), reason.to_owned())),
            Way::Blocked(reason) if loose => {
                plan.kept.push((effect.path.clone(), reason.to_owned()));
            }
            Way::Blocked(reason) => plan.blocked.push((effect.path.clone(), reason.to_owned())),
        }
    }
    plan
}

/// Was it a directory before and after, and changed nothing but its time?
fn only_time_of_directory(effect: &Effect) -> bool {
    let (Some(before), Some(after)) = (&effect.before, &effect.after) else {
        return false;
    };
    let meta = healer_agent::tree::Meta {
        mtime: before.meta.mtime,
        ..after.meta.clone()
    };
    before.content == Content::Directory
        && after.content == Content::Directory
        && same_inode(before, after)
        && before.meta == meta
}

/// Directories that hold a changed member of the write set.
fn parents(effects: &[Effect], writes: &[WriteMember]) -> BTreeSet<TreePath> {
    effects
        .iter()
        .filter(|effect| Member::of(writes, &effect.path).is_some())
        .filter_map(|effect| effect.path.split_last().map(|(parent, _)| parent))
        .collect()
}

/// What the write set says of one path: the widest of all members that take it in, and shared only where all are.
pub(super) struct Member {
    pub(super) content: bool,
    pub(super) shared: bool,
}

impl Member {
    pub(super) fn of(writes: &[WriteMember], path: &TreePath) -> Option<Self> {
        writes
            .iter()
            .filter(|member| member.pattern.matches(path))
            .fold(None, |found, member| {
                let found = found.unwrap_or(Self {
                    content: false,
                    shared: true,
                });
                Some(Self {
                    content: found.content || member.what == WriteKind::Content,
                    shared: found.shared && member.shared,
                })
            })
    }
}

enum Way {
    Back(Box<UndoItem>),
    /// It is as it was.
    Nothing,
    Keep(&'static str),
    Blocked(&'static str),
}

fn way_back(
    manifest: &BackupManifest,
    effect: &Effect,
    member: &Member,
    stored: &BTreeSet<Digest>,
) -> Way {
    if member.shared && effect.source == EffectSource::Recovery {
        return Way::Keep("it is shared with the live site, and nobody saw who changed it");
    }
    let after = effect.after.as_ref();
    let before = match before(manifest, effect) {
        Before::Known(before) => before,
        Before::Unknown(reason) => return Way::Blocked(reason),
    };
    let same_bytes = match (&before, after) {
        (None, None) => return Way::Nothing,
        (Some(before), Some(after)) => {
            if same_content(before, after)
                && before.meta == after.meta
                && (before.key.nlink == after.key.nlink || *before == *after)
            {
                return Way::Nothing;
            }
            same_content(before, after)
        }
        (Some(_), None) | (None, Some(_)) => false,
    };
    if !same_bytes && !member.content {
        return Way::Blocked("its content changed, and only its attributes were backed up");
    }
    if member.shared && effect.source == EffectSource::Walk && after.is_some() && !same_bytes {
        return Way::Keep("it is shared with the live site, which may have written it meanwhile");
    }
    if let Some(before) = &before
        && !same_bytes
    {
        match &before.content {
            Content::File {
                digest: Some(digest),
                ..
            } if stored.contains(digest) => {}
            Content::File { .. } => return Way::Blocked("its content before is not in the backup"),
            Content::Other => return Way::Blocked("it was a socket, pipe or device"),
            Content::Directory | Content::Link { .. } => {}
        }
    }
    let in_place = in_place(before.as_ref(), after, member.shared);
    Way::Back(Box::new(UndoItem {
        path: effect.path.clone(),
        before,
        after: effect.after.clone(),
        in_place,
    }))
}

enum Before {
    Known(Option<EntryState>),
    Unknown(&'static str),
}

/// The state just before the action: what the target recorded, with the digest that the backup has of it.
fn before(manifest: &BackupManifest, effect: &Effect) -> Before {
    let backed_up = manifest.members.get(&effect.path).and_then(Option::as_ref);
    if effect.source == EffectSource::Recovery {
        // The supervisor died: what it would have recorded is lost, and the backup is what is left.
        return match (backed_up, &effect.before) {
            (Some(entry), _) => Before::Known(Some(entry.clone())),
            (None, None) => Before::Known(None),
            (None, Some(_)) => Before::Unknown("it appeared after the backup was taken"),
        };
    }
    let Some(recorded) = &effect.before else {
        return Before::Known(None);
    };
    match backed_up {
        Some(entry) if entry.key == recorded.key || same_content(entry, recorded) => {
            Before::Known(Some(with_digest_of(recorded, entry)))
        }
        // Somebody wrote it between the backup and the action. Its attributes are known all the same, and its bytes
        // are not needed where the action left them.
        _ => match &effect.after {
            // As recorded, without the digest that the other look has: a root agent takes back only its own record.
            Some(after) if same_content(recorded, after) => Before::Known(Some(recorded.clone())),
            Some(_) | None if is_file(recorded) && digest_of(recorded).is_none() => {
                Before::Unknown("it was changed between the backup and the action")
            }
            Some(_) | None => Before::Known(Some(recorded.clone())),
        },
    }
}

fn digest_of(entry: &EntryState) -> Option<Digest> {
    match entry.content {
        Content::File { digest, .. } => digest,
        Content::Directory | Content::Link { .. } | Content::Other => None,
    }
}

/// Must the inode stay? Other names lead to it, or a program of the live site holds it open.
fn in_place(before: Option<&EntryState>, after: Option<&EntryState>, shared: bool) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return false;
    };
    if !is_file(before) || !is_file(after) {
        return false;
    }
    after.key.nlink > 1 || (shared && same_inode(before, after))
}

/// The content that the host must have to take this back.
pub(super) fn needs(item: &UndoItem) -> Option<Digest> {
    let before = item.before.as_ref()?;
    let digest = digest_of(before)?;
    match &item.after {
        Some(after) if same_content(before, after) => None,
        Some(_) | None => Some(digest),
    }
}
