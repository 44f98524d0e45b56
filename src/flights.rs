//! One piece of work at a time for each key: whoever asks for what is under way
//! waits for that.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::error::{Error, Result};

/// Work under way, to be waited for by many.
pub type Flight<T> = Shared<BoxFuture<'static, Result<T>>>;

type Map<K, T> = Mutex<HashMap<K, Flight<T>>>;

/// Work under way, by key.
pub struct Flights<K: Hash + Eq, T> {
    map: Arc<Map<K, T>>,
}

impl<K: Hash + Eq, T> Default for Flights<K, T> {
    fn default() -> Self {
        Self { map: Arc::default() }
    }
}

impl<K, T> Flights<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the work for `key` that is under way, or starts `work` in a task of
    /// its own: a waiter that leaves stops nothing, and the first one has no
    /// special part.
    pub fn join<F>(&self, tasks: &TaskTracker, key: K, work: impl FnOnce() -> F) -> Flight<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut map = lock(&self.map);
        if let Some(flight) = map.get(&key) {
            return flight.clone();
        }
        // Forgotten by the task and not by a waiter: if all of them have left,
        // whoever asks next must not be given what was found for them.
        let landing = Landing { map: Arc::clone(&self.map), key: key.clone() };
        let work = work();
        let flight = async move {
            let _landing = landing;
            work.await
        };
        // Its log lines carry the request id of whoever began it.
        let task = tasks.spawn(flight.in_current_span());
        let flight = async move { task.await.unwrap_or_else(|error| Err(Error::internal(error))) };
        let flight = flight.boxed().shared();
        map.insert(key, flight.clone());
        flight
    }
}

/// Forgets a flight when its task ends, even by a panic.
struct Landing<K: Hash + Eq, T> {
    map: Arc<Map<K, T>>,
    key: K,
}

impl<K: Hash + Eq, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        lock(&self.map).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics while it holds the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[derive(Default)]
    struct Runs {
        flights: Flights<u8, usize>,
        tasks: TaskTracker,
        count: Arc<AtomicUsize>,
    }

    impl Runs {
        fn join(&self, key: u8) -> Flight<usize> {
            let count = Arc::clone(&self.count);
            self.flights.join(&self.tasks, key, || async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(count.fetch_add(1, Ordering::SeqCst) + 1)
            })
        }
    }

    #[tokio::test]
    async fn those_who_ask_at_once_share_and_those_after_start_anew() {
        let runs = Runs::default();
        let (a, b, other) = tokio::join!(runs.join(1), runs.join(1), runs.join(2));
        assert_eq!(a.as_ref().ok(), b.as_ref().ok());
        assert_ne!(a.as_ref().ok(), other.as_ref().ok());
        assert_eq!(runs.join(1).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn what_nobody_waited_for_is_not_told_to_whoever_asks_later() {
        let runs = Runs::default();
        drop(runs.join(1));
        runs.tasks.close();
        runs.tasks.wait().await;
        assert_eq!(runs.join(1).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn work_that_panics_is_forgotten_too() {
        let runs = Runs::default();
        let failed = runs.flights.join(&runs.tasks, 1, || async { panic!("on purpose") });
        assert!(failed.await.is_err());
        assert_eq!(runs.join(1).await.unwrap(), 1);
    }
}
