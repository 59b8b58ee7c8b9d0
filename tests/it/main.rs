//! The integration tests: one binary, a module per subject.

#[cfg(test)]
mod architecture;
