//! The platform's side of the wire: every request that is not for the controls comes through here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Request, State as Shares};
use axum::http::Method;
use axum::response::Response;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::answer::{Answer, Refusal, escaped};
use super::connection::Connection;
use super::errands;
use super::faults::{Fault, send};
use super::ledger::Endpoint;
use super::oauth::Decision;
use super::page::guarded;
use super::request::Received;
use super::state::State;

/// The longest request body that is read.
const BODY_LIMIT: usize = 64 << 10;

/// What all connections and all controls share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Rings at every arrival.
    pub(super) arrived: Notify,
    /// True once the simulator stops; whoever waits for ever listens to it.
    pub(super) stop: watch::Sender<bool>,
    /// For what the platform itself sends.
    pub(super) http: reqwest::Client,
    /// Where that runs when nobody waits for it.
    pub(super) runtime: Handle,
}

impl Shared {
    /// # Errors
    /// If the TLS back end cannot be set up.
    pub(super) fn new(state: State, runtime: Handle) -> reqwest::Result<Shared> {
        Ok(Shared {
            state: Mutex::new(state),
            arrived: Notify::new(),
            stop: watch::Sender::new(false),
            http: errands::client()?,
            runtime,
        })
    }

    /// The state. A test that panicked while it held the lock has failed already; the others go on.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one request, or fails to in the way that was asked for.
pub(super) async fn platform(
    Shares(shared): Shares<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut received = Received::new(&parts.method, &parts.uri, &parts.headers);
    let fault = shared.lock().arrive(&mut received);
    shared.arrived.notify_waiters();
    if matches!(fault, Some(Fault::CutBeforeRead)) {
        connection.cut();
        return send(Answer::html(500, String::new()));
    }
    match to_bytes(body, BODY_LIMIT).await {
        Ok(body) => received.read(&body),
        Err(_) => return send(Answer::html(413, String::new())),
    }
    let answer = {
        let mut state = shared.lock();
        state.notice(&received);
        let instead = fault.as_ref().and_then(Fault::instead);
        instead.unwrap_or_else(|| state.answer(&received))
    };
    let (status, error) = (answer.status, answer.error);
    let heard = !matches!(fault, Some(Fault::CutAfterRequest | Fault::HangBeforeAnswer));
    let response = match fault {
        Some(fault) => fault.deliver(answer, &connection, shared.stop.subscribe()).await,
        None => send(answer),
    };
    if heard {
        shared.lock().settle(&received, status, error);
    }
    tracing::debug!(endpoint = ?received.endpoint, status, "the simulated platform answered");
    response
}

impl State {
    /// Notes an arrival and takes the fault that is next in its way.
    fn arrive(&mut self, request: &mut Received) -> Option<Fault> {
        self.open(request);
        let fault = self.faults.next(request.endpoint);
        if let Some(entry) = self.ledger.entry(request.sequence) {
            entry.fault = fault.as_ref().map(Fault::name);
        }
        fault
    }

    /// Processes one request for real.
    fn answer(&mut self, request: &Received) -> Answer {
        let result = match request.endpoint {
            Endpoint::Authorize => return self.consent_page(&request.query),
            Endpoint::Consent => return guarded(self.click(request), "'none'"),
            Endpoint::Picture => return self.picture(request),
            Endpoint::CodeExchange => Ok(self.exchange_code(request)),
            Endpoint::LongLivedExchange => self.exchange_token(request),
            Endpoint::Refresh => self.refresh(request),
            Endpoint::Me => self.me(request),
            Endpoint::DebugToken => self.debug_token(request),
            Endpoint::ClientCredentials if request.method == Method::GET => self.app_token(request),
            Endpoint::ClientCredentials
            | Endpoint::Other
            | Endpoint::Deauthorize
            | Endpoint::DataDeletion
            | Endpoint::Webhook => Err(Refusal::oauth(2500, None, "Unknown path components")),
        };
        let mut answer = result.unwrap_or_else(|refusal| refusal.graph());
        if self.knobs.escaped {
            answer.body = escaped(&answer.body);
        }
        answer.headers.extend(self.knobs.headers.iter().cloned());
        answer
    }

    /// The form that the consent page sends.
    fn click(&mut self, request: &Received) -> Answer {
        let persona = request.parameters.get("persona").unwrap_or_default();
        let decision = match request.parameters.get("decision") {
            Some("allow") => Decision::Allow,
            _ => Decision::Deny,
        };
        match self.decide(&request.query, persona, decision) {
            Ok(decided) => {
                if let Some(entry) = self.ledger.entry(request.sequence) {
                    entry.persona = Some(self.people.get(decided.person).key.clone());
                    entry.code = decided.code;
                }
                Answer::see_other(decided.url)
            }
            Err(refusal) => refusal,
        }
    }

    /// A visit and a click without a browser: the same checks, the same entries, no faults.
    pub(super) fn consent(
        &mut self,
        query: &str,
        persona: &str,
        decision: Decision,
    ) -> Result<String, String> {
        let mut visit = Received::browser(Method::GET, query);
        self.open(&mut visit);
        self.notice(&visit);
        if let Err(refusal) = self.window(query) {
            self.settle(&visit, refusal.status, refusal.error);
            return Err(refusal.body);
        }
        self.settle(&visit, 200, None);
        let mut click = Received::browser(Method::POST, query);
        let decision = if decision == Decision::Allow { "allow" } else { "deny" };
        click.choose(persona, decision);
        self.open(&mut click);
        let answer = self.click(&click);
        self.settle(&click, answer.status, answer.error);
        match answer.headers.into_iter().find(|(name, _)| name == "location") {
            Some((_, location)) => Ok(location),
            None => Err(answer.body),
        }
    }
}
