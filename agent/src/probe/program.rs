//! The `program` probe: a program as the application's user, in its root, without a shell.
//!
//! It runs in a process group of its own, with a small clean environment, closed stdin and capped output. When its
//! time is over the group and every descendant that can still be found is killed. Never as root: a program out of an
//! application's directory could be anything.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::Context;
use super::deadline::Deadline;
use super::found::{Found, TEXT_BYTES_MAX, cut, json_fact};
use super::procfs;
use super::spec::{Fact, Output};
use crate::units::parse_duration;

pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const ERROR_BYTES_MAX: usize = 4 << 10;
/// So much of a stream is read; then the program is stopped, because it will not say anything more of use.
const READ_BYTES_MAX: usize = 1 << 20;
/// How long output may still come from descendants once the program itself is gone.
const LINGER: Duration = Duration::from_millis(500);

/// What a run gave.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) exit: Option<i32>,
    pub(super) timed_out: bool,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// It said more than is read, and was stopped for that.
    pub(super) overflowed: bool,
}

/// Why it did not run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotRun {
    NotFound,
    Other(String),
}

/// Finds a program: with a slash below the root (or absolute), else along a fixed path.
pub(super) fn find(root: &Path, name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        let path = root.join(name);
        return path.is_file().then_some(path);
    }
    std::env::split_paths(PATH)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// Home of a user by `/etc/passwd`; no name service is asked.
pub(super) fn home_of(uid: u32) -> Option<String> {
    let passwd = procfs::read_text("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let found = fields.next()?.parse::<u32>().ok()? == uid;
        let home = fields.nth(2)?;
        (found && home.starts_with('/')).then(|| home.to_owned())
    })
}

/// Runs a program to its end or the deadline.
pub(super) fn run(
    context: &Context,
    program: &Path,
    arguments: &[String],
    environment: &BTreeMap<String, String>,
    deadline: Deadline,
    read_bytes_max: usize,
) -> Result<Ran, NotRun> {
    let other = |error: &dyn std::fmt::Display| NotRun::Other(error.to_string());
    let (uid, gid) = (context.target.uid, context.target.gid);
    let me = rustix::process::geteuid();
    if uid == 0 {
        return Err(NotRun::Other("a program is never run as root".to_owned()));
    }
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .env("HOME", home_of(uid).unwrap_or_else(|| "/".to_owned()))
        .envs(environment)
        .current_dir(context.place.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if me.is_root() {
        // Also gives up every supplementary group.
        command.uid(uid).gid(gid);
    } else if me.as_raw() != uid {
        let why = format!(
            "runs as uid {}, not as the application's {uid}",
            me.as_raw()
        );
        return Err(NotRun::Other(why));
    }
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => NotRun::NotFound,
        _ => other(&error),
    })?;
    let watched = watch(&mut child, context, deadline, read_bytes_max);
    // Whatever happened: nothing of it stays, and the child is reaped.
    let mut ran = watched.unwrap_or_default();
    let status = if let Ok(Some(status)) = child.try_wait() {
        end(&child, false);
        Some(status)
    } else {
        end(&child, true);
        child.wait().ok()
    };
    let stopped = ran.timed_out || ran.overflowed;
    ran.exit = status.filter(|_| !stopped).and_then(|status: ExitStatus| {
        status.signal().is_none().then_some(status.code()).flatten()
    });
    Ok(ran)
}

/// Kills the group, and with `tree` every descendant that left it, as far as `/proc` shows them.
fn end(child: &Child, tree: bool) {
    let Some(leader) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return;
    };
    if tree {
        let processes = procfs::all().unwrap_or_default();
        let mut family = vec![leader.as_raw_nonzero().get()];
        let mut at = 0;
        while let Some(parent) = family.get(at).copied() {
            family.extend(
                processes
                    .iter()
                    .filter(|p| p.parent == parent)
                    .map(|p| p.pid),
            );
            at += 1;
        }
        for pid in family.into_iter().filter_map(Pid::from_raw) {
            // Gone already is as good.
            _ = kill_process(pid, Signal::KILL);
        }
    }
    _ = kill_process_group(leader, Signal::KILL);
}

/// Drains both streams until they end, the program ends, or time or output is used up.
fn watch(
    child: &mut Child,
    context: &Context,
    deadline: Deadline,
    read_bytes_max: usize,
) -> std::io::Result<Ran> {
    let mut ran = Ran::default();
    let mut out = child.stdout.take();
    let mut err = child.stderr.take();
    let streams = [
        out.as_ref().map(|s| s.as_fd()),
        err.as_ref().map(|s| s.as_fd()),
    ];
    for stream in streams.into_iter().flatten() {
        fcntl_setfl(stream, fcntl_getfl(stream)? | OFlags::NONBLOCK)?;
    }
    let mut gone_at: Option<Deadline> = None;
    let mut said = (0_usize, 0_usize);
    while out.is_some() || err.is_some() {
        if gone_at.is_none() && child.try_wait()?.is_some() {
            gone_at = Some(Deadline::after(LINGER));
        }
        if gone_at.is_some_and(Deadline::passed) {
            return Ok(ran);
        }
        if gone_at.is_none() && (deadline.passed() || context.stopped()) {
            ran.timed_out = true;
            return Ok(ran);
        }
        let mut waits: Vec<PollFd<'_>> = Vec::new();
        waits.extend(out.as_ref().map(|s| PollFd::new(s, PollFlags::IN)));
        waits.extend(err.as_ref().map(|s| PollFd::new(s, PollFlags::IN)));
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: 20_000_000,
        };
        match poll(&mut waits, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if drain(&mut out, &mut ran.stdout, read_bytes_max, &mut said.0)? {
            out = None;
        }
        // Errors are kept in full up to their own small limit and counted beyond.
        if drain(&mut err, &mut ran.stderr, ERROR_BYTES_MAX, &mut said.1)? {
            err = None;
        }
        if said.0 > read_bytes_max || said.1 > READ_BYTES_MAX {
            ran.overflowed = true;
            return Ok(ran);
        }
    }
    // Both streams were closed; the program itself may go on until its time is over.
    while child.try_wait()?.is_none() {
        if deadline.passed() || context.stopped() {
            ran.timed_out = true;
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(ran)
}

/// Takes what is there; true at the end of the stream.
fn drain(
    stream: &mut Option<impl std::io::Read>,
    kept: &mut Vec<u8>,
    kept_max: usize,
    said: &mut usize,
) -> std::io::Result<bool> {
    let Some(stream) = stream else {
        return Ok(true);
    };
    let mut buffer = [0; 16 << 10];
    for _ in 0..16 {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(read) => {
                *said = said.saturating_add(read);
                let room = kept_max.saturating_sub(kept.len()).min(read);
                kept.extend_from_slice(&buffer[..room]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

pub(super) fn probe(context: &Context, argv: &[String], timeout: &str, output: Output) -> Found {
    let unknown = |why: &str| Found::unknown("program", why);
    let timeout = match parse_duration(timeout) {
        Ok(timeout) => timeout,
        Err(error) => return unknown(&error.to_string()),
    };
    let Some((name, arguments)) = argv.split_first() else {
        return unknown("`argv` is empty");
    };
    let Some(program) = find(context.place.root(), name) else {
        return Found::absent("program").with("found", false);
    };
    let deadline = context.within(timeout);
    let ran = run(
        context,
        &program,
        arguments,
        &BTreeMap::new(),
        deadline,
        READ_BYTES_MAX,
    );
    match ran {
        Err(NotRun::NotFound) => Found::absent("program").with("found", false),
        Err(NotRun::Other(why)) => unknown(&why),
        Ok(ran) => facts(&ran, output),
    }
}

fn facts(ran: &Ran, output: Output) -> Found {
    let text = String::from_utf8_lossy(&ran.stdout);
    let mut found = Found::absent("program")
        .with("found", true)
        .with("exit", ran.exit.map(i64::from))
        .with("timed_out", ran.timed_out)
        .with("text", cut(&text, TEXT_BYTES_MAX))
        .with(
            "error_text",
            cut(&String::from_utf8_lossy(&ran.stderr), ERROR_BYTES_MAX),
        );
    let cut_off = ran.timed_out || ran.overflowed;
    match output {
        Output::Text => {}
        Output::Lines if cut_off => {
            found.set("lines", Fact::Unknown("the output was cut off".to_owned()));
        }
        Output::Lines => found.set("lines", text.lines().map(str::to_owned).collect::<Vec<_>>()),
        Output::Json if cut_off => {
            found.set("json", Fact::Unknown("the output was cut off".to_owned()));
        }
        Output::Json => {
            let json = serde_json::from_slice(&ran.stdout).ok();
            found.set("json", json.as_ref().map(json_fact));
        }
    }
    found
}
