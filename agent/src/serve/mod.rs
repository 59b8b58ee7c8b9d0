//! The request loop: frames in, answers out.
//!
//! One thread only reads, so that the other side is never kept from writing; each request is answered by a thread of
//! its own, at most [`REQUESTS_MAX`] at once, and one lock writes answers whole. Every request gets exactly one
//! answer, at its deadline at the latest. The end of the input ends this process and the probes that it started; an
//! action under its supervisor goes on, and an undo under way is carried to its end.

mod answer;
mod changes;
mod reads;
mod room;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::protocol::{Answer, Frame, Refusal, RefusalCode, Request};
use crate::runner::Runner;
use crate::witness::refuse;

/// Requests of one connection that are worked on at once.
pub const REQUESTS_MAX: usize = 32;

/// Added to a request's deadline before it is answered over the head of its worker.
const DEADLINE_SLACK: Duration = Duration::from_millis(500);

/// How often the end looks again: an answer is written outside of the lock that it waits with.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Time for requests that change something to come to their end after the input ended.
const CHANGES_END: Duration = Duration::from_mins(10);

/// What all threads of a connection share.
pub(crate) struct Shared {
    pub(crate) runner: Runner,
    /// Why a root agent's allow list allows nothing.
    pub(crate) complaint: Option<String>,
    owner: Mutex<Option<String>>,
    pub(crate) supervisors: Mutex<BTreeSet<i32>>,
    pending: Mutex<BTreeMap<u64, Pending>>,
    changed: Condvar,
    output: Mutex<Box<dyn Write + Send>>,
    broken: AtomicBool,
    /// Answers that are no longer pending and not yet written.
    sending: AtomicUsize,
}

/// A request that has not been answered.
struct Pending {
    deadline: Option<Instant>,
    cancelled: Arc<AtomicBool>,
    changes: bool,
}

/// A lock whose holders do not panic while they change what it guards.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a connection ended.
#[derive(Debug)]
pub struct Served {
    pub code: ExitCode,
    /// Supervisors that may be alive: the only children that this process must leave alone when it ends.
    pub supervisors: BTreeSet<i32>,
}

/// Serves one connection until its input ends. Probes that still run are the caller's to end
/// ([`crate::command`] does): only it knows which children of the process are an agent's.
pub fn serve(
    runner: Runner,
    complaint: Option<String>,
    mut input: impl Read,
    output: impl Write + Send + 'static,
) -> Served {
    let shared = Arc::new(Shared {
        runner,
        complaint,
        owner: Mutex::new(None),
        supervisors: Mutex::new(BTreeSet::new()),
        pending: Mutex::new(BTreeMap::new()),
        changed: Condvar::new(),
        output: Mutex::new(Box::new(output)),
        broken: AtomicBool::new(false),
        sending: AtomicUsize::new(0),
    });
    std::thread::spawn({
        let shared = Arc::clone(&shared);
        move || shared.watch_deadlines()
    });
    let code = loop {
        match read_frame(&mut input) {
            Ok(Some(frame)) => shared.take(frame),
            Ok(None) => break ExitCode::SUCCESS,
            // Nothing after a frame that is none can be trusted to begin where a frame begins.
            Err(error) => {
                shared.send(
                    0,
                    &Answer::Refused(refuse(RefusalCode::Malformed, error.to_string())),
                    Vec::new(),
                );
                break ExitCode::FAILURE;
            }
        }
        if shared.broken.load(Ordering::Relaxed) {
            break ExitCode::FAILURE;
        }
    };
    shared.end();
    let supervisors = lock(&shared.supervisors).clone();
    Served { code, supervisors }
}

/// The next frame; `None` at the end of the input between two frames.
///
/// # Errors
/// When the input ends inside a frame, fails, or does not hold one.
pub fn read_frame(input: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut word = [0; 4];
    let mut filled = 0;
    while filled < 4 {
        match input.read(&mut word[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let length = Frame::length(word).map_err(invalid)?;
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Frame::decode(&bytes).map(Some).map_err(invalid)
}

impl Shared {
    /// Who is at the other end, once it said so.
    pub(crate) fn owner(&self) -> Option<String> {
        lock(&self.owner).clone()
    }

    fn take(self: &Arc<Self>, frame: Frame) {
        let Frame { id, header, body } = frame;
        let request = match Request::of_header(&header) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("this is not a request: {error}");
                return self.refuse(id, refuse(RefusalCode::Malformed, message));
            }
        };
        match request {
            Request::Hello { version, owner } => match answer::hello(self, version, &owner) {
                Ok(hello) => {
                    *lock(&self.owner) = Some(owner);
                    self.send(id, &Answer::Hello(hello), Vec::new());
                }
                Err(refusal) => self.refuse(id, refusal),
            },
            Request::Cancel { id: other } => {
                if let Some(pending) = lock(&self.pending).remove(&other) {
                    pending.cancelled.store(true, Ordering::Relaxed);
                    self.send(other, &Answer::Cancelled, Vec::new());
                }
                self.changed.notify_all();
                self.send(id, &Answer::Cancelled, Vec::new());
            }
            Request::Round { .. }
            | Request::List { .. }
            | Request::Read { .. }
            | Request::ReadMany { .. }
            | Request::Start(_)
            | Request::Look { .. }
            | Request::Output { .. }
            | Request::Effects { .. }
            | Request::CancelAction { .. }
            | Request::Settle { .. }
            | Request::Stage { .. }
            | Request::Undo { .. }
            | Request::Forget { .. }
            | Request::Room { .. } => {
                if self.owner().is_some() {
                    self.work(id, request, body);
                } else {
                    let refusal = refuse(RefusalCode::Version, "say hello first".to_owned());
                    self.refuse(id, refusal);
                }
            }
        }
    }

    fn work(self: &Arc<Self>, id: u64, request: Request, body: Vec<u8>) {
        let cancelled = Arc::new(AtomicBool::new(false));
        {
            let mut pending = lock(&self.pending);
            if pending.len() >= REQUESTS_MAX || pending.contains_key(&id) {
                drop(pending);
                let message = "too many requests at once, or this id is in use".to_owned();
                return self.refuse(id, refuse(RefusalCode::Limit, message));
            }
            pending.insert(
                id,
                Pending {
                    deadline: answer::time(&request)
                        .map(|time| Instant::now() + time + DEADLINE_SLACK),
                    cancelled: Arc::clone(&cancelled),
                    changes: answer::changes(&request),
                },
            );
        }
        self.changed.notify_all();
        let shared = Arc::clone(self);
        let started = std::thread::Builder::new().spawn(move || {
            // A panic is a bug of ours; it must cost one answer and not leave the caller waiting for ever.
            let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                answer::answer(&shared, request, &body, &cancelled)
            }));
            let (answer, body) = match answered {
                Ok(Ok(answered)) => answered,
                Ok(Err(refusal)) => (Answer::Refused(refusal), Vec::new()),
                Err(_) => (
                    Answer::Refused(refuse(
                        RefusalCode::System,
                        "the agent failed at this request".to_owned(),
                    )),
                    Vec::new(),
                ),
            };
            shared.finish(id, &answer, body);
        });
        if let Err(error) = started {
            self.finish(
                id,
                &Answer::Refused(crate::witness::system("start a thread", &error)),
                Vec::new(),
            );
        }
    }

    /// Answers a request unless its deadline or a cancel did so before.
    fn finish(&self, id: u64, answer: &Answer, body: Vec<u8>) {
        self.sending.fetch_add(1, Ordering::SeqCst);
        let open = lock(&self.pending).remove(&id).is_some();
        if open {
            self.send(id, answer, body);
        }
        self.sending.fetch_sub(1, Ordering::SeqCst);
        self.changed.notify_all();
    }

    fn refuse(&self, id: u64, refusal: Refusal) {
        self.send(id, &Answer::Refused(refusal), Vec::new());
    }

    fn send(&self, id: u64, answer: &Answer, body: Vec<u8>) {
        let encode = |answer: &Answer, body| {
            let header = answer.header().ok()?;
            Frame { id, header, body }.encode().ok()
        };
        let too_long = || {
            Answer::Refused(refuse(
                RefusalCode::Limit,
                "the answer is longer than a frame may be".to_owned(),
            ))
        };
        let bytes = encode(answer, body).or_else(|| encode(&too_long(), Vec::new()));
        let mut output = lock(&self.output);
        let sent = bytes.map(|bytes| output.write_all(&bytes).and_then(|()| output.flush()));
        if !matches!(sent, Some(Ok(()))) {
            self.broken.store(true, Ordering::Relaxed);
        }
    }

    /// Answers what is late; sleeps until the next deadline or change.
    fn watch_deadlines(&self) {
        let mut pending = lock(&self.pending);
        loop {
            let now = Instant::now();
            let late: Vec<u64> = pending
                .iter()
                .filter(|(_, request)| request.deadline.is_some_and(|deadline| deadline <= now))
                .map(|(id, _)| *id)
                .collect();
            for id in late {
                let Some(request) = pending.remove(&id) else {
                    continue;
                };
                request.cancelled.store(true, Ordering::Relaxed);
                drop(pending);
                self.refuse(
                    id,
                    refuse(
                        RefusalCode::Limit,
                        "the deadline of this request passed".to_owned(),
                    ),
                );
                pending = lock(&self.pending);
            }
            let next = pending
                .values()
                .filter_map(|request| request.deadline)
                .min();
            let wait = next.map_or(Duration::from_hours(1), |next| {
                next.saturating_duration_since(Instant::now())
                    .max(Duration::from_millis(1))
            });
            pending = self
                .changed
                .wait_timeout(pending, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Lets changes come to their end and tells everything else to stop.
    fn end(&self) {
        let mut pending = lock(&self.pending);
        for request in pending.values().filter(|request| !request.changes) {
            request.cancelled.store(true, Ordering::Relaxed);
        }
        let end = Instant::now() + CHANGES_END;
        while pending.values().any(|request| request.changes)
            || self.sending.load(Ordering::SeqCst) > 0
        {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            pending = self
                .changed
                .wait_timeout(pending, left.min(LOOK_AGAIN))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests;
