//! `healerd demo`: breaks small real applications and heals them before your eyes.
//!
//! Everything lies in one temporary folder: the applications, the configuration and the state of a real daemon, which is
//! this very program started as a child. What happened is judged by the demonstration's own eyes, by reading files and
//! visiting the site; the daemon is only asked for what it alone knows. It touches nothing outside the folder, needs
//! nothing that a plain machine does not have, and ends within two minutes, leaving neither file nor process.

#![expect(
    clippy::disallowed_methods,
    reason = "the demonstration makes, breaks and removes its own files below its own temporary folder, and starts the daemon"
)]

mod acts;
mod child;
mod promises;
mod site;
mod stage;
mod tree;
mod watch;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::audit;
use crate::cli::client::Client;
use acts::Theatre;
use child::Daemon;
use promises::{Promises, say};
use site::Site;
use stage::Stage;
use watch::{Watch, told};

/// Longest time for all acts together; stopping and removing come after.
const PLAY_WITHIN: Duration = Duration::from_secs(100);

/// How it ended.
enum End {
    Played(anyhow::Result<()>),
    TooLong,
    Interrupted,
}

/// Runs the demonstration. Success only when every promise held.
pub async fn run() -> ExitCode {
    let mut promises = Promises::default();
    if let Err(error) = play(&mut promises).await {
        promises.claim_with(
            "the demonstration could be played to its end",
            Err(format!("{error:#}")),
        );
    }
    say("");
    say(&promises.summary());
    if promises.all_held() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn play(promises: &mut Promises) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot take signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot take signals")?;
    let stage = Stage::build()?;
    let folder = stage.path().to_owned();
    introduce(&stage);
    let end = tokio::select! {
        end = tokio::time::timeout(PLAY_WITHIN, on_stage(&stage, promises)) => {
            end.map_or(End::TooLong, End::Played)
        }
        _ = interrupt.recv() => End::Interrupted,
        _ = terminate.recv() => End::Interrupted,
    };
    say("");
    say("The end: the daemon was stopped, and the folder is removed.");
    let left = child::processes_left(&folder).await;
    promises.claim_with(
        "no process is left",
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(", "))
        },
    );
    stage
        .close()
        .context("cannot remove the temporary folder")?;
    promises.claim("no file is left", !folder.exists());
    match end {
        End::Played(result) => result,
        End::TooLong => anyhow::bail!("it took longer than {} seconds", PLAY_WITHIN.as_secs()),
        End::Interrupted => anyhow::bail!("it was interrupted"),
    }
}

fn introduce(stage: &Stage) {
    say("healerd demonstrates itself on small applications of its own.");
    say(&format!("  Folder: {}", stage.path().display()));
    if stage.owner.by_root {
        say(&format!(
            "  You are root: the daemon runs as root, the applications belong to {}.",
            stage.owner.name
        ));
    } else {
        say(&format!(
            "  You are {}: daemon and applications are yours. Skipped: changing users, which only root can.",
            stage.owner.name
        ));
    }
    say(
        "  Every wait is short here; by default a symptom must last three minutes, and a cure ten.",
    );
    for (program, what) in [
        ("/usr/bin/php", "healing a Laravel or WordPress site"),
        ("/usr/sbin/nginx", "a real web server in front"),
    ] {
        let why = if Path::new(program).exists() {
            "plain files show the same and need no set-up"
        } else {
            "it is not installed"
        };
        say(&format!("  Skipped: {what} ({why})."));
    }
}

/// Everything while the daemon runs. It is stopped at the end, whatever the acts said.
async fn on_stage(stage: &Stage, promises: &mut Promises) -> anyhow::Result<()> {
    let site = Site::serve(stage.app("shop"))
        .await
        .context("cannot serve the shop")?;
    stage
        .configure(&site.url())
        .context("cannot write the configuration")?;
    let client = Client::new(&stage.socket()).map_err(|error| told(&error))?;
    let daemon = Daemon::start(stage, &client).await?;
    let watch = Watch { client };
    let theatre = Theatre {
        stage,
        site: &site,
        watch: &watch,
    };
    let outcome = acts(&theatre, promises).await;
    if outcome.is_err() {
        say("  The daemon's last words:");
        say(&daemon.last_words());
    }
    let orderly = daemon.stop().await?;
    promises.claim("the daemon stopped when it was asked to", orderly);
    let database = stage.path().join("state/state.db");
    let whole = match audit::verify(&database, None).await {
        Ok(report) if report.is_whole() && report.rows > 0 => Ok(()),
        Ok(report) => Err(format!("{} rows, {:?}", report.rows, report.fault)),
        Err(error) => Err(error.to_string()),
    };
    promises.claim_with("its audit log is one unbroken chain", whole);
    outcome
}

async fn acts(theatre: &Theatre<'_>, promises: &mut Promises) -> anyhow::Result<()> {
    for app in ["shop", "blog", "wiki", "forum"] {
        theatre.watch.until_well(app).await?;
    }
    promises.claim("the daemon sees four healthy applications", true);
    theatre.alone(promises).await?;
    theatre.asked(promises).await?;
    theatre.undone(promises).await?;
    theatre.stopped(promises).await
}
