//! A token that a caller brings: a JSON Web Token (RFC 7519) in the compact form
//! (RFC 7515), checked as RFC 8725 and RFC 9068 ask for.

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{Refusal, Refused};
use crate::config::{IssuerConfig, Role};

/// The longest token, in bytes.
pub const TOKEN_MAX: usize = 8 * 1024;
/// What `typ` may say, without regard to case: RFC 7519, section 5.1, and RFC 9068,
/// section 2.1. It may also be absent.
const TYPES: [&str; 4] = ["jwt", "application/jwt", "at+jwt", "application/at+jwt"];
/// The latest second that is a time at all: the end of the year 9999.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// The header, as far as anything depends on it.
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    // Keys come from the configuration alone, and no extension is understood.
    #[serde(default, deserialize_with = "is_there")]
    jku: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "is_there")]
    jwk: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "is_there")]
    x5u: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "is_there")]
    x5c: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "is_there")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "is_there")]
    b64: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "is_there")]
    enc: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "is_there")]
    zip: Option<IgnoredAny>,
}

/// A member that must be absent: whatever it says, null too, it is there.
fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IgnoredAny>, D::Error> {
    IgnoredAny::deserialize(deserializer).map(Some)
}

/// A token whose form is right, and nothing else is known of.
pub(super) struct Token<'a> {
    /// `alg`; `None` if it is none that could ever be right.
    pub(super) algorithm: Option<Algorithm>,
    /// `kid`.
    pub(super) key_id: Option<String>,
    /// `iss`.
    pub(super) issuer: String,
    claims: Map<String, Value>,
    /// What is signed.
    message: &'a str,
    signature: &'a str,
}

/// What a token says that is right.
pub(super) struct Claims {
    pub(super) subject: String,
    pub(super) roles: Option<BTreeSet<Role>>,
    pub(super) until: OffsetDateTime,
}

impl<'a> Token<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > TOKEN_MAX {
            return Err(Refusal::TokenTooLarge);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(Refusal::TokenMalformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refusal::TokenMalformed)?;
        let header: Header = decode(header)?;
        let Header { jku, jwk, x5u, x5c, crit, b64, enc, zip, .. } = &header;
        if [jku, jwk, x5u, x5c, crit, b64, enc, zip].iter().any(|member| member.is_some()) {
            return Err(Refusal::TokenHeader);
        }
        if header.typ.is_some_and(|typ| !TYPES.contains(&typ.to_ascii_lowercase().as_str())) {
            return Err(Refusal::TokenType);
        }
        let claims: Map<String, Value> = decode(payload)?;
        let issuer = text_of(&claims, "iss")?.to_owned();
        let algorithm = Algorithm::from_str(&header.alg).ok();
        let algorithm = algorithm.filter(|algorithm| algorithm.family() != AlgorithmFamily::Hmac);
        Ok(Self { algorithm, key_id: header.kid, issuer, claims, message, signature })
    }

    pub(super) fn check_signature(&self, key: &DecodingKey, algorithm: Algorithm) -> Result<(), Refusal> {
        match crypto::verify(self.signature, self.message.as_bytes(), key, algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Refusal::TokenSignature),
        }
    }

    /// Checks what is said, which is of worth only once the signature has been found
    /// to be right.
    pub(super) fn check_claims(&self, config: &IssuerConfig, now: OffsetDateTime) -> Result<Claims, Refused> {
        let subject = text_of(&self.claims, "sub")?.to_owned();
        let refused = |why| Refused { why, bearer: Some((self.issuer.clone(), subject.clone())) };
        let until = self.check_times(config, now).map_err(refused)?;
        self.check_audience(&config.audience).map_err(refused)?;
        let roles = config.roles_claim.as_ref().map(|claim| self.roles(claim, config));
        Ok(Claims { subject, roles, until })
    }

    /// Until when it is good.
    fn check_times(&self, config: &IssuerConfig, now: OffsetDateTime) -> Result<OffsetDateTime, Refusal> {
        let expires = self.time("exp")?.ok_or(Refusal::TokenClaimMissing)?;
        // A token without a life that ends before long is a key, and not one of ours.
        if expires - config.lifetime_max > now + config.leeway {
            return Err(Refusal::TokenLifetime);
        }
        let until = expires + config.leeway;
        if until <= now {
            return Err(Refusal::TokenExpired);
        }
        for claim in ["nbf", "iat"] {
            if self.time(claim)?.is_some_and(|time| time > now + config.leeway) {
                return Err(Refusal::TokenNotYetValid);
            }
        }
        Ok(until)
    }

    /// A `NumericDate` (RFC 7519, section 2), which may have a fraction.
    fn time(&self, claim: &str) -> Result<Option<OffsetDateTime>, Refusal> {
        let Some(value) = self.claims.get(claim) else { return Ok(None) };
        let seconds = value.as_f64().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
        let since = Duration::from_secs_f64(seconds.ok_or(Refusal::TokenMalformed)?);
        Ok(Some(OffsetDateTime::UNIX_EPOCH + since))
    }

    /// One audience, or a list that holds it.
    fn check_audience(&self, own: &str) -> Result<(), Refusal> {
        let is_named = match self.claims.get("aud") {
            None => return Err(Refusal::TokenClaimMissing),
            Some(Value::String(one)) => one == own,
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                list.iter().any(|one| one == own)
            }
            Some(_) => return Err(Refusal::TokenMalformed),
        };
        if is_named { Ok(()) } else { Err(Refusal::TokenAudience) }
    }

    /// The roles that a claim names: a list of texts, or one text with spaces between
    /// them, as `scope` has (RFC 8693, section 4.2). What names none counts for
    /// nothing.
    fn roles(&self, claim: &str, config: &IssuerConfig) -> BTreeSet<Role> {
        let value = if claim.starts_with('/') { self.pointed(claim) } else { self.claims.get(claim) };
        let names: Vec<&str> = match value {
            Some(Value::String(text)) => text.split(' ').collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let role = |name: &&str| {
            if config.role_names.is_empty() {
                Role::ALL.into_iter().find(|role| role.name() == *name)
            } else {
                config.role_names.get(*name).copied()
            }
        };
        names.iter().filter_map(role).collect()
    }

    /// What a JSON pointer (RFC 6901) leads to.
    fn pointed(&self, pointer: &str) -> Option<&Value> {
        let rest = pointer.strip_prefix('/')?;
        let (first, below) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        self.claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(below)
    }
}

/// A part of a token: base64url without padding, and JSON in it.
fn decode<T: DeserializeOwned>(part: &str) -> Result<T, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::TokenMalformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Refusal::TokenMalformed)
}

/// A claim that must be there and be text with something in it.
fn text_of<'a>(claims: &'a Map<String, Value>, claim: &str) -> Result<&'a str, Refusal> {
    match claims.get(claim) {
        None => Err(Refusal::TokenClaimMissing),
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(Refusal::TokenMalformed),
    }
}
