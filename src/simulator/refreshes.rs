//! Which tokens were refreshed, when and how often, and tokens that were given without a browser: what a
//! test of a refresher starts from and what it looks at in the end.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::controls::Controls;
use super::oauth;
use super::random;
use super::request::Received;
use super::state::{Kind, State};

/// How many refreshes are kept; older ones are forgotten, but still counted.
const KEPT: usize = 200_000;

/// One refresh that the platform carried out, whether or not its answer arrived.
#[derive(Clone, PartialEq, Eq)]
pub struct Refresh {
    /// The place of its request among all requests.
    pub sequence: u64,
    /// When, by the simulator's clock, in unix seconds.
    pub time: i64,
    /// The key of the persona whose token it was.
    pub persona: Arc<str>,
    /// The token that was refreshed, not the one that came of it. A secret.
    pub token: Arc<str>,
    /// How often this very token has been refreshed, this time included. Two, where refreshes answer with
    /// another string, is a token that two did not know of each other.
    pub times: u32,
}

impl Refresh {
    /// The fingerprint of the token, fit for printing.
    #[must_use]
    pub fn token_print(&self) -> String {
        random::short_print(&self.token)
    }
}

/// Prints no token, only its fingerprint.
impl fmt::Debug for Refresh {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Refresh")
            .field("sequence", &self.sequence)
            .field("time", &self.time)
            .field("persona", &self.persona)
            .field("token", &self.token_print())
            .field("times", &self.times)
            .finish()
    }
}

/// The refreshes still kept, oldest first.
#[derive(Default)]
pub(super) struct Refreshes(VecDeque<Refresh>);

impl Refreshes {
    fn note(&mut self, refresh: Refresh) {
        self.0.push_back(refresh);
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl State {
    /// Notes that a token of this person's is being refreshed with success.
    pub(super) fn refreshed(&mut self, request: &Received, text: &str, person: usize) {
        let time = self.now();
        let person = self.people.get_mut(person);
        person.refreshes += 1;
        let persona = Arc::clone(&person.key);
        if let Some(token) = self.tokens.get_mut(text) {
            token.refreshed += 1;
            let (sequence, times) = (request.sequence, token.refreshed);
            self.refreshes.note(Refresh { sequence, time, persona, token: text.into(), times });
        }
    }

    /// Gives a long-lived token without a consent, as of an earlier time.
    fn grant(&mut self, person: usize, app: &Arc<str>, scopes: &str, issued: i64) -> Arc<str> {
        let scopes: Arc<str> = oauth::scopes(scopes).join(",").into();
        let until = issued.saturating_add(self.knobs.grant_lifetime);
        let person_now = self.people.get_mut(person);
        // A token as of earlier takes nothing away from a later consent.
        if person_now.grant(app).is_none_or(|grant| grant.until < until) {
            person_now.renew(app, Some(issued), until);
        }
        self.issue_as_of(issued, Kind::Long, Some(person), app, &scopes)
    }
}

/// Tokens.
impl Controls {
    /// Gives a long-lived token for a person as if it had been obtained so many seconds ago, with a grant
    /// from then, and counts as nothing that the client did. Scopes are separated by commas or spaces. Empty,
    /// with a violation, where the person or the app is unknown.
    #[must_use]
    pub fn grant_token(&self, persona: &str, client_id: &str, scopes: &str, age_seconds: i64) -> String {
        let mut state = self.shared.lock();
        let app = state.apps.get(client_id).map(|app| Arc::clone(&app.client_id));
        let (Some(person), Some(app)) = (state.people.find(persona), app) else {
            let text =
                format!("controls: no token for {persona}: the person or the app {client_id} is unknown");
            state.ledger.violation(text);
            return String::new();
        };
        let issued = state.now().saturating_sub(age_seconds);
        state.grant(person, &app, scopes, issued).to_string()
    }

    /// Every refresh that was carried out, oldest first, as far as it is still kept.
    #[must_use]
    pub fn refreshes(&self) -> Vec<Refresh> {
        self.shared.lock().refreshes.0.iter().cloned().collect()
    }

    /// How often one of this person's tokens has been refreshed, ever.
    #[must_use]
    pub fn refresh_count(&self, persona: &str) -> u64 {
        let state = self.shared.lock();
        state.people.find(persona).map_or(0, |person| state.people.get(person).refreshes)
    }

    /// How often this very token has been refreshed, ever, as long as it is remembered.
    #[must_use]
    pub fn token_refresh_count(&self, token: &str) -> u32 {
        self.shared.lock().tokens.get(token).map_or(0, |token| token.refreshed)
    }

    /// Whether this token is the one given last for its person.
    #[must_use]
    pub fn is_newest(&self, token: &str) -> bool {
        let state = self.shared.lock();
        let person = state.tokens.get(token).and_then(|token| token.person);
        let newest = person.and_then(|person| state.people.get(person).tokens.back());
        newest.is_some_and(|newest| &**newest == token)
    }
}
