//! The target's own record of what ran here: one directory per heal.
//!
//! A single name, `decided`, says whether a heal may run: it is linked into place exactly once, either as the intent
//! of a start or as the tombstone of a settler, so the two exclude each other and a late start finds the tombstone.
//! Beside it stand `lock` (held by the supervisor for life), `started`, `step`, `output-N`, `effects`, and `finished`,
//! which is written last. Everything is synced before the next thing happens.
//!
//! It starts nothing and kills nothing: [`crate::runner`] does. It never says that something did not run because it
//! could not read: that is [`WitnessState::Unreadable`].

mod effects;
mod fence;
pub(crate) mod files;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::protocol::{Finished, Refusal, RefusalCode, Start, WitnessState};
use crate::tree::{Effect, Stamp, TreePath};

/// The record's directory below the state directory.
const WITNESS: &str = "witness";
const FENCE: &str = "fence";
const DECIDED: &str = "decided";

/// What was decided about a heal, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decided", rename_all = "snake_case")]
pub(crate) enum Decided {
    /// It may run: the supervisor that gets the lock with it runs it.
    Intent(Box<Intent>),
    /// It never ran and never will.
    Cancelled { fence: u64 },
}

/// Everything the supervisor needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) start: Start,
    pub(crate) boot_id: String,
    /// Real directory of the target's root when the start was admitted.
    pub(crate) real_root: String,
    /// Boot clock at which the action's time is over.
    pub(crate) deadline_ms: u64,
}

/// The head line of a step's output file; the kept bytes follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutputHead {
    pub(crate) total: u64,
}

/// A heal that was admitted: its intent is on disk, and nobody else can have these locks.
#[derive(Debug)]
#[must_use = "a heal that was begun and not handed to a supervisor counts as interrupted"]
pub(crate) struct Begun {
    /// For the supervisor's whole life.
    pub(crate) heal_lock: File,
    /// Likewise: no second action or undo on the target.
    pub(crate) target_lock: File,
}

/// The records below one state directory.
#[derive(Debug, Clone)]
pub struct Witness {
    state: PathBuf,
}

pub(crate) fn refuse(code: RefusalCode, message: String) -> Refusal {
    Refusal { code, message }
}

/// Why there is no place for records, and what lets its user in.
fn unusable(directory: &Path, error: &io::Error) -> Refusal {
    let what = format!("use the state directory {}", directory.display());
    let refusal = system(&what, error);
    let mut above: Vec<&Path> = directory.ancestors().skip(1).collect();
    above.reverse();
    let shut = |folder: &&Path| {
        let may = rustix::fs::access(*folder, rustix::fs::Access::EXEC_OK);
        may == Err(rustix::io::Errno::ACCESS)
    };
    match above.into_iter().find(shut) {
        Some(folder) => refuse(
            refusal.code,
            format!(
                "{}; user {} may not go through {folder}: run `chmod o+x {folder}`",
                refusal.message,
                rustix::process::geteuid().as_raw(),
                folder = folder.display()
            ),
        ),
        None => refusal,
    }
}

pub(crate) fn system(what: &str, error: &io::Error) -> Refusal {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, StorageFull};
    let kind = error.kind();
    let code = if matches!(kind, StorageFull | QuotaExceeded) {
        RefusalCode::NoRoom
    } else if kind == PermissionDenied {
        RefusalCode::Denied
    } else {
        RefusalCode::System
    };
    refuse(code, format!("cannot {what}: {error}"))
}

/// Checks an id before it becomes part of a path: 1 to 40 of `[a-z0-9]`.
///
/// # Errors
/// When it is anything else.
pub fn check_id(heal: &str) -> Result<(), Refusal> {
    let fine = (1..=40).contains(&heal.len())
        && heal
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if fine {
        Ok(())
    } else {
        Err(refuse(
            RefusalCode::Malformed,
            "a heal's id is 1 to 40 of a-z and 0-9".to_owned(),
        ))
    }
}

/// The kernel's name for this boot.
///
/// # Errors
/// When the kernel does not say.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Milliseconds on the boot clock, which also counts while the machine sleeps.
pub fn boot_clock_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1000
        + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

impl Witness {
    /// Opens the records, creating the directories where they are absent.
    ///
    /// # Errors
    /// When the state directory is not absolute, not private, not ours, or cannot be written.
    pub fn open(state: &Path) -> Result<Self, Refusal> {
        if !state.is_absolute() {
            return Err(refuse(
                RefusalCode::Malformed,
                "the state directory must be absolute".to_owned(),
            ));
        }
        for directory in [
            state.to_owned(),
            state.join(WITNESS),
            state.join(FENCE),
            state.join("stage"),
        ] {
            files::private_directory(&directory).map_err(|error| unusable(&directory, &error))?;
        }
        Ok(Self {
            state: state.to_owned(),
        })
    }

    /// The state directory.
    pub fn path(&self) -> &Path {
        &self.state
    }

    /// Who owns these records, when somebody does.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn owner(&self) -> Result<Option<String>, Refusal> {
        fence::owner(&self.state).map_err(|error| system("read the owner", &error))
    }

    /// Makes `owner` the owner where nobody is.
    ///
    /// # Errors
    /// [`RefusalCode::Owner`] when somebody else is.
    pub fn claim(&self, owner: &str) -> Result<(), Refusal> {
        fence::claim(&self.state, owner)
    }

    /// The right to change a target, for as long as the file stays open.
    ///
    /// # Errors
    /// [`RefusalCode::Limit`] while an action or undo is at work there.
    pub fn occupy(&self, real_root: &str) -> Result<File, Refusal> {
        fence::occupy(&self.state.join(FENCE), real_root)
    }

    /// Where the contents that a heal's undo or `put` needs are staged, each by its digest.
    pub fn stage(&self, heal: &str) -> PathBuf {
        self.state.join("stage").join(heal)
    }

    pub(crate) fn directory(&self, heal: &str) -> Result<PathBuf, Refusal> {
        check_id(heal)?;
        Ok(self.state.join(WITNESS).join(heal))
    }

    /// Admits a start: owner, fence, lock, and then the intent, durable.
    pub(crate) fn begin(&self, start: &Start, real_root: &str) -> Result<Begun, Refusal> {
        let directory = self.directory(&start.heal)?;
        self.claim(&start.owner)?;
        if self.state.starts_with(real_root) {
            return Err(refuse(
                RefusalCode::NotAllowed,
                "the state directory lies below the application's root".to_owned(),
            ));
        }
        let already = || {
            refuse(
                RefusalCode::AlreadyStarted,
                format!("{} was started or cancelled here before", start.heal),
            )
        };
        if fs::symlink_metadata(directory.join(DECIDED)).is_ok() {
            return Err(already());
        }
        files::private_directory(&directory)
            .map_err(|error| system("create the heal's record", &error))?;
        let heal_lock = files::open_lock(&directory.join("lock"))
            .map_err(|error| system("open the heal's lock", &error))?;
        if !files::try_lock(&heal_lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| system("lock the heal's record", &error))?
        {
            return Err(already());
        }
        let target_lock = self.occupy(real_root)?;
        crate::crash::point("run.witness.locked");
        let intent = Intent {
            start: start.clone(),
            boot_id: boot_id().map_err(|error| system("read the boot id", &error))?,
            real_root: real_root.to_owned(),
            deadline_ms: boot_clock_ms().saturating_add(start.timeout_ms),
        };
        let fence = fence::Fence::lock(&self.state.join(FENCE), real_root)?;
        fence.raise(start.fence, &start.heal)?;
        crate::crash::point("run.witness.fenced");
        let decided = Decided::Intent(Box::new(intent));
        if !files::create(&directory, DECIDED, &decided, "run.witness.intent_written")
            .map_err(|error| system("write the intent", &error))?
        {
            return Err(already());
        }
        crate::crash::point("run.witness.intent_durable");
        Ok(Begun {
            heal_lock,
            target_lock,
        })
    }

    pub(crate) fn intent(&self, heal: &str) -> Result<Option<Intent>, Refusal> {
        let path = self.directory(heal)?.join(DECIDED);
        match files::read(&path).map_err(|error| system("read the intent", &error))? {
            Some(Decided::Intent(intent)) => Ok(Some(*intent)),
            Some(Decided::Cancelled { .. }) | None => Ok(None),
        }
    }

    /// When a heal's start was admitted, by the clock that also stamps files.
    pub(crate) fn began(&self, heal: &str) -> Result<Stamp, Refusal> {
        use std::os::unix::fs::MetadataExt as _;
        let decided = self.directory(heal)?.join(DECIDED);
        let meta = fs::symlink_metadata(decided)
            .map_err(|error| system("read when the heal began", &error))?;
        Ok(Stamp {
            secs: meta.mtime(),
            nanos: u32::try_from(meta.mtime_nsec()).unwrap_or(0),
        })
    }

    /// What the record says about a heal.
    ///
    /// # Errors
    /// Only for an id that is none; a record that cannot be read is a state.
    pub fn state(&self, heal: &str) -> Result<WitnessState, Refusal> {
        let directory = self.directory(heal)?;
        Ok(
            state_in(&directory).unwrap_or_else(|error| WitnessState::Unreadable {
                reason: error.to_string(),
            }),
        )
    }

    /// As [`Witness::state`], but writes the tombstone first where nothing was decided.
    ///
    /// # Errors
    /// When the tombstone cannot be made durable, or `fence` is smaller than the one the heal was started with.
    pub fn settle(&self, heal: &str, fence: u64) -> Result<WitnessState, Refusal> {
        let directory = self.directory(heal)?;
        let state = self.state(heal)?;
        if state == WitnessState::Absent {
            files::private_directory(&directory)
                .map_err(|error| system("create the heal's record", &error))?;
            crate::crash::point("run.settle.directory");
            let tombstone = Decided::Cancelled { fence };
            files::create(&directory, DECIDED, &tombstone, "run.settle.written")
                .map_err(|error| system("write the tombstone", &error))?;
            crate::crash::point("run.settle.durable");
            return self.state(heal);
        }
        if let Ok(Some(intent)) = self.intent(heal)
            && fence < intent.start.fence
        {
            return Err(refuse(
                RefusalCode::Fence,
                format!(
                    "token {fence} is older than {} of this heal",
                    intent.start.fence
                ),
            ));
        }
        Ok(state)
    }

    /// Asks the supervisor to stop; it notices within a moment.
    ///
    /// # Errors
    /// When nothing of that id is running.
    pub fn request_cancel(&self, heal: &str) -> Result<(), Refusal> {
        if !matches!(self.state(heal)?, WitnessState::Running { .. }) {
            return Err(refuse(
                RefusalCode::Absent,
                format!("{heal} is not running here"),
            ));
        }
        files::replace(&self.directory(heal)?, "cancel", &())
            .map_err(|error| system("ask for the cancel", &error))
    }

    /// A page of the effects, in path order, after `after`; true when there are more.
    ///
    /// # Errors
    /// When there are none yet, or they cannot be read.
    pub fn effects(
        &self,
        heal: &str,
        after: Option<&TreePath>,
        bytes_max: usize,
    ) -> Result<(Vec<Effect>, bool), Refusal> {
        let path = self.directory(heal)?.join(effects::NAME);
        match effects::page(&path, after, bytes_max) {
            Ok(Some(page)) => Ok(page),
            Ok(None) => Err(refuse(
                RefusalCode::Absent,
                format!("{heal} has recorded no effects"),
            )),
            Err(error) => Err(system("read the effects", &error)),
        }
    }

    pub(crate) fn write_effects<'a>(
        &self,
        heal: &str,
        effects: impl Iterator<Item = &'a Effect>,
    ) -> Result<u64, Refusal> {
        effects::write(&self.directory(heal)?, effects)
            .map_err(|error| system("record the effects", &error))
    }

    /// Captured output of a step from `offset` on: bytes, bytes written in all, and whether this is the end.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn output(
        &self,
        heal: &str,
        step: u32,
        offset: u64,
        budget: usize,
    ) -> Result<(Vec<u8>, u64, bool), Refusal> {
        let path = self.directory(heal)?.join(format!("output-{step}"));
        let bytes = files::read_bytes(&path, 1 << 20)
            .map_err(|error| system("read the output", &error))?
            .ok_or_else(|| {
                refuse(
                    RefusalCode::Absent,
                    format!("step {step} of {heal} has no output"),
                )
            })?;
        let line_end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        let output: OutputHead = files::decode(bytes.get(..line_end).unwrap_or_default())
            .map_err(|error| system("read the output", &error))?;
        let kept = bytes.get(line_end + 1..).unwrap_or_default();
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(kept.len());
        let to = from.saturating_add(budget).min(kept.len());
        Ok((kept[from..to].to_vec(), output.total, to == kept.len()))
    }

    /// Drops the whole record of a heal that ended.
    ///
    /// # Errors
    /// While it runs, and when it cannot be removed.
    pub fn forget(&self, heal: &str) -> Result<(), Refusal> {
        let directory = self.directory(heal)?;
        match self.state(heal)? {
            WitnessState::Absent => return Ok(()),
            WitnessState::Running { .. } => {
                return Err(refuse(
                    RefusalCode::Limit,
                    format!("{heal} is still running"),
                ));
            }
            WitnessState::Unreadable { reason } => {
                return Err(refuse(
                    RefusalCode::System,
                    format!("the record cannot be read, so it stays: {reason}"),
                ));
            }
            WitnessState::Cancelled
            | WitnessState::Finished(_)
            | WitnessState::Interrupted { .. } => {}
        }
        // Moved aside first: a half-removed record must not be read as another state.
        let aside = self.state.join(WITNESS).join(format!(".gone-{heal}"));
        let gone = fs::rename(&directory, &aside)
            .and_then(|()| files::sync_directory(&self.state.join(WITNESS)))
            .and_then(|()| remove_record(&aside));
        gone.map_err(|error| system("forget the heal", &error))
    }
}

fn state_in(directory: &Path) -> io::Result<WitnessState> {
    let Some(decided) = files::read::<Decided>(&directory.join(DECIDED))? else {
        return Ok(WitnessState::Absent);
    };
    let intent = match decided {
        Decided::Cancelled { .. } => return Ok(WitnessState::Cancelled),
        Decided::Intent(intent) => intent,
    };
    if let Some(finished) = files::read::<Finished>(&directory.join("finished"))? {
        return Ok(WitnessState::Finished(finished));
    }
    let lock = files::open_lock(&directory.join("lock"))?;
    let free = files::try_lock(&lock, FlockOperation::NonBlockingLockShared)?;
    let step = files::read::<u32>(&directory.join("step"))?.unwrap_or(0);
    if !free {
        return Ok(WitnessState::Running { step });
    }
    // The supervisor may have written its end between the first look and the lock.
    if let Some(finished) = files::read::<Finished>(&directory.join("finished"))? {
        return Ok(WitnessState::Finished(finished));
    }
    Ok(WitnessState::Interrupted {
        step,
        same_boot: boot_id()? == intent.boot_id,
    })
}

/// Removes a record that was moved aside; it lies in the agent's own state.
#[expect(
    clippy::disallowed_methods,
    reason = "the witness's own directory, not a tree of an application"
)]
fn remove_record(aside: &Path) -> io::Result<()> {
    fs::remove_dir_all(aside)
}

#[cfg(test)]
mod tests;
