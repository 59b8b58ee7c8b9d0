//! Ending every process that a step left behind, and nothing else on the host.
//!
//! The supervisor is a subreaper: whatever its programs start, however they detach, stays below it in the process
//! table, because an orphan becomes the supervisor's own child. So "ended" is not a guess: it is the kernel saying
//! that no child is left. Processes are signalled through a descriptor that names one process for ever, never by a
//! number that may have passed to a stranger.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, WaitStatus, pidfd_open,
    pidfd_send_signal,
};

use crate::witness::boot_clock_ms;

/// Time between the polite signal and the other one.
const GRACE_MS: u64 = 1500;

/// What names a process for ever on this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks since boot.
    pub(crate) started: u64,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    zombie: bool,
}

/// Reads one line of the process table; `None` when the process is gone.
pub(crate) fn look(pid: i32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(pid, &stat)
}

fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    // The name stands in parentheses and may hold anything, parentheses too: the last one ends it.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = text.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let started = fields.nth(16)?.parse().ok()?;
    Some(Process {
        pid,
        started,
        parent,
        group,
        zombie: state == "Z" || state == "X",
    })
}

/// Everything below `root` in the process table, `root` not among it.
pub(crate) fn below(root: i32) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(parent) = next.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            next.push(child.pid);
            found.push(child);
        }
    }
    found
}

pub(crate) fn all() -> impl Iterator<Item = Process> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| look(entry.ok()?.file_name().to_str()?.parse().ok()?))
}

/// Signals exactly this process; a number that means another one by now is left alone.
fn signal(process: &Process, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(process.pid) else {
        return false;
    };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    // The handle is open: if the number still means the process that was seen, so does the handle.
    let same = look(process.pid).is_some_and(|now| now.started == process.started);
    same && pidfd_send_signal(&handle, signal).is_ok()
}

/// Takes the right to fork from a process: the only thing that surely wins against one that forks in a loop.
fn forbid_forking(process: &Process) {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Some(pid) = Pid::from_raw(process.pid) {
        // It may be gone, or another user's; the signal that follows is what counts.
        let _gone = rustix::process::prlimit(Some(pid), Resource::Nproc, none);
    }
}

/// Reaps every child that has ended; tells of each. False when no child is left at all.
pub(super) fn reap(mut ended: impl FnMut(Pid, WaitStatus)) -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => ended(pid, status),
            Ok(None) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Ends all that is below this process, and returns when nothing is left; true when there was anything alive.
///
/// Only for a subreaper with no children but those of its step. A process in an uninterruptible sleep keeps it
/// waiting: nothing may say that it is gone before it is.
pub(super) fn end_all(mut ended: impl FnMut(Pid, WaitStatus)) -> bool {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    if !reap(&mut ended) {
        return false;
    }
    let mut any = false;
    let give_up_asking = boot_clock_ms() + GRACE_MS;
    let mut asked = BTreeSet::new();
    let mut rounds = 0_u32;
    loop {
        let kill = boot_clock_ms() >= give_up_asking;
        let processes = below(own);
        any |= processes.iter().any(|process| !process.zombie);
        if kill {
            kill_groups(own, &processes);
        }
        for process in processes.iter().filter(|process| !process.zombie) {
            if kill {
                forbid_forking(process);
                signal(process, Signal::KILL);
            } else if asked.len() < 10_000 && asked.insert((process.pid, process.started)) {
                signal(process, Signal::TERM);
            }
        }
        if !reap(&mut ended) {
            return any;
        }
        // At first as fast as it goes, to win against forks; whatever is left later sleeps in the kernel.
        rounds += u32::from(kill);
        if !kill || rounds > 500 {
            pause(Duration::from_millis(20));
        }
    }
}

/// Kills whole process groups at once, so that a chain of forks cannot slip between a look and a signal.
///
/// A group's number is safe to use while a child of ours that we have not reaped belongs to it: the kernel does not
/// give the number away before.
fn kill_groups(own: i32, processes: &[Process]) {
    let own_group = look(own).map(|process| process.group);
    let groups: BTreeSet<i32> = processes
        .iter()
        .filter(|process| process.parent == own && Some(process.group) != own_group)
        .map(|process| process.group)
        .collect();
    for group in groups {
        if let Some(group) = Pid::from_raw(group) {
            // Nobody left in it is what we want.
            let _gone = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

/// Ends what outlived a supervisor that was killed, found by the mark in its environment; true when nothing is left.
///
/// Only orphans and what is below them: a service that took the mark over from a client of its manager has the manager
/// for a parent, and lives on.
pub(crate) fn end_marked(heal: &str) -> bool {
    for _ in 0..50 {
        let processes: BTreeMap<i32, Process> =
            all().map(|process| (process.pid, process)).collect();
        let marked: BTreeSet<i32> = processes
            .values()
            .filter(|process| is_marked(process, heal))
            .map(|process| process.pid)
            .collect();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let left: Vec<&Process> = marked
            .iter()
            .filter(|pid| is_orphaned(**pid, own, &processes, &marked))
            .filter_map(|pid| processes.get(pid))
            .collect();
        if left.is_empty() {
            return true;
        }
        for process in left {
            forbid_forking(process);
            signal(process, Signal::KILL);
        }
        pause(Duration::from_millis(20));
    }
    false
}

/// Does the chain of marked parents end at a process that adopts orphans: the first one, or one above ourselves?
fn is_orphaned(
    pid: i32,
    own: i32,
    processes: &BTreeMap<i32, Process>,
    marked: &BTreeSet<i32>,
) -> bool {
    let parent = |pid: i32| processes.get(&pid).map_or(0, |process| process.parent);
    // Bounded, because a table that is read while it changes need not be a tree.
    let mut top = parent(pid);
    for _ in 0..processes.len() {
        if !marked.contains(&top) {
            break;
        }
        top = parent(top);
    }
    if top <= 1 {
        return true;
    }
    let mut above = parent(own);
    for _ in 0..processes.len() {
        if above == top {
            return true;
        }
        above = parent(above);
    }
    false
}

/// The variable that every program of an action bears.
pub(crate) const MARK: &str = "HEALERD_HEAL";

fn is_marked(process: &Process, heal: &str) -> bool {
    use std::io::Read as _;
    if process.zombie {
        return false;
    }
    let mut environment = Vec::new();
    let read: io::Result<_> = fs::File::open(format!("/proc/{}/environ", process.pid))
        .and_then(|file| file.take(1 << 20).read_to_end(&mut environment));
    let wanted = format!("{MARK}={heal}");
    read.is_ok()
        && environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
}

/// Ends the children of this process, and what is below them, but for `spared` and what is below those.
pub(crate) fn end_children_but(spared: &BTreeSet<i32>) {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    for _ in 0..20 {
        let children: Vec<Process> = below(own)
            .into_iter()
            .filter(|process| process.parent == own && !process.zombie)
            .filter(|process| !spared.contains(&process.pid))
            .collect();
        if children.is_empty() {
            return;
        }
        for child in &children {
            for process in below(child.pid).iter().chain([child]) {
                signal(process, Signal::KILL);
            }
        }
        pause(Duration::from_millis(10));
    }
}

fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_hide_a_parent() {
        let fields = "S 12 34 34 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0";
        let process = parse_stat(5, format!("5 (a) b) R 1) {fields}").as_bytes()).unwrap();
        assert_eq!(
            (process.parent, process.group, process.started),
            (12, 34, 777)
        );
        assert_eq!(parse_stat(5, b"5 (x) S 1"), None);
        assert_eq!(parse_stat(5, b""), None);
    }

    #[test]
    fn a_managers_child_is_no_orphan() {
        let process = |pid, parent| {
            let process = Process {
                pid,
                started: 1,
                parent,
                group: pid,
                zombie: false,
            };
            (pid, process)
        };
        // 10: our parent, 11: ourselves, 20: a manager, 21: its child, 30: an orphan, 31: its child, 40: adopted by 10
        let processes = BTreeMap::from([
            process(1, 0),
            process(10, 1),
            process(11, 10),
            process(20, 1),
            process(21, 20),
            process(30, 1),
            process(31, 30),
            process(40, 10),
        ]);
        let marked = BTreeSet::from([21, 30, 31, 40]);
        for (pid, want) in [(21, false), (30, true), (31, true), (40, true)] {
            assert_eq!(is_orphaned(pid, 11, &processes, &marked), want, "{pid}");
        }
    }

    #[test]
    fn a_reused_number_is_not_signalled() {
        let own = look(rustix::process::getpid().as_raw_nonzero().get()).unwrap();
        let stranger = Process {
            started: own.started + 1,
            ..own
        };
        assert!(!signal(&stranger, Signal::KILL));
    }
}
