//! The other side of `healer_agent::crash`: hears every announced point, answers, and kills at the chosen one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::process::Signal;

use super::processes;
use crate::lab::process::{run, signal};
use crate::lab::{PATIENCE, set_mode};

/// The nth time that a point of this name is reached, from 1 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) nth: usize,
}

/// Who dies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The process that announced it.
    Announcer,
    /// Daemon, agents, supervisor and its programs at once, as when the power goes.
    Everybody,
}

#[derive(Debug, Default)]
struct Heard {
    is_counting: bool,
    counts: BTreeMap<String, usize>,
    target: Option<(Target, Victim)>,
    killed: Option<u32>,
}

/// Both pipes of one run, and the thread that listens.
#[derive(Debug)]
pub(crate) struct Points {
    heard: Arc<Mutex<Heard>>,
    out: PathBuf,
    variable: String,
    thread: Option<JoinHandle<()>>,
}

/// A line that nobody else writes: the listener ends.
const END: &[u8] = b"0 end\n";

impl Points {
    /// Listens from now on. `folder` is one that only this run's processes name.
    pub(crate) fn listen(folder: &Path, target: Option<(Target, Victim)>) -> Self {
        let [out, back] = ["points", "answers"].map(|name| {
            let path = folder.join(name);
            run(Command::new("mkfifo").arg(&path), PATIENCE).expect_success();
            set_mode(&path, 0o666);
            path
        });
        let variable = format!("{},{}", out.display(), back.display());
        // Both ends at once, so that nobody ever waits for the other side to open.
        let [lines, mut answers] = [&out, &back].map(|path| {
            File::options()
                .read(true)
                .write(true)
                .open(path)
                .expect("the pipe was just made")
        });
        let heard = Arc::new(Mutex::new(Heard {
            target,
            ..Heard::default()
        }));
        let (shared, folder) = (Arc::clone(&heard), folder.to_owned());
        let thread = std::thread::spawn(move || {
            for line in BufReader::new(lines).lines() {
                let line = line.expect("the pipe stays open on this side");
                if line.as_bytes() == &END[..END.len() - 1] {
                    return;
                }
                let (pid, name) = line.split_once(' ').expect("a point is `PID NAME`");
                let pid = pid.parse().expect("a point is `PID NAME`");
                if !locked(&shared).kills(pid, name, &folder) {
                    answers.write_all(&[0]).expect("the pipe stays open");
                }
            }
        });
        Self {
            heard,
            out,
            variable,
            thread: Some(thread),
        }
    }

    /// The value of the variable that makes a process announce.
    pub(crate) fn variable(&self) -> &str {
        &self.variable
    }

    /// From here on points count; before, everybody passes.
    pub(crate) fn count(&self) {
        locked(&self.heard).is_counting = true;
    }

    /// Was the target reached?
    pub(crate) fn has_killed(&self) -> bool {
        locked(&self.heard).killed.is_some()
    }

    /// How often each point was passed, without the one where somebody died.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        locked(&self.heard).counts.clone()
    }
}

impl Heard {
    fn kills(&mut self, pid: u32, name: &str, folder: &Path) -> bool {
        if !self.is_counting || self.killed.is_some() {
            return false;
        }
        let count = self.counts.entry(name.to_owned()).or_default();
        *count += 1;
        let Some((_, victim)) = self
            .target
            .as_ref()
            .filter(|(target, _)| target.name == name && target.nth == *count)
        else {
            return false;
        };
        // It waits for an answer, so it is there and cannot be another one.
        signal(pid, Signal::KILL);
        if *victim == Victim::Everybody {
            processes::kill_all(folder);
        }
        self.killed = Some(pid);
        true
    }
}

impl Drop for Points {
    fn drop(&mut self) {
        let ended = File::options()
            .write(true)
            .open(&self.out)
            .and_then(|mut pipe| pipe.write_all(END));
        if let (Ok(()), Some(thread)) = (ended, self.thread.take())
            && thread.join().is_err()
        {
            eprintln!("the listener for crash points failed");
        }
    }
}

fn locked(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}
