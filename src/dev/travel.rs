//! Letting time pass, for the service and the simulator together.
//!
//! They have a clock each, as two companies have. The simulator's is moved first,
//! over HTTP: a service that is ahead of Threads would refresh a token that Threads
//! takes for too young.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OnceCell};

use super::Failure;
use super::threads::Threads;
use crate::clock::{Clock as _, TravellingClock};
use crate::refresher;
use crate::service::Service;

/// How far ahead the clocks may be moved in all: ten years.
const AHEAD_MAX: Duration = Duration::from_hours(24 * 3652);
/// How far the clocks are moved at once while the service goes on working.
const STEP: Duration = Duration::from_hours(24);

/// How time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// A day at a time, and the service does each day's work.
    Awake,
    /// All at once, as for a service that was switched off.
    Asleep,
}

/// The clocks, and where it is kept how far ahead they are.
pub(super) struct Travel {
    clock: Arc<TravellingClock>,
    file: PathBuf,
    threads: Threads,
    /// Whose refreshes are done on the way; set once there is one.
    service: OnceCell<Arc<Service>>,
    /// One journey at a time.
    turn: Mutex<()>,
}

impl Travel {
    /// Goes on from where the last run had come: what it stored is dated so.
    pub(super) async fn resume(data_dir: &Path, threads: Threads) -> Result<Self, Failure> {
        let file = data_dir.join("ahead");
        let ahead = match std::fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map(Duration::from_secs).ok().filter(|ahead| *ahead <= AHEAD_MAX),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Duration::ZERO),
            Err(error) => return Err(format!("{}: {error}", file.display()).into()),
        };
        let ahead = ahead.ok_or_else(|| {
            format!("{}: must hold by how many seconds the clocks are ahead", file.display())
        })?;
        if !ahead.is_zero() {
            threads.advance(ahead).await?;
        }
        let clock = Arc::new(TravellingClock::new(ahead));
        Ok(Self { clock, file, threads, service: OnceCell::new(), turn: Mutex::default() })
    }

    /// The service's clock.
    pub(super) fn clock(&self) -> &Arc<TravellingClock> {
        &self.clock
    }

    /// Names the service that works while days pass.
    pub(super) fn take_along(&self, service: &Arc<Service>) {
        // Only `run` calls it, once.
        let _ = self.service.set(Arc::clone(service));
    }

    /// Lets time pass, to its end even if whoever asked goes away: two clocks that
    /// have moved unequally stay so.
    pub(super) async fn pass(self: &Arc<Self>, time: Duration, pace: Pace) -> Result<(), Failure> {
        let Some(service) = self.service.get() else { return Err("nothing is served yet".into()) };
        let travel = Arc::clone(self);
        service.tasks.spawn(async move { travel.go(time, pace).await }).await?
    }

    async fn go(&self, time: Duration, pace: Pace) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        let arrival = self.clock.ahead() + time;
        if arrival > AHEAD_MAX {
            return Err("the clocks are ten years ahead: that is as far as they go".into());
        }
        // Before anything is dated by it: a time that was lived through must not
        // come again after a restart.
        let seconds = arrival.as_secs() + u64::from(arrival.subsec_nanos() > 0);
        std::fs::write(&self.file, format!("{seconds}\n"))?;
        let mut left = time;
        while !left.is_zero() {
            let step = if pace == Pace::Awake { left.min(STEP) } else { left };
            self.threads.advance(step).await?;
            self.clock.advance(step);
            left -= step;
            if let Some(service) = self.service.get() {
                refresher::round(service).await?;
            }
        }
        tracing::info!(now = %self.clock.now(), "time has passed");
        Ok(())
    }
}
