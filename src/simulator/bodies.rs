//! Bodies that no honest server sends: half ones, huge ones, slow ones.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use http_body::Frame;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::answer::Answer;
use super::faults::respond;

/// How much a huge answer holds before it ends.
const HUGE_BYTES: usize = 16 << 20;

/// Half of an answer under its full length.
pub(super) fn truncated(answer: Answer) -> Response {
    let bytes = Bytes::from(answer.body);
    let length = bytes.len();
    let half = Some(bytes.slice(..length / 2));
    let body = Body::new(Broken { half, pause: Box::pin(sleep(FLUSH)) });
    let mut response = respond(answer.status, &answer.content_type, &answer.headers, body);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// The pause in which the first half reaches the wire: an error right after it would drop it.
const FLUSH: Duration = Duration::from_millis(20);

/// A body that fails after its first half.
struct Broken {
    half: Option<Bytes>,
    pause: Pin<Box<Sleep>>,
}

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(half) = self.half.take().filter(|half| !half.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        self.pause.as_mut().poll(context).map(|()| Some(Err(io::ErrorKind::BrokenPipe.into())))
    }
}

const CHUNK: usize = 16 << 10;
const DRIP: Duration = Duration::from_millis(100);
static FILLER: [u8; CHUNK] = [b'a'; CHUNK];

/// Many chunks of one JSON string that never closes.
pub(super) fn endless(answer: &Answer) -> Response {
    unending(answer, Rest::Chunks { left: HUGE_BYTES / CHUNK })
}

/// A JSON string one byte at a time, for as long as the simulator runs.
pub(super) fn slow(answer: &Answer, stop: watch::Receiver<bool>) -> Response {
    unending(answer, Rest::Drip { pause: Box::pin(sleep(DRIP)), stop })
}

fn unending(answer: &Answer, rest: Rest) -> Response {
    let start = Some(Bytes::from_static(b"{\"access_token\":\"TH"));
    let body = Body::new(Endless { start, rest });
    respond(answer.status, &answer.content_type, &answer.headers, body)
}

enum Rest {
    Chunks { left: usize },
    Drip { pause: Pin<Box<Sleep>>, stop: watch::Receiver<bool> },
}

/// A body that is one long JSON string, in no hurry to end.
struct Endless {
    start: Option<Bytes>,
    rest: Rest,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(start) = self.start.take() {
            return Poll::Ready(Some(Ok(Frame::data(start))));
        }
        match &mut self.rest {
            Rest::Chunks { left: 0 } => Poll::Ready(None),
            Rest::Chunks { left } => {
                *left -= 1;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&FILLER)))))
            }
            Rest::Drip { pause, stop } => {
                if *stop.borrow() {
                    return Poll::Ready(None);
                }
                pause.as_mut().poll(context).map(|()| {
                    *pause = Box::pin(sleep(DRIP));
                    Some(Ok(Frame::data(Bytes::from_static(b"a"))))
                })
            }
        }
    }
}
