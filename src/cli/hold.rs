//! `healerctl hold` and `resume`: stop automation, for good or while a command runs.
//!
//! The command is a program with its arguments; no shell reads it. Whatever happens to it, the hold that was made for it
//! ends with it; only when that fails does it stay, and is told of.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;

use super::args::Reason;
use super::client::Client;
use super::output::{CliError, Output, code, tell};
use super::{ask, ids, table};
use crate::control::wire::{Done, Heal, Hold, HoldRequest, ResumeRequest, Status};
use crate::model::name::{AppName, HostName};
use crate::telemetry::redact::escape;

/// What a hold does not stop.
const HELD: &str = "Looks go on. A step that runs now and an undo that has begun are finished; nothing else is begun, proven \
or undone by itself. What you ask for (heal, backups rollback, decide) runs all the same.\n";

/// Stops automation.
pub(super) async fn hold(
    client: &Client,
    json: bool,
    scope: &str,
    length: Option<&str>,
    why: &Reason,
    command: &[OsString],
) -> Result<Output, CliError> {
    let scope = scope_of(scope)?;
    if let Some(text) = length {
        crate::config::parse_duration(text).map_err(CliError::usage)?;
    }
    if let Some((program, arguments)) = command.split_first()
        && let Some(held) = held_already(client, &scope).await?
    {
        return under(&held, program, arguments).await;
    }
    let reason = if let (None, Some(program)) = (&why.reason, command.first()) {
        format!("while {} runs", program.to_string_lossy())
    } else {
        ask::reason(why)?
    };
    let request = HoldRequest {
        scope: scope.clone(),
        reason,
        length: length.map(str::to_owned),
    };
    let held: Hold = client.post("/hold", &request).await?;
    let Some((program, arguments)) = command.split_first() else {
        return Ok(Output::of(json, &held, || {
            let mut text = list(std::slice::from_ref(&held));
            text.push_str(HELD);
            writeln!(
                text,
                "next: `healerctl resume {scope}` lets automation go on"
            )
            .ok();
            text
        }));
    };
    let ran = run(program, arguments).await;
    let resumed: Result<Done, CliError> = client
        .post(
            "/resume",
            &ResumeRequest {
                scope: scope.clone(),
                keep: true,
                undo: false,
                reason: "the command ended".to_owned(),
            },
        )
        .await;
    if let Err(error) = resumed {
        tell(&Output::error(&error, false).stderr);
        tell(&format!(
            "  hint: the hold of {scope} stays; end it with `healerctl resume {scope}`\n"
        ));
    }
    Ok(Output::default().exit(ran?))
}

/// A hold of exactly this scope, which a resume would end too.
async fn held_already(client: &Client, scope: &str) -> Result<Option<Hold>, CliError> {
    let status: Status = client.get("/status", &[]).await?;
    Ok(status.holds.into_iter().find(|hold| hold.scope == scope))
}

/// Runs a program under somebody's hold, which stays. One that may end before the program does is not relied on.
async fn under(
    held: &Hold,
    program: &OsString,
    arguments: &[OsString],
) -> Result<Output, CliError> {
    let owner = escape(&held.owner);
    if let Some(until) = &held.until {
        return Err(CliError::new(
            code::REFUSED,
            "held",
            format!("{} is held by {owner} until {until} already", held.scope),
        )
        .hint("wait for its end, or end it with `healerctl resume`, which ends all holds of this scope"));
    }
    tell(&format!(
        "{} is held by {owner} already; that hold stays\n",
        held.scope
    ));
    Ok(Output::default().exit(run(program, arguments).await?))
}

/// Runs a program with our own streams. A signal from the terminal reaches it too; we wait for its end either way, so
/// that the hold covers all of it.
#[expect(
    clippy::disallowed_methods,
    reason = "this program is the caller's own and runs as the caller, in the caller's terminal"
)]
async fn run(program: &OsString, arguments: &[OsString]) -> Result<u8, CliError> {
    let failed = |error: std::io::Error| {
        CliError::new(
            code::FAILED,
            "command",
            format!("cannot run `{}`", escape(&program.to_string_lossy())),
        )
        .caused_by(&error)
    };
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(failed)?;
    let mut terms = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(failed)?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .spawn()
        .map_err(failed)?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(failed)?,
            _ = interrupts.recv() => {}
            _ = terms.recv() => {
                let pid = child
                    .id()
                    .and_then(|pid| i32::try_from(pid).ok())
                    .and_then(rustix::process::Pid::from_raw);
                if let Some(pid) = pid {
                    // It may have ended just now, which the next turn sees.
                    rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
                }
            }
        }
    };
    let ended = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(u8::try_from(ended).unwrap_or(code::FAILED))
}

/// Lets automation go on.
pub(super) async fn resume(
    client: &Client,
    json: bool,
    scope: &str,
    keep: bool,
    undo: bool,
    why: &Reason,
) -> Result<Output, CliError> {
    let scope = scope_of(scope)?;
    let status: Status = client.get("/status", &[]).await?;
    let undo = match is_held(&status, &scope) {
        // With a reason the daemon refuses, for it looks at the caller's role first.
        Err(_) if why.reason.is_some() => undo,
        Err(refusal) => return Err(refusal),
        Ok(()) if keep || undo => undo,
        Ok(()) => decide(client, &scope).await?,
    };
    let request = ResumeRequest {
        scope,
        keep: !undo,
        undo,
        reason: ask::reason(why)?,
    };
    let done: Done = client.post("/resume", &request).await?;
    Ok(super::done(json, &done))
}

/// Refuses before anything is asked where there is nothing to resume, and names what is held.
fn is_held(status: &Status, scope: &str) -> Result<(), CliError> {
    let observing = scope == "all" && status.observing.is_some();
    if observing || status.holds.iter().any(|hold| hold.scope == scope) {
        return Ok(());
    }
    let error = |message: String| CliError::new(code::FAILED, "not_held", message);
    let Some(first) = status.holds.first() else {
        return Err(error(format!(
            "there is no hold of `{scope}`; nothing is held at all"
        )));
    };
    let held: Vec<String> = status.holds.iter().map(one).collect();
    Err(error(format!(
        "there is no hold of `{scope}`. What is held: {}",
        held.join("; ")
    ))
    .hint(format!(
        "name the hold's own scope: `healerctl resume {}`",
        first.scope
    )))
}

/// Keep or undo only matters where a heal is frozen; then it is asked.
async fn decide(client: &Client, scope: &str) -> Result<bool, CliError> {
    let heals: Vec<Heal> = client.get("/heals", &[("open", "true".to_owned())]).await?;
    let frozen: Vec<Heal> = heals
        .into_iter()
        .filter(|heal| is_frozen(heal, scope))
        .collect();
    if frozen.is_empty() {
        return Ok(false);
    }
    if !ask::is_interactive() {
        return Err(CliError::usage(format!(
            "unfinished heals that the hold has frozen: {}; what becomes of them was not said",
            frozen.len()
        ))
        .hint("add --keep to leave what they did, or --undo to take it back"));
    }
    ask::confirm(
        &super::heals::list(&frozen),
        "Keep what these heals did? (no: nothing is resumed; use --undo)",
        "",
    )?;
    Ok(false)
}

/// Does a hold of this scope keep this heal from going on? Not what is over, and not what a person asked for, which
/// runs under a hold.
fn is_frozen(heal: &Heal, scope: &str) -> bool {
    // A subdomain's heal is listed under its parent; the hold names the subdomain.
    let app = heal.subdomain.as_ref().unwrap_or(&heal.application_id);
    let covered = match scope.split_once(':') {
        Some(("app", held)) => app == held,
        Some(("host", held)) => heal.details.host == held,
        _ => true,
    };
    let by_person = matches!(heal.details.origin.as_str(), "requested" | "rollback");
    covered && !heal.details.ended && !by_person
}

/// `all`, `host:NAME`, `app:NAME`; a bare name is an application's.
fn scope_of(text: &str) -> Result<String, CliError> {
    match text.split_once(':') {
        None if text == "all" => Ok("all".to_owned()),
        None => Ok(format!("app:{}", ids::name::<AppName>(text)?)),
        Some(("app", name)) => Ok(format!("app:{}", ids::name::<AppName>(name)?)),
        Some(("host", name)) => Ok(format!("host:{}", ids::name::<HostName>(name)?)),
        Some(_) => Err(CliError::usage(format!("`{}` is no scope", escape(text)))
            .hint("use all, host:NAME or app:NAME")),
    }
}

/// One hold in a line.
pub(super) fn one(hold: &Hold) -> String {
    format!(
        "{} by {} until {}: {}",
        hold.scope,
        hold.owner,
        hold.until.as_deref().unwrap_or("a resume"),
        hold.reason
    )
}

/// A table of holds.
pub(super) fn list(holds: &[Hold]) -> String {
    table::rows(
        ["SCOPE", "OWNER", "SINCE", "UNTIL", "REASON"],
        holds.iter().map(|hold| {
            [
                hold.scope.clone(),
                hold.owner.clone(),
                hold.since.clone(),
                hold.until.clone().unwrap_or_else(|| "a resume".to_owned()),
                hold.reason.clone(),
            ]
        }),
        "Nothing is held.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_an_application() {
        for (text, want) in [
            ("all", "all"),
            ("shop", "app:shop"),
            ("app:shop", "app:shop"),
            ("host:local", "host:local"),
        ] {
            assert_eq!(scope_of(text).unwrap(), want);
        }
        for wrong in ["", "group:x", "app:", "app:../x", "host:a b"] {
            assert_eq!(scope_of(wrong).unwrap_err().exit, code::USAGE, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_hold_of_somebody_else_is_not_ended_by_a_command() {
        let held = super::super::made_up::status().holds.remove(0);
        let output = under(&held, &"false".into(), &[]).await.unwrap();
        assert_eq!(output.code, 1);
        let short = Hold {
            until: Some("2026-11-24T04:00:00Z".to_owned()),
            ..held
        };
        let error = under(&short, &"false".into(), &[]).await.unwrap_err();
        assert_eq!(error.exit, code::REFUSED);
    }

    #[test]
    fn a_resume_without_a_hold_names_those_that_there_are() {
        let mut status = super::super::made_up::status();
        is_held(&status, "app:blog").unwrap();
        is_held(&status, "all").unwrap(); // the daemon observes, and a resume ends that too
        status.observing = None;
        let error = is_held(&status, "all").unwrap_err();
        assert!(error.message.contains("app:blog by ann(1000)"), "{error:?}");
        assert!(error.hint.unwrap().contains("healerctl resume app:blog"));
        status.holds.clear();
        let error = is_held(&status, "all").unwrap_err();
        assert!(error.message.contains("nothing is held"), "{error:?}");
    }

    #[test]
    fn only_what_a_hold_freezes_is_asked_about() {
        let mut heal = super::super::made_up::heal();
        assert!(!is_frozen(&heal, "all"), "a person asked for it");
        heal.details.origin = "unattended".to_owned();
        for (scope, want) in [
            ("all", true),
            ("app:shop", true),
            ("host:local", true),
            ("app:blog", false),
        ] {
            assert_eq!(is_frozen(&heal, scope), want, "{scope}");
        }
        heal.subdomain = Some("blog".to_owned());
        assert!(
            is_frozen(&heal, "app:blog"),
            "the subdomain is what is held"
        );
        assert!(!is_frozen(&heal, "app:shop"));
        heal.details.ended = true;
        assert!(!is_frozen(&heal, "app:blog"));
    }

    #[tokio::test]
    async fn the_commands_exit_code_is_the_answer() {
        assert_eq!(run(&"true".into(), &[]).await.unwrap(), 0);
        assert_eq!(run(&"false".into(), &[]).await.unwrap(), 1);
        assert_eq!(
            run(&"/no/such/program".into(), &[]).await.unwrap_err().code,
            "command"
        );
    }
}
