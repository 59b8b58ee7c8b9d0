//! The integration tests: one binary, a module per subject.

#![expect(
    clippy::disallowed_methods,
    reason = "tests stand outside the program: they make and break files, start programs and wait with the real clock"
)]

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod heals;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod service;
#[cfg(test)]
mod ssh;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod world;
