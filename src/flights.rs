//! One piece of work at a time for each key: whoever asks for what is under way
//! waits for that.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};

/// Work under way, to be waited for by many.
pub type Flight<V> = Shared<BoxFuture<'static, V>>;

/// Work under way, by key.
pub struct Flights<K, V> {
    map: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { map: Arc::default() }
    }
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the work for `key` that is under way, or starts `work`.
    ///
    /// `work` must go on by itself (a spawned task): a waiter that leaves stops
    /// nothing, and the first one has no special part.
    pub fn join<F, W>(&self, key: K, work: W) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
        W: FnOnce() -> F,
    {
        let mut map = lock(&self.map);
        if let Some(flight) = map.get(&key) {
            return flight.clone();
        }
        let all = Arc::clone(&self.map);
        let work = work();
        let done = key.clone();
        let flight = async move {
            let value = work.await;
            lock(&all).remove(&done);
            value
        };
        let flight = flight.boxed().shared();
        map.insert(key, flight.clone());
        flight
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

    #[tokio::test]
    async fn those_who_ask_at_once_share_and_those_after_start_anew() {
        let flights: Flights<u8, usize> = Flights::default();
        let runs = Arc::new(AtomicUsize::new(0));
        let work = || {
            let runs = Arc::clone(&runs);
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                runs.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let (a, b, other) = tokio::join!(flights.join(1, work), flights.join(1, work), flights.join(2, work));
        assert_eq!(a, b);
        assert_ne!(a, other);
        assert_eq!(flights.join(1, work).await, 3);
    }
}
