//! The requests of one connection that are being answered.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tower::{Service, ServiceExt as _};

use crate::peer::Peer;

/// How many requests of a connection are being answered.
#[derive(Default)]
pub(super) struct Calls {
    open: AtomicUsize,
    /// Told when there are none.
    none: Notify,
}

impl Calls {
    fn begin(self: &Arc<Self>) -> Call {
        self.open.fetch_add(1, Ordering::Relaxed);
        Call(Arc::clone(self))
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Waits until there is none.
    pub async fn ended(&self) {
        loop {
            let none = self.none.notified();
            if self.is_none() {
                return;
            }
            none.await;
        }
    }
}

/// One request, from its head to the end of its answer.
struct Call(Arc<Calls>);

impl Drop for Call {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

/// A service as hyper calls it: each request learns who sent it, and counts until its
/// answer has been sent.
pub(super) struct Answering<S> {
    pub service: S,
    pub peer: Peer,
    pub calls: Arc<Calls>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Answering<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Counted<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let call = self.calls.begin();
        request.extensions_mut().insert(self.peer.clone());
        let answer = self.service.clone().oneshot(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Counted { body, _call: call })) })
    }
}

/// The body of an answer; its request counts until it is dropped.
pub(super) struct Counted<B> {
    body: B,
    _call: Call,
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
