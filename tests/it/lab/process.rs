//! Processes that end with their owner, and programs that end in time.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// A server. Dropped: asked to end, and killed when it does not.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    pub(crate) fn start(name: &str, log: &Path, command: &mut Command) -> Self {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let err = out.try_clone().expect("descriptors can be cloned");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self {
            name: name.to_owned(),
            child,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let grace = Instant::now() + Duration::from_secs(5);
        // A child that was not waited for keeps its pid, so the signal cannot hit anybody else.
        signal(self.pid(), Signal::TERM);
        while self.runs() {
            if Instant::now() > grace {
                eprintln!("{} ignored SIGTERM", self.name);
                if self.child.kill().is_err() || self.child.wait().is_err() {
                    eprintln!("{} cannot be ended", self.name);
                }
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Sends a signal to a process that the caller started; one that is gone already is fine.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    match pid.map(|pid| rustix::process::kill_process(pid, signal)) {
        Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => {}
        other => panic!("no signal: {other:?}"),
    }
}

/// Whether the process exists and is more than a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(") ")
                .map(|(_, rest)| !rest.starts_with('Z'))
        })
        .unwrap_or(false)
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// Absent when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// # Panics
    /// When the program did not end with 0.
    #[track_caller]
    pub(crate) fn expect_success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs a program to its end.
///
/// Its output goes to files and not through pipes: a process that it leaves behind (as managers do) would hold a pipe open.
///
/// # Panics
/// When the program cannot start or takes longer than `limit`; then it is killed.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Output {
    run_with_input(command, Stdio::null(), limit)
}

/// The same with something to read.
pub(crate) fn run_with_input(command: &mut Command, input: Stdio, limit: Duration) -> Output {
    use std::io::{Read as _, Seek as _};
    let mut files =
        [tempfile::tempfile(), tempfile::tempfile()].map(|file| file.expect("a temporary file"));
    let [out, err] = files
        .each_ref()
        .map(|file| file.try_clone().expect("descriptors can be cloned"));
    let mut child = command
        .stdin(input)
        .stdout(out)
        .stderr(err)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            break Some(status);
        }
        if Instant::now() > end {
            child.kill().expect("it is our child");
            child.wait().expect("it is our child");
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let [stdout, stderr] = files.each_mut().map(|file| {
        let mut bytes = Vec::new();
        file.rewind().expect("a file can be rewound");
        file.take(4 << 20)
            .read_to_end(&mut bytes)
            .expect("a file can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let status = status
        .unwrap_or_else(|| panic!("{command:?} took longer than {limit:?}\n{stdout}\n{stderr}"));
    Output {
        code: status.code(),
        stdout,
        stderr,
    }
}
