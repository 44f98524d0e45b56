//! One watch: a task that reads what concerns it and puts it into a short queue,
//! and the stream that takes it out.
//!
//! Whoever takes nothing for too long is cut off with its cursor, so that memory
//! stays bounded and nobody waits for anybody. The queue holds changes that all
//! watches share; what is made of them for this caller is made when it is taken.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Cursor, Interest, Shown, Told};
use crate::error::{Error, Reason, Result};
use crate::metrics::WatchLabels;
use crate::service::Service;
use crate::store::StoreError;
use crate::store::events::{self, Change, Epoch};
use crate::store::tail::{Follower, Standing, Taken};

/// The most messages that wait to be taken.
pub(super) const QUEUE_MAX: usize = 256;
/// The most changes that are taken from memory, or read from the table, at once.
const CHANGES_MAX: usize = 256;
/// How long a watch waits after it could not read the table.
const FAILED_PAUSE: Duration = Duration::from_millis(250);

/// A message on its way: a position and perhaps what is there.
struct Step {
    position: i64,
    change: Option<Arc<Change>>,
}

/// What the pump hands to the watch.
pub(super) struct Queued(Result<Step>);

/// The stream of a watch.
pub struct Watch {
    service: Arc<Service>,
    interest: Interest,
    epoch: Epoch,
    queue: mpsc::Receiver<Queued>,
}

impl Watch {
    pub(super) fn new(
        service: &Arc<Service>,
        interest: Interest,
        epoch: Epoch,
        queue: mpsc::Receiver<Queued>,
    ) -> Self {
        Self { service: Arc::clone(service), interest, epoch, queue }
    }

    fn tell(&self, step: &Step) -> Told {
        let seal = || {
            let cursor = Cursor { epoch: self.epoch, event_id: step.position };
            cursor.seal(&self.service.keyring, &self.interest.app_id)
        };
        match &step.change {
            None => Told { cursor: seal(), change: None },
            // A change is one app's, and so is its cursor: made once for all.
            Some(change) => Told {
                cursor: change.cursor.get_or_init(seal).clone(),
                change: Some(Shown::new(change, &self.interest)),
            },
        }
    }
}

impl Stream for Watch {
    type Item = Result<Told>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let queued = self.queue.poll_recv(context);
        queued.map(|queued| queued.map(|Queued(step)| step.map(|step| self.tell(&step))))
    }
}

/// The task of a watch.
pub(super) struct Pump {
    service: Arc<Service>,
    interest: Interest,
    era: u64,
    epoch: Epoch,
    /// Everything up to here is in the queue.
    position: i64,
    /// When something was put there last.
    told_at: Instant,
    queue: mpsc::Sender<Queued>,
}

/// How a look for changes went.
#[derive(PartialEq, Eq)]
enum Looked {
    Further,
    Nothing,
    Failed,
}

impl Pump {
    pub fn new(
        service: &Arc<Service>,
        interest: Interest,
        standing: &Standing,
        position: i64,
        queue: mpsc::Sender<Queued>,
    ) -> Self {
        let (era, epoch, told_at) = (standing.era, standing.mark.epoch, Instant::now());
        Self { service: Arc::clone(service), interest, era, epoch, position, told_at, queue }
    }

    /// Delivers until something ends it, and says what.
    ///
    /// Its place among the watches is free with that, whether or not the client ever
    /// takes what is left.
    pub async fn run(
        mut self,
        last_word: OwnedPermit<Queued>,
        patience: Option<Instant>,
        revoked: impl Future<Output = ()>,
        _follower: Follower,
    ) {
        let service = Arc::clone(&self.service);
        let queue = self.queue.clone();
        let out_of_patience = async {
            match patience {
                Some(patience) => sleep_until(patience).await,
                None => std::future::pending().await,
            }
        };
        let end = tokio::select! {
            biased;
            () = service.stopping.cancelled() => Some(Reason::ShuttingDown),
            () = queue.closed() => None,
            () = revoked => Some(Reason::CallerUnknown),
            () = out_of_patience => Some(Reason::DeadlineExceeded),
            Err(reason) = self.deliver() => Some(reason),
        };
        let name = end.map_or("CALLER_GONE", |reason| reason.as_str_name());
        service.metrics.watches_ended.get_or_create(&WatchLabels { reason: name }).inc();
        tracing::debug!(reason = name, "a watch has ended");
        let Some(reason) = end else { return };
        let mut error = Error::new(reason);
        if reason != Reason::CursorExpired {
            let cursor = Cursor { epoch: self.epoch, event_id: self.position };
            error = error.with("cursor", cursor.seal(&service.keyring, &self.interest.app_id));
        }
        last_word.send(Queued(Err(error)));
    }

    /// Delivers for as long as it can.
    async fn deliver(&mut self) -> Result<Infallible, Reason> {
        let service = Arc::clone(&self.service);
        let heartbeat = service.watch.heartbeat;
        let mut news = service.store.tail.subscribe();
        self.tell(self.position, None).await?;
        loop {
            // Seen before the look, so that whatever comes after it wakes.
            news.borrow_and_update();
            let looked = self.look().await?;
            let due = self.told_at + heartbeat;
            match looked {
                Looked::Further => {}
                Looked::Failed => sleep(FAILED_PAUSE).await,
                Looked::Nothing => tokio::select! {
                    () = sleep_until(due) => {}
                    changed = news.changed() => changed.map_err(|_| Reason::ShuttingDown)?,
                },
            }
            if Instant::now() >= due {
                self.tell(self.position, None).await?;
            }
        }
    }

    /// Puts what there is into the queue.
    async fn look(&mut self) -> Result<Looked, Reason> {
        match self.service.store.tail.take(self.era, self.position, CHANGES_MAX) {
            Taken::OtherEra => Err(Reason::CursorExpired),
            Taken::Behind => self.read().await,
            Taken::Changes(changes, upto) => self.tell_all(&changes, upto).await,
        }
    }

    /// Reads from the table what is not in memory any more.
    async fn read(&mut self) -> Result<Looked, Reason> {
        let service = Arc::clone(&self.service);
        let (store, tail) = (&service.store, &service.store.tail);
        let settled = *tail.subscribe().borrow();
        if settled.era != self.era {
            return Err(Reason::CursorExpired);
        }
        let Some(upto) = settled.at.filter(|at| *at > self.position) else { return Ok(Looked::Nothing) };
        let page = {
            let Some(_turn) = tail.catch_up().await else { return Err(Reason::ShuttingDown) };
            let limit = i64::try_from(CHANGES_MAX).unwrap_or(i64::MAX);
            let interest = &self.interest;
            events::page(&store.pool, &store.accounts, interest, self.position, upto, limit).await
        };
        match page {
            Ok(page) if page.epoch != self.epoch => {
                // The tail is to make sure; a watch ends when it agrees.
                tail.doubt();
                Ok(Looked::Failed)
            }
            Ok(page) if page.floor > self.position => Err(Reason::CursorExpired),
            Ok(page) => self.tell_all(&page.changes, page.examined).await,
            Err(StoreError::Refused(what)) => {
                tracing::error!(what, "a page of changes cannot be read");
                Ok(Looked::Failed)
            }
            Err(_) => Ok(Looked::Failed),
        }
    }

    async fn tell_all(&mut self, changes: &[Arc<Change>], upto: i64) -> Result<Looked, Reason> {
        let before = self.position;
        for change in changes {
            if change.concerns(&self.interest.app_id, self.interest.user_id.as_deref()) {
                self.tell(change.event_id, Some(change)).await?;
            }
        }
        self.position = upto;
        Ok(if upto > before { Looked::Further } else { Looked::Nothing })
    }

    /// Puts one message into the queue, and gives up on a caller who makes no
    /// room for it.
    async fn tell(&mut self, position: i64, change: Option<&Arc<Change>>) -> Result<(), Reason> {
        let patience = self.service.watch.send_timeout;
        let permit = match self.queue.try_reserve() {
            Ok(permit) => permit,
            Err(_) => match timeout(patience, self.queue.reserve()).await {
                Ok(Ok(permit)) => permit,
                // Nobody is there to take it: whoever looks at the queue ends this.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => return Err(Reason::WatchLagged),
            },
        };
        permit.send(Queued(Ok(Step { position, change: change.map(Arc::clone) })));
        (self.position, self.told_at) = (position, Instant::now());
        Ok(())
    }
}
