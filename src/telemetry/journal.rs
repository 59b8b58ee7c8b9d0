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
            Ok(Ok(())) | Err(_) => Ok(Self(queue)),
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
mod tests {
    use tracing::field::Visit;
    use tracing::span::{Attributes, Id, Record as SpanRecord};

    use super::super::logging::Sink;
    use super::*;

    /// What reached the far end: level, file, line, and the fields in order.
    #[derive(Debug, Clone, Default)]
    struct Told {
        level: String,
        place: (Option<String>, Option<u32>),
        fields: Vec<(String, String)>,
    }

    impl Told {
        fn get(&self, name: &str) -> Option<&str> {
            self.fields
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        }
    }

    impl Visit for Told {
        fn record_str(&mut self, field: &Field, value: &str) {
            self.fields
                .push((field.name().to_owned(), value.to_owned()));
        }
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            panic!("{field} is no text: {value:?}");
        }
    }

    /// A journal that keeps what it is told, and reads only while its gate is open.
    #[derive(Clone, Default)]
    struct Kept {
        told: Arc<Mutex<Vec<Told>>>,
        gate: Arc<Mutex<()>>,
    }

    impl Subscriber for Kept {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &SpanRecord<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            drop(self.gate.lock().unwrap());
            let about = event.metadata();
            let mut told = Told {
                level: about.level().to_string(),
                place: (about.file().map(str::to_owned), about.line()),
                fields: Vec::new(),
            };
            event.record(&mut told);
            self.told.lock().unwrap().push(told);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    impl Kept {
        fn journal(&self) -> Journal {
            let far = self.clone();
            Journal::start(move || Ok(far)).unwrap()
        }
    }

    const LIMIT: Duration = Duration::from_mins(1);

    fn told(run: impl FnOnce()) -> Vec<Told> {
        let kept = Kept::default();
        let journal = kept.journal();
        let subscriber = Registry::default().with(Sink::journal(journal.clone()));
        tracing::subscriber::with_default(subscriber, run);
        assert!(journal.drain(LIMIT));
        kept.told.lock().unwrap().clone()
    }

    #[test]
    fn the_journal_gets_structured_fields_and_a_stable_id_and_no_secret() {
        let line = line!() + 4;
        let told = told(|| {
            let span = tracing::info_span!("heal", app = "shop", heal_id = tracing::field::Empty);
            span.record("heal_id", "01j");
            span.in_scope(|| tracing::error!(secret = "canary", reason = "a\nb", "action started"));
        });
        let [told] = &told[..] else {
            panic!("one record: {told:?}");
        };
        let want = [
            ("MESSAGE", "shop: action started: a\\nb"),
            ("MESSAGE_ID", "3d0f1b1a6f1c4e0f8f0a5d4a8d6b0c24"),
            ("HEALERD_TARGET", module_path!()),
            ("HEALERD_APP", "shop"),
            ("HEALERD_HEAL", "01j"),
            ("HEALERD_REASON", "a\\nb"),
            ("HEALERD_SECRET", "[redacted]"),
        ];
        let want = want.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(told.fields, want);
        assert_eq!(told.level, "ERROR");
        assert_eq!(told.place, (Some(file!().to_owned()), Some(line)));
    }

    #[test]
    fn one_place_with_other_fields_around_it_keeps_each_value_under_its_own_name() {
        let told = told(|| {
            for (app, host) in [
                (Some("shop"), None),
                (None, Some("web1")),
                (Some("blog"), None),
            ] {
                let span = tracing::info_span!(
                    "round",
                    app = tracing::field::Empty,
                    host = tracing::field::Empty
                );
                if let Some(app) = app {
                    span.record("app", app);
                }
                if let Some(host) = host {
                    span.record("host", host);
                }
                span.in_scope(|| tracing::info!(count = 1, "round ended"));
            }
        });
        let seen: Vec<_> = told
            .iter()
            .map(|told| (told.get("HEALERD_APP"), told.get("HEALERD_HOST")))
            .collect();
        assert_eq!(
            seen,
            [
                (Some("shop"), None),
                (None, Some("web1")),
                (Some("blog"), None)
            ]
        );
        assert!(
            told.iter()
                .all(|told| told.get("HEALERD_COUNT") == Some("1"))
        );
        assert!(told.iter().all(|told| told.get("MESSAGE_ID").is_none()));
    }

    #[test]
    fn a_record_of_more_fields_than_are_kept_still_arrives() {
        let told = told(|| {
            let one = tracing::info_span!(
                "one",
                a0 = 0,
                a1 = 0,
                a2 = 0,
                a3 = 0,
                a4 = 0,
                a5 = 0,
                a6 = 0,
                a7 = 0,
                a8 = 0,
                a9 = 0,
                aa = 0,
                ab = 0,
                ac = 0,
                ad = 0,
                ae = 0,
                af = 0,
                ag = 0,
                ah = 0
            );
            let two = tracing::info_span!(parent: &one, "two", b0 = 0, b1 = 0, b2 = 0, b3 = 0, b4 = 0, b5 = 0, b6 = 0, b7 = 0, b8 = 0, b9 = 0, ba = 0, bb = 0, bc = 0, bd = 0, be = 0, bf = 0, bg = 0, bh = 0);
            two.in_scope(|| tracing::info!("daemon ready"));
        });
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].fields.len(), FIELDS_MAX + 3, "and no loss to tell");
        assert_eq!(told[0].get("HEALERD_AH"), Some("0"));
    }

    #[test]
    fn a_journal_that_does_not_read_stops_nobody_and_hears_later_what_it_missed() {
        let kept = Kept::default();
        let journal = kept.journal();
        let subscriber = Registry::default().with(Sink::journal(journal.clone()));
        let text = "x".repeat(6 << 10);
        let sent = 2 * WAITING_BYTES_MAX / text.len();
        tracing::subscriber::with_default(subscriber, || {
            let closed = kept.gate.lock().unwrap();
            for _ in 0..sent {
                tracing::info!("{text}");
            }
            assert!(!journal.drain(Duration::from_millis(1)), "it was drained");
            assert!(journal.0.lock().bytes <= WAITING_BYTES_MAX);
            drop(closed);
            assert!(journal.drain(LIMIT));
            tracing::info!("daemon stopping");
            tracing::info!("daemon stopping");
        });
        assert!(journal.drain(LIMIT));
        let told = kept.told.lock().unwrap();
        let [passed @ .., first, second] = &told[..] else {
            panic!("{} records", told.len());
        };
        assert!(passed.len() < sent, "the queue has an end");
        let lost = sent - passed.len();
        assert_eq!(first.get("HEALERD_LOST"), Some(lost.to_string().as_str()));
        let line = first.get("MESSAGE").unwrap();
        assert!(
            line.contains(&format!("{lost} records were lost")),
            "{line}"
        );
        assert_eq!(second.get("HEALERD_LOST"), None, "told once");
        assert!(passed.iter().all(|told| told.get("HEALERD_LOST").is_none()));
    }

    #[test]
    fn a_journal_that_cannot_be_opened_is_an_error_and_no_thread_stays() {
        let refused = Journal::start(|| Err::<Kept, _>(io::Error::other("no socket")));
        assert_eq!(refused.unwrap_err().to_string(), "no socket");
    }
}
