//! Processes as `/proc` shows them, read with bounds.
//!
//! A process may end while it is read; then it is left out. What may not be read of a process is `None` and never
//! taken for something else.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The most that is read of any file of `/proc`.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The most that is read of a command line.
const ARGUMENTS_BYTES_MAX: u64 = 64 << 10;

/// Reads a file of `/proc` as text.
pub(super) fn read_text(path: &str) -> io::Result<String> {
    let bytes = read_bytes(Path::new(path), FILE_BYTES_MAX)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_bytes(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One live process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) uid: u32,
    /// Name by the kernel, at most 15 bytes.
    pub(super) name: String,
    /// The command line; empty for kernel threads and zombies.
    pub(super) arguments: Vec<String>,
    /// Clock ticks between boot and its start.
    start_ticks: u64,
}

impl Process {
    fn path(pid: i32, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{pid}/{file}"))
    }

    /// Reads a process; `None` when it is gone or a zombie.
    pub(super) fn read(pid: i32) -> Option<Self> {
        let status = read_bytes(&Self::path(pid, "status"), FILE_BYTES_MAX).ok()?;
        let status = String::from_utf8_lossy(&status).into_owned();
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        if field("State").is_none_or(|state| state.starts_with(['Z', 'X'])) {
            return None;
        }
        let uid = field("Uid")?
            .split_ascii_whitespace()
            .next()?
            .parse()
            .ok()?;
        let parent = field("PPid")?.parse().ok()?;
        let name = field("Name")?.to_owned();
        let arguments = read_bytes(&Self::path(pid, "cmdline"), ARGUMENTS_BYTES_MAX).ok()?;
        let arguments = arguments
            .split(|byte| *byte == 0)
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .filter(|argument| !argument.is_empty())
            .collect();
        let stat = read_bytes(&Self::path(pid, "stat"), FILE_BYTES_MAX).ok()?;
        let stat = String::from_utf8_lossy(&stat).into_owned();
        // The name may hold blanks and brackets; fields are counted behind the last one.
        let start_ticks = stat
            .rsplit_once(") ")?
            .1
            .split_ascii_whitespace()
            .nth(19)?
            .parse()
            .ok()?;
        Some(Self {
            pid,
            parent,
            uid,
            name,
            arguments,
            start_ticks,
        })
    }

    /// Working directory; an error when the kernel does not tell.
    pub(super) fn directory(&self) -> io::Result<PathBuf> {
        std::fs::read_link(Self::path(self.pid, "cwd"))
    }

    /// The program; an error when the kernel does not tell.
    pub(super) fn program(&self) -> io::Result<PathBuf> {
        std::fs::read_link(Self::path(self.pid, "exe"))
    }

    /// Values of its environment at start, where readable.
    pub(super) fn environment(&self, names: &[&str]) -> Vec<Option<String>> {
        let bytes =
            read_bytes(&Self::path(self.pid, "environ"), FILE_BYTES_MAX).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let value = |name: &&str| {
            text.split('\0')
                .find_map(|pair| pair.strip_prefix(*name)?.strip_prefix('='))
                .map(str::to_owned)
        };
        names.iter().map(value).collect()
    }

    /// The control group path that systemd uses, where there is one.
    pub(super) fn control_group(&self) -> Option<String> {
        let bytes = read_bytes(&Self::path(self.pid, "cgroup"), ARGUMENTS_BYTES_MAX).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let group = |prefix: &str| {
            text.lines()
                .find_map(|line| line.split_once(':')?.1.strip_prefix(prefix))
                .map(str::to_owned)
        };
        group("name=systemd:").or_else(|| group(":"))
    }

    /// Milliseconds since its start, given the time since boot.
    pub(super) fn age_ms(&self, since_boot: std::time::Duration) -> i64 {
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let start_ms = u128::from(self.start_ticks) * 1_000 / u128::from(ticks);
        i64::try_from(since_boot.as_millis().saturating_sub(start_ms)).unwrap_or(i64::MAX)
    }

    /// Socket inodes that it holds open; an error when it may not be looked at.
    pub(super) fn sockets(&self) -> io::Result<Vec<u64>> {
        let mut inodes = Vec::new();
        for entry in std::fs::read_dir(Self::path(self.pid, "fd"))?.take(100_000) {
            let Ok(target) = std::fs::read_link(entry?.path()) else {
                continue; // closed meanwhile
            };
            let inode: Option<u64> = target.to_str().and_then(|text| {
                text.strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .parse()
                    .ok()
            });
            inodes.extend(inode);
        }
        Ok(inodes)
    }
}

/// Every process that is to be seen, by number.
pub(super) fn all() -> io::Result<Vec<Process>> {
    let mut pids: Vec<i32> = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        pids.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok()),
        );
    }
    pids.sort_unstable();
    Ok(pids.into_iter().filter_map(Process::read).collect())
}

/// Last component of a path.
pub(super) fn base_name(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}
