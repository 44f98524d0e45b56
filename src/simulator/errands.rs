//! The other direction: what the platform itself sends to an app's addresses, and what it is answered.
//!
//! The ledger notes each errand like a request received, by address and answer; what was signed is not
//! kept.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use reqwest::{Client, Response};
use serde::Serialize;
use url::Url;

use super::ledger::{Endpoint, Entry};
use super::platform::Shared;

const CONNECT: Duration = Duration::from_secs(3);
const WHOLE: Duration = Duration::from_secs(10);

/// How much of an answer is read.
const ANSWER_LIMIT: usize = 64 << 10;

const USER_AGENT: &str = "threads-simulator";

/// The client for all errands: it goes where it was told and nowhere else.
pub(super) fn client() -> reqwest::Result<Client> {
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(WHOLE)
        .user_agent(USER_AGENT)
        .build()
}

/// One request to an app.
#[derive(Clone)]
pub(super) struct Errand {
    pub(super) endpoint: Endpoint,
    pub(super) method: Method,
    pub(super) url: Url,
    /// The names of its parameters, for the ledger.
    pub(super) parameters: Vec<&'static str>,
    pub(super) persona: Option<Arc<str>>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

/// How an app answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// Where it was sent.
    pub url: String,
    /// The HTTP status; none where there was no answer.
    pub status: Option<u16>,
    /// The `Content-Type` answered.
    pub content_type: Option<String>,
    /// The body answered, its first 64 KiB.
    pub body: String,
    /// Why there is no whole answer.
    pub error: Option<&'static str>,
}

impl Shared {
    /// Runs one errand to its end, or to the simulator's.
    pub(super) async fn run(&self, errand: Errand) -> Delivery {
        let sequence = self.lock().depart(&errand);
        self.arrived.notify_waiters();
        let mut url = errand.url.clone();
        // A handshake's query holds the token that proves it.
        url.set_query(None);
        let mut delivery =
            Delivery { url: url.into(), status: None, content_type: None, body: String::new(), error: None };
        let mut request = self.http.request(errand.method, errand.url).body(errand.body);
        for (name, value) in errand.headers {
            request = request.header(name, value);
        }
        let mut stop = self.stop.subscribe();
        tokio::select! {
            answered = async { delivery.read(request.send().await?).await } => {
                if let Err(error) = answered {
                    delivery.error = Some(if error.is_timeout() {
                        "no whole answer in time"
                    } else if error.is_connect() {
                        "cannot connect"
                    } else {
                        "the connection broke"
                    });
                }
            }
            // An error means that the simulator is gone already.
            _ = stop.wait_for(|stopped| *stopped) => delivery.error = Some("the simulator stopped"),
        }
        if let Some(entry) = self.lock().ledger.entry(sequence) {
            entry.status = delivery.status;
        }
        self.arrived.notify_waiters();
        delivery
    }
}

impl Delivery {
    async fn read(&mut self, mut response: Response) -> reqwest::Result<()> {
        self.status = Some(response.status().as_u16());
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        self.content_type = content_type.map(str::to_owned);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            let room = ANSWER_LIMIT - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if bytes.len() == ANSWER_LIMIT {
                break;
            }
        }
        self.body = String::from_utf8_lossy(&bytes).into_owned();
        Ok(())
    }
}

impl super::state::State {
    /// Opens the ledger's entry for an errand.
    fn depart(&mut self, errand: &Errand) -> u64 {
        let time = self.now();
        self.ledger.open(Entry {
            sequence: 0,
            time,
            endpoint: errand.endpoint,
            method: errand.method.to_string(),
            path: errand.url.path().to_owned(),
            parameters: errand.parameters.iter().map(|name| (*name).to_owned()).collect(),
            user_agent: Some(USER_AGENT.to_owned()),
            persona: errand.persona.clone(),
            code: None,
            token: None,
            times: 0,
            status: None,
            error: None,
            fault: None,
        })
    }
}
