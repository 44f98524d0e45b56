//! `[[callers]]`.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt;

use super::Rate;
use super::issuers::{self, IssuerConfig};
use super::section::Section;

/// The longest name of a certificate, in bytes: SPIFFE ids have at most so many.
const CERTIFICATE_NAME_MAX: usize = 2048;

/// `[[callers]]`: a backend that may call.
#[derive(Clone, PartialEq, Eq)]
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
    /// `certificate_names`: the DNS and URI names of its client certificates, as
    /// [`certificate_name`] writes them. Compared whole, never as patterns.
    pub certificate_names: Vec<String>,
    /// `tokens`: whose tokens it brings.
    pub tokens: Vec<TokenSubject>,
    /// `rate` and `burst`: how often it may call; both left out: `[limits]`.
    pub rate: Option<Rate>,
}

/// `tokens` of a caller: whom an issuer names in a token of this caller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenSubject {
    /// `issuer`: one of the `[[issuers]]`.
    pub issuer: String,
    /// `subject`: what `sub` says, compared byte for byte.
    pub subject: String,
}

impl fmt::Debug for CallerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles = self.roles.iter().map(|role| role.name());
        f.debug_struct("CallerConfig")
            .field("name", &self.name)
            .field("app", &self.app)
            .field("roles", &roles.collect::<Vec<_>>())
            .field("keys", &self.key_sha256.len())
            .field("certificate_names", &self.certificate_names)
            .field("rate", &self.rate)
            .field("tokens", &self.tokens)
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

pub(super) fn read_all(
    root: &mut Section<'_>,
    apps: &[String],
    issuers: &[Option<IssuerConfig>],
) -> Vec<CallerConfig> {
    let sections = root.sections("callers");
    if sections.is_empty() && apps.len() > 1 {
        root.problem("callers", "are needed as soon as there is more than one app: each caller has one");
    }
    let callers: Vec<CallerConfig> =
        sections.into_iter().filter_map(|section| read(section, apps, issuers)).collect();
    let (mut names, mut keys, mut certificates, mut subjects) =
        (HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new());
    for caller in &callers {
        if !names.insert(&caller.name) {
            root.problem("callers", &format!("the name `{}` stands twice", caller.name));
        }
        let twice = |what: &str| {
            let told = format!("{what} of `{}` stands twice: a credential is one caller's", caller.name);
            root.problem("callers", &told);
        };
        if !caller.key_sha256.iter().all(|key| keys.insert(key)) {
            twice("a key");
        }
        if !caller.certificate_names.iter().all(|name| certificates.insert(name)) {
            twice("a certificate name");
        }
        if !caller.tokens.iter().all(|token| subjects.insert((&token.issuer, &token.subject))) {
            twice("a token's subject");
        }
    }
    callers
}

fn read(mut section: Section<'_>, apps: &[String], issuers: &[Option<IssuerConfig>]) -> Option<CallerConfig> {
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
    let certificate_names = read_certificate_names(&mut section);
    let tokens = read_tokens(&mut section, issuers);
    if key_sha256.is_empty()
        && certificate_names.is_empty()
        && tokens.is_empty()
        && !["key_sha256", "certificate_names", "tokens"].iter().any(|key| section.has_problems_in(key))
    {
        section.problem(
            "key_sha256",
            "is required, or certificate_names or tokens: a key comes from `threads-identity callers add`",
        );
    }
    let rate = Rate::read(&mut section, "rate", "burst");
    section.finish();
    Some(CallerConfig { name: name?, app: app?, roles, key_sha256, certificate_names, tokens, rate })
}

fn read_roles(section: &mut Section<'_>) -> BTreeSet<Role> {
    let names = section.strings("roles").unwrap_or_default();
    if names.is_empty() {
        section.problem("roles", "at least one is required");
    }
    let mut roles = BTreeSet::new();
    for name in names {
        roles.extend(read_role(section, "roles", &name));
    }
    roles
}

/// The role of a name.
pub(super) fn read_role(section: &Section<'_>, key: &str, name: &str) -> Option<Role> {
    let role = Role::ALL.into_iter().find(|role| role.name() == name);
    if role.is_none() {
        section.problem(key, &format!("`{name}` is not one of {}", Role::ALL.map(Role::name).join(", ")));
    }
    role
}

fn read_keys(section: &mut Section<'_>) -> Vec<[u8; 32]> {
    let texts = section.strings("key_sha256").unwrap_or_default();
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

/// A name of a certificate as names are compared: those of DNS without regard to
/// case (RFC 4343), URIs byte for byte.
#[must_use]
pub fn certificate_name(name: &str) -> Cow<'_, str> {
    if name.contains(':') || !name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.to_ascii_lowercase())
    }
}

fn read_certificate_names(section: &mut Section<'_>) -> Vec<String> {
    let texts = section.strings("certificate_names").unwrap_or_default();
    let mut names = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        if text.len() <= CERTIFICATE_NAME_MAX && text.bytes().all(|b| b.is_ascii_graphic() && b != b'*') {
            names.push(certificate_name(text).into_owned());
        } else {
            section.problem(
                &format!("certificate_names.{i}"),
                "must be one whole DNS name or URI of a certificate, such as \"web.internal\" or \
                 \"spiffe://example.com/web\", without spaces or *",
            );
        }
    }
    names
}

fn read_tokens(section: &mut Section<'_>, issuers: &[Option<IssuerConfig>]) -> Vec<TokenSubject> {
    let mut tokens = Vec::new();
    for mut token in section.sections("tokens") {
        let issuer = issuers::name(&mut token, "issuer");
        let subject = issuers::name(&mut token, "subject");
        if let Some(issuer) = &issuer
            // What is wrong with an issuer is told already, perhaps its name.
            && !issuers.iter().any(|known| known.as_ref().is_none_or(|known| known.issuer == *issuer))
        {
            token.problem("issuer", &format!("there is no [[issuers]] entry for `{issuer}`"));
        }
        token.finish();
        tokens.extend(issuer.zip(subject).map(|(issuer, subject)| TokenSubject { issuer, subject }));
    }
    tokens
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
