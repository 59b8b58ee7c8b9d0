//! Walking members and reading states and contents.
