//! The agent's own small binary; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    healer_agent::command::main(&[], std::env::args_os().skip(1))
}
