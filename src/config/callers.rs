//! `[[callers]]`.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use super::Rate;
use super::section::Section;

/// `[[callers]]`: a backend that may call.
#[derive(Clone)]
pub struct CallerConfig {
    /// `name`: 1 to 64 printable characters, for logs and the audit trail.
    pub name: String,
    /// `app`: the one app that it sees; may be left out when there is only one.
    pub app: String,
    /// `roles`: what it may do.
    pub roles: BTreeSet<Role>,
    /// `key_sha256`: SHA-256 of each of its keys. Two let a key be changed
    /// without an outage.
    pub key_sha256: Vec<[u8; 32]>,
    /// `rate` and `burst`: how often it may call; both left out: `[limits]`.
    pub rate: Option<Rate>,
}

impl fmt::Debug for CallerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles = self.roles.iter().map(|role| role.name());
        f.debug_struct("CallerConfig")
            .field("name", &self.name)
            .field("app", &self.app)
            .field("roles", &roles.collect::<Vec<_>>())
            .field("keys", &self.key_sha256.len())
            .field("rate", &self.rate)
            .finish()
    }
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Create, complete and get authorizations; unlink.
    Link,
    /// Take an account over from another user.
    Transfer,
    /// Read accounts and profiles, of one user at a time.
    Read,
    /// Read all accounts of the app.
    Sync,
    /// Fetch access tokens.
    Token,
    /// Erase users.
    Erase,
}

impl Role {
    /// All of them, by name.
    pub const ALL: [Self; 6] = [Self::Link, Self::Transfer, Self::Read, Self::Sync, Self::Token, Self::Erase];

    /// The name in the configuration and in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Transfer => "transfer",
            Self::Read => "read",
            Self::Sync => "sync",
            Self::Token => "token",
            Self::Erase => "erase",
        }
    }
}

pub(super) fn read_all(root: &mut Section<'_>, apps: &[String]) -> Vec<CallerConfig> {
    let sections = root.sections("callers");
    if sections.is_empty() && apps.len() > 1 {
        root.problem("callers", "are needed as soon as there is more than one app: each caller has one");
    }
    let callers: Vec<CallerConfig> = sections.into_iter().filter_map(|section| read(section, apps)).collect();
    let mut names = HashSet::new();
    let mut keys = HashSet::new();
    for caller in &callers {
        if !names.insert(&caller.name) {
            root.problem("callers", &format!("the name `{}` stands twice", caller.name));
        }
        if !caller.key_sha256.iter().all(|key| keys.insert(key)) {
            root.problem("callers", &format!("a key of `{}` stands twice", caller.name));
        }
    }
    callers
}

fn read(mut section: Section<'_>, apps: &[String]) -> Option<CallerConfig> {
    let name = section.required("name").filter(|name| {
        let fits = name.len() <= 64 && !name.chars().any(char::is_control);
        if !fits {
            section.problem("name", "must be at most 64 bytes without control characters");
        }
        fits
    });
    let app = match (section.string("app"), apps) {
        (Some(app), _) if apps.contains(&app) => Some(app),
        (Some(app), _) => {
            section.problem("app", &format!("there is no app `{app}`"));
            None
        }
        (None, [only]) => Some(only.clone()),
        // What is wrong with the apps is told already.
        (None, []) => None,
        (None, _) => {
            section.problem("app", "is required when there is more than one app");
            None
        }
    };
    let roles = read_roles(&mut section);
    let key_sha256 = read_keys(&mut section);
    let rate = Rate::read(&mut section, "rate", "burst");
    section.finish();
    Some(CallerConfig { name: name?, app: app?, roles, key_sha256, rate })
}

fn read_roles(section: &mut Section<'_>) -> BTreeSet<Role> {
    let names = section.strings("roles").unwrap_or_default();
    if names.is_empty() {
        section.problem("roles", "at least one is required");
    }
    let mut roles = BTreeSet::new();
    for name in names {
        if let Some(role) = Role::ALL.into_iter().find(|role| role.name() == name) {
            roles.insert(role);
        } else {
            let known = Role::ALL.map(Role::name).join(", ");
            section.problem("roles", &format!("`{name}` is not one of {known}"));
        }
    }
    roles
}

fn read_keys(section: &mut Section<'_>) -> Vec<[u8; 32]> {
    let texts = section.strings("key_sha256").unwrap_or_default();
    if texts.is_empty() {
        section
            .problem("key_sha256", "at least one is required: make one with `threads-identity callers add`");
    }
    let mut keys = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        match parse_sha256(text) {
            Some(key) => keys.push(key),
            None => section.problem(
                &format!("key_sha256.{i}"),
                "must be 64 hexadecimal digits, the SHA-256 that `threads-identity callers add` prints",
            ),
        }
    }
    keys
}

fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(hash)
}
