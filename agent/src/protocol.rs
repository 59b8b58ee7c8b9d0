//! The framed requests between the daemon and an agent.
//!
//! Pure. A frame is `u32` length (big endian, of everything after it, at most 1 MiB), `u64` request id, `u32` length
//! of the header, the JSON header, raw bytes to the end. The daemon pulls: an agent sends nothing that was not asked
//! for with an offset and a budget. Versions must be equal; a mismatch is answered, not guessed around.
//!
//! Verbs, answers and states stand outside of what they bear (`{"room": {"path": "…"}}`), so that a reader knows the type
//! before the first field and builds no tree of values in between.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::probe::spec::Facts;
use crate::step::Step;
use crate::tree::packed::{self, PackedError};
use crate::tree::{Digest, Effect, EntryState, Pattern, StatKey, TreePath};

/// Matched exactly by both sides.
pub const VERSION: u32 = 4;

/// Everything after the length word of one frame.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// The most raw bytes that fit into a frame beside a small header.
pub const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - (64 << 10);

/// One message in either direction. An answer bears its request's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub id: u64,
    pub header: Vec<u8>,
    pub body: Vec<u8>,
}

/// Why a header is not a message.
pub type MalformedHeader = serde_json::Error;

impl Request {
    /// The header of its frame.
    ///
    /// # Errors
    /// Only when it cannot be written as JSON, which is a fault of ours.
    pub fn header(&self) -> Result<Vec<u8>, MalformedHeader> {
        serde_json::to_vec(self)
    }

    /// Reads a header.
    ///
    /// # Errors
    /// When it is no request.
    pub fn of_header(header: &[u8]) -> Result<Self, MalformedHeader> {
        serde_json::from_slice(header)
    }
}

impl Answer {
    /// The header of its frame.
    ///
    /// # Errors
    /// Only when it cannot be written as JSON, which is a fault of ours.
    pub fn header(&self) -> Result<Vec<u8>, MalformedHeader> {
        serde_json::to_vec(self)
    }

    /// Reads a header.
    ///
    /// # Errors
    /// When it is no answer.
    pub fn of_header(header: &[u8]) -> Result<Self, MalformedHeader> {
        serde_json::from_slice(header)
    }
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes is longer than the 1 MiB that are allowed")]
    TooLong(usize),
    #[error("a frame of {0} bytes is too short to hold its own header")]
    TooShort(usize),
}

impl Frame {
    /// The bytes on the wire.
    ///
    /// # Errors
    /// When header and body together are longer than a frame may be.
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        let length = 12 + self.header.len() + self.body.len();
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        let mut bytes = Vec::with_capacity(4 + length);
        let word = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes(); // below 1 MiB
        bytes.extend_from_slice(&word(length));
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&word(self.header.len()));
        bytes.extend_from_slice(&self.header);
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }

    /// Checks the length word of a frame that is still to be read.
    ///
    /// # Errors
    /// When the length is not one that a frame can have.
    pub fn length(word: [u8; 4]) -> Result<usize, FrameError> {
        let length = u32::from_be_bytes(word) as usize;
        match length {
            0..12 => Err(FrameError::TooShort(length)),
            12..=FRAME_BYTES_MAX => Ok(length),
            _ => Err(FrameError::TooLong(length)),
        }
    }

    /// Takes apart what follows the length word.
    ///
    /// # Errors
    /// When the header does not fit into the frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let short = FrameError::TooShort(bytes.len());
        let (id, rest) = bytes
            .split_first_chunk::<8>()
            .ok_or_else(|| short.clone())?;
        let (word, rest) = rest.split_first_chunk::<4>().ok_or_else(|| short.clone())?;
        let header = u32::from_be_bytes(*word) as usize;
        if header > rest.len() {
            return Err(short);
        }
        Ok(Self {
            id: u64::from_be_bytes(*id),
            header: rest[..header].to_vec(),
            body: rest[header..].to_vec(),
        })
    }
}

/// Where a request works: an application's real directories, resolved once per round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Absolute path as configured; the agent resolves it and answers with the real directory.
    pub root: String,
    /// More declared roots (a shared/ folder of release-based deploys). A link below `root` that leads exactly into
    /// one of them is followed by name, once.
    #[serde(default)]
    pub roots: Vec<String>,
    /// The application's user, for `owned_by_app`, processes and `chown … to = "app"`.
    pub uid: u32,
    pub gid: u32,
    /// Paths that the stack calls volatile (compiled views): changes there hold nothing up.
    #[serde(default)]
    pub volatile: Vec<Pattern>,
}

/// Requests. `deadline_ms` is counted from arrival.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// First on every connection.
    Hello { version: u32, owner: String },
    /// One round of checks: facts for every probe of every check.
    Round {
        target: Target,
        checks: Vec<CheckProbes>,
        deadline_ms: u64,
    },
    /// Entries that members take in, in path order, after `after`, as many as fit. Absent fixed members are reported.
    List {
        target: Target,
        members: Vec<Pattern>,
        after: Option<TreePath>,
        digests: bool,
        entries_max: u32,
        deadline_ms: u64,
    },
    /// Bytes of a regular file that must still be the one that `expect` describes.
    Read {
        target: Target,
        path: TreePath,
        expect: StatKey,
        offset: u64,
        budget: u32,
    },
    /// Whole regular files, each of which must still be the one described, in order and as far as `budget` goes.
    ReadMany {
        target: Target,
        files: Vec<(TreePath, StatKey)>,
        budget: u32,
    },
    /// Starts an action. At most once per heal, judged by the witness.
    Start(Box<Start>),
    /// The witness's state; waits up to `wait_ms` for the action to end.
    Look { heal: String, wait_ms: u64 },
    /// Captured output of a step.
    Output {
        heal: String,
        step: u32,
        offset: u64,
        budget: u32,
    },
    /// What the action changed, a page at a time.
    Effects {
        heal: String,
        after: Option<TreePath>,
    },
    /// Kills the action's whole tree; it ends as finished with `Cancelled`.
    CancelAction { heal: String },
    /// As `Look`, but where nothing was ever started `cancelled` is durably written first, so that a late start refuses.
    Settle { heal: String, fence: u64 },
    /// Part of a file's content that an undo or a `put` will need; body is the bytes. Synced when `last`.
    Stage {
        heal: String,
        digest: Digest,
        offset: u64,
        last: bool,
    },
    /// Takes changes back. May be repeated; twice is once.
    Undo {
        heal: String,
        target: Target,
        items: Vec<UndoItem>,
        deadline_ms: u64,
    },
    /// Drops what was staged and, with `witness`, the whole record of an ended heal.
    Forget { heal: String, witness: bool },
    /// Free room where a path lies.
    Room { path: String },
    /// Stops answering another request of this connection.
    Cancel { id: u64 },
}

/// The probes of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckProbes {
    pub check: String,
    /// Name → kind and parameters as a one-key object, references still in: `{"http": {"url": "…"}}`.
    pub probes: BTreeMap<String, serde_json::Value>,
}

/// What one check's probes found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckFacts {
    pub check: String,
    pub probes: BTreeMap<String, Facts>,
    /// Time all of them took together, in microseconds.
    pub time_us: u64,
}

/// Everything an action needs to run to its end without the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    pub heal: String,
    /// Grows per target; the witness refuses a smaller one.
    pub fence: u64,
    /// Who starts it: a witness of another owner refuses.
    pub owner: String,
    pub action: String,
    pub target: Target,
    pub steps: Vec<Step>,
    /// Run after the steps, whether they succeeded or not.
    pub finally: Vec<Step>,
    /// What may be written.
    pub writes: Vec<WriteMember>,
    /// Directories that programs may use freely and that nobody needs back (npm's cache, /tmp).
    pub scratch: Vec<String>,
    pub timeout_ms: u64,
}

/// One member of a write set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteMember {
    pub pattern: Pattern,
    pub what: WriteKind,
    /// Shared with the live site (storage/, uploads, logs), or the action's alone.
    pub shared: bool,
}

/// What of a member may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteKind {
    Content,
    Metadata,
}

/// One path to take back: from `after`, as the action left it, to `before`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoItem {
    pub path: TreePath,
    /// State to bring back; `None`: it was absent and goes away. A regular file's content was staged by its digest
    /// wherever it differs from `after`.
    pub before: Option<EntryState>,
    /// State that the action left. What no longer equals it was touched by somebody else and stays, per attribute.
    pub after: Option<EntryState>,
    /// Rewrite in the inode instead of exchanging (an open log, a hard link, a mount).
    pub in_place: bool,
}

/// Answers, one per request, with the request's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Hello(Hello),
    /// The real directories come first, so that a moved release link is noticed.
    Round {
        roots: Vec<String>,
        checks: Vec<CheckFacts>,
    },
    /// `unreadable`: what could not be looked at, with the reason (never taken for absent). `more`: ask again after
    /// the last path. On the wire the entries are the body, [`packed`]; [`Answer::unpacked`] puts them back.
    List {
        roots: Vec<String>,
        entries: Vec<(TreePath, Option<EntryState>)>,
        unreadable: Vec<(TreePath, String)>,
        more: bool,
    },
    /// Body: the bytes. `end`: the file ends here and was the same file to the end.
    Read {
        end: bool,
    },
    /// Body: the contents, one after the other. A length for each file that was come to; `None`: it could not be read so,
    /// and [`Request::Read`] tells why.
    ReadMany {
        lengths: Vec<Option<u32>>,
    },
    Started,
    Witness(WitnessState),
    /// Body: the bytes. `total`: bytes the step wrote in all, kept or not.
    Output {
        total: u64,
        end: bool,
    },
    Effects {
        effects: Vec<Effect>,
        more: bool,
    },
    Staged,
    Undone {
        outcomes: Vec<UndoOutcome>,
    },
    Forgotten,
    Room {
        free_bytes: u64,
        free_inodes: u64,
    },
    Cancelled,
    Refused(Refusal),
}

impl Answer {
    /// As it goes over the wire, with its body.
    pub fn packed(mut self) -> (Self, Vec<u8>) {
        let mut body = Vec::new();
        if let Self::List { entries, .. } = &mut self
            && let Some(bytes) = packed::pack(entries)
        {
            entries.clear();
            body = bytes;
        }
        (self, body)
    }

    /// As it was before [`Answer::packed`].
    ///
    /// # Errors
    /// When the body is not what belongs to it.
    pub fn unpacked(mut self, body: Vec<u8>) -> Result<(Self, Vec<u8>), PackedError> {
        let Self::List { entries, .. } = &mut self else {
            return Ok((self, body));
        };
        if !body.is_empty() {
            entries.extend(packed::unpack(&body)?);
        }
        Ok((self, Vec::new()))
    }
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    pub boot_id: String,
    pub machine_id: String,
    pub uid: u32,
    /// Primary group, so that a daemon on another machine can learn whom it works for. `u32::MAX`: an older agent did
    /// not say.
    #[serde(default = "no_id")]
    pub gid: u32,
    /// Landlock ABI of the kernel; 0: none.
    pub landlock: u32,
    /// Milliseconds since the host's boot.
    pub uptime_ms: u64,
    /// Named operations that a root agent's allow list admits, for `check-config` to show; empty for an app agent.
    pub allowed: Vec<String>,
    /// Owner of the witness here; absent: nobody yet. Another one than the caller means: it is asked nothing
    /// more.
    #[serde(default)]
    pub owner: Option<String>,
}

/// The kernel's own word for "no user" and "no group".
const fn no_id() -> u32 {
    u32::MAX
}

/// Why a request was refused or failed. `code` is stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: RefusalCode,
    pub message: String,
}

/// Stable words for what an agent refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// Version of the other side is another one.
    Version,
    /// The header is not a request.
    Malformed,
    /// The root is not there or not a directory.
    Root,
    /// Permission denied.
    Denied,
    /// The file is no longer the one that was listed.
    Changed,
    /// Not there.
    Absent,
    /// The heal was started before, or cancelled before it could start.
    AlreadyStarted,
    /// A higher fence token was seen here.
    Fence,
    /// The witness belongs to another daemon.
    Owner,
    /// The named operation is not in the host's allow list, or not one that this identity may do.
    NotAllowed,
    /// A limit of size, count or time was reached.
    Limit,
    /// No room on the target.
    NoRoom,
    /// Anything else the system said.
    System,
}

/// What the target's own record says about a heal's action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WitnessState {
    /// Nothing was ever recorded here.
    Absent,
    /// A tombstone: it never ran and never will.
    Cancelled,
    /// The supervisor holds its lock.
    Running { step: u32 },
    /// The supervisor recorded the end; its processes are gone.
    Finished(Finished),
    /// The supervisor is dead and recorded no end.
    Interrupted { step: u32, same_boot: bool },
    /// The record cannot be read: a person decides.
    Unreadable { reason: String },
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub how: How,
    /// Step that ended it, from 0.
    pub step: u32,
    pub steps: Vec<StepReport>,
    pub effects: u64,
    /// False when the walk after the programs failed: more may have changed than `effects` tells.
    #[serde(default)]
    pub effects_complete: bool,
    /// Was every program confined to the write set by the kernel?
    pub confined: bool,
    pub duration_ms: u64,
}

/// Ways to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Every step succeeded.
    Done,
    /// A step failed; what follows was not run, `finally` was.
    Failed,
    /// The deadline passed and the tree was killed.
    TimedOut,
    /// Asked to stop; the tree was killed.
    Cancelled,
}

/// One step's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    pub step: String,
    /// Exit code of a program; absent for native steps and after a signal.
    pub exit: Option<i32>,
    pub signal: Option<i32>,
    /// Bytes written in all; the first and last 32 KiB of each stream are kept.
    pub output_bytes: u64,
    /// Last lines of its output or the native error, escaped, at most 1 KiB.
    pub message: String,
}

/// What became of one path of an undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoOutcome {
    pub path: TreePath,
    pub result: UndoResult,
    /// For people: what was kept and why, or the error.
    pub detail: String,
}

/// Ways a path's undo can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoResult {
    /// It is as it was before.
    Restored,
    /// It was so already.
    Already,
    /// Somebody else touched it after the action: left, wholly or in the attributes that `detail` names.
    Kept,
    /// Could not be done.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_was() {
        let frame = Frame {
            id: 7,
            header: b"{}".to_vec(),
            body: vec![0, 1, 2],
        };
        let bytes = frame.encode().unwrap();
        let (word, rest) = bytes.split_first_chunk::<4>().unwrap();
        assert_eq!(Frame::length(*word).unwrap(), rest.len());
        assert_eq!(Frame::decode(rest).unwrap(), frame);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        assert_eq!(
            Frame::length(u32::MAX.to_be_bytes()),
            Err(FrameError::TooLong(u32::MAX as usize))
        );
        assert_eq!(Frame::length([0, 0, 0, 3]), Err(FrameError::TooShort(3)));
        let mut bytes = Frame {
            id: 1,
            header: b"{}".to_vec(),
            body: vec![],
        }
        .encode()
        .unwrap()
        .split_off(4);
        bytes[11] = 200; // header length beyond the frame
        assert!(Frame::decode(&bytes).is_err());
    }
}
