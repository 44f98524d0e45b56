//! The requests of one HTTP/2 connection, answered by the task of that connection.
//!
//! hyper would start a task for each. Then one processor writes the head of an answer
//! to the socket while another is still about to make its body, and answers that are
//! ready at the same moment are written one by one: measured, 1.5 writes for each
//! answer. Here whatever is ready together is written together. What that costs:
//! docs/decisions/0036.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use hyper::rt::Executor;

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Streams that have been accepted and not been looked at yet.
type Accepted = Mutex<Vec<Stream>>;

/// The streams of a connection. Dropping it drops all of them.
#[derive(Default)]
pub(super) struct Streams(Arc<Accepted>);

/// Hands streams over. It does not keep them alive, for it is in each of them.
#[derive(Clone)]
pub(super) struct Acceptor(Weak<Accepted>);

impl Streams {
    pub fn acceptor(&self) -> Acceptor {
        Acceptor(Arc::downgrade(&self.0))
    }

    /// Answers them. To be polled by the task of the connection, after the connection,
    /// which accepts them and writes what they answer.
    pub async fn answer(&self) -> Infallible {
        let mut open = FuturesUnordered::new();
        poll_fn(|context| {
            open.extend(take(&self.0));
            while let Poll::Ready(Some(())) = open.poll_next_unpin(context) {}
            Poll::Pending
        })
        .await
    }
}

fn take(accepted: &Accepted) -> Vec<Stream> {
    std::mem::take(&mut *accepted.lock().unwrap_or_else(PoisonError::into_inner))
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Acceptor {
    fn execute(&self, stream: F) {
        let Some(accepted) = self.0.upgrade() else { return };
        // One that panics ends alone; the panic hook has logged where.
        let stream = AssertUnwindSafe(stream).catch_unwind().map(drop);
        accepted.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(stream));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::poll;
    use tokio::sync::oneshot;

    use super::*;

    /// Counts those that are gone.
    struct Gone(Arc<AtomicUsize>);

    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn each_is_answered_also_beside_one_that_panics_and_none_outlives_the_connection() {
        let (gone, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let streams = Streams::default();
        let acceptor = streams.acceptor();
        let (go, wait) = oneshot::channel::<()>();
        let (guard, count, within) = (Gone(Arc::clone(&gone)), Arc::clone(&answered), acceptor.clone());
        acceptor.execute(async move {
            let _guard = guard;
            wait.await.unwrap();
            // As hyper does for what a stream is turned into.
            within.execute(async {});
            count.fetch_add(1, Ordering::Relaxed);
        });
        acceptor.execute(async { panic!("one that panics") });
        for _ in 0..2 {
            let (guard, held) = (Gone(Arc::clone(&gone)), acceptor.clone());
            acceptor.execute(async move {
                let _held = (guard, held);
                std::future::pending::<()>().await;
            });
        }
        let mut answering = Box::pin(streams.answer());
        assert!(poll!(&mut answering).is_pending());
        assert_eq!(answered.load(Ordering::Relaxed), 0);
        go.send(()).unwrap();
        assert!(poll!(&mut answering).is_pending());
        assert_eq!((answered.load(Ordering::Relaxed), gone.load(Ordering::Relaxed)), (1, 1));
        // Accepted, and never looked at.
        let (guard, held) = (Gone(Arc::clone(&gone)), acceptor.clone());
        acceptor.execute(async move { drop((guard, held)) });
        drop(answering);
        drop(streams);
        assert_eq!(gone.load(Ordering::Relaxed), 4);
        acceptor.execute(async { unreachable!("nobody answers any more") });
    }
}
