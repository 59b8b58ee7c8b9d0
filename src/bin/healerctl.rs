//! The client of the control socket, and tools that need no daemon: parses, runs one command, prints, exits.

use std::process::ExitCode;

use healerd::cli::output::{CliError, Output, code};

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let output = match runtime {
        Ok(runtime) => runtime.block_on(healerd::cli::run(std::env::args_os())),
        Err(error) => Output::error(
            &CliError::new(code::FAILED, "internal", "cannot start").caused_by(&error),
            false,
        ),
    };
    output.print().into()
}
