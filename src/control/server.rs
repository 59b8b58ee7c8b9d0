//! The loop that takes connections: how many, for how long, and how they end.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::peer::Peer;
use super::problem::Failure;
use super::{ControlState, routes, wire};

/// Connections of one user at once. Source: SAFETY.md I6.
const PER_USER_MAX: usize = 16;

/// Connections of everybody at once.
const ALL_MAX: usize = 256;

/// Longest wait for the head of a request, also between two of one connection.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// Longest time that answers under way get when the daemon stops.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The loop tells of its life at least this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Pause after the kernel refused a connection (out of descriptors), so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers on the socket until `shutdown` is over; then event streams end, and so do answers under way.
pub async fn serve(
    listener: UnixListener,
    state: ControlState,
    shutdown: impl Future<Output = ()> + Send,
) {
    let progress = Arc::clone(&state.progress);
    let service = TowerToHyperService::new(routes::router(Arc::new(state)));
    let places = Places::default();
    let (ending, ends) = watch::channel(false);
    let ends = Ends(ends);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        progress();
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (service, places, ends) = (service.clone(), places.clone(), ends.clone());
                    connections.spawn(connection(stream, service, places, ends));
                }
                Err(error) => {
                    tracing::warn!(%error, "control connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = tokio::time::sleep(PROGRESS_EVERY) => {}
        }
    }
    drop(listener);
    ending.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(END_WITHIN, all).await.is_err() {
        connections.abort_all();
    }
}

/// Tells when the server ends; among the extensions of every request.
#[derive(Debug, Clone)]
pub(super) struct Ends(watch::Receiver<bool>);

impl Ends {
    /// Returns when it ends, or has ended.
    pub(super) async fn over(&mut self) {
        drop(self.0.wait_for(|over| *over).await);
    }
}

type Routes = TowerToHyperService<axum::Router>;

async fn connection(stream: UnixStream, routes: Routes, places: Places, mut ends: Ends) {
    let Ok(credentials) = stream.peer_cred() else {
        tracing::warn!("control connection without an identity");
        return;
    };
    let Some(_place) = places.take(credentials.uid()) else {
        tracing::warn!(uid = credentials.uid(), "too many control connections");
        refuse(stream).await;
        return;
    };
    let peer = match Peer::of(credentials).await {
        Ok(peer) => Arc::new(peer),
        Err(error) => {
            tracing::warn!(%error, "control connection without a name");
            return;
        }
    };
    let told = ends.clone();
    let service = service_fn(move |mut request| {
        request.extensions_mut().insert(Arc::clone(&peer));
        request.extensions_mut().insert(told.clone());
        routes.call(request)
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(wire::BODY_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = ends.over() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "control connection ended");
    }
}

/// A short answer to a caller who has too many connections already; whether it arrives does not matter.
async fn refuse(mut stream: UnixStream) {
    let failure = Failure::bad_input(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_connections",
        "There are too many connections of this user, or in all.",
        "Close some, then try again.",
    );
    let body = serde_json::to_string(&failure.problem()).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        wire::PROBLEM_TYPE,
        body.len()
    );
    let sending = async {
        stream.write_all(answer.as_bytes()).await.ok();
        stream.shutdown().await.ok();
    };
    tokio::time::timeout(PAUSE, sending).await.ok();
}

/// Who holds how many connections.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<BTreeMap<u32, usize>>>);

impl Places {
    /// A place for one more connection; it is given back when it is dropped.
    fn take(&self, uid: u32) -> Option<Place> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = held.values().sum();
        let own = held.get(&uid).copied().unwrap_or(0);
        if own >= PER_USER_MAX || all >= ALL_MAX {
            return None;
        }
        held.insert(uid, own + 1);
        Some(Place {
            uid,
            places: self.clone(),
        })
    }
}

#[derive(Debug)]
struct Place {
    uid: u32,
    places: Places,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_the_places_of_the_others() {
        let places = Places::default();
        let mut held: Vec<_> = (0..PER_USER_MAX).filter_map(|_| places.take(1)).collect();
        assert_eq!(held.len(), PER_USER_MAX);
        assert!(places.take(1).is_none());
        assert!(places.take(2).is_some());
        held.pop();
        assert!(places.take(1).is_some(), "a place is given back");
    }

    #[test]
    fn all_together_have_an_end() {
        let places = Places::default();
        let held: Vec<_> = (0..1000).filter_map(|uid| places.take(uid)).collect();
        assert_eq!(held.len(), ALL_MAX);
        drop(held);
        assert!(places.0.lock().unwrap().is_empty());
    }
}
