//! The audit chain: how a row's hash follows from the row before it.
//!
//! Pure. Nothing is read or written here; the store appends with it and `audit verify` recomputes with it, so that both
//! can only agree. A row's hash is BLAKE3 over the hash of the row before and every column in a fixed encoding: integers
//! as 8 bytes little-endian, texts behind their length. No two different rows share an encoding.

use std::fmt::Write as _;

/// A link of the chain. Before the first row stands [`Link::START`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Link([u8; 32]);

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// A row as it is hashed.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    pub seq: i64,
    pub at_ms: i64,
    pub actor: &'a str,
    pub verb: &'a str,
    pub object: &'a str,
    /// The JSON text as stored, not a value parsed from it.
    pub detail: &'a str,
}

impl Link {
    /// What the first row follows.
    pub const START: Self = Self([0; 32]);

    /// The hash of a row that follows this link.
    #[must_use]
    pub fn next(&self, row: &Columns<'_>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(&row.seq.to_le_bytes());
        hasher.update(&row.at_ms.to_le_bytes());
        for text in [row.actor, row.verb, row.object, row.detail] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// 64 hex digits, lower case.
    pub fn to_hex(self) -> String {
        self.0
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                // Writing to a String cannot fail.
                write!(text, "{byte:02x}").ok();
                text
            })
    }

    /// Reads [`Link::to_hex`]'s form, and nothing else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0_u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(seq: i64, texts: [&str; 4]) -> Link {
        let [actor, verb, object, detail] = texts;
        Link::START.next(&Columns {
            seq,
            at_ms: 7,
            actor,
            verb,
            object,
            detail,
        })
    }

    #[test]
    fn text_moved_over_a_column_border_changes_the_hash() {
        assert_ne!(hash(1, ["ab", "c", "", ""]), hash(1, ["a", "bc", "", ""]));
        assert_ne!(hash(1, ["a", "", "b", ""]), hash(1, ["a", "b", "", ""]));
        assert_ne!(hash(1, ["a", "", "", ""]), hash(2, ["a", "", "", ""]));
    }

    #[test]
    fn the_encoding_of_old_rows_never_changes() {
        assert_eq!(
            hash(1, ["healerd", "started", "daemon", "{}"]).to_hex(),
            blake3::hash(
                &[
                    [0_u8; 32].as_slice(),
                    &1_i64.to_le_bytes(),
                    &7_i64.to_le_bytes(),
                    &7_u64.to_le_bytes(),
                    b"healerd",
                    &7_u64.to_le_bytes(),
                    b"started",
                    &6_u64.to_le_bytes(),
                    b"daemon",
                    &2_u64.to_le_bytes(),
                    b"{}",
                ]
                .concat()
            )
            .to_hex()
            .as_str()
        );
    }

    proptest! {
        #[test]
        fn hex_reads_back(bytes: [u8; 32]) {
            let link = Link(bytes);
            prop_assert_eq!(Link::from_hex(&link.to_hex()), Some(link));
        }

        #[test]
        fn foreign_text_is_no_link(text in ".{0,80}") {
            let valid = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            prop_assert_eq!(Link::from_hex(&text).is_some(), valid);
        }
    }
}
