//! `healerctl events`: what happens, as it happens, until the reader or the daemon goes away.

use super::client::Client;
use super::output::{CliError, Output, code, print_line};
use crate::control::wire::EventLine;
use crate::telemetry::redact::escape;
use std::fmt::Write as _;

/// Longest line of the stream.
const LINE_BYTES_MAX: usize = 256 << 10;

/// Prints each event on a line of its own; with `json` as one object a line.
pub(super) async fn run(client: &Client, json: bool) -> Result<Output, CliError> {
    let mut stream = client.stream("/events").await?;
    let mut lines = Lines::default();
    loop {
        let chunk = stream.chunk().await;
        let Ok(Some(chunk)) = chunk else {
            return Err(CliError::new(
                code::UNREACHABLE,
                "stream_ended",
                "the daemon ended the stream",
            )
            .hint("see whether it runs: `systemctl status healerd`"));
        };
        for data in lines.feed(&chunk)? {
            let line = if json { one_line(&data) } else { shown(&data) };
            if line.is_some_and(|line| !print_line(&line)) {
                return Ok(Output::default());
            }
        }
    }
}

/// Cuts a stream of server-sent events into the data of its events. Comments and other fields are passed over.
#[derive(Debug, Default)]
struct Lines {
    /// What came without its line end yet.
    rest: Vec<u8>,
    data: String,
}

impl Lines {
    fn feed(&mut self, chunk: &[u8]) -> Result<Vec<String>, CliError> {
        let mut found = Vec::new();
        self.rest.extend_from_slice(chunk);
        let mut from = 0;
        while let Some(length) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.rest[from..from + length]).into_owned();
            from += length + 1;
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line.is_empty() {
                if !self.data.is_empty() {
                    found.push(std::mem::take(&mut self.data));
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        self.rest.drain(..from);
        if self.rest.len() + self.data.len() > LINE_BYTES_MAX {
            return Err(CliError::new(
                code::FAILED,
                "bad_answer",
                format!("an event is longer than {LINE_BYTES_MAX} bytes"),
            ));
        }
        Ok(found)
    }
}

fn shown(data: &str) -> Option<String> {
    let event: EventLine = serde_json::from_str(data).ok()?;
    let app = event.application_id.as_deref().unwrap_or("-");
    let mut line = format!(
        "{}  {:<9} {:<16} {}",
        escape(&event.at),
        escape(&event.kind),
        escape(app),
        escape(&event.text)
    );
    if let Some(heal) = &event.heal_id {
        write!(line, "  (heal {})", escape(heal)).ok();
    }
    Some(line)
}

fn one_line(data: &str) -> Option<String> {
    let event: EventLine = serde_json::from_str(data).ok()?;
    serde_json::to_string(&event).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"at":"2026-11-24T03:00:00Z","kind":"heal","applicationId":"shop","text":"fix_permissions: cured","healId":null}"#;

    #[test]
    fn events_come_out_whole_however_they_were_cut() {
        let stream =
            format!(": hello\r\nevent: heal\r\ndata: {EVENT}\r\n\r\n\nid: 7\ndata:a\ndata:b\n\n");
        for size in 1..stream.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for chunk in stream.as_bytes().chunks(size) {
                found.extend(lines.feed(chunk).unwrap());
            }
            assert_eq!(found, [EVENT, "a\nb"], "chunks of {size}");
        }
    }

    #[test]
    fn an_endless_line_ends_the_stream() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(lines.feed(&chunk).unwrap_err().code, "bad_answer");
    }

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(
            shown(EVENT).unwrap(),
            "2026-11-24T03:00:00Z  heal      shop             fix_permissions: cured"
        );
        assert_eq!(shown("not json"), None);
    }
}
