//! What was received and how it was answered, and what the client did that it must not do.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::random;

/// How many entries are kept; older ones are forgotten, but still counted.
const ENTRIES: usize = 200_000;

/// How many violations are kept; after this many the cause is clear.
const VIOLATIONS: usize = 1_000;

/// What was asked for, by whom or of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `GET /oauth/authorize`: a browser opens the authorization window.
    Authorize,
    /// `POST /oauth/authorize`: the person's click in that window.
    Consent,
    /// `POST /oauth/access_token`.
    CodeExchange,
    /// `GET /access_token`.
    LongLivedExchange,
    /// `GET /refresh_access_token`.
    Refresh,
    /// `GET /me` and `GET /{id}`.
    Me,
    /// `GET /debug_token`.
    DebugToken,
    /// `GET /oauth/access_token?grant_type=client_credentials`.
    ClientCredentials,
    /// A profile picture that the simulator serves.
    Picture,
    /// A deauthorize callback, sent to the app.
    Deauthorize,
    /// A data-deletion callback, sent to the app.
    DataDeletion,
    /// A webhook's handshake or event, sent to the app.
    Webhook,
    /// Anything else, always refused.
    Other,
}

impl Endpoint {
    /// Whether this is what the platform sends, not what it receives.
    pub(super) fn is_errand(self) -> bool {
        matches!(self, Endpoint::Deauthorize | Endpoint::DataDeletion | Endpoint::Webhook)
    }
}

const ENDPOINTS: usize = Endpoint::Other as usize + 1;

/// One request received, or sent to an app.
#[derive(Clone)]
pub struct Entry {
    /// Its place among all requests, from zero.
    pub sequence: u64,
    /// When, by the simulator's clock, in unix seconds.
    pub time: i64,
    /// What was asked for.
    pub endpoint: Endpoint,
    /// The HTTP method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// The names of all parameters; values are elsewhere or not kept.
    pub parameters: Vec<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The key of the persona whose code or token it was, once known.
    pub persona: Option<Arc<str>>,
    /// The authorization code that was sent or, by the window, given. A secret.
    pub code: Option<Arc<str>>,
    /// The token that was sent. A secret.
    pub token: Option<Arc<str>>,
    /// How often this code, or else this token, has been received, this time included.
    pub times: u32,
    /// The HTTP status answered by whoever was asked; none while it is being answered, and none if it never is.
    pub status: Option<u16>,
    /// The Graph code and subcode answered.
    pub error: Option<(u32, Option<u32>)>,
    /// The fault that was in the way.
    pub fault: Option<&'static str>,
}

impl Entry {
    /// The fingerprint of the code, fit for printing.
    #[must_use]
    pub fn code_print(&self) -> Option<String> {
        self.code.as_deref().map(random::short_print)
    }

    /// The fingerprint of the token, fit for printing.
    #[must_use]
    pub fn token_print(&self) -> Option<String> {
        self.token.as_deref().map(random::short_print)
    }
}

/// Prints no code and no token, only fingerprints.
impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Entry")
            .field("sequence", &self.sequence)
            .field("time", &self.time)
            .field("endpoint", &self.endpoint)
            .field("method", &self.method)
            .field("path", &self.path)
            .field("parameters", &self.parameters)
            .field("persona", &self.persona)
            .field("code", &self.code_print())
            .field("token", &self.token_print())
            .field("times", &self.times)
            .field("status", &self.status)
            .field("error", &self.error)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// All entries still kept, the counts of all ever made, and the violations.
#[derive(Default)]
pub(super) struct Ledger {
    entries: VecDeque<Entry>,
    first: u64,
    counts: [usize; ENDPOINTS],
    violations: Vec<String>,
}

impl Ledger {
    /// Notes an arrival and gives it its sequence number.
    pub(super) fn open(&mut self, mut entry: Entry) -> u64 {
        self.counts[entry.endpoint as usize] += 1;
        entry.sequence = self.next();
        let sequence = entry.sequence;
        self.entries.push_back(entry);
        if self.entries.len() > ENTRIES {
            self.entries.pop_front();
            self.first += 1;
        }
        sequence
    }

    /// The sequence number of the next arrival.
    pub(super) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn entry(&mut self, sequence: u64) -> Option<&mut Entry> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }

    pub(super) fn count(&self, endpoint: Endpoint) -> usize {
        self.counts[endpoint as usize]
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Notes what the client must not have done. The text must hold no secret: tests print it.
    pub(super) fn violation(&mut self, text: String) {
        if self.violations.len() < VIOLATIONS {
            self.violations.push(text);
        }
    }

    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(super) fn clear(&mut self) {
        self.first = self.next();
        self.entries.clear();
        self.counts = [0; ENDPOINTS];
        self.violations.clear();
    }
}
