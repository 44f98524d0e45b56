//! What befalls the processes: they are killed, frozen, and left without their
//! database, each at times of its own.

use std::sync::Arc;
use std::time::Duration;

use threads_identity::secret;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::world::{LEASE, World, all};

/// Something that befell somebody, by Threads' clock in unix seconds.
#[derive(Debug, Clone, Copy)]
pub struct Blow {
    pub kind: Kind,
    pub begin: i64,
    pub end: i64,
}

/// What it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A replica was killed, and began anew.
    Killed,
    /// A replica was frozen, and went on.
    Frozen,
    /// Postgres was stopped in order, and began anew.
    Stopped,
    /// Postgres crashed, and began anew.
    Crashed,
}

/// Strikes until it is stopped.
pub struct Nemesis {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Vec<Blow>>>,
}

impl Nemesis {
    pub fn start(world: &Arc<World>) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        for number in 0..world.replicas.len() {
            tasks.push(tokio::spawn(strike_replica(Arc::clone(world), number, stop.clone())));
        }
        tasks.push(tokio::spawn(strike_postgres(Arc::clone(world), stop.clone())));
        Self { stop, tasks }
    }

    /// Stops striking; everything has been set going again. Answers what befell.
    pub async fn stop(self) -> Vec<Blow> {
        self.stop.cancel();
        all(self.tasks).await.into_iter().flatten().collect()
    }
}

async fn strike_replica(world: Arc<World>, number: usize, stop: CancellationToken) -> Vec<Blow> {
    let mut blows = Vec::new();
    while peace(&stop, 800, 4_000).await {
        let mut replica = world.replicas[number].lock().await;
        let begin = world.controls.now();
        let kind = if chance() < 0.5 {
            replica.kill();
            sleep(between(0, 800)).await;
            replica.run();
            Kind::Killed
        } else {
            // Half of them for longer than a lease, so that others take over.
            replica.signal("-STOP");
            sleep(between(0, 2 * u64::try_from(LEASE.as_millis()).unwrap())).await;
            replica.signal("-CONT");
            Kind::Frozen
        };
        blows.push(Blow { kind, begin, end: world.controls.now() });
    }
    blows
}

async fn strike_postgres(world: Arc<World>, stop: CancellationToken) -> Vec<Blow> {
    let mut blows = Vec::new();
    while peace(&stop, 4_000, 9_000).await {
        let mut postgres = world.postgres.lock().await;
        let begin = world.controls.now();
        let kind = if chance() < 0.5 {
            postgres.stop().await;
            Kind::Stopped
        } else {
            postgres.crash().await;
            Kind::Crashed
        };
        sleep(between(0, 500)).await;
        postgres.run().await;
        blows.push(Blow { kind, begin, end: world.controls.now() });
    }
    blows
}

/// Leaves them alone for so many milliseconds; false when it is over for good.
async fn peace(stop: &CancellationToken, least: u64, most: u64) -> bool {
    tokio::select! {
        () = sleep(between(least, most)) => true,
        () = stop.cancelled() => false,
    }
}

fn between(least: u64, most: u64) -> Duration {
    Duration::from_millis(least) + Duration::from_millis(most - least).mul_f64(chance())
}

/// A number from 0 to 1.
fn chance() -> f64 {
    f64::from(u32::from_be_bytes(secret::random())) / f64::from(u32::MAX)
}
