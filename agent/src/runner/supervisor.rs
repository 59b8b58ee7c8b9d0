//! The process that runs one action from its intent to its end, whoever dies meanwhile.
//!
//! It is started with the heal's lock as standard input and the target's as standard output, and holds both for life:
//! while it lives the record says Running, and when it dies the kernel says so. The order of its effects is the
//! promise: step index before a step, a step's processes gone before its walk, effects synced before `finished`.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::files::Files;
use super::program::{self, Ended, Program, Stopped};
use super::{capture, helper, pm2};
use crate::confine;
use crate::crash::point;
use crate::protocol::{Finished, How, StepReport};
use crate::step::Step;
use crate::witness::{Intent, OutputHead, Witness, boot_clock_ms, files};

/// Longest time that each step of `finally` has, beyond the action's own deadline.
const FINALLY_MS: u64 = 60_000;

/// `pm2 jlist` tells some kilobytes per process.
const PM2_LIST_BYTES: usize = 16 << 20;

/// The locks that came with the process, for its whole life.
struct Locks {
    _heal: File,
    target: File,
}

/// Runs the action of a heal whose intent is on disk. Silent: the record is its only voice.
pub(crate) fn main(prefix: &[String], state: &Path, heal: &str) -> ExitCode {
    match supervise(prefix, state, heal) {
        Ok(()) => ExitCode::SUCCESS,
        // Nothing was started, or `finished` could not be written: the record says Interrupted, which is the truth.
        Err(_) => ExitCode::FAILURE,
    }
}

fn supervise(prefix: &[String], state: &Path, heal: &str) -> io::Result<()> {
    let witness = Witness::open(state).map_err(io::Error::other)?;
    let directory = witness.directory(heal).map_err(io::Error::other)?;
    let locks = take_locks(&directory)?;
    rustix::process::setsid()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let intent = witness
        .intent(heal)
        .map_err(io::Error::other)?
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    // Whoever holds the lock is the only one; this keeps even a hand that starts us twice from running it twice.
    if !files::create(
        &directory,
        "started",
        &std::process::id(),
        "run.started.written",
    )? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    point("run.started");
    let began = boot_clock_ms();
    let mut action = Action {
        prefix,
        witness: &witness,
        directory: &directory,
        intent: &intent,
        abi: confine::abi(),
        confined: true,
        reports: Vec::new(),
    };
    let mut finished = action.run()?;
    finished.duration_ms = boot_clock_ms().saturating_sub(began);
    point("run.effects.durable");
    // Whoever reads `finished` may start the next thing here at once. Nothing of this action is alive any more.
    rustix::fs::flock(&locks.target, FlockOperation::Unlock)?;
    files::replace(&directory, "finished", &finished)?;
    point("run.finished");
    Ok(())
}

/// Moves the locks off the standard streams, and makes sure that they are what they should be.
fn take_locks(directory: &Path) -> io::Result<Locks> {
    use std::os::unix::fs::MetadataExt as _;
    let heal = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let target = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?);
    let (ours, named) = (heal.metadata()?, std::fs::metadata(directory.join("lock"))?);
    let same = (ours.dev(), ours.ino()) == (named.dev(), named.ino());
    if !same || !files::try_lock(&heal, FlockOperation::NonBlockingLockExclusive)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(Locks {
        _heal: heal,
        target,
    })
}

struct Action<'a> {
    prefix: &'a [String],
    witness: &'a Witness,
    directory: &'a Path,
    intent: &'a Intent,
    abi: u32,
    confined: bool,
    reports: Vec<StepReport>,
}

/// Why the steps end here.
enum Next {
    Go,
    End(How),
}

impl Action<'_> {
    fn run(&mut self) -> io::Result<Finished> {
        let start = &self.intent.start;
        let mut files = match Files::open(&start.target) {
            Ok(files)
                if files.root() == self.intent.real_root
                    && files.declared() == start.target.roots.as_slice() =>
            {
                files
            }
            // Nothing was run; the target is another one than the one that was admitted.
            Ok(_) => {
                return Ok(self.refused("a root leads elsewhere since the start was admitted"));
            }
            Err(refusal) => return Ok(self.refused(&refusal.message)),
        };
        let asked = self.directory.join("cancel");
        let cancelled = || asked.exists();
        let (mut how, mut last) = (How::Done, 0);
        for (index, step) in start.steps.iter().enumerate() {
            last = u32::try_from(index).unwrap_or(u32::MAX);
            self.announce(last)?;
            if let Next::End(end) = self.stopped() {
                how = end;
                break;
            }
            let deadline = self.intent.deadline_ms;
            if let Next::End(end) = self.step(last, step, &mut files, deadline, &cancelled)? {
                how = end;
                break;
            }
        }
        for (offset, step) in start.finally.iter().enumerate() {
            let index = u32::try_from(start.steps.len() + offset).unwrap_or(u32::MAX);
            self.announce(index)?;
            let deadline = boot_clock_ms() + FINALLY_MS;
            // A cancel stops the steps; what puts things in order afterwards runs to its end.
            if let Next::End(end) = self.step(index, step, &mut files, deadline, &|| false)?
                && how == How::Done
            {
                (how, last) = (end, index);
            }
        }
        point("run.steps.ended");
        let effects = self.witness.write_effects(&start.heal, files.effects());
        let complete = effects.is_ok() && files.complete();
        Ok(Finished {
            how,
            step: last,
            steps: std::mem::take(&mut self.reports),
            effects: effects.unwrap_or(0),
            effects_complete: complete,
            confined: self.confined,
            duration_ms: 0,
        })
    }

    fn refused(&self, message: &str) -> Finished {
        Finished {
            how: How::Failed,
            step: 0,
            steps: vec![report("start", message)],
            effects: 0,
            effects_complete: true,
            confined: self.confined,
            duration_ms: 0,
        }
    }

    /// Durable before the step: a supervisor that dies in it leaves its number.
    fn announce(&self, index: u32) -> io::Result<()> {
        files::replace(self.directory, "step", &index)?;
        point("run.step.announced");
        Ok(())
    }

    fn cancelled(&self) -> bool {
        self.directory.join("cancel").exists()
    }

    fn stopped(&self) -> Next {
        if self.cancelled() {
            Next::End(How::Cancelled)
        } else if boot_clock_ms() >= self.intent.deadline_ms {
            Next::End(How::TimedOut)
        } else {
            Next::Go
        }
    }

    fn step(
        &mut self,
        index: u32,
        step: &Step,
        files: &mut Files,
        deadline_ms: u64,
        cancelled: &dyn Fn() -> bool,
    ) -> io::Result<Next> {
        let ended = match step {
            Step::Run {
                argv,
                env,
                ok,
                timeout_ms,
            } => {
                let start = &self.intent.start;
                let root = files.paths().into_iter().next().unwrap_or_default();
                let scratch: Vec<String> = start
                    .scratch
                    .iter()
                    .map(|path| program::at_home(path))
                    .collect();
                let plan = confine::plan(&root, &start.writes, &scratch, self.abi);
                let before = match files.before(instant_at(deadline_ms)) {
                    Ok(before) => before,
                    Err(message) => return Ok(self.failed(step, &message)),
                };
                point("run.walked_before");
                let program = Program {
                    argv: argv.clone(),
                    environment: env.clone(),
                    orders: orders(plan.writable, plan.confined, self.abi),
                    ..self.program(
                        files,
                        deadline_ms.min(boot_clock_ms().saturating_add(*timeout_ms)),
                    )
                };
                let ended = program::run(self.prefix, &program, cancelled);
                files.after(&before, instant_at(deadline_ms));
                point("run.walked_after");
                self.confined &= plan.confined || ended.not_started.is_some();
                let success = ended.exit.is_some_and(|exit| ok.contains(&exit));
                (ended, success)
            }
            Step::RestartPm2 { name, home } => {
                match self.restart_pm2(name, home.as_deref(), files, deadline_ms, cancelled) {
                    Ok(ended) => {
                        let success = ended.exit == Some(0);
                        (ended, success)
                    }
                    Err(message) => return Ok(self.failed(step, &message)),
                }
            }
            Step::RestartUnit { unit } => {
                if !crate::identity::allow::is_unit_name(unit) {
                    return Ok(self.failed(step, "this is not a unit's name"));
                }
                let argv = ["systemctl", "--no-ask-password", "restart", "--", unit];
                let program = Program {
                    argv: argv.map(str::to_owned).to_vec(),
                    directory: PathBuf::from("/"),
                    ..self.program(files, deadline_ms)
                };
                let ended = program::run(self.prefix, &program, cancelled);
                let success = ended.exit == Some(0);
                (ended, success)
            }
            Step::Chown { .. }
            | Step::SetBits { .. }
            | Step::Put { .. }
            | Step::EditKey { .. }
            | Step::Remove { .. }
            | Step::SwapDirectory { .. }
            | Step::TrimLog { .. } => {
                let stage = self.witness.stage(&self.intent.start.heal);
                let done = files.native(step, &stage, instant_at(deadline_ms));
                // Should this process die before the end, what it knew of its changes lives on. All are written again
                // at the end, where a failure counts.
                let known = self
                    .witness
                    .write_effects(&self.intent.start.heal, files.effects());
                drop(known);
                point("run.step.recorded");
                return Ok(match done {
                    Ok(()) => {
                        self.reports.push(report(step.name(), ""));
                        Next::Go
                    }
                    Err(message) => self.failed(step, &message),
                });
            }
        };
        self.told(index, step, &ended.0, ended.1)
    }

    /// What all programs of the action share.
    fn program(&self, files: &Files, deadline_ms: u64) -> Program {
        Program {
            argv: Vec::new(),
            environment: std::collections::BTreeMap::new(),
            directory: files.paths().into_iter().next().unwrap_or_default(),
            orders: helper::Orders {
                parent: rustix::process::getpid().as_raw_nonzero().get(),
                ..helper::Orders::default()
            },
            deadline_ms,
            heal: self.intent.start.heal.clone(),
            kept_bytes: capture::KEPT_BYTES,
        }
    }

    fn failed(&mut self, step: &Step, message: &str) -> Next {
        self.reports.push(report(step.name(), message));
        Next::End(How::Failed)
    }

    fn told(&mut self, index: u32, step: &Step, ended: &Ended, success: bool) -> io::Result<Next> {
        let head = OutputHead {
            total: ended.output_bytes(),
        };
        let mut output = files::encode(&head)?;
        output.push(b'\n');
        output.extend(ended.output());
        files::replace_bytes(self.directory, &format!("output-{index}"), &output)?;
        self.reports.push(StepReport {
            step: step.name().to_owned(),
            exit: ended.exit,
            signal: ended.signal,
            output_bytes: ended.output_bytes(),
            message: ended.message(),
        });
        Ok(match ended.stopped {
            Stopped::TimedOut => Next::End(How::TimedOut),
            Stopped::Cancelled => Next::End(How::Cancelled),
            Stopped::No if success && ended.not_started.is_none() => Next::Go,
            Stopped::No => Next::End(How::Failed),
        })
    }

    fn restart_pm2(
        &mut self,
        name: &str,
        home: Option<&str>,
        files: &Files,
        deadline_ms: u64,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Ended, String> {
        let user_home = program::base_environment()
            .remove("HOME")
            .unwrap_or_default();
        let home = home.map_or_else(|| Path::new(&user_home).join(".pm2"), PathBuf::from);
        let uid = rustix::process::geteuid().as_raw();
        let daemon = pm2::daemon(&home, uid)?;
        let root = files.paths().into_iter().next().unwrap_or_default();
        let search_path = daemon
            .programs
            .iter()
            .map(|own| own.display().to_string())
            .chain([program::SEARCH_PATH.to_owned()])
            .chain(pm2::own_programs(&root, &home))
            .collect::<Vec<_>>()
            .join(":");
        let environment = std::collections::BTreeMap::from([
            ("PM2_HOME".to_owned(), daemon.home.display().to_string()),
            ("PATH".to_owned(), search_path),
            ("FORCE_COLOR".to_owned(), "0".to_owned()),
        ]);
        let writable = vec![daemon.home.clone()];
        let confined = self.abi >= 3;
        let ask = |argv: Vec<String>, kept_bytes: usize| {
            let program = Program {
                argv,
                environment: environment.clone(),
                orders: orders(writable.clone(), confined, self.abi),
                kept_bytes,
                ..self.program(files, deadline_ms)
            };
            program::run(self.prefix, &program, cancelled)
        };
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let listed = ask(words(&["pm2", "jlist", "--silent"]), PM2_LIST_BYTES);
        if listed.exit != Some(0) {
            return Ok(listed);
        }
        let roots = files.paths();
        let numbers = pm2::select(&listed.stdout.bytes(), name, &roots)?;
        // Asked again: between the two the daemon may have died, and pm2 would start another one below us.
        pm2::daemon(&home, uid)?;
        point("run.pm2.selected");
        let mut argv: Vec<String> = words(&["pm2", "restart"]);
        argv.extend(numbers.iter().map(u32::to_string));
        let ended = ask(argv, capture::KEPT_BYTES);
        self.confined &= confined;
        Ok(ended)
    }
}

/// A moment of the boot clock on the clock that the work is timed with.
fn instant_at(deadline_ms: u64) -> Instant {
    let left = deadline_ms.saturating_sub(boot_clock_ms());
    Instant::now() + Duration::from_millis(left)
}

fn orders(writable: Vec<PathBuf>, confined: bool, abi: u32) -> helper::Orders {
    helper::Orders {
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        tame: true,
        confine: abi > 0,
        required: confined,
        writable,
    }
}

fn report(step: &str, message: &str) -> StepReport {
    StepReport {
        step: step.to_owned(),
        exit: None,
        signal: None,
        output_bytes: 0,
        message: capture::message(message),
    }
}
