//! One program of a step, from its start until nothing of it is left.
//!
//! It runs with a small clean environment, nothing on its standard input, capped output, no inherited descriptors and
//! a deadline on the boot clock. Whatever it leaves running is ended before this returns, also after a success.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, WaitStatus, pidfd_open};
use rustix::time::Timespec;

use super::capture::{Kept, drain, message};
use super::descendants::{self, MARK};
use super::helper::{NOT_STARTED, Orders};
use crate::identity::passwd;
use crate::witness::boot_clock_ms;

/// Where programs are looked for.
pub(super) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How often a running program's deadline and cancel are looked at.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) argv: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) directory: PathBuf,
    pub(super) orders: Orders,
    /// On the boot clock.
    pub(super) deadline_ms: u64,
    pub(super) heal: String,
    /// Bytes kept from the beginning, and again from the end, of each stream.
    pub(super) kept_bytes: usize,
}

/// Why a program's time ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// By itself.
    No,
    TimedOut,
    Cancelled,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) exit: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) stopped: Stopped,
    /// It ended and left processes behind, which were ended.
    pub(super) left_running: bool,
    pub(super) stdout: Kept,
    pub(super) stderr: Kept,
    /// Reason why nothing was started.
    pub(super) not_started: Option<String>,
}

impl Ended {
    fn not_started(reason: String) -> Self {
        Self {
            exit: None,
            signal: None,
            stopped: Stopped::No,
            left_running: false,
            stdout: Kept::default(),
            stderr: Kept::default(),
            not_started: Some(reason),
        }
    }

    pub(super) fn output_bytes(&self) -> u64 {
        self.stdout.total + self.stderr.total
    }

    /// Last lines of what it said, errors preferred.
    pub(super) fn message(&self) -> String {
        if let Some(reason) = &self.not_started {
            return message(reason);
        }
        let errors = self.stderr.last_lines();
        let mut text = if errors.is_empty() {
            self.stdout.last_lines()
        } else {
            errors
        };
        if self.left_running {
            text = message(&format!(
                "{text} [it left processes running; they were ended]"
            ));
        }
        text
    }

    /// Both streams, as kept.
    pub(super) fn output(&self) -> Vec<u8> {
        let mut bytes = self.stdout.bytes();
        bytes.extend(self.stderr.bytes());
        bytes
    }
}

/// Name, home and such for the user that programs run as.
pub(super) fn base_environment() -> BTreeMap<String, String> {
    let uid = rustix::process::geteuid().as_raw();
    let user = passwd::text()
        .ok()
        .and_then(|text| passwd::find(&text, |entry| entry.uid == uid));
    let (name, home) = user.map_or_else(
        || (uid.to_string(), "/nonexistent".to_owned()),
        |entry| (entry.name, entry.home),
    );
    [
        ("PATH", SEARCH_PATH.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("HOME", home),
        ("USER", name.clone()),
        ("LOGNAME", name),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// A path of which `~/` is the home of the user that programs run as.
pub(super) fn at_home(path: &str) -> String {
    match path.strip_prefix("~/") {
        Some(rest) => {
            let home = base_environment().remove("HOME").unwrap_or_default();
            format!("{}/{rest}", home.trim_end_matches('/'))
        }
        None => path.to_owned(),
    }
}

/// Finds a program: an absolute path, a path below `directory`, or a name in the search path.
pub(super) fn find(name: &str, directory: &Path, search_path: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = directory.join(name);
        return if is_program(&path) {
            Ok(path)
        } else {
            Err(format!("{name} is not a program that can be started"))
        };
    }
    search_path
        .split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(name))
        .find(|path| is_program(path))
        .ok_or_else(|| format!("no program `{name}` in {search_path}"))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Refuses what could not be passed to a program as it is meant.
pub(super) fn check(argv: &[String], environment: &BTreeMap<String, String>) -> Result<(), String> {
    if argv.first().is_none_or(String::is_empty) {
        return Err("no program is named".to_owned());
    }
    let nul = |text: &String| text.contains('\0');
    if argv.iter().any(nul) || environment.values().any(nul) {
        return Err("an argument holds a NUL byte".to_owned());
    }
    let named = |name: &String| !name.is_empty() && !name.contains(['=', '\0']) && name != MARK;
    if !environment.keys().all(named) {
        return Err("a variable's name is not one".to_owned());
    }
    Ok(())
}

/// Runs it; `cancelled` is asked now and then.
///
/// Only for a process that is a subreaper and has no other children.
pub(super) fn run(prefix: &[String], program: &Program, cancelled: &dyn Fn() -> bool) -> Ended {
    if let Err(reason) = check(&program.argv, &program.environment) {
        return Ended::not_started(reason);
    }
    let path = match find(
        &program.argv[0],
        &program.directory,
        program
            .environment
            .get("PATH")
            .map_or(SEARCH_PATH, String::as_str),
    ) {
        Ok(path) => path,
        Err(reason) => return Ended::not_started(reason),
    };
    let mut command = Command::new("/proc/self/exe");
    command
        .args(prefix)
        .arg("exec")
        .args(program.orders.arguments())
        .arg(path)
        .args(program.argv.iter().map(OsString::from))
        .env_clear()
        .envs(base_environment())
        .envs(&program.environment)
        .env(OsStr::new(MARK), &program.heal)
        .current_dir(&program.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ended::not_started(format!("cannot start a process: {error}")),
    };
    let Some(main) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return Ended::not_started("the process has no number".to_owned());
    };
    crate::crash::point("run.program.spawned");
    let stdout = child
        .stdout
        .take()
        .map(|stream| Stream::follow(stream, program.kept_bytes));
    let stderr = child
        .stderr
        .take()
        .map(|stream| Stream::follow(stream, program.kept_bytes));
    let (mut status, mut stopped) = (None, Stopped::No);
    let handle = pidfd_open(main, PidfdFlags::empty()).ok();
    loop {
        descendants::reap(|pid, ended| {
            if pid == main {
                status = Some(ended);
            }
        });
        if status.is_some() {
            break;
        }
        if cancelled() {
            stopped = Stopped::Cancelled;
            break;
        }
        let left = program.deadline_ms.saturating_sub(boot_clock_ms());
        if left == 0 {
            stopped = Stopped::TimedOut;
            break;
        }
        match &handle {
            Some(handle) => {
                let mut events = [PollFd::new(handle, PollFlags::IN)];
                // Interrupted or not, the loop looks again.
                let _events = poll(&mut events, Some(&LOOK_EVERY));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    crate::crash::point("run.program.ending");
    let left_running = descendants::end_all(|pid, ended| {
        if pid == main {
            status = status.or(Some(ended));
        }
    });
    crate::crash::point("run.program.ended");
    let status: Option<WaitStatus> = status;
    let mut ended = Ended {
        exit: status.and_then(WaitStatus::exit_status),
        signal: status.and_then(WaitStatus::terminating_signal),
        stopped,
        left_running: left_running && stopped == Stopped::No,
        stdout: stdout.map(Stream::finish).unwrap_or_default(),
        stderr: stderr.map(Stream::finish).unwrap_or_default(),
        not_started: None,
    };
    if ended.exit == Some(i32::from(NOT_STARTED)) && ended.stdout.total == 0 {
        // The helper's reason stands on standard error; a program's own 126 reads the same and fails the same.
        ended.not_started = Some(ended.stderr.last_lines());
    }
    ended
}

/// A stream that is read by a thread of its own.
struct Stream {
    kept: Arc<Mutex<Kept>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn follow(stream: impl std::io::Read + Send + 'static, kept_bytes: usize) -> Self {
        let kept = Arc::new(Mutex::new(Kept::new(kept_bytes)));
        let reader = std::thread::spawn({
            let kept = Arc::clone(&kept);
            move || {
                drain(stream, |bytes| {
                    kept.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(bytes);
                });
            }
        });
        Self { kept, reader }
    }

    /// All processes are gone, so the stream has ended, unless its other end was handed to a stranger: then what has
    /// come by now is all there is.
    fn finish(self) -> Kept {
        for _ in 0..200 {
            if self.reader.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_they_were_meant() {
        let root = tempfile::tempdir().unwrap();
        let local = root.path().join("tool");
        std::fs::write(&local, "").unwrap();
        assert!(find("./tool", root.path(), SEARCH_PATH).is_err());
        std::fs::set_permissions(&local, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(find("./tool", root.path(), SEARCH_PATH).is_ok());
        assert!(
            find("tool", root.path(), SEARCH_PATH).is_err(),
            "never from the directory by bare name"
        );
        assert_eq!(
            find("/bin/sh", root.path(), SEARCH_PATH).unwrap(),
            Path::new("/bin/sh")
        );
        assert!(find("true", root.path(), SEARCH_PATH).is_ok());
        assert!(
            find("true", root.path(), "bin:.").is_err(),
            "only absolute folders"
        );
    }

    #[test]
    fn arguments_that_cannot_be_passed_are_refused() {
        let environment =
            |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let argv = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        for (argv, environment, want) in [
            (argv(&["true"]), environment("A", "b=c"), true),
            (argv(&[]), environment("A", ""), false),
            (argv(&[""]), environment("A", ""), false),
            (argv(&["a\0b"]), environment("A", ""), false),
            (argv(&["true"]), environment("A=B", ""), false),
            (argv(&["true"]), environment(MARK, "other"), false),
        ] {
            assert_eq!(
                check(&argv, &environment).is_ok(),
                want,
                "{argv:?} {environment:?}"
            );
        }
    }
}
