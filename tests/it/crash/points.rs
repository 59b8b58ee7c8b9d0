//! The other side of `healer_agent::crash`: hears every announced point, answers, and kills at the chosen one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::process::Signal;

use super::processes::{self, Part};
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
    /// One part of the way from the daemon to the action; whoever announced goes on, unless it is that part.
    Part(Part),
    /// Nobody: it stands there until it is let go, or dies of something else.
    Nobody,
}

#[derive(Debug, Default)]
struct Heard {
    is_counting: bool,
    counts: BTreeMap<String, usize>,
    target: Option<(Target, Victim)>,
    /// Who died at the target, once it was reached.
    killed: Option<Vec<u32>>,
}

/// Both pipes of one run, and the thread that listens.
#[derive(Debug)]
pub(crate) struct Points {
    heard: Arc<Mutex<Heard>>,
    out: PathBuf,
    answers: File,
    variable: String,
    thread: Option<JoinHandle<()>>,
}

/// A line that nobody else writes: the listener ends.
const END: &[u8] = b"0 end\n";

/// The value of the variable that makes a process announce, for pipes in that folder as the process sees it.
pub(crate) fn variable(folder: &str) -> String {
    format!("{folder}/points,{folder}/answers")
}

impl Points {
    /// Listens from now on. `folder` is one that only this run's processes name.
    pub(crate) fn listen(folder: &Path, target: Option<(Target, Victim)>) -> Self {
        Self::listen_in(folder, folder, target)
    }

    /// The same with pipes in a folder of their own.
    pub(crate) fn listen_in(pipes: &Path, folder: &Path, target: Option<(Target, Victim)>) -> Self {
        let [out, back] = ["points", "answers"].map(|name| {
            let path = pipes.join(name);
            run(Command::new("mkfifo").arg(&path), PATIENCE).expect_success();
            set_mode(&path, 0o666);
            path
        });
        // Both ends at once, so that nobody ever waits for the other side to open.
        let [lines, mut answers] = [&out, &back].map(|path| {
            File::options()
                .read(true)
                .write(true)
                .open(path)
                .expect("the pipe was just made")
        });
        let let_go = answers.try_clone().expect("descriptors can be cloned");
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
            answers: let_go,
            variable: variable(&pipes.display().to_string()),
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

    /// Was it reached, and was there anybody who could be killed?
    pub(crate) fn has_victims(&self) -> bool {
        let heard = locked(&self.heard);
        heard.killed.as_ref().is_some_and(|pids| !pids.is_empty())
    }

    /// Lets whoever stands at the target go on.
    pub(crate) fn let_go(&self) {
        (&self.answers)
            .write_all(&[0])
            .expect("the pipe stays open");
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
        let mut killed = Vec::new();
        // It waits for an answer, so it is there and cannot be another one.
        let answers_not = match *victim {
            Victim::Announcer => {
                signal(pid, Signal::KILL);
                killed.push(pid);
                true
            }
            Victim::Everybody => {
                signal(pid, Signal::KILL);
                killed.push(pid);
                processes::kill_all(folder);
                true
            }
            Victim::Part(part) => {
                killed = processes::kill(folder, part);
                killed.contains(&pid)
            }
            Victim::Nobody => true,
        };
        self.killed = Some(killed);
        answers_not
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
