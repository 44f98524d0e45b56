//! The callers of one reading of the configuration, by their credentials.

use std::collections::HashMap;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::super::room::Room;
use super::verified::VerifiedTokens;
use super::{Caller, Credential, Refusal, Refused};
use crate::config::{CallerConfig, Config, IssuerConfig, Rate, Role, certificate_name};
use crate::issuers::{Fetcher, Issuers};
use crate::metrics::CredentialLabels;
use crate::rates::Pace;
use crate::secret::hex;
use crate::service::Service;

/// How much of a key's hash tells it from the caller's others, in bytes.
const KEY_NAME_LEN: usize = 4;

/// Everybody who may call.
pub(super) struct Known {
    callers: Vec<CallerConfig>,
    configured_issuers: Vec<IssuerConfig>,
    /// By the caller's name: how often it may call, and what is left of that.
    paces: HashMap<String, (Rate, Arc<Pace>)>,
    /// By the caller's name: how many calls it may have in flight.
    rooms: HashMap<String, Room>,
    local: Option<Arc<Caller>>,
    /// By SHA-256 of the key.
    keys: HashMap<[u8; 32], Arc<Caller>>,
    certificates: HashMap<String, Arc<Caller>>,
    /// By issuer, then subject.
    subjects: HashMap<String, HashMap<String, Arc<Caller>>>,
    issuers: Issuers,
    verified: VerifiedTokens,
}

impl Known {
    /// The callers that the configuration names, each of an app that is served. What
    /// is known of issuers already is kept.
    pub(super) fn new(config: &Config, before: Option<&Self>, service: &Service, fetcher: &Fetcher) -> Self {
        let mut known = Self {
            callers: config.callers.clone(),
            configured_issuers: config.issuers.clone(),
            paces: HashMap::new(),
            rooms: HashMap::new(),
            local: None,
            keys: HashMap::new(),
            certificates: HashMap::new(),
            subjects: HashMap::new(),
            issuers: Issuers::new(&config.issuers, before.map(|before| &before.issuers), fetcher),
            verified: VerifiedTokens::default(),
        };
        if config.is_open() {
            let local = CallerConfig {
                name: "local".to_owned(),
                // Without callers there is exactly one app; the configuration says so.
                app: config.apps[0].id.clone(),
                roles: Role::ALL.into(),
                key_sha256: Vec::new(),
                certificate_names: Vec::new(),
                tokens: Vec::new(),
                rate: None,
            };
            let pace = known.pace(&local, before, config);
            // Nobody is told apart, so nobody is kept from taking all there is.
            let room = Room::new(usize::MAX);
            known.local = Some(caller(&local, Credential::Local, pace, room, service));
        }
        for configured in &config.callers {
            let pace = known.pace(configured, before, config);
            let room = known.room(configured, before, config);
            let caller = |credential| caller(configured, credential, pace.clone(), room.clone(), service);
            for key in &configured.key_sha256 {
                known.keys.insert(*key, caller(Credential::Key(*key)));
            }
            for name in &configured.certificate_names {
                let credential = Credential::Certificate(name.clone());
                known.certificates.insert(name.clone(), caller(credential));
            }
            for token in &configured.tokens {
                let (issuer, subject) = (token.issuer.clone(), token.subject.clone());
                let subjects = known.subjects.entry(issuer.clone()).or_default();
                let credential = Credential::Token { issuer, subject: subject.clone(), until: None };
                subjects.insert(subject, caller(credential));
            }
        }
        known
    }

    /// Whether it is what this configuration says.
    pub(super) fn is_from(&self, config: &Config) -> bool {
        self.callers == config.callers && self.configured_issuers == config.issuers
    }

    /// How often a caller may call, whichever of its credentials it comes with. What
    /// it has used up stays used up when the configuration is taken anew.
    fn pace(
        &mut self,
        configured: &CallerConfig,
        before: Option<&Self>,
        config: &Config,
    ) -> Option<Arc<Pace>> {
        let rate = configured.rate.or(config.limits.caller)?;
        let kept = before.and_then(|before| before.paces.get(&configured.name));
        let kept = kept.filter(|(kept, _)| *kept == rate).map(|(_, pace)| Arc::clone(pace));
        let pace = kept.unwrap_or_else(|| Arc::new(Pace::new(rate.per_second, rate.burst)));
        self.paces.insert(configured.name.clone(), (rate, Arc::clone(&pace)));
        Some(pace)
    }

    /// How many calls a caller may have in flight. Those that are count on when the
    /// configuration is taken anew.
    fn room(&mut self, configured: &CallerConfig, before: Option<&Self>, config: &Config) -> Room {
        let kept = before.and_then(|before| before.rooms.get(&configured.name)).cloned();
        let room = kept.unwrap_or_else(|| Room::new(config.limits.calls_per_caller_max));
        self.rooms.insert(configured.name.clone(), room.clone());
        room
    }

    /// Whoever is there, where nobody is configured.
    pub(super) fn local(&self) -> Option<Arc<Caller>> {
        self.local.clone()
    }

    pub(super) fn by_key(&self, hash: &[u8; 32]) -> Option<Arc<Caller>> {
        self.keys.get(hash).cloned()
    }

    /// The one caller that the names of a verified certificate belong to.
    pub(super) fn by_certificate(&self, names: &[String]) -> Result<Arc<Caller>, Refusal> {
        if names.is_empty() {
            return Err(Refusal::NoCredential);
        }
        let mut found = names.iter().filter_map(|name| self.certificates.get(&*certificate_name(name)));
        let first = found.next().ok_or(Refusal::CertificateUnknown)?;
        if found.all(|other| other.name == first.name) {
            Ok(Arc::clone(first))
        } else {
            Err(Refusal::CertificateAmbiguous)
        }
    }

    /// The caller of a token, with the roles that the token leaves it.
    pub(super) async fn by_token(
        &self,
        token: &str,
        hash: [u8; 32],
        now: OffsetDateTime,
        deadline: Instant,
    ) -> Result<Arc<Caller>, Refused> {
        if let Some(caller) = self.verified.get(&hash, now) {
            return Ok(caller);
        }
        let verified = match self.issuers.verify(token, now, deadline).await {
            Ok(verified) => verified,
            Err(refused) => {
                let bearer = refused.bearer.and_then(|(issuer, subject)| self.subject(&issuer, &subject));
                let caller = bearer.map(|caller| caller.name.clone());
                return Err(Refused { why: Refusal::Token(refused.why), caller });
            }
        };
        let subject = self.subject(&verified.issuer, &verified.subject).ok_or(Refusal::TokenSubject)?;
        let roles = match &verified.roles {
            None => subject.roles.clone(),
            Some(roles) => subject.roles.intersection(roles).copied().collect(),
        };
        let caller = Arc::new(Caller {
            name: subject.name.clone(),
            app: Arc::clone(&subject.app),
            roles,
            credential: Credential::Token {
                issuer: verified.issuer,
                subject: verified.subject,
                until: Some(verified.until),
            },
            pace: subject.pace.clone(),
            room: subject.room.clone(),
            uses: subject.uses.clone(),
        });
        self.verified.put(hash, &caller, verified.until, verified.basis, now);
        Ok(caller)
    }

    fn subject(&self, issuer: &str, subject: &str) -> Option<&Arc<Caller>> {
        self.subjects.get(issuer)?.get(subject)
    }

    /// Whether a credential that once opened a role of an app still does.
    pub(super) fn still_opens(&self, caller: &Caller, role: Role) -> bool {
        let now = match &caller.credential {
            Credential::Local => self.local.as_ref(),
            Credential::Key(hash) => self.keys.get(hash),
            Credential::Certificate(name) => self.certificates.get(name),
            Credential::Token { issuer, subject, .. } => self.subject(issuer, subject),
        };
        now.is_some_and(|now| now.app.id() == caller.app.id() && now.roles.contains(&role))
    }
}

/// A caller by one of its credentials.
fn caller(
    configured: &CallerConfig,
    credential: Credential,
    pace: Option<Arc<Pace>>,
    room: Room,
    service: &Service,
) -> Arc<Caller> {
    let which = match &credential {
        Credential::Local => "local".to_owned(),
        Credential::Key(hash) => format!("key:{}", hex(&hash[..KEY_NAME_LEN])),
        Credential::Certificate(name) => format!("certificate:{name}"),
        Credential::Token { issuer, subject, .. } => format!("token:{subject}@{issuer}"),
    };
    let labels = CredentialLabels { caller: configured.name.clone(), credential: which };
    let uses = service.metrics.credential_uses.get_or_create(&labels).clone();
    let app = Arc::clone(&service.apps[&configured.app]);
    Arc::new(Caller {
        name: configured.name.clone(),
        app,
        roles: configured.roles.clone(),
        credential,
        pace,
        room,
        uses,
    })
}
