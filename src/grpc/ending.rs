//! Streams of the standard services, which have no end of their own: with the
//! process they end with a reason, and nobody waits for them.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body as HttpBody, Frame};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

/// An answer that goes on until the process stops. `R` is what it takes up meanwhile.
pub(super) struct Ending<R> {
    body: Body,
    _room: R,
    /// Its end, told once; `None` when it has been.
    stopping: Option<(Pin<Box<WaitForCancellationFutureOwned>>, Status)>,
}

impl<R> Ending<R> {
    /// Ends `body` with `last_word` once the process is asked to stop and nothing is
    /// left to be said first.
    pub fn new(body: Body, stopping: CancellationToken, last_word: Status, room: R) -> Self {
        Self { body, _room: room, stopping: Some((Box::pin(stopping.cancelled_owned()), last_word)) }
    }
}

impl<R: Unpin> HttpBody for Ending<R> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some((stopping, _)) = &mut self.stopping else { return Poll::Ready(None) };
        let stopped = stopping.as_mut().poll(context).is_ready();
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending if stopped => {}
            polled => return polled,
        }
        let last_word = self.stopping.take().map(|(_, status)| status);
        let trailers = last_word.and_then(|status| {
            let mut trailers = http::HeaderMap::new();
            status.add_header(&mut trailers).ok()?;
            Some(Ok(Frame::trailers(trailers)))
        });
        Poll::Ready(trailers)
    }

    fn is_end_stream(&self) -> bool {
        self.stopping.is_none() || self.body.is_end_stream()
    }
}
