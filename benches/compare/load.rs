//! The load generator: so many calls in flight, each followed by the next, for so
//! long. A call that fails ends the measurement.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::random::Random;

/// How many calls were made, and in how many seconds.
///
/// `call` is given a connection and something random to choose by.
pub async fn rate<F, Fut>(channels: &[Channel], at_once: usize, time: Duration, call: F) -> (f64, f64)
where
    F: Fn(Channel, u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..at_once {
        let (channel, call) = (channels[worker % channels.len()].clone(), call.clone());
        workers.spawn(async move {
            let mut random = Random::new();
            let mut calls = 0_u32;
            while start.elapsed() < time {
                call(channel.clone(), random.next()).await;
                calls += 1;
            }
            calls
        });
    }
    let calls: f64 = workers.join_all().await.into_iter().map(f64::from).sum();
    (calls, start.elapsed().as_secs_f64())
}

/// How long calls take one after the other, shortest first.
pub async fn latencies<F, Fut>(channel: &Channel, time: Duration, call: F) -> Vec<Duration>
where
    F: Fn(Channel, u64) -> Fut,
    Fut: Future<Output = ()>,
{
    let (begin, mut random, mut taken) = (Instant::now(), Random::new(), Vec::new());
    while begin.elapsed() < time {
        let start = Instant::now();
        call(channel.clone(), random.next()).await;
        taken.push(start.elapsed());
    }
    taken.sort();
    taken
}

/// The time within which this share of them was done.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
    let place = (sorted.len() as f64 * share) as usize;
    sorted[place.min(sorted.len() - 1)]
}
