//! Random bits from the kernel, for ids and jitter.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::seam::Randomness;

/// The kernel's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Randomness for OsRandom {
    fn next(&self) -> u64 {
        let mut bytes = [0_u8; 8];
        match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
            Ok(8) => u64::from_ne_bytes(bytes),
            // Not seen on a booted Linux. The standard library's keys were drawn from the kernel at the first use;
            // ids stay unique without it, because they count.
            Ok(_) | Err(_) => RandomState::new().build_hasher().finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_differ() {
        let drawn: std::collections::BTreeSet<_> = (0..1000).map(|_| OsRandom.next()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
