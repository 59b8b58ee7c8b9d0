//! The control socket.

pub mod wire;
mod words;
use crate::config::Roles;
use crate::engine::Handle;
use crate::seam::Notifier;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::sd::{Part, Progress};
use std::path::Path;
use std::sync::Arc;

/// State.
pub struct ControlState {
    pub handle: Handle,
    pub roles: tokio::sync::watch::Receiver<Roles>,
    pub metrics: Arc<Metrics>,
    pub notifier: Option<Arc<dyn Notifier>>,
    pub progress: Arc<Progress>,
}
/// Bind.
pub fn bind(path: &Path, _group: Option<u32>) -> std::io::Result<tokio::net::UnixListener> {
    drop(std::fs::remove_file(path));
    tokio::net::UnixListener::bind(path)
}
/// Serve.
pub async fn serve(
    _l: tokio::net::UnixListener,
    state: ControlState,
    _c: tokio::sync::watch::Receiver<bool>,
) {
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        state.progress.advance(Part::Socket);
    }
}
