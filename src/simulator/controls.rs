//! The controls: what tests do to the simulated platform and what they ask it.

use std::sync::Arc;

use super::faults::Fault;
use super::knobs::Knobs;
use super::ledger::{Endpoint, Entry};
use super::oauth::Decision;
use super::people::{Ending, Person, Persona, Picture, Role, Throttle};
use super::platform::Shared;
use super::state::Clock;
use super::variants::Variant;

/// A handle on a running simulator; clones are cheap and control the same one.
#[derive(Clone)]
pub struct Controls {
    pub(super) shared: Arc<Shared>,
}

/// Time and consent.
impl Controls {
    /// The simulator's clock in unix seconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.shared.lock().now()
    }

    /// Sets the clock; from then on it stands still, or goes on from there if it was going.
    pub fn set_time(&self, unix: i64) {
        let mut state = self.shared.lock();
        match &mut state.clock {
            Clock::Still(now) => *now = unix,
            clock @ Clock::Wall { .. } => {
                let ahead = unix.saturating_sub(clock.now());
                clock.advance(ahead);
            }
        }
    }

    /// Moves the clock.
    pub fn advance(&self, seconds: i64) {
        self.shared.lock().clock.advance(seconds);
    }

    /// Does what a person does with an authorization URL: opens it and clicks. Returns the callback URL
    /// to which the browser is sent, `#_` included, or the JSON document of the error page.
    ///
    /// # Errors
    /// The window's error page, when it would not redirect.
    pub fn consent(
        &self,
        authorization_url: &str,
        persona: &str,
        decision: Decision,
    ) -> Result<String, String> {
        let query = authorization_url.split_once('?').map_or("", |(_, query)| query);
        let query = query.split_once('#').map_or(query, |(query, _)| query);
        let result = self.shared.lock().consent(query, persona, decision);
        self.shared.arrived.notify_waiters();
        result
    }

    /// The same, and then something becomes of the callback URL on its way back.
    ///
    /// # Errors
    /// The window's error page, when it would not redirect.
    pub fn consent_variant(
        &self,
        authorization_url: &str,
        persona: &str,
        decision: Decision,
        variant: Variant,
    ) -> Result<String, String> {
        self.consent(authorization_url, persona, decision).map(|url| variant.of(&url))
    }
}

/// People. To name somebody unknown is a violation too, so that a test's typing error shows.
impl Controls {
    /// Adds somebody; the same key again replaces the profile.
    pub fn add_persona(&self, persona: Persona) {
        self.shared.lock().people.add(persona);
    }

    /// Adds many at once.
    pub fn add_personas(&self, personas: impl IntoIterator<Item = Persona>) {
        let mut state = self.shared.lock();
        for persona in personas {
            state.people.add(persona);
        }
    }

    /// Everybody, as they are now.
    #[must_use]
    pub fn personas(&self) -> Vec<Persona> {
        self.shared.lock().people.iter().map(|person| person.persona.clone()).collect()
    }

    /// One of them.
    #[must_use]
    pub fn persona(&self, key: &str) -> Option<Persona> {
        let state = self.shared.lock();
        state.people.find(key).map(|index| state.people.get(index).persona.clone())
    }

    /// Changes a profile in any way; the key must stay.
    pub fn edit(&self, persona: &str, change: impl FnOnce(&mut Persona)) {
        self.with(persona, |_, person| change(&mut person.persona));
    }

    /// Changes the handle.
    pub fn rename(&self, persona: &str, username: &str) {
        self.edit(persona, |persona| {
            username.clone_into(&mut persona.username);
        });
    }

    /// Changes the picture to this URL, or removes it.
    pub fn set_picture(&self, persona: &str, url: Option<&str>) {
        let picture = url.map_or(Picture::None, |url| Picture::Url(url.to_owned()));
        self.edit(persona, |persona| persona.picture = picture);
    }

    /// Makes the profile private.
    pub fn make_private(&self, persona: &str) {
        self.edit(persona, |persona| persona.private = true);
    }

    /// Accepts the invitation to test the app; tokens issued before stay useless.
    pub fn accept_invitation(&self, persona: &str) {
        let issued = self.shared.lock().issued;
        self.with(persona, |_, person| {
            person.persona.role = Role::Tester;
            person.useless = issued;
        });
    }

    /// Changes the password: 190/460 for every token so far.
    pub fn change_password(&self, persona: &str) {
        self.end(persona, Ending::PasswordChanged);
    }

    /// Puts the account behind a checkpoint: 190/459 for every token so far.
    pub fn checkpoint(&self, persona: &str) {
        self.end(persona, Ending::Checkpointed);
    }

    /// Ends the permission grant but no token: 100/10.
    pub fn lapse_grant(&self, persona: &str) {
        self.with(persona, |_, person| person.grants.clear());
    }

    /// Bans the account, or lifts the ban; what its tokens meet is a knob.
    pub fn ban(&self, persona: &str, banned: bool) {
        self.with(persona, |_, person| person.banned = banned);
    }

    /// Throttles one person for so many seconds: code 17.
    pub fn throttle(&self, persona: &str, seconds: i64) {
        self.with(persona, |now, person| {
            person.throttle = Some(Throttle::until(now.saturating_add(seconds)));
        });
    }

    fn end(&self, persona: &str, ending: Ending) {
        let last = self.shared.lock().issued;
        self.with(persona, |_, person| person.ended = Some((last, ending)));
    }

    fn with(&self, persona: &str, change: impl FnOnce(i64, &mut Person)) {
        let mut state = self.shared.lock();
        let now = state.now();
        match state.people.find(persona) {
            Some(index) => change(now, state.people.get_mut(index)),
            None => state.ledger.violation(format!("controls: nobody has the key {persona}")),
        }
    }
}

/// Faults and knobs.
impl Controls {
    /// Lets the next request of this endpoint fail in this way.
    pub fn fault_next(&self, endpoint: Endpoint, fault: Fault) {
        self.fault_times(endpoint, 1, fault);
    }

    /// Lets the next so many requests of this endpoint fail in this way, after those already scripted.
    /// What the platform itself sends cannot fail: to name it is a violation.
    pub fn fault_times(&self, endpoint: Endpoint, times: usize, fault: Fault) {
        let mut state = self.shared.lock();
        if endpoint.is_errand() {
            state.ledger.violation(format!("controls: {endpoint:?} is sent, not received"));
        } else {
            state.faults.add(endpoint, times, fault);
        }
    }

    /// Forgets all faults still to come.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Turns the knobs.
    pub fn knobs(&self, turn: impl FnOnce(&mut Knobs)) {
        turn(&mut self.shared.lock().knobs);
    }
}

/// What was received and what was given.
impl Controls {
    /// Everything received, oldest first, as far as it is still kept.
    #[must_use]
    pub fn ledger(&self) -> Vec<Entry> {
        self.shared.lock().ledger.entries().cloned().collect()
    }

    /// How many requests this endpoint has received.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.shared.lock().ledger.count(endpoint)
    }

    /// Waits until this endpoint has received so many requests, answered or not.
    pub async fn received(&self, endpoint: Endpoint, requests: usize) {
        loop {
            let arrival = self.shared.arrived.notified();
            tokio::pin!(arrival);
            // Before looking, so that an arrival in between is not missed.
            arrival.as_mut().enable();
            if self.count(endpoint) >= requests {
                return;
            }
            arrival.await;
        }
    }

    /// What the client did that it must not do; empty is good.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().ledger.violations().to_vec()
    }

    /// Forgets entries, counts, violations and the list of refreshes.
    pub fn clear_ledger(&self) {
        let mut state = self.shared.lock();
        state.ledger.clear();
        state.refreshes.clear();
    }

    /// Every token ever given for this person, oldest first.
    #[must_use]
    pub fn issued_tokens(&self, persona: &str) -> Vec<String> {
        let state = self.shared.lock();
        let person = state.people.find(persona).map(|index| state.people.get(index));
        person.map(|person| person.tokens.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    /// The token given last for this person.
    #[must_use]
    pub fn newest_token(&self, persona: &str) -> Option<String> {
        let state = self.shared.lock();
        let person = state.people.get(state.people.find(persona)?);
        person.tokens.back().map(ToString::to_string)
    }

    /// Every code ever given, oldest first.
    #[must_use]
    pub fn issued_codes(&self) -> Vec<String> {
        self.shared.lock().codes.keys().map(ToString::to_string).collect()
    }
}
