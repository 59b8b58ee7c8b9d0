//! Reading facts from this host.

pub mod spec;
