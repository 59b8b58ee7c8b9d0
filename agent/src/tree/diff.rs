//! What differs between two looks at a tree, and what an undo may do about it when a third look disagrees.
//!
//! Pure. [`changes`] lists what an action changed; [`merge`] decides, attribute by attribute, what goes back.
//! It does not order the work and touches nothing: [`crate::restore`] does.

use std::collections::{BTreeMap, BTreeSet};

use super::{Content, EntryState, Manifest, Meta, TreePath};

/// The ACL of an entry itself; the kernel keeps its mask in the group bits of the mode, so the two are one attribute.
pub const ACL: &str = "system.posix_acl_access";

/// One path that differs between two looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: TreePath,
    pub before: Option<EntryState>,
    pub after: Option<EntryState>,
}

/// What changed from one manifest to the other, in path order.
///
/// A path that only one of them holds is taken for absent in the other: leave out what could not be read with
/// [`changes_except`]. Where a name of a file with several names changed, its other names are listed too, even
/// unchanged: by them an undo finds the file to link the name to.
pub fn changes(before: &Manifest, after: &Manifest) -> Vec<Change> {
    changes_except(before, after, &[])
}

/// As [`changes`], without the paths at or below `unknown`: what could not be looked at is not absent.
pub fn changes_except(before: &Manifest, after: &Manifest, unknown: &[TreePath]) -> Vec<Change> {
    let known = |path: &TreePath| !unknown.iter().any(|root| path.is_below(root));
    let mut paths: BTreeSet<&TreePath> = before
        .keys()
        .chain(after.keys())
        .filter(|path| differs(entry(before, path), entry(after, path)) && known(path))
        .collect();
    let shared = |path: &TreePath| {
        entry(before, path)
            .filter(|state| state.key.nlink > 1 && matches!(state.content, Content::File { .. }))
            .map(|state| (state.key.dev, state.key.ino))
    };
    let groups: BTreeSet<(u64, u64)> = paths.iter().filter_map(|path| shared(path)).collect();
    if !groups.is_empty() {
        let names = before.keys().filter(|path| {
            shared(path).is_some_and(|group| groups.contains(&group)) && known(path)
        });
        paths.extend(names);
    }
    paths
        .into_iter()
        .map(|path| Change {
            path: path.clone(),
            before: entry(before, path).cloned(),
            after: entry(after, path).cloned(),
        })
        .collect()
}

fn entry<'a>(manifest: &'a Manifest, path: &TreePath) -> Option<&'a EntryState> {
    manifest.get(path).and_then(Option::as_ref)
}

/// Is there anything between the two that an undo has to know of?
///
/// Besides content and attributes that is a changed group of hard links. A new inode with the same bytes and
/// attributes, alone under its name, is not.
pub fn differs(before: Option<&EntryState>, after: Option<&EntryState>) -> bool {
    match (before, after) {
        (None, None) => false,
        (Some(old), Some(new)) => {
            !same_content(old, new) || old.meta != new.meta || links_differ(old, new)
        }
        _ => true,
    }
}

fn links_differ(old: &EntryState, new: &EntryState) -> bool {
    let directory = old.content == Content::Directory;
    !directory
        && (old.key.nlink != new.key.nlink
            || (old.key.nlink > 1 && (old.key.dev, old.key.ino) != (new.key.dev, new.key.ino)))
}

/// Do both hold the same bytes, link text or kind?
///
/// Without both digests two regular files are the same only if they are one inode of equal size that nobody wrote
/// to in between, as far as its time tells.
pub fn same_content(one: &EntryState, other: &EntryState) -> bool {
    let inode = |state: &EntryState| (state.key.dev, state.key.ino);
    match (&one.content, &other.content) {
        (
            Content::File { size, digest },
            Content::File {
                size: other_size,
                digest: other_digest,
            },
        ) => {
            size == other_size
                && match (digest, other_digest) {
                    (Some(digest), Some(other_digest)) => digest == other_digest,
                    _ => inode(one) == inode(other) && one.meta.mtime == other.meta.mtime,
                }
        }
        (Content::Directory, Content::Directory) => true,
        (
            Content::Link { target },
            Content::Link {
                target: other_target,
            },
        ) => target == other_target,
        (Content::Other, Content::Other) => inode(one) == inode(other),
        _ => false,
    }
}

/// Are both the same kind of thing?
pub fn same_kind(one: &Content, other: &Content) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(other)
}

/// Content and attributes equal. A directory's time says only that its entries changed, which the entries say
/// better, so it is left out.
pub fn same_state(one: &EntryState, other: &EntryState) -> bool {
    let directory = one.content == Content::Directory;
    same_content(one, other)
        && one.meta.mode == other.meta.mode
        && (one.meta.uid, one.meta.gid) == (other.meta.uid, other.meta.gid)
        && one.meta.xattrs == other.meta.xattrs
        && (directory || one.meta.mtime == other.meta.mtime)
}

/// What an undo decides about apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// The entry is there or not, or is another kind of thing: nothing smaller can be decided.
    Entry,
    Content,
    /// Permission bits, and the ACL where there is one.
    Mode,
    Owner,
    Xattrs,
    Mtime,
}

impl Attribute {
    /// The word for it in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Content => "content",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Xattrs => "extended attributes",
            Self::Mtime => "modification time",
        }
    }
}

/// What an undo does with one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// Content and attributes that the path is to have; `None`: it is to be absent. Equal to *now* where nothing is
    /// restored.
    pub target: Option<(Content, Meta)>,
    /// What goes back to *before*.
    pub restore: BTreeSet<Attribute>,
    /// What the action changed and somebody else changed since: left.
    pub keep: BTreeSet<Attribute>,
}

/// Decides, for one path, between what was *before* the action, right *after* it, and is *now*.
///
/// | the action | now is | verdict |
/// |---|---|---|
/// | did not change it (before = after) | anything | untouched |
/// | changed it | as before | already |
/// | changed it | as after | restore |
/// | changed it | something else | keep: somebody else wrote it since |
///
/// This table is asked once per attribute where before, after and now are the same kind of thing, and once for the
/// entry as a whole where one of them is absent or another kind: a file that the action created goes away only if
/// nothing at all about it was touched since. Two rules beside the table: a kept content keeps its time, and where
/// one of the three has an ACL, mode and ACL are one attribute.
///
/// Whether a created directory still holds somebody's files is not seen here; removing it must fail then.
pub fn merge(
    before: Option<&EntryState>,
    after: Option<&EntryState>,
    now: Option<&EntryState>,
) -> Merge {
    match (before, after, now) {
        (Some(old), Some(new), Some(present))
            if same_kind(&old.content, &new.content)
                && same_kind(&new.content, &present.content) =>
        {
            merge_attributes(old, new, present)
        }
        _ => merge_entry(before, after, now),
    }
}

/// The whole entry, all or nothing.
fn merge_entry(
    before: Option<&EntryState>,
    after: Option<&EntryState>,
    now: Option<&EntryState>,
) -> Merge {
    let same = |one: Option<&EntryState>, other: Option<&EntryState>| match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => same_state(one, other),
        _ => false,
    };
    let state =
        |entry: Option<&EntryState>| entry.map(|entry| (entry.content.clone(), entry.meta.clone()));
    let mut merge = Merge {
        target: state(now),
        restore: BTreeSet::new(),
        keep: BTreeSet::new(),
    };
    match verdict(same(before, after), same(now, before), same(now, after)) {
        Verdict::Leave => {}
        Verdict::Restore => {
            merge.target = state(before);
            merge.restore.insert(Attribute::Entry);
        }
        Verdict::Keep => {
            merge.keep.insert(Attribute::Entry);
        }
    }
    merge
}

enum Verdict {
    Leave,
    Restore,
    Keep,
}

/// The table of [`merge`].
fn verdict(action_left_it: bool, now_is_before: bool, now_is_after: bool) -> Verdict {
    if action_left_it || now_is_before {
        Verdict::Leave
    } else if now_is_after {
        Verdict::Restore
    } else {
        Verdict::Keep
    }
}

fn merge_attributes(old: &EntryState, new: &EntryState, now: &EntryState) -> Merge {
    let mut merge = Merge {
        target: None,
        restore: BTreeSet::new(),
        keep: BTreeSet::new(),
    };
    let mut content = now.content.clone();
    let mut meta = now.meta.clone();
    let mut decide = |attribute, decision| -> bool {
        match decision {
            Verdict::Leave => false,
            Verdict::Restore => {
                merge.restore.insert(attribute);
                true
            }
            Verdict::Keep => {
                merge.keep.insert(attribute);
                false
            }
        }
    };

    let content_verdict = verdict(
        same_content(old, new),
        same_content(now, old),
        same_content(now, new),
    );
    let content_kept = matches!(content_verdict, Verdict::Keep);
    if decide(Attribute::Content, content_verdict) {
        content = old.content.clone();
    }

    let acl = |state: &EntryState| state.meta.xattrs.get(ACL).cloned();
    let mode = |state: &EntryState| (state.meta.mode, acl(state));
    if decide(Attribute::Mode, of(mode(old), mode(new), mode(now))) {
        meta.mode = old.meta.mode;
        set(&mut meta.xattrs, ACL, acl(old));
    }
    let owner = |state: &EntryState| (state.meta.uid, state.meta.gid);
    if decide(Attribute::Owner, of(owner(old), owner(new), owner(now))) {
        (meta.uid, meta.gid) = owner(old);
        // Who owned the file meanwhile may have written it and set these bits: they are never his to give away.
        if now.content != Content::Directory {
            let untouched = same_content(now, new) || same_content(now, old);
            meta.mode &= !0o6000 | if untouched { old.meta.mode } else { 0 };
        }
    }
    let names: BTreeSet<&String> = [old, new, now]
        .into_iter()
        .flat_map(|state| state.meta.xattrs.keys())
        .filter(|name| *name != ACL)
        .collect();
    for name in names {
        let value = |state: &EntryState| state.meta.xattrs.get(name).cloned();
        if decide(Attribute::Xattrs, of(value(old), value(new), value(now))) {
            set(&mut meta.xattrs, name, value(old));
        }
    }
    let mtime = |state: &EntryState| state.meta.mtime;
    let mtime_verdict = match of(mtime(old), mtime(new), mtime(now)) {
        Verdict::Restore if content_kept => Verdict::Keep,
        verdict @ (Verdict::Leave | Verdict::Restore | Verdict::Keep) => verdict,
    };
    if decide(Attribute::Mtime, mtime_verdict) {
        meta.mtime = old.meta.mtime;
    }

    merge.target = Some((content, meta));
    merge
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the values are built for this call"
)]
fn of<T: PartialEq>(before: T, after: T, now: T) -> Verdict {
    verdict(before == after, now == before, now == after)
}

fn set(map: &mut BTreeMap<String, String>, name: &str, value: Option<String>) {
    match value {
        Some(value) => {
            map.insert(name.to_owned(), value);
        }
        None => {
            map.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
