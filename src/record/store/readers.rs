//! A few read-only connections, handed out one at a time.
//!
//! Readers see the last commit and never wait for the writer. There is no timer in here but the caller's own limit, so
//! that a simulated clock runs them unchanged.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::script::refused;
use super::within;
use crate::seam::StoreError;

#[derive(Debug)]
pub(super) struct Readers {
    idle: Mutex<Vec<SqliteConnection>>,
    free: Semaphore,
}

impl Readers {
    pub(super) fn new(connections: Vec<SqliteConnection>) -> Self {
        Self {
            free: Semaphore::new(connections.len()),
            idle: Mutex::new(connections),
        }
    }

    /// A connection, given back when dropped.
    pub(super) async fn get(&self, wait: Option<Duration>) -> Result<Reader<'_>, StoreError> {
        let permit = within(wait, self.free.acquire())
            .await
            .ok_or_else(|| refused("read", "all readers are busy"))?
            .map_err(|_| StoreError::Closed)?;
        let connection = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .ok_or(StoreError::Closed)?;
        Ok(Reader {
            readers: self,
            connection: Some(connection),
            _permit: permit,
        })
    }

    /// Refuses later calls and closes what is idle; a reader at work closes its own when it is done.
    pub(super) async fn close(&self) {
        self.free.close();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in idle {
            // Nothing was written through it, so nothing is lost with it.
            connection.close().await.ok();
        }
    }
}

/// One connection on loan.
pub(super) struct Reader<'a> {
    readers: &'a Readers,
    connection: Option<SqliteConnection>,
    _permit: SemaphorePermit<'a>,
}

impl Reader<'_> {
    /// The connection. There is one until the reader is dropped.
    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.connection.as_mut().ok_or(StoreError::Closed)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.readers.free.is_closed()
        {
            self.readers
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
        }
    }
}
