//! Connections, from the moment they are accepted to their end: how many there may
//! be, under which certificate, for how long, and how they stop. What is served over
//! them it is given.
//!
//! tonic's and axum's own servers leave out what a port that others reach needs: a
//! limit of connections, a time for handshakes, a certificate that can change, and a
//! stop that a silent client cannot hold up.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::metrics::{ConnectionRefusalLabels, ListenerLabels, Metrics};
use crate::peer::Peer;
use crate::secret;

mod admission;
mod calls;
pub mod descriptors;
pub mod refusing;
mod stream;
mod streams;
pub mod tls;

pub use admission::{Admission, Full, Place};

use calls::{Answering, Calls};
use refusing::{Refusing, Words};
use stream::Stream;
use streams::Streams;
use tls::Certified;

/// How long nothing is accepted after the system has refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection that has nothing to answer may take, at the end, to take
/// note of it.
const LINGER: Duration = Duration::from_secs(2);
/// How often a gRPC client is asked whether it is there, and how long it may take to
/// say so.
const PING_INTERVAL: Duration = Duration::from_mins(1);
const PING_MAX: Duration = Duration::from_secs(20);
/// The longest head of a request of HTTP/1, in bytes.
const HEAD_MAX: usize = 64 * 1024;

/// A socket that is listened on, and on which terms.
pub struct Listener {
    /// What metrics call it: `grpc`, `http` or `ops`.
    pub name: &'static str,
    /// The socket, bound.
    pub socket: TcpListener,
    /// What is spoken.
    pub protocol: Protocol,
    /// The certificate; `None`: plaintext.
    pub certified: Option<Arc<Certified>>,
    /// Who may connect.
    pub admission: Admission,
    /// How long a client may take for TLS, and then for the first bytes of HTTP/2.
    pub handshake_timeout: Duration,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

/// What is spoken over a connection.
#[derive(Clone)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1 {
        /// What a client is told whose request cannot even be read.
        words: Words,
        /// How long a client may take for the head of a request, and so also how long
        /// it may stay between two.
        idle_timeout: Duration,
    },
    /// HTTP/2 and nothing else.
    Http2 {
        /// The most requests at once.
        streams_max: u32,
        /// The longest list of headers, in bytes.
        header_bytes_max: u32,
        /// When the client is asked to connect anew, give or take a tenth.
        age_max: Duration,
    },
}

impl Listener {
    /// Serves until `stopping`, and then until every connection has answered what it
    /// was asked. Connections that nothing is asked over are closed at once, or two
    /// seconds after they have been told. Dropping it cuts all of them.
    pub async fn serve<S, B>(self, service: S, stopping: CancellationToken)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body + Unpin + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        let _cut_when_dropped = cut.clone().drop_guard();
        let Self { name, socket, protocol, certified, admission, handshake_timeout, metrics } = self;
        let terms = Arc::new(Terms { name, protocol, certified, handshake_timeout, metrics, stopping });
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                () = terms.stopping.cancelled() => break,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((socket, address)) => {
                    failing = false;
                    let place = match admission.admit(address.ip()) {
                        Ok(place) => place,
                        Err(Full::All) => {
                            terms.refused("full");
                            continue;
                        }
                        Err(Full::Peer) => {
                            terms.refused("peer_full");
                            continue;
                        }
                    };
                    let (terms, service, cut) = (Arc::clone(&terms), service.clone(), cut.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = terms.converse(socket, address, service) => {}
                            () = cut.cancelled() => {}
                        }
                        drop(place);
                    });
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    terms.refused("accept_failed");
                    // Once, and not as often as it is tried.
                    if !failing {
                        tracing::error!(listener = name, "no connection can be accepted: {error}");
                    }
                    failing = true;
                    tokio::select! {
                        () = terms.stopping.cancelled() => break,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
        // Whoever connects from here on is told so by the system.
        drop(socket);
        connections.close();
        connections.wait().await;
    }
}

/// Whether only the connection failed that was about to be accepted. Anything else,
/// such as too many open files, would fail again at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// What every connection of a listener shares.
struct Terms {
    name: &'static str,
    protocol: Protocol,
    certified: Option<Arc<Certified>>,
    handshake_timeout: Duration,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
}

impl Terms {
    fn refused(&self, reason: &'static str) {
        let labels = ConnectionRefusalLabels { listener: self.name, reason };
        self.metrics.connections_refused.get_or_create(&labels).inc();
    }

    /// One connection, from beginning to end.
    async fn converse<S, B>(&self, socket: TcpStream, address: SocketAddr, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body + Unpin + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let _open = OpenConnection::new(&self.metrics, self.name);
        // Without it a lone caller waits for delayed acknowledgements, some 27 ms a call.
        let _ = socket.set_nodelay(true);
        let begun = tokio::select! {
            begun = self.begin(socket) => begun,
            () = self.stopping.cancelled() => return,
        };
        let (stream, names) = match begun {
            Ok(begun) => begun,
            Err(reason) => return self.refused(reason),
        };
        let calls = Arc::new(Calls::default());
        let service = Answering { service, peer: Peer { address, names }, calls: Arc::clone(&calls) };
        match &self.protocol {
            Protocol::Http1 { words, idle_timeout } => {
                let stream = Refusing::new(stream, Arc::clone(words));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(*idle_timeout)
                    .max_buf_size(HEAD_MAX)
                    .serve_connection(TokioIo::new(stream), service);
                if self.attend(connection, &calls, None).await.is_err_and(|error| error.is_parse()) {
                    self.refused("malformed");
                }
            }
            &Protocol::Http2 { streams_max, header_bytes_max, age_max } => {
                let streams = Streams::default();
                let connection = http2::Builder::new(streams.acceptor())
                    .timer(TokioTimer::new())
                    .max_concurrent_streams(streams_max)
                    .max_header_list_size(header_bytes_max)
                    .keep_alive_interval(PING_INTERVAL)
                    .keep_alive_timeout(PING_MAX)
                    .serve_connection(TokioIo::new(stream), service);
                let connection = self.attend(connection, &calls, Some(spread(age_max)));
                tokio::select! {
                    biased;
                    // How a client ends its connection is its own affair.
                    _ = connection => {}
                    never = streams.answer() => match never {},
                }
            }
        }
    }

    /// Waits until a client has shown what it speaks, which one that says nothing
    /// never does.
    async fn begin(&self, socket: TcpStream) -> Result<(Stream, Arc<[String]>), &'static str> {
        let (mut stream, names) = match &self.certified {
            None => (Stream::plain(socket), Arc::default()),
            Some(certified) => {
                let acceptor = TlsAcceptor::from(certified.current());
                let stream = match timeout(self.handshake_timeout, acceptor.accept(socket)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        tracing::debug!(listener = self.name, "a TLS handshake failed: {error}");
                        return Err("handshake_failed");
                    }
                    Err(_) => return Err("handshake_timeout"),
                };
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let names = certificate.map(tls::names).unwrap_or_default();
                (Stream::tls(stream), names)
            }
        };
        if matches!(self.protocol, Protocol::Http2 { .. }) {
            match timeout(self.handshake_timeout, stream.expect_preface()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Err("not_http2"),
                // Such as a balancer that looks whether anybody listens.
                Ok(Err(_)) => return Err("closed_early"),
                Err(_) => return Err("silent"),
            }
        }
        Ok((stream, names))
    }

    /// Lets a connection run to its end, asks it to end when its time has come, and
    /// leaves it when it has nothing more to do.
    async fn attend<C: GracefulConnection>(
        &self,
        connection: C,
        calls: &Calls,
        age_max: Option<Duration>,
    ) -> Result<(), C::Error> {
        let mut connection = pin!(connection);
        let aged = async {
            match age_max {
                Some(age) => sleep(age).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = self.stopping.cancelled() => {}
            () = aged => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => return ended,
                    () = self.stopping.cancelled() => {}
                }
            }
        }
        connection.as_mut().graceful_shutdown();
        let idle = async {
            loop {
                calls.ended().await;
                sleep(LINGER).await;
                if calls.is_none() {
                    return;
                }
            }
        };
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = idle => Ok(()),
        }
    }
}

/// A time give or take a tenth, so that those who have connected together do not
/// come back together.
fn spread(time: Duration) -> Duration {
    let share = f64::from(u32::from_be_bytes(secret::random::<4>())) / f64::from(u32::MAX);
    time.mul_f64(0.9 + share / 5.0)
}

/// A connection that is counted for as long as it is open.
struct OpenConnection<'a> {
    metrics: &'a Metrics,
    labels: ListenerLabels,
}

impl<'a> OpenConnection<'a> {
    fn new(metrics: &'a Metrics, listener: &'static str) -> Self {
        let labels = ListenerLabels { listener };
        metrics.connections_open.get_or_create(&labels).inc();
        Self { metrics, labels }
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.metrics.connections_open.get_or_create(&self.labels).dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_spread_by_a_tenth() {
        let ages: Vec<Duration> = (0..1000).map(|_| spread(Duration::from_secs(100))).collect();
        assert!(ages.iter().all(|age| (90..=110).contains(&age.as_secs())), "{ages:?}");
        assert!(ages.iter().any(|age| age.as_secs() < 95) && ages.iter().any(|age| age.as_secs() > 105));
    }
}
