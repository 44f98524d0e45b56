//! The service as a process part: listeners, readiness, and an end in order.

use std::future::{Future, IntoFuture as _};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::transport::server::TcpIncoming;

use crate::config::Config;
use crate::events;
use crate::grpc::{self, Callers};
use crate::housekeeping;
use crate::ops;
use crate::readiness::{Readiness, refuse_unfit};
use crate::refresher;
use crate::service::Service;
use crate::store::deployment::Unfit;
use crate::web;

mod reload;

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
         add [[callers]] (see `threads-identity callers add`) or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The database is not to be used.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The keys of issuers cannot be asked for.
    #[error("the HTTP client for issuers' keys cannot be set up")]
    Issuers(#[source] reqwest::Error),
    /// The descriptors do not reflect.
    #[error("reflection cannot be set up")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The gRPC server failed.
    #[error("the gRPC server failed")]
    Grpc(#[from] tonic::transport::Error),
    /// The server of browsers and Meta failed.
    #[error("the HTTP server failed")]
    Web(#[source] io::Error),
    /// The operations server failed.
    #[error("the operations server failed")]
    Ops(#[source] io::Error),
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
    /// [`ServeError::Listen`], or [`ServeError::Open`].
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

/// Refuses to serve everybody: asked before binding, so that nothing ever
/// listens there, and before serving, whoever made the listeners.
fn refuse_open(config: &Config, address: SocketAddr) -> Result<(), ServeError> {
    if config.is_open() && !address.ip().is_loopback() { Err(ServeError::Open(address)) } else { Ok(()) }
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
    let callers = Callers::new(config, &service).map_err(ServeError::Issuers)?;
    let (router, health) = grpc::server(&service, callers.clone(), config.server.reflection)?;
    health.set(false).await;

    service.tasks.spawn(events::follow(Arc::clone(&service)));

    let stopping = service.stopping.clone();
    // tonic's own setting reaches only listeners that tonic binds; without it a
    // lone caller waits for delayed acknowledgements, some 27 ms a call.
    let incoming = TcpIncoming::from(listeners.grpc).with_nodelay(Some(true));
    let grpc = router.serve_with_incoming_shutdown(incoming, stopping.clone().cancelled_owned());
    let web = web::router(Arc::clone(&service), &public_url(config, &listeners.http));
    let web = axum::serve(listeners.http, web.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(stopping.clone().cancelled_owned())
        .into_future();
    let ops = axum::serve(listeners.ops, ops::router(Arc::clone(&service), readiness.clone())).into_future();
    let watch = readiness.watch(&service);
    let tell = tell_health(&readiness, &health);
    // Among the tasks that a stop waits for: no lease is left without its attempt.
    service.tasks.spawn(refresher::run(Arc::clone(&service)));
    service.tasks.spawn(housekeeping::run(Arc::clone(&service)));
    let reload = reload::keep_current(config, &service, &callers);
    tokio::pin!(grpc, web, ops, watch, tell, reload, stop);

    let mut watching = true;
    loop {
        tokio::select! {
            () = &mut stop => break,
            // Only an error ends it before it is asked to stop.
            ended = &mut grpc => return Ok(ended?),
            ended = &mut web => return ended.map_err(ServeError::Web),
            ended = &mut ops => {
                ended.map_err(ServeError::Ops)?;
                break;
            }
            ended = &mut watch, if watching => {
                ended?;
                watching = false;
            }
            () = &mut tell => {}
            () = &mut reload => {}
        }
    }

    // Balancers are told first, then new connections and calls are refused.
    readiness.set_stopping();
    health.set(false).await;
    stopping.cancel();
    tracing::info!("draining");
    service.tasks.close();
    let drained = async {
        let (served, _) = tokio::join!(grpc, web);
        service.tasks.wait().await;
        served
    };
    if let Ok(served) = timeout(config.server.drain_timeout, drained).await {
        served?;
    } else {
        // An open health watch never ends by itself.
        tracing::warn!("what was still in flight after the drain time is cut off");
    }
    let _ = timeout(Duration::from_secs(1), service.store.pool.close()).await;
    Ok(())
}

/// Where people and Meta reach the HTTP side, without a slash at the end: as
/// configured, or else where it listens.
fn public_url(config: &Config, http: &TcpListener) -> String {
    match &config.server.public_url {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => format!("http://{}", http.local_addr().unwrap_or(config.server.http_listen)),
    }
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
