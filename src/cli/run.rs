//! From a command line to what is printed and the exit code.

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser as _};

use super::args::{
    Arguments, AuditCommand, Command, HostCommand, IncidentsCommand, NotifyCommand, PolicyCommand,
};
use super::client::Client;
use super::output::{CliError, Output, code};
use super::policy::{EvalArgs, eval};
use crate::control::wire::Done;
use crate::telemetry::redact::escape;

/// Runs one command line; nothing is printed yet.
pub async fn run(line: impl IntoIterator<Item = OsString>) -> Output {
    let line: Vec<OsString> = line.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&line) {
        Ok(arguments) => arguments,
        Err(error) => return misspelt(&error, &line),
    };
    let json = arguments.json;
    one(arguments)
        .await
        .unwrap_or_else(|error| Output::error(&error, json))
}

/// Help and version are answers; everything else is an error, for programs an object too.
fn misspelt(error: &clap::Error, line: &[OsString]) -> Output {
    let text = error.to_string();
    if !error.use_stderr() {
        return Output::fine(text);
    }
    // Help instead of a command is a usage error, and its text is meant for people.
    let mut output = Output {
        code: code::USAGE,
        stderr: text,
        ..Output::default()
    };
    let is_json = line
        .iter()
        .take_while(|word| *word != "--")
        .any(|word| word == "--json");
    if is_json {
        // What is missing stands on lines of its own below the first.
        let lines: Vec<&str> = output
            .stderr
            .lines()
            .map(str::trim)
            .take_while(|line| !line.is_empty())
            .collect();
        let text = lines.join(" ");
        let message = escape(text.strip_prefix("error: ").unwrap_or(&text));
        output.stdout = Output::error(&CliError::usage(message), true).stdout;
    }
    output
}

async fn one(arguments: Arguments) -> Result<Output, CliError> {
    let json = arguments.json;
    let client = Client::new(&arguments.socket);
    match arguments.command {
        Command::Policy(PolicyCommand::Eval {
            stack,
            mode,
            results,
            stacks_dir,
            config,
        }) => Ok(eval(&EvalArgs {
            stack,
            mode,
            results,
            json,
            stacks_dir,
            config,
        })),
        Command::CheckConfig { file } => Ok(super::check_config::of_file(&file, json)),
        Command::Completions { shell } => Ok(completions(shell)),
        Command::Audit {
            command: Some(AuditCommand::Verify { file, head }),
            ..
        } => super::audit_log::verify(&file, head.as_deref(), json).await,
        Command::Host {
            command:
                Some(HostCommand::Import {
                    host,
                    from_ssh_config,
                }),
        } => super::host_import::run(json, &host, from_ssh_config.as_deref()).await,
        online @ (Command::Status
        | Command::Apps
        | Command::Checks { .. }
        | Command::Actions { .. }
        | Command::Diagnose { .. }
        | Command::Plan { .. }
        | Command::Heal(_)
        | Command::Approvals { .. }
        | Command::Approve { .. }
        | Command::Reject { .. }
        | Command::Breaker { .. }
        | Command::Backups { .. }
        | Command::Heals { .. }
        | Command::Decide { .. }
        | Command::Incidents { .. }
        | Command::Hold { .. }
        | Command::Resume { .. }
        | Command::Mute { .. }
        | Command::Unmute { .. }
        | Command::Mode { .. }
        | Command::Events
        | Command::Audit { .. }
        | Command::Adopt { .. }
        | Command::Host { .. }
        | Command::Notify(_)
        | Command::Explain { .. }) => ask(&client?, json, online).await,
    }
}

/// Commands that need the daemon.
async fn ask(client: &Client, json: bool, command: Command) -> Result<Output, CliError> {
    match command {
        Command::Status => super::status::run(client, json).await,
        Command::Apps => super::apps::all(client, json).await,
        Command::Checks { app } => super::apps::checks(client, json, &app).await,
        Command::Actions { app } => super::apps::actions(client, json, &app).await,
        Command::Diagnose { app } => super::plan::diagnose(client, json, &app).await,
        Command::Plan { app } => super::plan::plan(client, json, &app).await,
        Command::Heal(args) => super::heal::run(client, json, &args).await,
        Command::Approvals { all } => super::approvals::all(client, json, all).await,
        Command::Approve {
            id,
            digest,
            confirm,
        } => super::approvals::approve(client, json, &id, digest.as_deref(), &confirm).await,
        Command::Reject { id, confirm } => {
            super::approvals::reject(client, json, &id, &confirm).await
        }
        Command::Breaker { app, command } => {
            super::breaker::run(client, json, &app, command.as_ref()).await
        }
        Command::Backups { app, command } => {
            super::backups::run(client, json, &app, command.as_ref()).await
        }
        Command::Heals { id: None, which } => super::heals::all(client, json, &which).await,
        Command::Heals { id: Some(id), .. } => super::heals::one(client, json, &id).await,
        Command::Decide { id, choice, why } => {
            super::heals::decide(client, json, &id, choice, &why).await
        }
        Command::Incidents {
            command: Some(IncidentsCommand::Close { id, why }),
            ..
        } => super::incidents::close(client, json, &id, &why).await,
        Command::Incidents {
            which,
            all,
            command: None,
        } => super::incidents::all(client, json, &which, all).await,
        Command::Hold {
            scope,
            length,
            why,
            command,
        } => super::hold::hold(client, json, &scope, length.as_deref(), &why, &command).await,
        Command::Resume {
            scope,
            keep,
            undo,
            why,
        } => super::hold::resume(client, json, &scope, keep, undo, &why).await,
        Command::Mute {
            app,
            check,
            until,
            why,
        } => super::stop::mute(client, json, &app, &check, &until, &why).await,
        Command::Unmute { app, check, why } => {
            super::stop::unmute(client, json, &app, &check, &why).await
        }
        Command::Mode {
            words,
            app,
            clear,
            why,
        } => {
            let wanted = super::mode::wanted(&words, app.as_deref(), clear)?;
            super::mode::run(client, json, &wanted, &why).await
        }
        Command::Events => super::events::run(client, json).await,
        Command::Audit {
            command: Some(AuditCommand::List { limit }),
            ..
        }
        | Command::Audit { limit, .. } => super::audit_log::list(client, json, limit).await,
        Command::Adopt { host, why } => super::stop::adopt(client, json, &host, &why).await,
        Command::Host { command } => super::host::run(client, json, command.as_ref()).await,
        Command::Notify(NotifyCommand::Test) => {
            let done: Done = client.post("/notify/test", &serde_json::json!({})).await?;
            Ok(super::done(json, &done))
        }
        Command::Explain { id } => super::explain::run(client, json, &id).await,
        Command::Policy(_) | Command::CheckConfig { .. } | Command::Completions { .. } => Err(
            CliError::new(code::FAILED, "internal", "this command needs no daemon"),
        ),
    }
}

fn completions(shell: clap_complete::Shell) -> Output {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    Output::fine(String::from_utf8_lossy(&script).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run_line(line: &str) -> Output {
        run(line.split(' ').map(OsString::from)).await
    }

    #[tokio::test]
    async fn a_wrong_command_line_is_an_object_for_programs() {
        let output = run_line("healerctl nonsense --json").await;
        assert_eq!(output.code, code::USAGE);
        let value: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(value["error"]["code"], "usage");
        assert_eq!(run_line("healerctl nonsense").await.stdout, "");
    }

    #[tokio::test]
    async fn help_is_an_answer() {
        let output = run_line("healerctl --help").await;
        assert_eq!((output.code, output.stderr.as_str()), (code::FINE, ""));
        insta::assert_snapshot!(output.stdout);
    }

    #[tokio::test]
    async fn every_shell_has_completions() {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let output = run_line(&format!("healerctl completions {shell}")).await;
            assert!(output.stdout.contains("check-config"), "{shell}");
        }
    }

    #[tokio::test]
    async fn without_a_daemon_every_question_is_unreachable() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("none.sock");
        for command in [
            "status",
            "apps",
            "checks shop",
            "heal shop fix_permissions --reason x",
            "approve 01jd --yes --reason x",
            "backups shop",
            "hold --reason x -- true",
            "events",
            "audit",
            "host",
            "host enrol web1",
            "explain 01jd",
        ] {
            let output = run_line(&format!(
                "healerctl --socket {} {command}",
                socket.display()
            ))
            .await;
            assert_eq!(
                output.code,
                code::UNREACHABLE,
                "{command}: {}",
                output.stderr
            );
            assert!(
                output.stderr.starts_with("error: no daemon answers at"),
                "{command}"
            );
        }
    }

    #[tokio::test]
    async fn a_name_that_is_none_never_becomes_part_of_a_path() {
        for command in [
            "checks ../status",
            "breaker a/b reset --reason x",
            "adopt ..",
            "host doctor a/b",
            "host enrol .. --fingerprint SHA256:x",
            "unmute a b/c",
        ] {
            let output = run_line(&format!("healerctl --socket /nowhere {command}")).await;
            assert_eq!(output.code, code::USAGE, "{command}: {}", output.stderr);
        }
    }
}
