//! `[[issuers]]`: who signs tokens for callers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use url::Url;

use super::Role;
use super::callers::read_role;
use super::section::Section;

/// What a token may be signed with. None of them has a secret that both sides know:
/// whoever can check such a token could also make one.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];
/// The longest name of an issuer, an audience or a subject, in bytes.
const NAME_MAX: usize = 512;
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// `[[issuers]]`: one issuer of tokens (RFC 7519) for callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerConfig {
    /// `issuer`: what `iss` says, compared byte for byte.
    pub issuer: String,
    /// `audience`: what `aud` must hold, so that a token for another service does
    /// not open this one.
    pub audience: String,
    /// `algorithms`, default `RS256`, `ES256` and `EdDSA`.
    pub algorithms: Vec<Algorithm>,
    /// `jwks_url` or `jwks_file`: where its keys are (RFC 7517), and nowhere else.
    pub keys: KeySource,
    /// `roles_claim`: the claim that says which of the caller's roles a token is
    /// good for; all of them if this is not set. A name that begins with `/` is a
    /// JSON pointer (RFC 6901) to a claim inside another.
    pub roles_claim: Option<String>,
    /// `role_names`: which role each value of that claim means. Empty: the values
    /// are the roles' own names.
    pub role_names: BTreeMap<String, Role>,
    /// `leeway`, default 60 s, at most 5 min: how far its clock may be off ours.
    pub leeway: Duration,
    /// `lifetime_max`, default 24 h, at most 30 d: the longest that a token may
    /// still be good for.
    pub lifetime_max: Duration,
    /// `refresh_interval`, default 5 min, at most 24 h: how often its keys are read
    /// anew.
    pub refresh_interval: Duration,
    /// `retry_interval`, default 30 s, at most 1 h: how soon they are read again
    /// when that failed, or when a token names a key that is not among them.
    pub retry_interval: Duration,
    /// `stale_max`, default 24 h, at most 30 d: for how long known keys work on
    /// while they cannot be read anew.
    pub stale_max: Duration,
}

/// Where the keys of an issuer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// `jwks_url`: https, or http on loopback.
    Url(Url),
    /// `jwks_file`.
    File(PathBuf),
}

impl KeySource {
    /// The key of the configuration that names it.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Url(_) => "jwks_url",
            Self::File(_) => "jwks_file",
        }
    }
}

pub(super) fn read_all(root: &mut Section<'_>) -> Vec<Option<IssuerConfig>> {
    let issuers: Vec<Option<IssuerConfig>> = root.sections("issuers").into_iter().map(read).collect();
    for (i, issuer) in issuers.iter().enumerate() {
        let Some(issuer) = issuer else { continue };
        if issuers[..i].iter().flatten().any(|other| other.issuer == issuer.issuer) {
            root.problem(&format!("issuers.{i}.issuer"), "stands twice: each issuer has one entry");
        }
    }
    issuers
}

fn read(mut section: Section<'_>) -> Option<IssuerConfig> {
    let issuer = name(&mut section, "issuer");
    let audience = name(&mut section, "audience");
    let algorithms = read_algorithms(&mut section);
    let keys = read_source(&mut section);
    let roles_claim = section.string("roles_claim");
    let role_names = read_role_names(&mut section, roles_claim.is_some());
    let mut period = |key, default, most| bounded(&mut section, key, default, most);
    let leeway = period("leeway", MINUTE, 5 * MINUTE);
    let lifetime_max = period("lifetime_max", DAY, 30 * DAY);
    let refresh_interval = period("refresh_interval", 5 * MINUTE, DAY);
    let retry_interval = period("retry_interval", MINUTE / 2, 60 * MINUTE);
    let stale_max = period("stale_max", DAY, 30 * DAY);
    if stale_max < refresh_interval {
        section
            .problem("stale_max", "must not be shorter than refresh_interval: no key would last that long");
    }
    section.finish();
    Some(IssuerConfig {
        issuer: issuer?,
        audience: audience?,
        algorithms,
        keys: keys?,
        roles_claim,
        role_names,
        leeway,
        lifetime_max,
        refresh_interval,
        retry_interval,
        stale_max,
    })
}

/// A name that is compared byte for byte.
pub(super) fn name(section: &mut Section<'_>, key: &str) -> Option<String> {
    section.required(key).filter(|name| {
        let fits = name.len() <= NAME_MAX && !name.chars().any(char::is_control);
        if !fits {
            section.problem(key, "must be at most 512 bytes without control characters");
        }
        fits
    })
}

fn read_algorithms(section: &mut Section<'_>) -> Vec<Algorithm> {
    let Some(names) = section.strings("algorithms") else {
        return vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    };
    if names.is_empty() {
        section.problem("algorithms", "at least one is required, or leave it out");
    }
    let mut algorithms = Vec::with_capacity(names.len());
    for name in names {
        if let Some((_, algorithm)) = ALGORITHMS.iter().find(|(known, _)| *known == name) {
            algorithms.push(*algorithm);
        } else {
            let known = ALGORITHMS.map(|(known, _)| known).join(", ");
            section.problem("algorithms", &format!("`{name}` is not one of {known}"));
        }
    }
    algorithms
}

fn read_source(section: &mut Section<'_>) -> Option<KeySource> {
    let url = section.string("jwks_url");
    let file = section.path("jwks_file");
    match (url, file) {
        (Some(text), None) => section.web_url("jwks_url", &text).map(KeySource::Url),
        (None, Some(path)) => Some(KeySource::File(path)),
        (Some(_), Some(_)) => {
            section.problem("jwks_file", "is set beside `jwks_url`: one of the two has the keys");
            None
        }
        (None, None) => {
            if !section.has_problems_in("jwks_url") && !section.has_problems_in("jwks_file") {
                section.problem("jwks_url", "is required, or jwks_file: where the issuer's public keys are");
            }
            None
        }
    }
}

fn read_role_names(section: &mut Section<'_>, has_claim: bool) -> BTreeMap<String, Role> {
    let pairs = section.string_table("role_names");
    if !pairs.is_empty() && !has_claim {
        section.problem("role_names", "is set without `roles_claim`: say which claim holds these names");
    }
    let mut names = BTreeMap::new();
    for (value, role) in pairs {
        if let Some(role) = read_role(section, &format!("role_names.{value}"), &role) {
            names.insert(value, role);
        }
    }
    names
}

fn bounded(section: &mut Section<'_>, key: &str, default: Duration, most: Duration) -> Duration {
    let period = section.duration(key, default);
    if period > most {
        section.problem(key, &format!("must be at most \"{}s\"", most.as_secs()));
    }
    period
}
