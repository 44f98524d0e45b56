//! The message of a call, awaited whole before there is room for it. Whoever sends
//! the head of a call and not its message takes up nothing that others need.

use http::Request;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;

use crate::error::Reason;

/// What a message travels in: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;

/// The same request with its message at hand.
///
/// # Errors
/// Why it is refused: the message is longer than `max` bytes, did not come in time,
/// or broke off.
pub(super) async fn whole(
    request: Request<Body>,
    max: usize,
    until: Instant,
) -> Result<Request<Body>, Reason> {
    let (parts, body) = request.into_parts();
    match timeout_at(until, Limited::new(body, max + FRAME_HEAD).collect()).await {
        Ok(Ok(message)) => Ok(Request::from_parts(parts, Body::new(Full::new(message.to_bytes())))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Reason::RequestTooLarge),
        Ok(Err(_)) => Err(Reason::RequestMalformed),
        Err(_) => Err(Reason::DeadlineExceeded),
    }
}
