use std::sync::atomic::{AtomicI64, Ordering};

/// Stops the vault as if the process had died: after `left` points no effect follows any more.
#[derive(Debug)]
pub(super) struct Stop {
    left: AtomicI64,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            left: AtomicI64::new(i64::MAX),
        }
    }
}

impl Stop {
    pub(super) fn here(&self, _name: &str) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) <= 0
    }

    pub(super) fn after(&self, points: i64) {
        self.left.store(points, Ordering::SeqCst);
    }

    pub(super) fn happened(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }
}
