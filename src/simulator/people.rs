//! The people of the simulated platform and what happens to them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One Threads account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Persona {
    /// The short name by which tests and the consent page choose it.
    pub key: String,
    /// One line for the consent page: what is special here.
    pub note: String,
    /// The Threads id: digits, more than a double can hold.
    pub id: String,
    /// The handle, which changes.
    pub username: String,
    /// The handle from an hour after consent on, for the person who is about to rename themselves.
    pub renames_to: Option<String>,
    /// The display name.
    pub name: Option<String>,
    /// The profile picture.
    pub picture: Picture,
    /// The biography, at most 500 characters on the real platform.
    pub biography: Option<String>,
    /// Whether the account has the badge.
    pub is_verified: Option<bool>,
    /// Documented on the geo-gating page alone.
    pub is_eligible_for_geo_gating: Option<bool>,
    /// Recent searches: what was looked for, and when in milliseconds.
    pub recently_searched: Vec<(String, i64)>,
    /// Whether the profile is private.
    pub private: bool,
    /// What this person is to the app.
    pub role: Role,
    /// Says no, whatever is clicked.
    pub always_denies: bool,
    /// Has no Threads profile, as some who are on Instagram: the window ends in an error page.
    pub has_no_profile: bool,
}

/// A profile picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Picture {
    /// None: the field is left out.
    None,
    /// A signed URL that says when it dies and is another one later; nothing is there.
    Signed,
    /// The same at the simulator itself, which serves a picture there until the URL dies, and then 403.
    Hosted,
    /// This very URL.
    Url(String),
}

/// What a person is to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Anybody.
    Public,
    /// A tester who has accepted the invitation.
    Tester,
    /// A tester who has not: consent and code exchange succeed, nothing after them does.
    InvitedTester,
}

impl Default for Persona {
    fn default() -> Persona {
        Persona {
            key: String::new(),
            note: String::new(),
            id: String::new(),
            username: String::new(),
            renames_to: None,
            name: None,
            picture: Picture::None,
            biography: None,
            is_verified: Some(false),
            is_eligible_for_geo_gating: Some(false),
            recently_searched: Vec::new(),
            private: false,
            role: Role::Public,
            always_denies: false,
            has_no_profile: false,
        }
    }
}

impl Persona {
    /// Makes up an ordinary person of this key, Threads id and handle.
    pub fn new(key: impl Into<String>, id: impl Into<String>, username: impl Into<String>) -> Persona {
        Persona { key: key.into(), id: id.into(), username: username.into(), ..Persona::default() }
    }

    /// Makes up one of many: key `n7`, an odd id beyond 2^54 that no double holds, a full profile.
    #[must_use]
    pub fn numbered(number: u64) -> Persona {
        let id = 30_000_000_000_000_001 + 2 * number;
        Persona {
            name: Some(format!("Person {number}")),
            picture: Picture::Signed,
            biography: Some(format!("One of many, the one with number {number}.")),
            ..Persona::new(format!("n{number}"), id.to_string(), format!("sim.person.{number}"))
        }
    }

    /// The handle at this time, given when the person last consented.
    pub(super) fn username_at(&self, now: i64, consented: i64) -> &str {
        match &self.renames_to {
            Some(next) if now >= consented + RENAME_AFTER => next,
            _ => &self.username,
        }
    }
}

const RENAME_AFTER: i64 = 3_600;

/// Why tokens died before their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Revoked,
    PasswordChanged,
    Checkpointed,
}

impl Ending {
    /// Subcode of 190 and wording (Meta: "Graph API, Error Handling").
    pub(super) fn reason(self) -> (u32, &'static str) {
        match self {
            Ending::Revoked => (458, "The user has not authorized the application."),
            Ending::Checkpointed => (459, "The user must log in at the site to continue."),
            Ending::PasswordChanged => (460, "The session has been invalidated: password changed."),
        }
    }
}

/// A permission that one person gave to one app.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) app: Arc<str>,
    pub(super) consented: i64,
    pub(super) until: i64,
}

/// Calls are refused until then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Throttle {
    pub(super) until: i64,
    /// The ledger's sequence number when the first refusal was answered.
    pub(super) refused: Option<u64>,
    /// How many calls have come since then.
    pub(super) calls: u32,
}

impl Throttle {
    pub(super) fn until(until: i64) -> Throttle {
        Throttle { until, refused: None, calls: 0 }
    }
}

/// A persona and what has become of it.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) persona: Persona,
    pub(super) key: Arc<str>,
    pub(super) grants: Vec<Grant>,
    /// Tokens issued up to this number are dead.
    pub(super) ended: Option<(u64, Ending)>,
    /// Tokens issued up to this number never had a permission: the invitation was accepted after them.
    pub(super) useless: u64,
    pub(super) banned: bool,
    pub(super) throttle: Option<Throttle>,
    pub(super) tokens: VecDeque<Arc<str>>,
    /// How often one of the tokens has been refreshed.
    pub(super) refreshes: u64,
}

impl Person {
    pub(super) fn grant(&self, app: &str) -> Option<&Grant> {
        self.grants.iter().find(|grant| &*grant.app == app)
    }

    /// Notes a consent, or a refresh that renews it.
    pub(super) fn renew(&mut self, app: &Arc<str>, consented: Option<i64>, until: i64) {
        if let Some(grant) = self.grants.iter_mut().find(|grant| grant.app == *app) {
            grant.until = until;
            grant.consented = consented.unwrap_or(grant.consented);
        } else if let Some(consented) = consented {
            self.grants.push(Grant { app: Arc::clone(app), consented, until });
        }
    }
}

/// Everybody, by key.
#[derive(Default)]
pub(super) struct People {
    everybody: Vec<Person>,
    by_key: HashMap<Arc<str>, usize>,
}

impl People {
    /// Adds somebody; the same key again replaces the profile and keeps the history.
    pub(super) fn add(&mut self, persona: Persona) {
        if let Some(&index) = self.by_key.get(persona.key.as_str()) {
            self.everybody[index].persona = persona;
            return;
        }
        let key: Arc<str> = persona.key.as_str().into();
        self.by_key.insert(Arc::clone(&key), self.everybody.len());
        self.everybody.push(Person {
            persona,
            key,
            grants: Vec::new(),
            ended: None,
            useless: 0,
            banned: false,
            throttle: None,
            tokens: VecDeque::new(),
            refreshes: 0,
        });
    }

    pub(super) fn find(&self, key: &str) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, index: usize) -> &Person {
        &self.everybody[index]
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut Person {
        &mut self.everybody[index]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Person> {
        self.everybody.iter()
    }
}
