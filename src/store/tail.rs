//! The end of the table of events, followed by one task for the whole process.
//!
//! An event's id is drawn before its transaction commits, so "greater than the
//! last" loses rows. The task finds the *settled frontier*: the last event below
//! which nothing can appear any more (`frontier`). Up to there, ids are the order
//! of delivery: of two changes of one account the later one drew its id while it
//! held the account's row, after the earlier one had committed.
//!
//! While anybody watches, the task reads what has newly settled once and keeps it
//! in memory (`ring`), so that a thousand watchers cost one query. It promises no
//! more than to be quick: whoever finds too little in memory reads the table.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::accounts::ReadAccounts;
use super::coalescer::Coalescer;
use super::events::{self, Epoch, Mark};
use super::owned::Owned;
use super::{RUN_MAX, StoreError};
use crate::metrics::Metrics;

mod frontier;
mod ring;

pub use ring::Taken;

use frontier::Frontier;
use ring::Ring;

/// How soon it looks again while something that was drawn is not settled.
const UNSETTLED_PAUSE: Duration = Duration::from_millis(10);
/// How soon it looks again after a failure, however many ask.
const FAILED_PAUSE: Duration = Duration::from_millis(250);
/// How long somebody waits for a look.
const FRESH_MAX: Duration = Duration::from_secs(2);
/// The most changes that are kept in memory.
const RING_MAX: usize = 4096;
/// The most that one statement reads into it.
const FILL_MAX: i64 = 512;
/// How many pages are read at once for those who find too little in memory: the
/// pool serves others too.
const CATCH_UP_MAX: usize = 2;

/// What the last look has found.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// How many there have been.
    number: u64,
    /// The era that it found.
    era: u64,
    /// `None`: the database could not be asked.
    mark: Option<Mark>,
}

/// Up to where events may be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// How often this process has found the table to have another history. A
    /// position of one era means nothing in the next.
    pub era: u64,
    /// The last event that is settled; `None` until that is known.
    pub at: Option<i64>,
}

/// The table as it stood after somebody asked.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// The era of `at`.
    pub era: u64,
    /// Where the table stood.
    pub mark: Mark,
    /// The last event that is settled.
    pub at: i64,
}

/// The tail, as its task and all who follow it share it.
pub struct Tail {
    options: Arc<PgConnectOptions>,
    metrics: Arc<Metrics>,
    looks: watch::Sender<Look>,
    settled: watch::Sender<Settled>,
    ring: Mutex<Ring>,
    /// How many looks have begun.
    begun: AtomicU64,
    /// Somebody does not want to wait for the next look.
    nudge: Notify,
    /// Somebody has found another history than the task.
    doubted: AtomicBool,
    catching_up: Semaphore,
}

/// Somebody who follows the tail; no more once dropped.
pub struct Follower(Gauge);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Tail {
    pub(super) fn new(options: &Arc<PgConnectOptions>, metrics: &Arc<Metrics>) -> Self {
        Self {
            options: Arc::clone(options),
            metrics: Arc::clone(metrics),
            looks: watch::Sender::new(Look { number: 0, era: 0, mark: None }),
            settled: watch::Sender::new(Settled { era: 0, at: None }),
            ring: Mutex::new(Ring::new(RING_MAX)),
            begun: AtomicU64::new(0),
            nudge: Notify::new(),
            doubted: AtomicBool::new(false),
            catching_up: Semaphore::new(CATCH_UP_MAX),
        }
    }

    /// Counts a follower in, unless there are `most` already.
    #[must_use]
    pub fn follow(&self, most: i64) -> Option<Follower> {
        let gauge = &self.metrics.watch_streams;
        let before = gauge.inc();
        let follower = Follower(gauge.clone());
        (before < most).then_some(follower)
    }

    /// Hears of it when more is settled.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Settled> {
        self.settled.subscribe()
    }

    /// Changes that are in memory, after a position.
    #[must_use]
    pub fn take(&self, era: u64, position: i64, limit: usize) -> Taken {
        self.ring().take(era, position, limit)
    }

    /// Waits until one may read a page of the table to catch up. `None`: never.
    pub async fn catch_up(&self) -> Option<SemaphorePermit<'_>> {
        self.catching_up.acquire().await.ok()
    }

    /// Says that the table has been found to have another history.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
        self.nudge.notify_one();
    }

    /// Where the table stands by a look that begins after this call: what was
    /// committed before it is settled, unless something older is not.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub async fn fresh(&self) -> Result<Standing, StoreError> {
        let (mut looks, mut settled) = (self.looks.subscribe(), self.settled.subscribe());
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        let looking = async {
            self.nudge.notify_one();
            let look = *looks.wait_for(|look| look.number >= wanted).await.ok()?;
            let mark = look.mark?;
            // After a start, all who are writing must have ended once.
            let settled = *settled.wait_for(|settled| settled.at.is_some()).await.ok()?;
            (settled.era == look.era).then_some(Standing { era: look.era, mark, at: settled.at? })
        };
        match timeout(FRESH_MAX, looking).await {
            Ok(Some(standing)) => Ok(standing),
            Ok(None) => Err(StoreError::Unavailable("the end of the events cannot be read")),
            Err(_) => Err(StoreError::Unavailable("the end of the events is not known yet")),
        }
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the table until told to stop, with a look every `pause` while
    /// nothing happens.
    pub async fn run(
        &self,
        accounts: &Coalescer<ReadAccounts>,
        pause: Duration,
        stopping: &CancellationToken,
    ) {
        let mut eyes = Eyes::default();
        let looking = async {
            loop {
                let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
                let found = self.look(&mut eyes, accounts).await;
                self.tell(&mut eyes, number, &found);
                match found {
                    Ok(Found { more: true, .. }) => {}
                    Ok(Found { behind: 0, .. }) => self.rest(pause).await,
                    Ok(_) => self.rest(UNSETTLED_PAUSE.min(pause)).await,
                    Err(_) => sleep(FAILED_PAUSE).await,
                }
            }
        };
        tokio::select! {
            () = stopping.cancelled() => {}
            () = looking => {}
        }
    }

    async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            () = self.nudge.notified() => {}
        }
    }

    /// Looks once.
    async fn look(&self, eyes: &mut Eyes, accounts: &Coalescer<ReadAccounts>) -> Result<Found, StoreError> {
        if self.doubted.swap(false, Ordering::Relaxed) {
            eyes.connection = None;
        }
        eyes.connection.take_if(|owned| owned.is_old());
        let mut owned = if let Some(owned) = eyes.connection.take() {
            owned
        } else {
            eyes.frontier.doubt();
            Owned::connect(&self.options).await?
        };
        let connection = &mut owned.connection;
        let looking = async {
            let mark = events::mark(connection).await?;
            if !eyes.frontier.is_of(&mark) {
                let era = self.settled.borrow().era + 1;
                self.ring().restart(era, i64::MAX);
                self.settled.send_replace(Settled { era, at: None });
                eyes.frontier = Frontier::new(mark.epoch);
            }
            let more = eyes.frontier.look(connection, &mark).await?;
            self.fill(connection, accounts, eyes.frontier.at()).await?;
            Ok(Found { mark, behind: eyes.frontier.behind(&mark), more })
        };
        let found = timeout(RUN_MAX, looking).await;
        let found = found.unwrap_or(Err(StoreError::Unavailable("a statement got no answer in time")));
        if found.is_ok() {
            eyes.connection = Some(owned);
        }
        found
    }

    /// Reads what has settled into memory, for those who follow, and says that it
    /// has.
    async fn fill(
        &self,
        connection: &mut PgConnection,
        accounts: &Coalescer<ReadAccounts>,
        at: Option<i64>,
    ) -> Result<(), StoreError> {
        let Some(at) = at else { return Ok(()) };
        let era = self.settled.borrow().era;
        let mut from = self.ring().upto();
        let too_far = at.saturating_sub(i64::try_from(RING_MAX).unwrap_or(i64::MAX));
        if self.metrics.watch_streams.get() == 0 || from > at {
            self.ring().restart(era, at);
        } else if from < too_far {
            from = too_far;
            self.ring().restart(era, from);
        }
        while from < at {
            if self.metrics.watch_streams.get() == 0 {
                self.ring().restart(era, at);
                break;
            }
            let changes = events::stretch(connection, accounts, from, at, FILL_MAX).await?;
            let cut_off = i64::try_from(changes.len()).is_ok_and(|length| length >= FILL_MAX);
            from = changes.last().filter(|_| cut_off).map_or(at, |last| last.event_id);
            self.ring().add(changes, from);
        }
        self.settled.send_if_modified(|settled| {
            let news = Settled { era, at: Some(at) };
            std::mem::replace(settled, news) != news
        });
        Ok(())
    }

    /// Says what a look has found.
    fn tell(&self, eyes: &mut Eyes, number: u64, found: &Result<Found, StoreError>) {
        let now = Instant::now();
        let was_blind = std::mem::replace(&mut eyes.is_blind, found.is_err());
        match found {
            Ok(found) => {
                if was_blind {
                    tracing::info!("following the events");
                }
                if found.behind == 0 {
                    eyes.caught_up = now;
                }
                self.metrics.events_behind.set(found.behind);
            }
            Err(error) if !was_blind => tracing::warn!(%error, "the events cannot be followed"),
            Err(_) => {}
        }
        let lag = now.duration_since(eyes.caught_up);
        self.metrics.event_tail_lag_seconds.set(lag.as_secs_f64());
        let era = self.settled.borrow().era;
        self.looks.send_replace(Look { number, era, mark: found.as_ref().ok().map(|found| found.mark) });
    }
}

/// What a look comes to.
struct Found {
    mark: Mark,
    /// How many ids have been drawn that are not settled.
    behind: i64,
    /// Whether another look would find more at once.
    more: bool,
}

/// What the task keeps between looks.
struct Eyes {
    connection: Option<Owned>,
    frontier: Frontier,
    /// When all that had been drawn was settled.
    caught_up: Instant,
    /// Whether the last look failed.
    is_blind: bool,
}

impl Default for Eyes {
    fn default() -> Self {
        let frontier = Frontier::unknown();
        Self { connection: None, frontier, caught_up: Instant::now(), is_blind: false }
    }
}

impl Standing {
    /// Whether a reader who has seen everything up to an event may go on from
    /// there: the event is of this history, exists, and nothing behind it is gone.
    #[must_use]
    pub fn goes_on_from(&self, epoch: Epoch, event_id: i64) -> bool {
        epoch == self.mark.epoch && (self.mark.floor..=self.mark.drawn).contains(&event_id)
    }
}
