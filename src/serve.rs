//! The service as a process part: listeners, readiness, and an end in order.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::config::Config;
use crate::events;
use crate::grpc::{self, Callers};
use crate::housekeeping;
use crate::listener::tls::TlsError;
use crate::listener::{Admission, Listener, Protocol, descriptors};
use crate::ops;
use crate::readiness::{Readiness, refuse_unfit};
use crate::refresher;
use crate::service::Service;
use crate::store::deployment::Unfit;
use crate::web;

mod certificates;
mod reload;

use certificates::Certificates;

/// The most connections of the operations side.
const OPS_CONNECTIONS_MAX: usize = 64;

/// Why serving ended, other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("{key}: cannot listen on {address}: {source}")]
    Listen {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Without callers, everybody who reaches the port may do everything.
    #[error(
        "server.grpc_listen: {0} is not loopback, and no callers are configured: \
         add [[callers]] (see `threads-identity callers add`) or listen on 127.0.0.1. \
         Only if whoever reaches the port may do everything: server.insecure_allow_anyone = true"
    )]
    Open(SocketAddr),
    /// Without TLS, keys and tokens can be read on their way.
    #[error(
        "server.grpc_listen: {0} is not loopback, and there is no TLS: \
         set server.tls.certificate_file and server.tls.key_file, or listen on 127.0.0.1. \
         Only if something else encrypts all the way: server.insecure_allow_plaintext = true"
    )]
    Plaintext(SocketAddr),
    /// TLS cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database is not to be used.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The keys of issuers cannot be asked for.
    #[error("the HTTP client for issuers' keys cannot be set up")]
    Issuers(#[source] reqwest::Error),
    /// The descriptors do not reflect.
    #[error("reflection cannot be set up")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The listeners of a service, bound.
pub struct Listeners {
    grpc: TcpListener,
    http: TcpListener,
    ops: TcpListener,
}

impl Listeners {
    /// Takes listeners that are bound already.
    #[must_use]
    pub fn new(grpc: TcpListener, http: TcpListener, ops: TcpListener) -> Self {
        Self { grpc, http, ops }
    }

    /// Binds what the configuration names.
    ///
    /// # Errors
    /// [`ServeError::Listen`], [`ServeError::Open`] or [`ServeError::Plaintext`].
    pub async fn bind(config: &Config) -> Result<Self, ServeError> {
        let server = &config.server;
        refuse_open(config, server.grpc_listen)?;
        Ok(Self {
            grpc: bind("server.grpc_listen", server.grpc_listen).await?,
            http: bind("server.http_listen", server.http_listen).await?,
            ops: bind("server.ops_listen", server.ops_listen).await?,
        })
    }

    /// Where gRPC is served.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn grpc_address(&self) -> io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where browsers and Meta are served.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Where health and metrics are served.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn ops_address(&self) -> io::Result<SocketAddr> {
        self.ops.local_addr()
    }
}

/// Refuses to serve everybody, or in plaintext: asked before binding, so that
/// nothing ever listens there, and before serving, whoever made the listeners.
///
/// # Errors
/// [`ServeError::Open`] or [`ServeError::Plaintext`].
pub fn refuse_open(config: &Config, address: SocketAddr) -> Result<(), ServeError> {
    let server = &config.server;
    if address.ip().to_canonical().is_loopback() {
        Ok(())
    } else if config.is_open() && !server.insecure_allow_anyone {
        Err(ServeError::Open(address))
    } else if server.tls.is_none() && !server.insecure_allow_plaintext {
        Err(ServeError::Plaintext(address))
    } else {
        Ok(())
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { key, address, source })
}

/// Serves until `stop` is done, then lets what is in flight finish within the
/// drain time.
///
/// # Errors
/// [`ServeError`].
pub async fn run(
    config: &Config,
    service: Arc<Service>,
    readiness: Readiness,
    listeners: Listeners,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = listeners.grpc_address().unwrap_or(config.server.grpc_listen);
    refuse_open(config, address)?;
    refuse_unfit(&service).await?;
    let certificates = Certificates::load(config).await?;
    let callers = Callers::new(config, &service).map_err(ServeError::Issuers)?;
    let (answering, health) =
        grpc::server(&service, callers.clone(), config.limits, config.server.reflection)?;
    health.set(false).await;

    service.tasks.spawn(events::follow(Arc::clone(&service)));

    let stopping = service.stopping.clone();
    let web = web::router(
        Arc::clone(&service),
        &public_url(config, &listeners.http),
        Arc::clone(&config.server.trusted_proxies),
    );
    let ops = ops::router(Arc::clone(&service), readiness.clone());
    let answering = answering.map_request(|request: http::Request<Incoming>| request.map(Body::new));
    let listeners = listeners.on_terms(config, &service, &certificates);
    let grpc = listeners.grpc.serve(answering, stopping.clone());
    let web = listeners.http.serve(web, stopping.clone());
    // Tells to the last how it goes; dropping it ends it.
    let ops = listeners.ops.serve(ops, CancellationToken::new());
    let watch = readiness.watch(&service);
    let tell = tell_health(&readiness, &health);
    // Among the tasks that a stop waits for: no lease is left without its attempt.
    service.tasks.spawn(refresher::run(Arc::clone(&service)));
    service.tasks.spawn(housekeeping::run(Arc::clone(&service)));
    let reload = reload::keep_current(config, &service, &callers);
    let renew = certificates.keep_current(config, &service);
    tokio::pin!(grpc, web, ops, watch, tell, reload, renew, stop);

    let mut watching = true;
    loop {
        tokio::select! {
            () = &mut stop => break,
            ended = &mut watch, if watching => {
                ended?;
                watching = false;
            }
            // None of them ends before it is asked to.
            () = &mut grpc => {}
            () = &mut web => {}
            () = &mut ops => {}
            () = &mut tell => {}
            () = &mut reload => {}
            () = &mut renew => {}
        }
    }

    // Balancers are told first, then new connections and calls are refused.
    readiness.set_stopping();
    health.set(false).await;
    stopping.cancel();
    tracing::info!("draining");
    service.tasks.close();
    let drained = async {
        tokio::join!(grpc, web);
        service.tasks.wait().await;
    };
    tokio::select! {
        drained = timeout(config.server.drain_timeout, drained) => if drained.is_err() {
            tracing::warn!("what was still in flight after the drain time is cut off");
        },
        () = ops => {}
    }
    let _ = timeout(Duration::from_secs(1), service.store.pool.close()).await;
    Ok(())
}

/// The listeners, with everything that connections are taken on.
struct OnTerms {
    grpc: Listener,
    http: Listener,
    ops: Listener,
}

impl Listeners {
    fn on_terms(self, config: &Config, service: &Service, certificates: &Certificates) -> OnTerms {
        let (server, limits) = (&config.server, &config.limits);
        let [grpc_max, http_max, ops_max] =
            descriptors::fit([server.connections_max, server.http_connections_max, OPS_CONNECTIONS_MAX]);
        // Whoever connects from this machine stands in front of others, or is one of us.
        let loopback =
            [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)].map(IpNet::from);
        let unlimited: Arc<[IpNet]> = server.trusted_proxies.iter().copied().chain(loopback).collect();
        let on = |name, socket, protocol, max| Listener {
            name,
            socket,
            protocol,
            certified: None,
            admission: Admission::new(max, server.connections_per_peer_max, Arc::clone(&unlimited)),
            handshake_timeout: server.handshake_timeout,
            metrics: Arc::clone(&service.metrics),
        };
        let http1 =
            Protocol::Http1 { words: Arc::new(web::unreadable), idle_timeout: server.http_idle_timeout };
        let http2 = Protocol::Http2 {
            streams_max: limits.streams_per_connection_max,
            header_bytes_max: limits.header_bytes_max,
            age_max: server.connection_age_max,
        };
        OnTerms {
            grpc: Listener { certified: certificates.grpc(), ..on("grpc", self.grpc, http2, grpc_max) },
            http: Listener {
                certified: certificates.http(),
                ..on("http", self.http, http1.clone(), http_max)
            },
            ops: on("ops", self.ops, http1, ops_max),
        }
    }
}

/// Where people and Meta reach the HTTP side, without a slash at the end: as
/// configured, or else where it listens.
fn public_url(config: &Config, http: &TcpListener) -> String {
    if let Some(url) = &config.server.public_url {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    let scheme = if config.server.http_tls { "https" } else { "http" };
    format!("{scheme}://{}", http.local_addr().unwrap_or(config.server.http_listen))
}

/// Tells `grpc.health.v1` what readiness finds, for as long as it is polled.
async fn tell_health(readiness: &Readiness, health: &grpc::Health) {
    let mut changes = readiness.subscribe();
    loop {
        let obstacle = *changes.borrow_and_update();
        health.set(obstacle.is_none()).await;
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
