//! The processes of one run, found by the folder that stands in their command lines.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::Signal;

use crate::lab::process::{is_alive, signal};
use crate::lab::sshd;

/// What can die between the daemon and the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The server's side of every SSH connection, and nothing that runs in it.
    Connection,
    /// Every agent that serves requests.
    Agent,
    Supervisor,
    Daemon,
}

impl Part {
    pub(crate) const ALL: [Self; 4] = [
        Self::Connection,
        Self::Agent,
        Self::Supervisor,
        Self::Daemon,
    ];

    /// A word of its command line.
    fn mark(self) -> &'static str {
        match self {
            Self::Connection => "sshd",
            Self::Agent => "--identity",
            Self::Supervisor => "supervise",
            Self::Daemon => "--config",
        }
    }
}

/// Living processes of ours with `folder` in their command line: daemon, agents, supervisor, programs. Their SSH server
/// is none of them.
pub(crate) fn of(folder: &Path) -> Vec<(u32, String)> {
    let mut found = naming(folder);
    found.retain(|(_, line)| !is(line, Part::Connection));
    found
}

fn is(line: &str, part: Part) -> bool {
    line.contains(part.mark())
}

fn naming(folder: &Path) -> Vec<(u32, String)> {
    let own = std::process::id();
    let mark = folder.as_os_str().as_bytes();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let names = line.windows(mark.len()).any(|part| part == mark);
            let shown = String::from_utf8_lossy(&line).replace('\0', " ");
            (pid != own && names && is_alive(pid)).then_some((pid, shown))
        })
        .collect()
}

/// Kills one part and says who that was.
pub(crate) fn kill(folder: &Path, part: Part) -> Vec<u32> {
    let mut pids = naming(folder);
    pids.retain(|(_, line)| is(line, part));
    if part == Part::Connection {
        return pids.iter().flat_map(|(pid, _)| sshd::cut(*pid)).collect();
    }
    for (pid, _) in &pids {
        signal(*pid, Signal::KILL);
    }
    pids.into_iter().map(|(pid, _)| pid).collect()
}

/// Kills them until none is left; a process that one of them was just starting is met the second time.
pub(crate) fn kill_all(folder: &Path) {
    for _ in 0..100 {
        let living = of(folder);
        if living.is_empty() {
            return;
        }
        for (pid, _) in living {
            signal(pid, Signal::KILL);
        }
        std::thread::yield_now();
    }
}
