//! What a client must never do, noted as it is seen; an empty list of violations is a good client.
//!
//! No text here holds a secret: codes, tokens and states appear as fingerprints.

use super::ledger::{Endpoint, Entry};
use super::random;
use super::request::Received;
use super::state::{Kind, SeenState, State};

/// What a state must hold: it is the only thing between a link and a forged callback, because the
/// platform knows no PKCE.
const STATE_BITS: f64 = 128.0;

/// A state of many equal characters is not random however long it is.
const STATE_ALPHABET: usize = 8;

/// Meta: "Long-Lived Tokens". What the platform asks for, whatever the knob lets pass; but a knob that
/// is turned below it shortens the life of tokens for a test, and this with it.
const REFRESH_AGE: i64 = 86_400;

impl State {
    /// Opens the ledger's entry for an arrival.
    pub(super) fn open(&mut self, request: &mut Received) {
        let mut parameters: Vec<String> = request.parameters.names().map(str::to_owned).collect();
        parameters.sort_unstable();
        let time = self.now();
        request.sequence = self.ledger.open(Entry {
            sequence: 0,
            time,
            endpoint: request.endpoint,
            method: request.method.to_string(),
            path: request.path.clone(),
            parameters,
            user_agent: request.user_agent.clone(),
            persona: None,
            code: None,
            token: None,
            times: 0,
            status: None,
            error: None,
            fault: None,
        });
    }

    /// Looks for what the client must not have done, and completes the entry with what is known by now.
    pub(super) fn notice(&mut self, request: &Received) {
        match request.endpoint {
            Endpoint::Authorize => self.notice_window(request),
            // Both come from a browser.
            Endpoint::Consent | Endpoint::Picture => {}
            Endpoint::CodeExchange => {
                self.notice_call(request);
                self.notice_code(request);
            }
            _ => {
                self.notice_call(request);
                self.notice_token(request);
            }
        }
        if let Some(entry) = self.ledger.entry(request.sequence) {
            entry.parameters = request.parameters.names().map(str::to_owned).collect();
            entry.parameters.sort_unstable();
        }
    }

    fn notice_window(&mut self, request: &Received) {
        let parameters = &request.parameters;
        let mut complain = |text: String| self.ledger.violation(format!("authorize: {text}"));
        if parameters.names().any(|name| name.starts_with("code_challenge")) {
            complain("PKCE was sent, which the platform does not know".to_owned());
        }
        let secret = parameters.get("client_id").and_then(|id| self.apps.get(id)).map(|app| &app.secret);
        let has_secret =
            secret.is_some_and(|secret| parameters.values().any(|value| value.contains(secret.as_str())));
        if has_secret || parameters.has("client_secret") {
            complain("the client secret is in the URL".to_owned());
        }
        let scope = parameters.get("scope").unwrap_or_default();
        if !scope.split([',', ' ']).any(|scope| scope == "threads_basic") {
            complain("threads_basic is not in scope".to_owned());
        }
        let Some(state) = parameters.get("state") else {
            complain("no state".to_owned());
            return;
        };
        if !strong(state) {
            complain(format!("state {} has less than 128 bits", random::short_print(state)));
        }
        let (key, request) = (random::print(state), random::print(&request.query));
        match self.states.get(&key) {
            None => {
                self.states.insert(key, SeenState { request, exchanged: false });
            }
            // The very same URL again is a person who reloads the page.
            Some(seen) if seen.request == request => {}
            Some(_) => {
                complain(format!("state {} is in two URLs", random::short_print(state)));
            }
        }
    }

    /// Notes that a code given with this state was exchanged. Twice means that the client accepted the
    /// same state twice, or always sends the same one.
    pub(super) fn exchanged_with(&mut self, state: Option<random::Print>) {
        let Some(seen) = state.and_then(|state| self.states.get_mut(&state)) else {
            return;
        };
        if seen.exchanged {
            self.ledger.violation("code exchange: two codes of one state were exchanged".to_owned());
        }
        seen.exchanged = true;
    }

    fn notice_call(&mut self, request: &Received) {
        let name = request.endpoint;
        let mut complain = |text: &str| self.ledger.violation(format!("{name:?}: {text}"));
        if request.user_agent.is_none() {
            complain("no User-Agent was sent");
        }
        if request.bearer.is_some() && request.parameters.has("access_token") {
            complain("the token is both in the header and in the parameters");
        }
        let needless = matches!(name, Endpoint::Me | Endpoint::Refresh | Endpoint::DebugToken);
        if needless && request.parameters.has("client_secret") {
            complain("the client secret was sent");
        }
        // Browsers ask for icons; a client that sends credentials has the path wrong.
        if name == Endpoint::Other && (request.token().is_some() || request.parameters.has("client_id")) {
            complain("no such path");
        }
    }

    fn notice_code(&mut self, request: &Received) {
        let parameters = &request.parameters;
        let mut complain = |text: String| self.ledger.violation(format!("code exchange: {text}"));
        if parameters.has("code_verifier") {
            complain("PKCE was sent, which the platform does not know".to_owned());
        }
        let Some(text) = parameters.get("code") else {
            return;
        };
        let Some(code) = self.codes.get_mut(text) else {
            return;
        };
        code.received += 1;
        if code.received > 1 {
            complain(format!("code {} was sent {} times", random::short_print(text), code.received));
        }
        if parameters.get("redirect_uri") != Some(code.redirect_uri.as_str()) {
            complain("not the redirect URI of the authorization URL".to_owned());
        }
        if let Some(entry) = self.ledger.entry(request.sequence) {
            entry.code = Some(text.into());
            entry.persona = Some(self.people.get(code.person).key.clone());
            entry.times = code.received;
        }
    }

    fn notice_token(&mut self, request: &Received) {
        let now = self.now();
        let Some(text) = request.token() else { return };
        let token = self.tokens.get_mut(text);
        if let Some(entry) = self.ledger.entry(request.sequence) {
            entry.token = Some(text.into());
            let person = token.as_ref().and_then(|token| token.person);
            entry.persona = person.map(|person| self.people.get(person).key.clone());
            entry.times = token.as_ref().map_or(1, |token| token.received + 1);
        }
        let Some(token) = token else { return };
        token.received += 1;
        let name = request.endpoint;
        let young =
            token.kind == Kind::Long && now - token.issued < REFRESH_AGE.min(self.knobs.refresh_minimum_age);
        if name == Endpoint::Refresh && young {
            let age = now - token.issued;
            self.ledger.violation(format!("{name:?}: the token is only {age} s old"));
        }
        // Calls that were under way when the platform said 190 do not count.
        if token.refused.is_some_and(|refused| request.sequence >= refused) {
            token.returned += 1;
            if token.returned > 1 {
                let print = random::short_print(text);
                let text = format!("{name:?}: token {print} came back after 190 and one re-check");
                self.ledger.violation(text);
            }
        }
    }

    /// Notes what the client has been told.
    pub(super) fn settle(&mut self, request: &Received, status: u16, error: Option<(u32, Option<u32>)>) {
        let next = self.ledger.next();
        if let Some(entry) = self.ledger.entry(request.sequence) {
            entry.status = Some(status);
            entry.error = error;
        }
        if let Some((code, _)) = error {
            self.slowed(request, code, next);
        }
        let Some(token) = request.token().and_then(|text| self.tokens.get_mut(text)) else {
            return;
        };
        if error.is_some_and(|(code, _)| code == 190) {
            token.refused.get_or_insert(next);
        } else if status == 200 {
            (token.refused, token.returned) = (None, 0);
        }
    }
}

/// Whether a state can hold 128 bits: its length times what a character of its alphabet is worth.
fn strong(state: &str) -> bool {
    let mut characters: Vec<char> = state.chars().collect();
    let length = characters.len();
    let bits = if characters.iter().all(char::is_ascii_digit) {
        3.32
    } else if characters.iter().all(|character| character.is_ascii_hexdigit() || *character == '-') {
        4.0
    } else {
        6.0
    };
    characters.sort_unstable();
    characters.dedup();
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    f64::from(length) * bits >= STATE_BITS && characters.len() >= STATE_ALPHABET
}

#[cfg(test)]
mod tests {
    use super::strong;

    #[test]
    fn a_state_must_be_able_to_hold_128_bits() {
        assert!(strong("q83vEjRWeJCrze8SNFZ4kA"));
        assert!(strong("0123456789abcdef0123456789abcdef"));
        assert!(!strong("0123456789abcdef"));
        assert!(!strong("12345678901234567890"));
        assert!(!strong(&"a".repeat(64)));
    }
}
