//! What can go wrong on the way, on purpose: scripted per endpoint, used up one by one.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;

use super::answer::{Answer, Refusal};
use super::bodies::{endless, slow, truncated};
use super::connection::Connection;
use super::ledger::Endpoint;

/// One thing going wrong.
///
/// Some replace the request's effect: it is not processed, no code is spent. Others only spoil the
/// answer: the code is spent and the token exists, which the client cannot know.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Answers this instead; not processed.
    Status {
        /// The HTTP status.
        status: u16,
        /// The `Content-Type`.
        content_type: String,
        /// The body.
        body: String,
    },
    /// Answers an error in the Graph envelope; not processed.
    Graph {
        /// The HTTP status, nearly always 400 on the real platform.
        status: u16,
        /// The Graph code.
        code: u32,
        /// The subcode.
        subcode: Option<u32>,
        /// The type, such as `OAuthException`.
        kind: String,
        /// `is_transient`, left out when none.
        transient: Option<bool>,
    },
    /// Answers an error in the flat envelope; not processed.
    Flat {
        /// The HTTP status, also given as `code`.
        status: u16,
        /// `error_message`.
        message: String,
    },
    /// Processes at once, answers later. In JSON: milliseconds.
    Delay(#[serde(deserialize_with = "milliseconds")] Duration),
    /// Processes, and never answers.
    HangBeforeAnswer,
    /// Closes the connection when the head has been read; not processed.
    CutBeforeRead,
    /// Processes, then closes the connection without an answer.
    CutAfterRequest,
    /// Processes, then sends half of the answer under its full length.
    Truncated,
    /// Answers 200 with a page of HTML; not processed.
    Html200,
    /// Answers 502 with a page of HTML; not processed.
    Html502,
    /// Processes, then answers with the right status and no body.
    EmptyBody,
    /// Processes, then sends 16 MiB of a JSON string in chunks.
    Huge,
    /// Processes, then sends an endless JSON string, one byte in 100 ms.
    SlowDrip,
    /// Processes, then answers with every value of another JSON type.
    WrongTypes,
    /// Answers 302 to this location; not processed.
    Redirect(String),
    /// Processes, then answers with something that only starts like JSON.
    GarbageJson,
    /// Processes and answers, with these headers added.
    Headers(Vec<(String, String)>),
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

const PAGE: &str = "<!doctype html><title>Sorry</title><h1>Sorry, something went wrong.</h1>";

impl Fault {
    /// The name under which the ledger notes it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Fault::Status { .. } => "status",
            Fault::Graph { .. } => "graph",
            Fault::Flat { .. } => "flat",
            Fault::Delay(_) => "delay",
            Fault::HangBeforeAnswer => "hang_before_answer",
            Fault::CutBeforeRead => "cut_before_read",
            Fault::CutAfterRequest => "cut_after_request",
            Fault::Truncated => "truncated",
            Fault::Html200 => "html200",
            Fault::Html502 => "html502",
            Fault::EmptyBody => "empty_body",
            Fault::Huge => "huge",
            Fault::SlowDrip => "slow_drip",
            Fault::WrongTypes => "wrong_types",
            Fault::Redirect(_) => "redirect",
            Fault::GarbageJson => "garbage_json",
            Fault::Headers(_) => "headers",
        }
    }

    /// The answer that takes the place of processing, for faults of that sort.
    pub(super) fn instead(&self) -> Option<Answer> {
        Some(match self {
            Fault::Status { status, content_type, body } => {
                Answer::new(*status, content_type.clone(), body.clone())
            }
            Fault::Graph { status, code, subcode, kind, transient } => Refusal {
                status: *status,
                kind: kind.clone().into(),
                transient: *transient,
                ..Refusal::oauth(*code, *subcode, "A scripted error.")
            }
            .graph(),
            Fault::Flat { status, message } => {
                Refusal { status: *status, ..Refusal::oauth(0, None, message.clone()) }.flat()
            }
            Fault::Html200 => Answer::html(200, PAGE.to_owned()),
            Fault::Html502 => Answer::html(502, PAGE.to_owned()),
            Fault::Redirect(location) => Answer { status: 302, ..Answer::see_other(location.clone()) },
            _ => return None,
        })
    }

    /// Sends the real answer, spoiled.
    pub(super) async fn deliver(
        self,
        mut answer: Answer,
        connection: &Connection,
        mut stop: watch::Receiver<bool>,
    ) -> Response {
        match self {
            Fault::Delay(time) => sleep(time).await,
            Fault::HangBeforeAnswer => {
                // Ends with the simulator; an error means that it is gone already.
                let _ = stop.wait_for(|stopped| *stopped).await;
                connection.cut();
            }
            Fault::CutBeforeRead | Fault::CutAfterRequest => connection.cut(),
            Fault::EmptyBody => answer.body.clear(),
            Fault::GarbageJson => "{\"access_token\": TH, ] \u{0}".clone_into(&mut answer.body),
            Fault::WrongTypes => answer.body = wrong_types(&answer.body),
            Fault::Headers(headers) => answer.headers.extend(headers),
            Fault::Truncated => return truncated(answer),
            Fault::Huge => return endless(&answer),
            Fault::SlowDrip => return slow(&answer, stop),
            // These never reach this point: their answer took the place of processing.
            Fault::Status { .. }
            | Fault::Graph { .. }
            | Fault::Flat { .. }
            | Fault::Html200
            | Fault::Html502
            | Fault::Redirect(_) => {}
        }
        send(answer)
    }
}

/// Turns an answer into HTTP.
pub(super) fn send(answer: Answer) -> Response {
    respond(answer.status, &answer.content_type, &answer.headers, Body::from(answer.body))
}

/// Turns the parts of an answer into HTTP, around a body of any kind.
pub(super) fn respond(status: u16, content_type: &str, headers: &[(String, String)], body: Body) -> Response {
    // A status no HTTP knows can only come from a script; 500 is as good as any then.
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, body).into_response();
    let all = [("content-type", content_type), ("cache-control", "private, no-cache, no-store")];
    let own = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in all.into_iter().chain(own) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn wrong_types(body: &str) -> String {
    fn wrong(value: Value) -> Value {
        match value {
            Value::String(_) => Value::from(17),
            Value::Number(_) => Value::Object(serde_json::Map::new()),
            Value::Bool(_) | Value::Null => Value::from("yes"),
            Value::Array(_) => Value::from(true),
            Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, wrong(value))).collect(),
        }
    }
    serde_json::from_str(body).map_or_else(|_| "17".to_owned(), |value| wrong(value).to_string())
}

/// The faults still to come.
#[derive(Default)]
pub(super) struct Faults(HashMap<Endpoint, VecDeque<(usize, Fault)>>);

impl Faults {
    pub(super) fn add(&mut self, endpoint: Endpoint, times: usize, fault: Fault) {
        if times > 0 {
            self.0.entry(endpoint).or_default().push_back((times, fault));
        }
    }

    pub(super) fn next(&mut self, endpoint: Endpoint) -> Option<Fault> {
        let queue = self.0.get_mut(&endpoint)?;
        let (times, fault) = queue.front_mut()?;
        *times -= 1;
        if *times == 0 {
            return queue.pop_front().map(|(_, fault)| fault);
        }
        Some(fault.clone())
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
