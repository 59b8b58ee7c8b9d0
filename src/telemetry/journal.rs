//! The journal as a sink: finished records go to `tracing-journald` on a thread of its own.
//!
//! That layer writes to a socket that blocks, and the daemon must not stop because a journal does not read: so nobody
//! but this thread waits for it. What comes while the queue is full is counted, and told with the next record that
//! passes. A record here is redacted; an event of the same shape is made of it again, because events are what the layer
//! takes. Nothing here reads the events of the program.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use tracing::callsite::{Callsite, Identifier};
use tracing::field::{Field, FieldSet, Value};
use tracing::metadata::Kind;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use super::logging::{FIELDS_MAX, Record};
use super::message_id::message_id;

/// What may wait for a journal that is slow; some ten thousand lines.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// How long the start of the daemon waits for the journal's first answer.
const OPEN_LIMIT: Duration = Duration::from_secs(2);

/// `MESSAGE`, `MESSAGE_ID`, `HEALERD_TARGET` and `HEALERD_LOST`, beside the fields of the record.
const SLOTS: usize = FIELDS_MAX + 4;

/// The way to the journal. All clones are the same queue.
#[derive(Clone)]
pub struct Journal(Arc<Queue>);

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

impl Journal {
    /// Opens the journal of this machine.
    ///
    /// # Errors
    /// When there is no journal, or no thread for it.
    pub fn open() -> io::Result<Self> {
        Self::start(|| {
            let layer = tracing_journald::Layer::new()?
                .with_field_prefix(None)
                .with_syslog_identifier("healerd".to_owned())
                .with_priority_mappings(PriorityMappings {
                    error: Priority::Error,
                    warn: Priority::Warning,
                    info: Priority::Informational,
                    debug: Priority::Debug,
                    trace: Priority::Debug,
                });
            Ok(Registry::default().with(layer))
        })
    }

    /// Starts the thread, which makes its subscriber itself: even the first word to the journal may block.
    pub(super) fn start<S: Subscriber>(
        make: impl FnOnce() -> io::Result<S> + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let (opened, answer) = mpsc::sync_channel(1);
        let ours = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("healerd-journal".to_owned())
            .spawn(move || match make() {
                Ok(subscriber) => {
                    drop(opened.send(Ok(())));
                    deliver(&ours, &subscriber);
                }
                Err(error) => drop(opened.send(Err(error))),
            })?;
        match answer.recv_timeout(OPEN_LIMIT) {
            Ok(Err(error)) => Err(error),
            // One that does not answer yet may do so later; until then the records wait.
            Ok(Ok(())) | Err(mpsc::RecvTimeoutError::Timeout) => Ok(Self(queue)),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(io::Error::other("the thread for the journal ended"))
            }
        }
    }

    /// Hands a record over; never waits.
    pub(super) fn send(&self, mut record: Record) {
        let mut state = self.0.lock();
        let bytes = weight(&record);
        if state.bytes.saturating_add(bytes) > WAITING_BYTES_MAX {
            state.lost += 1;
            return;
        }
        record.lost = std::mem::take(&mut state.lost);
        state.bytes += bytes;
        state.waiting.push_back(record);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until everything was handed to the journal, at most so long. Says whether it was.
    pub(super) fn drain(&self, limit: Duration) -> bool {
        let (_state, waited) = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), limit, |state| {
                state.busy || !state.waiting.is_empty()
            })
            .unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Record>,
    /// Of what waits.
    bytes: usize,
    /// Records that found no room since the last one that did.
    lost: u64,
    /// The thread has one in its hands.
    busy: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight(record: &Record) -> usize {
    let fields: usize = record
        .fields
        .iter()
        .map(|(name, value)| name.len() + value.len() + 64)
        .sum();
    size_of::<Record>() + record.message.len() + fields
}

/// The thread: one record after the other, until the process ends.
fn deliver(queue: &Queue, subscriber: &impl Subscriber) {
    let mut shapes = Shapes::default();
    let mut state = queue.lock();
    loop {
        if let Some(record) = state.waiting.pop_front() {
            state.bytes = state.bytes.saturating_sub(weight(&record));
            state.busy = true;
            drop(state);
            shapes.tell(subscriber, &record);
            state = queue.lock();
            state.busy = false;
            queue.changed.notify_all();
        } else {
            state = queue
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The callsite of all events that are made here. It is in no list: they passed every filter before.
struct Made;

static MADE: Made = Made;
static MADE_METADATA: Metadata<'static> = Metadata::new(
    "record",
    "healerd",
    Level::INFO,
    None,
    None,
    None,
    FieldSet::new(&[], Identifier(&MADE)),
    Kind::EVENT,
);

impl Callsite for Made {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        &MADE_METADATA
    }
}

/// What describes an event to the layer: where it comes from, and the names of its fields.
///
/// `tracing` wants it for as long as the program lives, so each is made once and never freed. There are no more of them
/// than places in the code that log, times what the spans around them know.
#[derive(Default)]
struct Shapes(HashMap<(Identifier, Vec<&'static str>), &'static Metadata<'static>>);

impl Shapes {
    fn of(&mut self, record: &Record) -> &'static Metadata<'static> {
        let origin = record.origin;
        let names = record.fields.keys().copied().collect();
        self.0.entry((origin.callsite(), names)).or_insert_with(|| {
            let own = ["MESSAGE", "MESSAGE_ID", "HEALERD_TARGET", "HEALERD_LOST"];
            let fields = record.fields.keys().map(|name| {
                let name: &'static str =
                    Box::leak(format!("HEALERD_{}", journal_name(name)).into_boxed_str());
                name
            });
            let names: Vec<&'static str> = own.into_iter().chain(fields).collect();
            Box::leak(Box::new(Metadata::new(
                origin.name(),
                origin.target(),
                *origin.level(),
                origin.file(),
                origin.line(),
                origin.module_path(),
                FieldSet::new(Box::leak(names.into_boxed_slice()), Identifier(&MADE)),
                Kind::EVENT,
            )))
        })
    }

    fn tell(&mut self, subscriber: &impl Subscriber, record: &Record) {
        let shape = self.of(record);
        let message = headline(record);
        let id = message_id(&record.message);
        let lost = (record.lost > 0).then(|| record.lost.to_string());
        let own = [
            Some(message.as_str()),
            id,
            Some(record.origin.target()),
            lost.as_deref(),
        ];
        let values: Vec<Option<&str>> = own
            .into_iter()
            .chain(record.fields.values().map(|value| Some(value.as_str())))
            .collect();
        let told: Vec<Option<&dyn Value>> = values
            .iter()
            .map(|value| value.as_ref().map(|text| text as &dyn Value))
            .collect();
        // A set takes an array; its end repeats the first field with no value, which is nothing.
        let fields: Vec<Field> = shape.fields().iter().collect();
        let Some(first) = fields.first() else { return };
        let mut slots: [(&Field, Option<&dyn Value>); SLOTS] = [(first, None); SLOTS];
        for (slot, pair) in slots.iter_mut().zip(fields.iter().zip(told)) {
            *slot = pair;
        }
        let set = shape.fields().value_set(&slots);
        subscriber.event(&Event::new(shape, &set));
    }
}

/// What `journalctl` and `systemctl status` show without being asked for fields: whom it is about, what, and why.
fn headline(record: &Record) -> String {
    let field = |name: &str| record.fields.get(name).filter(|text| !text.is_empty());
    let mut line = String::new();
    if let Some(app) = field("app") {
        line.push_str(app);
        line.push_str(": ");
    }
    line.push_str(&record.message);
    if let Some(reason) = field("reason") {
        line.push_str(": ");
        line.push_str(reason);
    }
    if let Some(hint) = field("hint") {
        line.push_str("; hint: ");
        line.push_str(hint);
    }
    if record.lost > 0 {
        let written = write!(
            line,
            "; before this, {} records were lost: the journal did not read",
            record.lost
        );
        debug_assert!(written.is_ok(), "writing to a text never fails");
    }
    line
}

/// Field names of the journal: capitals, digits, underscores, at most 64 with our prefix. `heal_id` is `HEAL`.
fn journal_name(name: &str) -> String {
    if name == "heal_id" {
        return "HEAL".to_owned();
    }
    name.chars()
        .take(50)
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
