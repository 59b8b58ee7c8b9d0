//! Maps by the digest of a content.
//!
//! An unchanged backup asks them several times for each file. A digest is as good as a hash already, so a part of it is
//! enough; it is mixed with a number of this process, because a site could make contents whose digests begin alike.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};

use healer_agent::tree::Digest;

pub(super) type DigestMap<V> = HashMap<Digest, V, ByDigest>;
pub(super) type DigestSet = HashSet<Digest, ByDigest>;

/// Makes [`Part`]s of one map.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByDigest(u64);

impl Default for ByDigest {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0_u8))
    }
}

impl BuildHasher for ByDigest {
    type Hasher = Part;

    fn build_hasher(&self) -> Part {
        Part(self.0)
    }
}

/// A hash of the first bytes of a digest.
#[derive(Debug)]
pub(super) struct Part(u64);

impl Hasher for Part {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }

    /// Digests are all of one length.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15;
        let [low, high] = {
            let product = u128::from(self.0) * ODD;
            [product & u128::from(u64::MAX), product >> 64]
        };
        u64::try_from(low ^ high).unwrap_or_default() // both have 64 bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_spread_and_found_again() {
        let by = ByDigest::default();
        let mut low = HashSet::new();
        let mut map = DigestMap::default();
        for number in 0..1000_u32 {
            let digest = Digest::of(&number.to_le_bytes());
            assert_eq!(by.hash_one(digest), by.hash_one(digest));
            low.insert(by.hash_one(digest) & 0xffff);
            map.insert(digest, number);
        }
        assert!(low.len() > 900, "{}", low.len());
        assert!((0..1000_u32).all(|number| map[&Digest::of(&number.to_le_bytes())] == number));
    }
}
