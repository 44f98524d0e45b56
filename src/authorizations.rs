//! Linking: the URL that begins an authorization, and the completion that ends
//! it.
//!
//! Creating writes nothing: the whole request is sealed into the `state`.
//! Completing checks whose flow it is, commits a claim, and only then spends the
//! code; from there on the work belongs to a task that no caller can stop.

use std::time::Duration;

use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use crate::config::{BASIC_SCOPE, with_basic_scope};
use crate::error::{Error, Reason, Result};
use crate::ids::{AccountId, AuthorizationId};
use crate::secret::{AuthorizationCode, sha256};
use crate::service::{App, Service};
use crate::states::LinkOutcome;
use crate::store::accounts::Account;
use crate::store::authorizations::Authorization;

pub mod brought;
mod completion;
mod exchange;
mod interrupted;
mod state;
mod ticket;

pub use completion::complete;
pub use interrupted::finish_interrupted;
pub use ticket::{Handover, NoTicket, TICKET_MAX, hand_over};

use state::{Request, return_to_digest};

/// How long an authorization URL is good.
pub const STATE_LIFETIME: Duration = Duration::from_mins(15);
/// The longest `state`, in characters.
pub const STATE_MAX: usize = 1024;

/// What a person is sent to do.
pub enum Flow {
    /// Link an account to a user.
    Link {
        /// The user.
        user_id: String,
        /// What only the browser session knows.
        session_binding: Option<Vec<u8>>,
        /// The account to consent for anew.
        account_id: Option<AccountId>,
        /// Whether an account of another user is taken over.
        transfer: bool,
    },
    /// Sign in.
    SignIn {
        /// What only the browser session knows.
        session_binding: Vec<u8>,
    },
}

/// A URL to be created.
pub struct Creation {
    /// What for.
    pub flow: Flow,
    /// Where Threads sends the browser: one of the app's redirect URIs, the first
    /// unless given.
    pub redirect_uri: Option<String>,
    /// What to ask for; the app's unless given.
    pub scopes: Vec<String>,
    /// Where the hosted callback sends the browser on to: one of the app's, the
    /// first unless given.
    pub return_to: Option<Url>,
}

/// A URL that has been created.
pub struct Created {
    /// The authorization.
    pub id: AuthorizationId,
    /// Where to send the browser.
    pub url: String,
    /// What Threads will send back.
    pub state: String,
    /// When the URL stops being good.
    pub expire_time: OffsetDateTime,
}

/// Creates an authorization URL.
///
/// # Errors
/// `FIELD_INVALID`, `KEY_UNAVAILABLE`.
pub fn create(service: &Service, app: &App, creation: Creation) -> Result<Created> {
    let now = service.clock.now();
    service.keyring.require_current()?;
    let redirect_uri = creation.redirect_uri.unwrap_or_else(|| app.config.redirect_uris[0].clone());
    let scopes = if creation.scopes.is_empty() { &app.config.scopes } else { &creation.scopes };
    let scopes = with_basic_scope(scopes);
    let (user_id, binding, account_id, transfer) = match creation.flow {
        Flow::Link { user_id, session_binding, account_id, transfer } => {
            (Some(user_id), session_binding, account_id, transfer)
        }
        Flow::SignIn { session_binding } => (None, Some(session_binding), None, false),
    };
    let request = Request {
        id: AuthorizationId::mint(now),
        create_time: now,
        expire_time: now + STATE_LIFETIME,
        user_id,
        session_binding_hash: binding.as_deref().map(binding_hash),
        account_id,
        transfer,
        redirect_uri,
        scopes,
        return_to: creation.return_to.as_ref().map(return_to_digest),
    };
    let state = request.seal(&service.keyring, app.id());
    if state.len() > STATE_MAX {
        return Err(Error::field(
            "scopes",
            "are too many to fit into the state with this user id and redirect URI",
        ));
    }
    let url = app.threads.authorization_url(&request.redirect_uri, &request.scopes, &state);
    Ok(Created { id: request.id, url: url.into(), state, expire_time: request.expire_time })
}

/// What the browser brought back.
pub enum Answer {
    /// A code.
    Code(AuthorizationCode),
    /// An error in place of one.
    Denied,
}

impl Answer {
    /// What is stored of it: enough to know it again.
    fn hash(&self) -> [u8; 32] {
        match self {
            Self::Code(code) => sha256(&[b"code", code.expose().as_bytes()]),
            Self::Denied => sha256(&[b"denied"]),
        }
    }
}

/// What a caller presents, as it came.
pub enum Presented {
    /// A state, and what came with it.
    State(String, Answer),
    /// A ticket of the hosted callback, which holds both.
    Ticket(String),
}

/// A completion that a caller asks for.
pub struct Completion {
    /// What the browser brought.
    pub presented: Presented,
    /// The user at the browser now.
    pub user_id: Option<String>,
    /// What the browser session knows now.
    pub session_binding: Option<Vec<u8>>,
    /// The name of the caller, for the trail.
    pub caller: String,
}

/// A completed authorization.
#[derive(Debug, Clone)]
pub struct Completed {
    /// The authorization.
    pub id: AuthorizationId,
    /// The account, as it stands.
    pub account: Account,
    /// What was done.
    pub outcome: Outcome,
}

/// What a completion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It linked an account.
    Link(LinkOutcome),
    /// The person signed in.
    SignedIn {
        /// Whether the user is new.
        user_created: bool,
    },
}

impl Outcome {
    fn new(sign_in: bool, outcome: LinkOutcome) -> Self {
        if sign_in {
            // A sign-in never changes whose an account is, so new to its user is new.
            Self::SignedIn { user_created: outcome == LinkOutcome::Linked }
        } else {
            Self::Link(outcome)
        }
    }
}

/// An authorization that somebody has tried to complete.
///
/// # Errors
/// `AUTHORIZATION_NOT_FOUND`, or the store's.
pub async fn get(service: &Service, app: &App, id: AuthorizationId) -> Result<Authorization> {
    let found = service.store.authorizations.submit(id).await?;
    found
        .filter(|authorization| authorization.app_id == app.id())
        .ok_or_else(|| Error::new(Reason::AuthorizationNotFound).with("authorization_id", id))
}

fn binding_hash(binding: &[u8]) -> [u8; 32] {
    sha256(&[b"session binding", binding])
}

/// An authorization that this process holds the claim of.
struct Held {
    request: Request,
    claim_id: Uuid,
    /// When the browser came back: the consent's time, as far as we know it.
    consent_time: OffsetDateTime,
}

/// Fails for a reason, naming the authorization.
fn failure(reason: Reason, id: AuthorizationId) -> Error {
    let error = Error::new(reason).with("authorization_id", id);
    if reason == Reason::PermissionMissing { error.with("scopes", BASIC_SCOPE) } else { error }
}
