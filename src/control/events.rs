//! The event stream: what happens from now on, as server-sent events.
//!
//! A reader that is too slow loses the oldest lines and is told how many; nothing is kept for it.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::server::Ends;
use super::{show, wire};
use crate::engine::handle::EventLine;

/// A sign of life, so that both ends notice when the other has gone.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// The stream; it ends with the server that it is read from.
pub(super) fn stream(
    receiver: Receiver<EventLine>,
    ends: Option<Ends>,
    now: impl Fn() -> String + Send + 'static,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let lines = futures_util::stream::unfold(
        (receiver, ends, now),
        |(mut receiver, mut ends, now)| async move {
            let got = tokio::select! {
                got = receiver.recv() => got,
                () = ended(&mut ends) => return None,
            };
            let line = match got {
                Ok(line) => show::event(&line),
                Err(RecvError::Lagged(count)) => lost(count, now()),
                Err(RecvError::Closed) => return None,
            };
            let event = Event::default().event(line.kind.clone());
            // The type holds texts only and always serialises.
            let event = event.json_data(&line).unwrap_or_default();
            Some((Ok(event), (receiver, ends, now)))
        },
    );
    Sse::new(lines).keep_alive(KeepAlive::new().interval(ALIVE_EVERY).text("alive"))
}

async fn ended(ends: &mut Option<Ends>) {
    match ends {
        Some(ends) => ends.over().await,
        None => std::future::pending().await,
    }
}

fn lost(count: u64, at: String) -> wire::EventLine {
    wire::EventLine {
        at,
        kind: "lost".to_owned(),
        application_id: None,
        text: format!("{count} events were lost, because they were not read in time"),
        heal_id: None,
    }
}
