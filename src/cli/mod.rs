//! What `healerctl` does, one file per command. Parsing arguments and printing belong to the program; here a command
//! is a function from its arguments to what it would print and the exit code.

pub mod output;
pub mod policy;
