//! The processes of one run, found by the folder that stands in their command lines.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::Signal;

use crate::lab::process::{is_alive, signal};

/// Living processes of ours with `folder` in their command line: daemon, agents, supervisor, programs.
pub(crate) fn of(folder: &Path) -> Vec<(u32, String)> {
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
