//! The daemon of the demonstration: the same program, started as a child, stopped by its process id.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::stage::Stage;
use crate::cli::client::Client;
use crate::control::wire::Status;

/// Longest time until the daemon answers.
const START_WITHIN: Duration = Duration::from_secs(20);

/// Longest time until it has stopped.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Longest time until what it started has ended too.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// How much of the daemon's own words is shown when something went wrong.
const LOG_LINES: usize = 15;

/// A daemon that runs; killed when it is dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it, and waits until it answers on its socket.
    pub(super) async fn start(stage: &Stage, client: &Client) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this very program")?;
        let log = stage.path().join("daemon.log");
        let out = std::fs::File::create(&log).context("cannot make the daemon's log")?;
        let err = out.try_clone().context("cannot make the daemon's log")?;
        let mut command = tokio::process::Command::new(program);
        command
            .arg("--config")
            .arg(stage.config())
            .arg("demo-daemon")
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .current_dir(stage.path())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // A Ctrl-C is ours alone: the daemon is stopped in order afterwards.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().context("cannot start the daemon")?;
        let mut daemon = Self { child, log };
        let mut waited = Duration::ZERO;
        loop {
            let answer = client.get::<Status>("/status", &[]).await;
            let error = match answer {
                Ok(_) => return Ok(daemon),
                Err(error) => error,
            };
            if let Some(status) = daemon
                .child
                .try_wait()
                .context("cannot wait for the daemon")?
            {
                bail!(
                    "the daemon ended at once with {status}\n{}",
                    daemon.last_words()
                );
            }
            if waited >= START_WITHIN {
                let words = daemon.last_words();
                bail!("the daemon does not answer: {}\n{words}", error.message);
            }
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
    }

    /// The end of what it logged.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        lines[from..]
            .iter()
            .map(|line| format!("    {}", crate::telemetry::redact::escape(line)))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Asks it to end, and waits; true when it ended well and by itself. What did not end is killed.
    pub(super) async fn stop(mut self) -> anyhow::Result<bool> {
        if let Some(pid) = self.child.id().and_then(pid_of) {
            kill_process(pid, Signal::TERM).context("cannot stop the daemon")?;
        }
        let ended = tokio::time::timeout(STOP_WITHIN, self.child.wait()).await;
        let is_well = if let Ok(status) = ended {
            status.context("cannot wait for the daemon")?.success()
        } else {
            self.child.kill().await.context("cannot end the daemon")?;
            false
        };
        Ok(is_well)
    }
}

fn pid_of(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// Waits until no process works in `folder` any more; those that stay are named, and killed.
pub(super) async fn processes_left(folder: &Path) -> Vec<String> {
    let mut waited = Duration::ZERO;
    let mut left = working_in(folder);
    while !left.is_empty() && waited < GONE_WITHIN {
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
        left = working_in(folder);
    }
    for id in &left {
        if let Some(pid) = pid_of(*id) {
            // It may have ended just now.
            kill_process(pid, Signal::KILL).ok();
        }
    }
    left.iter().map(|id| format!("process {id}")).collect()
}

/// Processes whose command line, working directory or executable names the folder; never our own.
fn working_in(folder: &Path) -> BTreeSet<u32> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|id| *id != own && names(*id, folder).unwrap_or(false))
        .collect()
}

fn names(id: u32, folder: &Path) -> io::Result<bool> {
    let place = PathBuf::from(format!("/proc/{id}"));
    let words = std::fs::read(place.join("cmdline"))?;
    let needle = folder.as_os_str().as_encoded_bytes();
    if words.windows(needle.len()).any(|part| part == needle) {
        return Ok(true);
    }
    // A process that is over has no working directory any more.
    Ok(std::fs::read_link(place.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_in_the_folder_is_found_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = tokio::process::Command::new("sleep")
            .arg("60")
            .current_dir(folder.path())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let id = child.id().unwrap();
        assert_eq!(working_in(folder.path()), BTreeSet::from([id]));
        child.kill().await.unwrap();
        assert_eq!(processes_left(folder.path()).await, Vec::<String>::new());
    }
}
