//! What reaches the journal of a record, and that nobody waits for it.

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
