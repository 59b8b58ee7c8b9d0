//! Journal, audit chain and history: what the daemon remembers, and how it is proven unchanged.
//!
//! [`audit`] is the pure chain of hashes; [`store`] is the real side of [`crate::seam::Store`].

pub mod audit;
pub mod intent;
pub mod store;

pub use intent::Intent;
