//! Everything the simulated platform remembers, behind one lock that is never held across a wait.

use std::collections::HashMap;
use std::sync::Arc;

use time::OffsetDateTime;

use super::answer::Refusal;
use super::apps::App;
use super::bounded::Bounded;
use super::faults::Faults;
use super::knobs::Knobs;
use super::ledger::Ledger;
use super::people::{People, Role, Throttle};
use super::random::{self, Print};
use super::refreshes::Refreshes;
use super::request::Received;

/// How many codes, tokens and states are remembered each; a platform of one test run needs no more.
const REMEMBERED: usize = 500_000;

/// In every code and token, so that a search for it finds any that leaked.
pub(super) const CANARY: &str = "SIMSECRET";

/// The end of the year 9999, where clocks stop.
const LATEST: i64 = 253_402_300_799;

/// Time as the platform sees it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clock {
    /// Stands still at this second until moved.
    Still(i64),
    /// The machine's clock, plus what was advanced.
    Wall { ahead: i64 },
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "an island with a clock of its own")]
    pub(super) fn now(self) -> i64 {
        let now = match self {
            Clock::Still(now) => now,
            Clock::Wall { ahead } => OffsetDateTime::now_utc().unix_timestamp().saturating_add(ahead),
        };
        now.clamp(0, LATEST)
    }

    pub(super) fn advance(&mut self, seconds: i64) {
        match self {
            Clock::Still(value) | Clock::Wall { ahead: value } => {
                *value = value.saturating_add(seconds);
            }
        }
    }
}

/// One authorization code.
pub(super) struct Code {
    pub(super) person: usize,
    pub(super) app: Arc<str>,
    pub(super) redirect_uri: String,
    pub(super) scopes: Arc<str>,
    /// The fingerprint of the state it was given with.
    pub(super) state: Option<Print>,
    pub(super) issued: i64,
    pub(super) received: u32,
    pub(super) spent: bool,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Short,
    Long,
    App,
}

/// One token.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Nobody for an app token.
    pub(super) person: Option<usize>,
    pub(super) app: Arc<str>,
    pub(super) scopes: Arc<str>,
    pub(super) issued: i64,
    pub(super) expires: i64,
    /// Its place among all tokens: an ending kills all up to some place.
    pub(super) number: u64,
    pub(super) revoked: bool,
    pub(super) received: u32,
    /// The ledger's sequence number when it was first answered with 190.
    pub(super) refused: Option<u64>,
    /// How often it has come back since then.
    pub(super) returned: u32,
    /// How often it has been refreshed.
    pub(super) refreshed: u32,
}

/// A `state` parameter that has been seen.
#[derive(Default)]
pub(super) struct SeenState {
    /// The fingerprint of the whole authorization URL, which a reload repeats and a reuse does not.
    pub(super) request: Print,
    /// Whether a code given with it has been exchanged.
    pub(super) exchanged: bool,
}

/// Everything the simulated platform remembers.
pub(super) struct State {
    /// Where the simulator itself is.
    pub(super) base_url: String,
    pub(super) clock: Clock,
    pub(super) knobs: Knobs,
    pub(super) apps: HashMap<String, App>,
    pub(super) people: People,
    pub(super) codes: Bounded<Arc<str>, Code>,
    pub(super) tokens: Bounded<Arc<str>, Token>,
    pub(super) states: Bounded<Print, SeenState>,
    pub(super) faults: Faults,
    pub(super) ledger: Ledger,
    pub(super) refreshes: Refreshes,
    /// How many tokens have been issued.
    pub(super) issued: u64,
}

impl State {
    pub(super) fn new(base_url: String, clock: Clock, knobs: Knobs) -> State {
        State {
            base_url,
            clock,
            knobs,
            apps: HashMap::new(),
            people: People::default(),
            codes: Bounded::new(REMEMBERED),
            tokens: Bounded::new(REMEMBERED),
            states: Bounded::new(REMEMBERED),
            faults: Faults::default(),
            ledger: Ledger::default(),
            refreshes: Refreshes::default(),
            issued: 0,
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now()
    }

    /// Issues a token now.
    pub(super) fn issue(
        &mut self,
        kind: Kind,
        person: Option<usize>,
        app: &Arc<str>,
        scopes: &Arc<str>,
    ) -> Arc<str> {
        let now = self.now();
        self.issue_as_of(now, kind, person, app, scopes)
    }

    /// Issues a token that looks like a real one: `TH` and about 200 characters.
    pub(super) fn issue_as_of(
        &mut self,
        issued: i64,
        kind: Kind,
        person: Option<usize>,
        app: &Arc<str>,
        scopes: &Arc<str>,
    ) -> Arc<str> {
        let (start, lifetime) = match kind {
            Kind::Short => (format!("THQVJ{CANARY}"), self.knobs.short_lifetime),
            Kind::Long => (format!("THAA{CANARY}"), self.knobs.long_lifetime),
            // Meta: "Threads, App Access Tokens". It does not expire.
            Kind::App => (format!("TH|{app}|{CANARY}"), i64::from(u32::MAX)),
        };
        // Never so short that two could be alike.
        let random = self.knobs.token_length.saturating_sub(start.len()).max(32);
        let text: Arc<str> = format!("{start}{}", random::text(random)).into();
        self.issued += 1;
        let token = Token {
            kind,
            person,
            app: Arc::clone(app),
            scopes: Arc::clone(scopes),
            issued,
            expires: issued.saturating_add(lifetime),
            number: self.issued,
            revoked: false,
            received: 0,
            refused: None,
            returned: 0,
            refreshed: 0,
        };
        if let Some(person) = person {
            self.people.get_mut(person).tokens.push_back(Arc::clone(&text));
        }
        let forgotten = self.tokens.insert(Arc::clone(&text), token);
        if let Some(person) = forgotten.and_then(|(_, token)| token.person) {
            self.people.get_mut(person).tokens.pop_front();
        }
        text
    }

    /// The token of this text if it is alive; else 190 and why.
    pub(super) fn alive(&self, text: &str) -> Result<Token, Refusal> {
        let dead = |subcode, message: &'static str| Refusal {
            status: self.knobs.dead_token_status,
            ..Refusal::oauth(190, subcode, message)
        };
        let Some(token) = self.tokens.get(text) else {
            return Err(if text.starts_with("TH") {
                dead(None, "Invalid OAuth access token - Failed to decode")
            } else {
                dead(None, "Invalid OAuth access token - Cannot parse access token")
            });
        };
        let person = token.person.map(|person| self.people.get(person));
        if let Some(person) = person {
            if person.banned {
                let (code, subcode) = self.knobs.banned;
                let message = "This account is not available.";
                return Err(match code {
                    190 => dead(subcode, message),
                    _ => Refusal::oauth(code, subcode, message),
                });
            }
            if let Some((_, ending)) = person.ended.filter(|(last, _)| token.number <= *last) {
                let (subcode, message) = ending.reason();
                return Err(dead(Some(subcode), message));
            }
        }
        if token.revoked {
            return Err(dead(Some(467), "The access token is invalid."));
        }
        if self.now() >= token.expires {
            return Err(dead(Some(463), "Error validating access token: the session has expired."));
        }
        Ok(token.clone())
    }

    /// Whether the person's permission is in effect; else the error that is known for a tester who has
    /// not accepted, code 100 and subcode 10 (reported from the field, not documented).
    pub(super) fn granted(&self, person: usize, token: &Token) -> Result<(), Refusal> {
        let person = self.people.get(person);
        let lapsed = person.grant(&token.app).is_none_or(|grant| self.now() >= grant.until);
        let useless = token.number <= person.useless || person.persona.role == Role::InvitedTester;
        if lapsed || useless {
            let message = "This action requires the threads_basic permission to be granted.";
            return Err(Refusal::threads(100, Some(10), message));
        }
        Ok(())
    }

    /// Whether calls for this app and person are let through now.
    pub(super) fn unthrottled(
        &mut self,
        request: &Received,
        app: &str,
        person: Option<usize>,
    ) -> Result<(), Refusal> {
        let now = self.now();
        let mut stopped = |throttle: Option<&mut Throttle>| {
            let throttle = throttle.filter(|throttle| now < throttle.until);
            throttle.is_some_and(|throttle| {
                // Calls that were under way when the platform first said so do not count.
                if throttle.refused.is_some_and(|refused| request.sequence >= refused) {
                    throttle.calls += 1;
                    if throttle.calls == PATIENCE + 1 {
                        let text = "calls went on although the platform had said to slow down";
                        self.ledger.violation(text.to_owned());
                    }
                }
                true
            })
        };
        if stopped(self.apps.get_mut(app).and_then(|app| app.throttle.as_mut())) {
            return Err(Refusal::oauth(4, None, "Application request limit reached"));
        }
        if let Some(person) = person
            && stopped(self.people.get_mut(person).throttle.as_mut())
        {
            return Err(Refusal::oauth(17, None, "User request limit reached"));
        }
        Ok(())
    }

    /// Notes that a client has been told to slow down, whoever it is that is throttled.
    pub(super) fn slowed(&mut self, request: &Received, code: u32, next: u64) {
        let token = request.token().and_then(|text| self.tokens.get(text));
        let throttle = match code {
            4 => {
                let app = token.map(|token| &*token.app).or_else(|| request.parameters.get("client_id"));
                app.and_then(|app| self.apps.get_mut(app)?.throttle.as_mut())
            }
            17 => {
                let person = token.and_then(|token| token.person);
                person.and_then(|person| self.people.get_mut(person).throttle.as_mut())
            }
            _ => None,
        };
        if let Some(throttle) = throttle {
            throttle.refused.get_or_insert(next);
        }
    }
}

/// Calls that a client may still make in one throttling, after it has been told, before it is
/// reckless: each of its replicas may have to hear it for itself, and what it had decided to send
/// may still be on its way.
const PATIENCE: u32 = 16;
