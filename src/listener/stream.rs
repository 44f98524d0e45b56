//! The bytes of a connection, encrypted or not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What every HTTP/2 connection begins with, by RFC 9113, section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The bytes of a connection.
pub(super) struct Stream {
    inner: Inner,
    /// What has been read ahead and is to be read again.
    ahead: &'static [u8],
}

enum Inner {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub fn plain(stream: TcpStream) -> Self {
        Self { inner: Inner::Plain(stream), ahead: &[] }
    }

    pub fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self { inner: Inner::Tls(Box::new(stream)), ahead: &[] }
    }

    /// Waits until the client has begun to speak HTTP/2; false if it speaks
    /// anything else.
    pub async fn expect_preface(&mut self) -> io::Result<bool> {
        let mut begin = [0; PREFACE.len()];
        let mut read = 0;
        while read < begin.len() {
            match self.read(&mut begin[read..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => read += n,
            }
            // Told as soon as it differs: a short request of HTTP/1 is no reason to wait.
            if begin[..read] != PREFACE[..read] {
                return Ok(false);
            }
        }
        self.ahead = PREFACE;
        Ok(true)
    }

    fn inner(&mut self) -> Pin<&mut (dyn Both + 'static)> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream),
            Inner::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let (now, later) = self.ahead.split_at(self.ahead.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.ahead = later;
            return Poll::Ready(Ok(()));
        }
        self.inner().poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(context)
    }

    /// Said to be impossible, so that h2 gathers answers of up to a kilobyte in its own
    /// buffer. To write parts it would write each answer by itself, because it keeps the
    /// body of one apart at a time.
    fn is_write_vectored(&self) -> bool {
        false
    }
}
