//! Logs: to the journal with structured fields where it listens, else as lines of text to standard error.
//!
//! One layer collects an event with the fields of the spans around it, sends every text through the redactor, and hands
//! the record to one of two writers. It is written by hand because the redactor must stand before the sink; what writes
//! to the journal is `tracing-journald`, behind it ([`journal`](super::journal)). A writer that fails loses the record
//! and nothing else: the daemon never stops because nobody can hear it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry};

use super::journal::Journal;
use super::redact;

/// What is logged when `HEALERD_LOG` says nothing: our own events, and warnings of the libraries.
const FILTER: &str = "warn,healerd=info,healer_agent=info";

/// Longest message and longest field; a record of many fields still fits into one datagram.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
const FIELD_BYTES_MAX: usize = 2 << 10;
pub(super) const FIELDS_MAX: usize = 32;

/// How long the end of the program waits for a journal that is slow.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("HEALERD_LOG is no filter: {0}")]
    Filter(String),
    #[error("logging was set up before")]
    Twice,
}

/// Logging, as long as the program runs: dropped at its end, it waits a little until everything was written.
#[derive(Debug)]
#[must_use = "what is still on its way to the journal is lost when this is dropped early"]
pub struct Logging(Option<Journal>);

impl Drop for Logging {
    fn drop(&mut self) {
        if let Some(journal) = &self.0 {
            journal.drain(DRAIN_LIMIT);
        }
    }
}

/// Sets up logging for the process: the journal when standard error leads there, else text.
///
/// # Errors
/// When `HEALERD_LOG` is no filter, or it was done before.
pub fn init() -> Result<Logging, LoggingError> {
    let filter = match std::env::var("HEALERD_LOG") {
        Ok(text) => EnvFilter::try_new(&text)
            .map_err(|error| LoggingError::Filter(redact::clean(&error.to_string(), 200)))?,
        Err(_) => EnvFilter::new(FILTER),
    };
    // Without its socket the journal still reads standard error.
    let journal = leads_to_journal().then(|| Journal::open().ok()).flatten();
    let sink = journal
        .clone()
        .map_or_else(|| Sink::text(std::io::stderr()), Sink::journal);
    let subscriber = Registry::default().with(filter).with(sink);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::Twice)?;
    Ok(Logging(journal))
}

/// Whether `JOURNAL_STREAM` names the very stream that standard error is.
fn leads_to_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(about) = rustix::fs::fstat(std::io::stderr()) else {
        return false;
    };
    named.split_once(':').is_some_and(|(device, inode)| {
        device.parse() == Ok(about.st_dev) && inode.parse() == Ok(about.st_ino)
    })
}

/// One event, redacted.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// The place in the code: level, target, file, line.
    pub(super) origin: &'static Metadata<'static>,
    pub(super) message: String,
    pub(super) fields: BTreeMap<&'static str, String>,
    /// Records before this one that the sink could not take.
    pub(super) lost: u64,
}

/// The layer.
pub struct Sink(Writer);

enum Writer {
    Journal(Journal),
    Text(Mutex<Box<dyn std::io::Write + Send>>),
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Writer::Journal(_) => "Sink(journal)",
            Writer::Text(_) => "Sink(text)",
        })
    }
}

impl Sink {
    /// Lines of text.
    pub fn text(writer: impl std::io::Write + Send + 'static) -> Self {
        Self(Writer::Text(Mutex::new(Box::new(writer))))
    }

    /// Records of the journal.
    pub const fn journal(journal: Journal) -> Self {
        Self(Writer::Journal(journal))
    }

    fn write(&self, record: Record) {
        match &self.0 {
            Writer::Journal(journal) => journal.send(record),
            Writer::Text(writer) => {
                let mut writer = writer
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                drop(writer.write_all(text_line(&record).as_bytes()));
            }
        }
    }
}

/// Fields of a span, kept with it.
struct SpanFields(BTreeMap<&'static str, String>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Sink {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Collector::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(SpanFields(fields.fields));
        }
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Collector::default();
            values.record(&mut fields);
            if let Some(SpanFields(known)) = span.extensions_mut().get_mut() {
                known.extend(fields.fields);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            if let Some(SpanFields(known)) = span.extensions().get() {
                fields.extend(known.clone());
            }
        }
        let mut own = Collector::default();
        event.record(&mut own);
        fields.extend(own.fields);
        let surplus = fields.len().saturating_sub(FIELDS_MAX);
        for _ in 0..surplus {
            fields.pop_last();
        }
        self.write(Record {
            origin: event.metadata(),
            message: own.message,
            fields,
            lost: 0,
        });
    }
}

/// Reads fields, redacted.
#[derive(Default)]
struct Collector {
    message: String,
    fields: BTreeMap<&'static str, String>,
}

impl Collector {
    fn take(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.message = redact::clean(text, MESSAGE_BYTES_MAX);
        } else {
            // Name and value are looked at together: `password = "x"` as a field is a secret, too.
            let together = redact::hide(&format!("{}={}", field.name(), cut(text)));
            let value = together.split_once('=').map_or("", |(_, value)| value);
            self.fields
                .insert(field.name(), redact::clean(value, FIELD_BYTES_MAX));
        }
    }
}

/// The beginning that is looked at; `clean` says that more was left away.
fn cut(text: &str) -> &str {
    let mut end = (FIELD_BYTES_MAX + 64).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Visit for Collector {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        self.take(field, &text);
    }
}

/// `info  action started action=restart_app app=shop`: why comes first, what to do comes last.
fn text_line(record: &Record) -> String {
    let mut line = format!(
        "{:<5} {}",
        record.origin.level().as_str().to_lowercase(),
        record.message
    );
    let place = |name: &str| match name {
        "reason" => 0,
        "hint" => 2,
        _ => 1,
    };
    let mut fields: Vec<_> = record.fields.iter().collect();
    fields.sort_by_key(|(name, _)| place(name));
    for (name, value) in fields {
        let plain = !value.is_empty() && !value.contains([' ', '"', '=']);
        let written = if plain {
            write!(line, " {name}={value}")
        } else {
            write!(line, " {name}=\"{}\"", value.replace('"', "'"))
        };
        debug_assert!(written.is_ok(), "writing to a text never fails");
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(run: impl FnOnce()) -> String {
        let kept = Kept::default();
        let subscriber = Registry::default().with(Sink::text(kept.clone()));
        tracing::subscriber::with_default(subscriber, run);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_carries_the_fields_of_its_span() {
        let text = logged(|| {
            let span = tracing::info_span!("heal", app = "shop", heal_id = tracing::field::Empty);
            span.record("heal_id", "01j");
            let _entered = span.enter();
            tracing::info!(action = "restart_app", risk = %"LOW", duration_ms = 12, "action started");
        });
        assert_eq!(
            text,
            "info  action started action=restart_app app=shop duration_ms=12 heal_id=01j risk=LOW\n"
        );
    }

    #[test]
    fn secrets_and_control_characters_never_reach_a_line() {
        let text = logged(|| {
            tracing::warn!(
                password = "canary-1",
                reason = "failed\n\u{1b}[31mforged=1 token=canary-2",
                url = %"mysql://a:canary-3@db/",
                "see DB_PASSWORD=canary-4\nerror forged"
            );
        });
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_refusal_reads_from_why_to_what_to_do() {
        let text = logged(|| {
            tracing::error!(
                hint = "did you mean `mode`?",
                app = "shop",
                reason = "`mod` is unknown",
                "configuration refused"
            );
        });
        assert_eq!(
            text,
            "error configuration refused reason=\"`mod` is unknown\" app=shop hint=\"did you mean `mode`?\"\n"
        );
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let text = logged(|| {
            let error = Outer(std::io::Error::other("inner"));
            tracing::error!(reason = &error as &dyn std::error::Error, "undo failed");
        });
        assert_eq!(text, "error undo failed reason=\"outer: inner\"\n");
    }
}
