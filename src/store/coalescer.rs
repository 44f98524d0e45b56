//! What waits together travels together.
//!
//! Requests that wait at the same moment share one statement and one commit. A
//! batch is taken the moment a connection is free, after one yield to the
//! scheduler and never after a timer: a lone caller pays nothing, a crowd shares
//! everything.
//!
//! Each caller gets its own answer or its own error: a batch that the database
//! refuses because of what is in it is tried again row by row, so that one bad
//! row fails alone. The queue is bounded. A caller that has gone before its
//! batch starts costs nothing. Connections are owned, not borrowed from a pool
//! (no guard round trip); one that breaks, or has become read-only, is replaced.

use std::collections::HashSet;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;
use uuid::Uuid;

use super::owned::Owned;
use super::{RECONNECT_PAUSE, RUN_MAX, StoreError};
use crate::metrics::{BatchLabels, Metrics};
use crate::trace;

/// The most requests in one statement.
const BATCH_MAX: usize = 256;
/// The most requests that wait; one more is OVERLOADED.
const QUEUE_MAX: usize = 4096;
/// How often a batch that lost against another transaction is tried.
const CONFLICT_TRIES: usize = 3;

/// A kind of request that many may make at once.
pub trait Batch: Send + Sync + 'static {
    /// One request.
    type Request: Send + Sync + 'static;
    /// Its answer.
    type Answer: Send + 'static;
    /// The name in metrics.
    const NAME: &'static str;
    /// How many connections serve it.
    const CONNECTIONS: usize = 1;

    /// The row that a request writes, where one statement may not write a row
    /// twice: the later request then waits for the next batch.
    fn writes(_request: &Self::Request) -> Option<Uuid> {
        None
    }

    /// Answers the requests, in their order, with one statement. Must be safe to
    /// repeat with the same requests: when the reply to a commit is lost, nobody
    /// knows whether it happened.
    ///
    /// The first array goes through a subselect, `(select $1::uuid[])`, which hides
    /// from Postgres how many rows the statement carries. It would take a plan made
    /// for one row for cheaper than the one that is kept, and make it anew each time:
    /// a sixth of what a lone read takes.
    fn run(
        connection: &mut PgConnection,
        requests: &[Self::Request],
    ) -> impl Future<Output = sqlx::Result<Vec<Self::Answer>>> + Send;
}

struct Waiting<B: Batch> {
    request: B::Request,
    reply: oneshot::Sender<Result<B::Answer, StoreError>>,
}

/// The queue in front of one kind of batch.
pub struct Coalescer<B: Batch> {
    queue: mpsc::Sender<Waiting<B>>,
}

impl<B: Batch> Coalescer<B> {
    /// Starts the workers on `tasks`. They connect when the first request
    /// comes, and end when the coalescer is dropped.
    #[must_use]
    pub fn start(options: &Arc<PgConnectOptions>, metrics: &Arc<Metrics>, tasks: &TaskTracker) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let requests = Arc::new(Mutex::new(requests));
        for _ in 0..B::CONNECTIONS {
            let worker = Worker::<B> {
                requests: Arc::clone(&requests),
                held: Vec::new(),
                options: Arc::clone(options),
                connection: None,
                last_failure: None,
                metrics: Arc::clone(metrics),
            };
            tasks.spawn(worker.run());
        }
        Self { queue }
    }

    /// Hands in a request and waits for its answer. Dropping the future before
    /// its batch starts takes the request back; after that it is carried out.
    ///
    /// # Errors
    /// [`StoreError`]: this request's own, or one that stopped the whole batch.
    pub async fn submit(&self, request: B::Request) -> Result<B::Answer, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Waiting { request, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::Unavailable("the store has been closed"),
        })?;
        // In a trace: how long the call waited for its batch and the batch's commit.
        let waiting = tracing::info_span!(target: trace::TARGET, "batch", batch = B::NAME);
        answer.instrument(waiting).await.unwrap_or(Err(StoreError::Unavailable("the batch was dropped")))
    }
}

struct Worker<B: Batch> {
    requests: Arc<Mutex<mpsc::Receiver<Waiting<B>>>>,
    /// Requests for a row that the batch before wrote already.
    held: Vec<Waiting<B>>,
    options: Arc<PgConnectOptions>,
    connection: Option<Owned>,
    last_failure: Option<Instant>,
    metrics: Arc<Metrics>,
}

fn drain<B: Batch>(requests: &mut mpsc::Receiver<Waiting<B>>, batch: &mut Vec<Waiting<B>>) {
    while batch.len() < BATCH_MAX {
        let Ok(waiting) = requests.try_recv() else { break };
        batch.push(waiting);
    }
}

impl<B: Batch> Worker<B> {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            if !batch.is_empty() {
                self.serve(batch).await;
            }
        }
        if let Some(owned) = self.connection {
            let _ = timeout(RUN_MAX, owned.connection.close()).await;
        }
    }

    /// What is waiting now; `None` once nobody can ask any more.
    async fn next_batch(&mut self) -> Option<Vec<Waiting<B>>> {
        let mut batch = std::mem::take(&mut self.held);
        if batch.is_empty() {
            let mut requests = self.requests.lock().await;
            batch.push(requests.recv().await?);
            // One turn for everybody else who is about to ask.
            tokio::task::yield_now().await;
            drain(&mut requests, &mut batch);
        } else if let Ok(mut requests) = self.requests.try_lock() {
            // Not waited for: another worker may hold it until somebody asks.
            drain(&mut requests, &mut batch);
        }
        let mut written = HashSet::new();
        let mut fits =
            |waiting: &Waiting<B>| B::writes(&waiting.request).is_none_or(|row| written.insert(row));
        let mut now = Vec::with_capacity(batch.len());
        for waiting in batch.into_iter().filter(|waiting| !waiting.reply.is_closed()) {
            if fits(&waiting) { now.push(waiting) } else { self.held.push(waiting) }
        }
        Some(now)
    }

    async fn serve(&mut self, batch: Vec<Waiting<B>>) {
        let (requests, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.request, waiting.reply)).unzip();
        match self.attempt(&requests).await {
            Ok(answers) => {
                for (reply, answer) in replies.into_iter().zip(answers) {
                    let _ = reply.send(Ok(answer));
                }
            }
            Err(StoreError::Refused(_)) if requests.len() > 1 => self.serve_each(requests, replies).await,
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Row by row, after a batch that the database refused.
    async fn serve_each(
        &mut self,
        requests: Vec<B::Request>,
        replies: Vec<oneshot::Sender<Result<B::Answer, StoreError>>>,
    ) {
        for (request, reply) in requests.into_iter().zip(replies) {
            let answer = self.attempt(std::slice::from_ref(&request)).await;
            let answer = answer.and_then(|mut answers| {
                answers.pop().ok_or(StoreError::Unavailable("a batch answered for nobody"))
            });
            let _ = reply.send(answer);
        }
    }

    /// Runs one statement: again on a new connection if the old one was broken,
    /// and again if another transaction got in the way.
    async fn attempt(&mut self, requests: &[B::Request]) -> Result<Vec<B::Answer>, StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.connection.take_if(|owned| owned.is_old());
            let fresh = self.connection.is_none();
            let error = match self.run_once(requests).await {
                Ok(answers) if answers.len() == requests.len() => return Ok(answers),
                Ok(_) => StoreError::Unavailable("a batch answered for more or fewer than asked"),
                Err(error) => error,
            };
            let again = match error {
                // A connection that had been idle may have died unnoticed.
                StoreError::Unavailable(_) => self.connection.is_none() && !fresh && tries == 1,
                StoreError::Conflict => tries < CONFLICT_TRIES,
                StoreError::Refused(_) | StoreError::Overloaded => false,
            };
            if !again {
                return Err(error);
            }
        }
    }

    async fn run_once(&mut self, requests: &[B::Request]) -> Result<Vec<B::Answer>, StoreError> {
        let mut owned = match self.connection.take() {
            Some(owned) => owned,
            None => self.connect().await?,
        };
        let labels = BatchLabels { batch: B::NAME };
        self.metrics.batches.get_or_create(&labels).inc();
        self.metrics.batch_rows.get_or_create(&labels).inc_by(requests.len() as u64);
        match timeout(RUN_MAX, B::run(&mut owned.connection, requests)).await {
            Ok(Ok(answers)) => {
                self.connection = Some(owned);
                Ok(answers)
            }
            Ok(Err(error)) => {
                let broken = super::is_broken(&error);
                if broken {
                    self.metrics.connections_replaced.inc();
                } else {
                    self.connection = Some(owned);
                }
                Err(StoreError::from(error))
            }
            Err(_) => {
                self.metrics.connections_replaced.inc();
                Err(StoreError::Unavailable("a statement got no answer in time"))
            }
        }
    }

    async fn connect(&mut self) -> Result<Owned, StoreError> {
        // While Postgres is away those who wait are told at once, not queued
        // behind one connection attempt each.
        if self.last_failure.is_some_and(|at| at.elapsed() < RECONNECT_PAUSE) {
            return Err(StoreError::Unavailable("no connection"));
        }
        match Owned::connect(&self.options).await {
            Ok(owned) => {
                self.last_failure = None;
                Ok(owned)
            }
            Err(error) => {
                self.last_failure = Some(Instant::now());
                Err(error)
            }
        }
    }
}
