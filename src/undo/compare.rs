//! When two looks at a path saw the same thing.

use healer_agent::tree::{Content, EntryState};

/// Do both hold the same bytes, link text or kind?
///
/// Without both digests two regular files count as the same only when they are one inode of equal length that nobody
/// wrote to in between, as far as its time tells.
pub(super) fn same_content(one: &EntryState, other: &EntryState) -> bool {
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
                    (Some(digest), Some(other)) => digest == other,
                    (None, _) | (_, None) => {
                        same_inode(one, other) && one.meta.mtime == other.meta.mtime
                    }
                }
        }
        (Content::Directory, Content::Directory) => true,
        (Content::Link { target }, Content::Link { target: other }) => target == other,
        (Content::Other, Content::Other) => same_inode(one, other),
        (
            Content::File { .. } | Content::Directory | Content::Link { .. } | Content::Other,
            _,
        ) => false,
    }
}

/// Are both the very same file, not only equal ones?
pub(super) fn same_inode(one: &EntryState, other: &EntryState) -> bool {
    (one.key.dev, one.key.ino) == (other.key.dev, other.key.ino)
}

/// Is it a regular file?
pub(super) fn is_file(entry: &EntryState) -> bool {
    matches!(entry.content, Content::File { .. })
}

/// The same entry with the digest of another look that saw the same bytes.
pub(super) fn with_digest_of(entry: &EntryState, other: &EntryState) -> EntryState {
    let mut entry = entry.clone();
    if let (
        Content::File {
            digest: empty @ None,
            ..
        },
        Content::File { digest, .. },
    ) = (&mut entry.content, &other.content)
    {
        *empty = *digest;
    }
    entry
}

/// Is there anything between the two that a rollback would bring back? A directory's time only says that its entries
/// changed, which they say themselves.
pub(super) fn same_state(one: &EntryState, other: &EntryState) -> bool {
    same_content(one, other)
        && one.meta.mode == other.meta.mode
        && (one.meta.uid, one.meta.gid) == (other.meta.uid, other.meta.gid)
        && one.meta.xattrs == other.meta.xattrs
        && (one.content == Content::Directory || one.meta.mtime == other.meta.mtime)
}
