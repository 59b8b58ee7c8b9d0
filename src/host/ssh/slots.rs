//! Things that are slow to make and shared once made: connections and agents.
//!
//! Whoever asks first makes the thing in a task of its own, so that nobody's impatience interrupts the making; the
//! others wait for the same one. What no longer works is made anew by the next who asks.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::Shared;

use super::error::SshError;
use crate::seam::BoxFuture;

type Making<T> = Shared<BoxFuture<'static, Result<Arc<T>, SshError>>>;

/// One slot per key.
pub(super) struct Slots<K, T> {
    slots: Mutex<BTreeMap<K, Making<T>>>,
}

impl<K, T> Default for Slots<K, T> {
    fn default() -> Self {
        Self {
            slots: Mutex::default(),
        }
    }
}

impl<K: Ord + Clone, T: Send + Sync + 'static> Slots<K, T> {
    /// The thing of that key: the one there is when `alive` says so, else the one that `make` makes.
    pub(super) fn get<F>(
        &self,
        key: &K,
        alive: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> F,
    ) -> Making<T>
    where
        F: Future<Output = Result<Arc<T>, SshError>> + Send + 'static,
    {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(key) {
            let usable = match slot.peek() {
                None => true, // still being made
                Some(Ok(thing)) => alive(thing),
                Some(Err(_)) => false,
            };
            if usable {
                return slot.clone();
            }
        }
        let task = tokio::spawn(make());
        let boxed: BoxFuture<'static, _> = Box::pin(async move {
            task.await.unwrap_or_else(|error| {
                Err(SshError::Agent {
                    at: "the connection".to_owned(),
                    reason: format!("could not be made: {error}"),
                })
            })
        });
        let slot = boxed.shared();
        // Driven to its end by itself too, so that what came of it is known even when all who waited have gone.
        tokio::spawn(slot.clone().map(drop));
        slots.insert(key.clone(), slot.clone());
        slot
    }

    /// Forgets those that are made and that `keep` does not want, and failed ones.
    pub(super) fn retain(&self, mut keep: impl FnMut(&K, &Arc<T>) -> bool) {
        self.lock().retain(|key, slot| match slot.peek() {
            None => true,
            Some(Ok(thing)) => keep(key, thing),
            Some(Err(_)) => false,
        });
    }

    /// Forgets all of them.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, Making<T>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_making() {
        let slots: Slots<u8, u32> = Slots::default();
        let made = Arc::new(AtomicU32::new(0));
        let ask = || {
            slots.get(
                &1,
                |_| true,
                || {
                    let made = Arc::clone(&made);
                    async move { Ok(Arc::new(made.fetch_add(1, Ordering::Relaxed))) }
                },
            )
        };
        let (first, second) = (ask(), ask());
        assert_eq!(*first.await.unwrap(), 0);
        assert_eq!(*second.await.unwrap(), 0);
        assert_eq!(*ask().await.unwrap(), 0, "and it is kept");
        slots.retain(|_, _| false);
        assert_eq!(*ask().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_failed_or_died_is_made_anew() {
        let slots: Slots<u8, u32> = Slots::default();
        let error = SshError::Key {
            file: "f".to_owned(),
            reason: "r".to_owned(),
        };
        let failed = slots
            .get(&1, |_| true, move || async move { Err(error) })
            .await;
        assert!(failed.is_err());
        let good = slots.get(&1, |_| true, || async { Ok(Arc::new(1)) }).await;
        assert_eq!(*good.unwrap(), 1);
        let again = slots.get(&1, |_| false, || async { Ok(Arc::new(2)) }).await;
        assert_eq!(*again.unwrap(), 2);
    }

    #[tokio::test]
    async fn who_loses_patience_does_not_interrupt_the_making() {
        let slots: Slots<u8, u32> = Slots::default();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        drop(slots.get(
            &1,
            |_| true,
            || async move {
                receiver.await.unwrap();
                Ok(Arc::new(7))
            },
        ));
        sender.send(()).unwrap();
        let kept = slots.get(&1, |_| true, || async { Ok(Arc::new(8)) }).await;
        assert_eq!(*kept.unwrap(), 7);
    }
}
