//! Small questions about one path's looks, beside those of [`healer_agent::tree::diff`].

use healer_agent::tree::{Content, EntryState};

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
