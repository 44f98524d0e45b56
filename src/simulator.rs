//! The Threads platform as far as account linking meets it, on a socket of one's own.
//!
//! The second implementation of the platform: the service under test speaks to it over real HTTP and
//! shares nothing with it. It has its own people, clock, tokens and mistakes; [`Controls`] script it and
//! report what it received. The authorization window and the graph host live under one base URL.
//!
//! It refuses to know the service: no type, no constant and no file of it is used here.

mod answer;
mod apps;
mod bodies;
mod bounded;
mod callbacks;
mod connection;
mod control_api;
mod controls;
mod errands;
mod exchange;
mod faults;
mod graph;
mod invariants;
mod knobs;
mod ledger;
mod oauth;
mod page;
mod people;
mod pictures;
mod platform;
mod random;
mod refreshes;
mod request;
mod residents;
mod signing;
mod state;
mod variants;
mod webhooks;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use connection::{Connection, Socket};
use platform::Shared;
use state::{Clock, State};

pub use apps::Registration;
pub use callbacks::CallbackKind;
pub use controls::Controls;
pub use errands::Delivery;
pub use faults::Fault;
pub use knobs::{
    Envelope, ExpiresIn, Knobs, MetaAppIdPage, MissingFields, OldToken, Proof, RefreshAnswers, UserId,
};
pub use ledger::{Endpoint, Entry};
pub use oauth::Decision;
pub use people::{Persona, Picture, Role};
pub use refreshes::Refresh;
pub use signing::{Callback, EventSignature, Signature, UserIdForm};
pub use variants::Variant;
pub use webhooks::{Event, Handshake, Handshaken};

/// How long open connections may take to finish when the simulator stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a simulator starts.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The first app's id; [`Controls::register`] registers more.
    pub client_id: String,
    /// The first app's secret.
    pub client_secret: String,
    /// The first app's redirect URIs, compared exactly.
    pub redirect_uris: Vec<String>,
    /// Where the first app is told that a person has removed it.
    pub deauthorize_url: Option<String>,
    /// Where the first app is told that a person wants their data deleted.
    pub data_deletion_url: Option<String>,
    /// Unix seconds at which the clock stands until it is moved; none follows the machine's clock.
    pub start_time: Option<i64>,
    /// Refuses what the documentation forbids but the platform lets pass.
    pub strict: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            client_id: "990602627938098".to_owned(),
            client_secret: "sim-threads-app-secret-0001".to_owned(),
            redirect_uris: Vec::new(),
            deauthorize_url: None,
            data_deletion_url: None,
            start_time: None,
            strict: true,
        }
    }
}

/// A running simulator; dropping it stops it.
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Starts a simulator on a socket of its own.
    ///
    /// # Errors
    /// When it cannot listen there, or the first app cannot be registered so.
    pub async fn start(options: Options) -> io::Result<Simulator> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let clock = options.start_time.map_or(Clock::Wall { ahead: 0 }, Clock::Still);
        let knobs = Knobs { strict: options.strict, ..Knobs::default() };
        let mut state = State::new(format!("http://{address}"), clock, knobs);
        let registered = state.register(Registration {
            client_id: options.client_id,
            client_secret: options.client_secret,
            redirect_uris: options.redirect_uris,
            deauthorize_url: options.deauthorize_url,
            data_deletion_url: options.data_deletion_url,
            ..Registration::default()
        });
        registered.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        for persona in residents::residents() {
            state.people.add(persona);
        }
        let shared = Arc::new(Shared::new(state, Handle::current()).map_err(io::Error::other)?);
        let router = Router::new()
            .merge(control_api::router())
            .fallback(platform::platform)
            .with_state(Arc::clone(&shared))
            .into_make_service_with_connect_info::<Connection>();
        let mut stop = shared.stop.subscribe();
        let stopped = async move {
            // Ends with the simulator; an error means that it is gone already.
            let _ = stop.wait_for(|stopped| *stopped).await;
        };
        let server = axum::serve(Socket(listener), router).with_graceful_shutdown(stopped);
        #[expect(clippy::disallowed_methods, reason = "an island; `stop` and `Drop` end the task")]
        let server = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the simulator's server ended");
            }
        });
        Ok(Simulator { address, shared, server: Some(server) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL under which both the authorization window and the graph host live.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A handle by which to script it and to ask what it received.
    #[must_use]
    pub fn controls(&self) -> Controls {
        Controls { shared: Arc::clone(&self.shared) }
    }

    /// Stops it: answers under way get a moment, answers that would never come are cut.
    pub async fn stop(mut self) {
        self.shared.stop.send_replace(true);
        if let Some(mut server) = self.server.take()
            && tokio::time::timeout(FAREWELL, &mut server).await.is_err()
        {
            server.abort();
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}
