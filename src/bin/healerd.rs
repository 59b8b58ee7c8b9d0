//! The daemon's command line: parse, run, exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use healerd::config::Paths;
use healerd::service::ServiceError;
use healerd::{cli, demo, service, telemetry};

#[derive(Debug, Parser)]
#[command(
    name = "healerd",
    version,
    about = "Heals web applications by itself, and can prove and undo what it did"
)]
struct Arguments {
    /// The configuration file; conf.d/ and stacks.d/ lie beside it.
    #[arg(
        long,
        global = true,
        default_value = DEFAULT_CONFIG,
        value_name = "FILE"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

const DEFAULT_CONFIG: &str = "/etc/healerd/healerd.toml";

#[derive(Debug, Subcommand)]
enum Command {
    /// Breaks small real applications in a temporary directory and heals them in front of you.
    Demo,
    /// Reads the configuration and the stack files, and tells everything that is wrong or worth knowing.
    CheckConfig,
    /// The hands on this host; started by the daemon.
    #[command(hide = true, disable_help_flag = true)]
    Agent {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Runs the daemon on temporary state; started by the demonstration.
    #[command(hide = true)]
    DemoDaemon,
}

fn main() -> ExitCode {
    // An agent takes its user while the process has one thread and has opened nothing.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "agent") {
        return healer_agent::command::main(&["agent"], words);
    }
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return cli::output::fail(&error, ""),
    };
    // Whoever names a file means it; a slip of the hand would else watch nothing and say that all is well.
    if arguments.config != Path::new(DEFAULT_CONFIG) && !arguments.config.exists() {
        let error = format!(
            "there is no configuration file {}",
            arguments.config.display()
        );
        let error = std::io::Error::new(std::io::ErrorKind::NotFound, error);
        return cli::output::fail(&error, "name the file that is there with --config");
    }
    let paths = service::paths_of(&arguments.config);
    match arguments.command {
        None => runtime.block_on(daemon(paths)),
        Some(Command::DemoDaemon) => runtime.block_on(daemon(Paths {
            temporary_state: true,
            ..paths
        })),
        Some(Command::Demo) => runtime.block_on(demo::run()),
        Some(Command::CheckConfig) => cli::check_config::run(&paths),
        Some(Command::Agent { .. }) => ExitCode::from(2), // taken above
    }
}

async fn daemon(paths: Paths) -> ExitCode {
    let _logging = match telemetry::logging::init() {
        Ok(logging) => logging,
        Err(error) => {
            return cli::output::fail(&error, "see that HEALERD_LOG is a filter, or unset it");
        }
    };
    match service::run(paths).await {
        Ok(()) => ExitCode::SUCCESS,
        // In the log alone, where the journal reads standard error: every line once.
        Err(error @ (ServiceError::Config(_) | ServiceError::Stacks(_))) => {
            service::log_refusal(&error);
            tracing::error!(
                reason = "its configuration is refused",
                hint = "`healerd check-config` shows all of it",
                "healerd ends"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            let told: &dyn std::error::Error = &error;
            tracing::error!(reason = told, hint = error.hint(), "healerd ends");
            cli::output::fail(&error, error.hint())
        }
    }
}
