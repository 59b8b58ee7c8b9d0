//! Randomness, for ids and jitter.

/// A source of random bits, seeded in simulations.
pub trait Randomness: Send + Sync {
    /// 64 random bits.
    fn next(&self) -> u64;
}
