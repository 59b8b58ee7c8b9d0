//! The words of the project as types: ids, time, applications, checks, actions, plans, heals, incidents, approvals.
//!
//! Pure: no clock, no I/O, no randomness. Names from outside are parsed once into the types here and trusted
//! afterwards; what is unknown becomes an error or a variant that denies.

pub mod action;
pub mod app;
pub mod approval;
pub mod backup;
pub mod breaker;
pub mod check;
pub mod heal;
pub mod host;
pub mod host_key;
pub mod id;
pub mod incident;
pub mod ledger;
pub mod name;
pub mod plan;
pub mod policy;
pub mod reason;
pub mod stop;
pub mod time;
pub mod word;

/// A number of things in words: `1 path`, `2 paths`. For nouns that take an `s`.
pub fn counted(count: u64, one: &str) -> String {
    if count == 1 {
        format!("1 {one}")
    } else {
        format!("{count} {one}s")
    }
}

pub use healer_agent::probe::spec::{Fact, Facts};
pub use healer_agent::tree::{Digest, Pattern, TreePath};
