//! The client of the control socket, and tools that need no daemon: parses, runs one command, prints, exits.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use healerd::cli::policy::{EvalArgs, eval};

/// Talks to healerd, and looks at its decisions offline.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at what would be decided.
    #[command(subcommand)]
    Policy(Policy),
}

#[derive(Debug, Subcommand)]
enum Policy {
    /// Prints the plan for recorded check results; needs no daemon.
    Eval {
        /// Kind of application, such as laravel.
        #[arg(long)]
        stack: String,
        /// `MANUAL`, `SEMI_AUTO` or `FULL_AUTO`.
        #[arg(long)]
        mode: String,
        /// JSON array of check results; `-` reads standard input.
        #[arg(long)]
        results: PathBuf,
        /// Answer for programs; errors are objects too.
        #[arg(long)]
        json: bool,
        /// Folder of further stack files.
        #[arg(long)]
        stacks_dir: Option<PathBuf>,
        /// Configuration whose policy counts.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let output = match Arguments::parse().command {
        Command::Policy(Policy::Eval {
            stack,
            mode,
            results,
            json,
            stacks_dir,
            config,
        }) => eval(&EvalArgs {
            stack,
            mode,
            results,
            json,
            stacks_dir,
            config,
        }),
    };
    output.print().into()
}
