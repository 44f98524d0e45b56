//! What hyper refuses of HTTP/1 before any handler sees it (a head that is malformed
//! or too long), answered in words of ours.
//!
//! hyper sends a head without a body and closes at once. Whoever waits at a browser
//! would see its blank page, none of the headers that every answer of ours carries,
//! and perhaps a reset instead, because what it sent was not read to the end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What is said of a status: headers that go with it, and a page.
pub type Words = Arc<dyn Fn(StatusCode) -> (HeaderMap, String) + Send + Sync>;

/// How long, and how many bytes, whoever was refused may go on sending: closed
/// earlier, the system would take the answer back (RFC 9112, section 9.6).
const DRAIN_TIME: Duration = Duration::from_secs(2);
const DRAIN_MAX: usize = 1024 * 1024;

/// The bytes of a connection over which hyper speaks HTTP/1 as a server.
pub struct Refusing<S> {
    inner: S,
    words: Words,
    /// The answer, and how much of it has been sent.
    answer: Vec<u8>,
    sent: usize,
    /// Until when what still comes is read and dropped, once something was refused.
    draining: Option<Pin<Box<Sleep>>>,
    drained: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Refusing<S> {
    /// Everything passes, but for hyper's own refusals.
    pub fn new(inner: S, words: Words) -> Self {
        Self { inner, words, answer: Vec::new(), sent: 0, draining: None, drained: 0 }
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.answer.len() {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(context, &self.answer[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what still comes, for a while, and drops it.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = &mut self.draining else { return Poll::Ready(()) };
        let mut bytes = [0; 4096];
        while self.drained < DRAIN_MAX && until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.drained += buffer.filled().len(),
                _ => break,
            }
        }
        self.draining = None;
        Poll::Ready(())
    }
}

/// What hyper is about to say by itself, found in what it writes: where that begins,
/// and its status. Every answer of a handler has a policy, and hyper's has no body.
fn refusal(bytes: &[u8]) -> Option<(usize, StatusCode)> {
    const VERSION: &[u8] = b"HTTP/1.";
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let start = bytes.windows(VERSION.len()).rposition(|part| part == VERSION)?;
    let head = str::from_utf8(&bytes[start..]).ok()?;
    let status = head.split(' ').nth(1).and_then(|code| StatusCode::from_bytes(code.as_bytes()).ok())?;
    let mut names = head.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name);
    let is_ours = names.any(|name| name.eq_ignore_ascii_case("content-security-policy"));
    (status.is_client_error() && !is_ours).then_some((start, status))
}

/// The head that hyper wrote, with our headers and a page.
fn worded(head: &[u8], headers: &HeaderMap, page: &str) -> Vec<u8> {
    let mut answer = Vec::with_capacity(head.len() + page.len() + 1024);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let is_length = line.to_ascii_lowercase().starts_with(b"content-length:");
        if !is_length && line != b"\r\n" {
            answer.extend_from_slice(line);
        }
    }
    for (name, value) in headers {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(format!("{}: {}\r\n\r\n{page}", header::CONTENT_LENGTH, page.len()).as_bytes());
    answer
}

impl<S: AsyncRead + Unpin> AsyncRead for Refusing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

// Not vectored: hyper then writes each answer as one piece, in which its refusal is seen.
impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Refusing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_answer(context))?;
        let Some((start, status)) = refusal(bytes) else {
            return Pin::new(&mut self.inner).poll_write(context, bytes);
        };
        let (headers, page) = (self.words)(status);
        // What stands before it answers an earlier request.
        self.answer = bytes[..start].to_vec();
        self.answer.extend(worded(&bytes[start..], &headers, &page));
        self.draining = Some(Box::pin(sleep(DRAIN_TIME)));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_answer(context))?;
        ready!(Pin::new(&mut self.inner).poll_shutdown(context))?;
        ready!(self.poll_drain(context));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_hyper_says_by_itself_is_a_refusal() {
        let by_itself = b"HTTP/1.1 414 URI Too Long\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(refusal(by_itself), Some((0, StatusCode::URI_TOO_LONG)));
        let after_another = [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", &by_itself[..]].concat();
        assert_eq!(refusal(&after_another), Some((40, StatusCode::URI_TOO_LONG)));
        for ours in [
            &b"HTTP/1.1 404 Not Found\r\nContent-Security-Policy: x\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"\r\n\r\n",
            b"",
        ] {
            assert_eq!(refusal(ours), None, "{}", String::from_utf8_lossy(ours));
        }
    }

    #[test]
    fn it_keeps_what_hyper_said_of_the_connection() {
        let head = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
        let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, "no-store".parse().unwrap())]);
        let answer = String::from_utf8(worded(head, &headers, "page")).unwrap();
        let expected = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ndate: now\r\ncache-control: no-store\r\n\
                        content-length: 4\r\n\r\npage";
        assert_eq!(answer, expected);
    }
}
