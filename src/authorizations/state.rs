//! The `state`: the authorization request itself, sealed, so that creating one
//! stores nothing and any replica finishes what another began.

use aws_lc_rs::constant_time;
use prost::Message as _;
use time::OffsetDateTime;
use url::Url;

use super::binding_hash;
use crate::clock;
use crate::ids::{AccountId, AuthorizationId};
use crate::proto::internal;
use crate::sealing::{LiveKeyring, OpenError, Place, Purpose};
use crate::secret::sha256;
use crate::store::authorizations::Authorization;
use crate::store::{join_scopes, split_scopes};

/// An authorization request.
#[derive(Clone)]
pub(super) struct Request {
    pub id: AuthorizationId,
    pub create_time: OffsetDateTime,
    pub expire_time: OffsetDateTime,
    /// None for a sign-in.
    pub user_id: Option<String>,
    pub session_binding_hash: Option<[u8; 32]>,
    pub account_id: Option<AccountId>,
    pub transfer: bool,
    pub redirect_uri: String,
    pub scopes: Vec<String>,
    /// Which of the app's addresses to return to; none for its first.
    pub return_to: Option<ReturnToDigest>,
}

/// What a state says of an address to return to. The address itself would make it
/// too long, and stands in the configuration, where alone it is believed.
pub(super) type ReturnToDigest = [u8; 16];

pub(super) fn return_to_digest(url: &Url) -> ReturnToDigest {
    let mut digest = ReturnToDigest::default();
    digest.copy_from_slice(&sha256(&[b"return to", url.as_str().as_bytes()])[..16]);
    digest
}

fn place(app_id: &str) -> Place<'_> {
    // The app is in the associated data: another app's state does not open.
    Place { purpose: Purpose::State, app_id, row: b"" }
}

impl Request {
    pub(super) fn seal(&self, keyring: &LiveKeyring, app_id: &str) -> String {
        keyring.seal_text(place(app_id), &self.message().encode_to_vec())
    }

    pub(super) fn message(&self) -> internal::State {
        internal::State {
            authorization_id: self.id.0.as_bytes().to_vec(),
            create_time_ms: clock::unix_milliseconds(self.create_time),
            expire_time_ms: clock::unix_milliseconds(self.expire_time),
            user_id: self.user_id.clone(),
            session_binding_hash: self.session_binding_hash.map(|hash| hash.to_vec()).unwrap_or_default(),
            account_id: self.account_id.map(|id| id.0.as_bytes().to_vec()).unwrap_or_default(),
            transfer: self.transfer,
            redirect_uri: self.redirect_uri.clone(),
            scopes: join_scopes(&self.scopes),
            return_to_digest: self.return_to.map(|digest| digest.to_vec()).unwrap_or_default(),
        }
    }

    /// Opens a state. Whatever we did not seal for this app is invalid.
    pub(super) fn open(keyring: &LiveKeyring, app_id: &str, state: &str) -> Result<Self, OpenError> {
        let plaintext = keyring.open_text(place(app_id), state)?;
        let state = internal::State::decode(&**plaintext).ok();
        state.and_then(Self::from_message).ok_or(OpenError::Invalid)
    }

    pub(super) fn from_message(state: internal::State) -> Option<Self> {
        let optional = |bytes: &[u8]| (!bytes.is_empty()).then(|| AccountId::from_bytes(bytes));
        Some(Self {
            id: AuthorizationId::from_bytes(&state.authorization_id)?,
            create_time: clock::from_unix_milliseconds(state.create_time_ms)?,
            expire_time: clock::from_unix_milliseconds(state.expire_time_ms)?,
            user_id: state.user_id,
            session_binding_hash: match state.session_binding_hash.as_slice() {
                [] => None,
                hash => Some(hash.try_into().ok()?),
            },
            account_id: match optional(&state.account_id) {
                None => None,
                Some(id) => Some(id?),
            },
            transfer: state.transfer,
            redirect_uri: state.redirect_uri,
            scopes: split_scopes(&state.scopes),
            return_to: match state.return_to_digest.as_slice() {
                [] => None,
                digest => Some(digest.try_into().ok()?),
            },
        })
    }

    /// What is stored of a request, and enough to finish it once its code has been
    /// exchanged: neither the redirect URI nor the binding is asked for again.
    pub(super) fn stored(found: &Authorization) -> Self {
        Self {
            id: found.id,
            create_time: found.create_time,
            expire_time: found.create_time + super::STATE_LIFETIME,
            user_id: found.user_id.clone(),
            session_binding_hash: None,
            account_id: found.account_id,
            transfer: found.transfer,
            redirect_uri: String::new(),
            scopes: found.scopes.clone(),
            return_to: None,
        }
    }

    pub(super) fn is_sign_in(&self) -> bool {
        self.user_id.is_none()
    }

    /// Whether it was made for this user and this browser session.
    pub(super) fn is_of(&self, user_id: Option<&str>, session_binding: Option<&[u8]>) -> bool {
        let same_binding = match (&self.session_binding_hash, session_binding) {
            (None, None) => true,
            (Some(hash), Some(binding)) => {
                constant_time::verify_slices_are_equal(hash, &binding_hash(binding)).is_ok()
            }
            _ => false,
        };
        self.user_id.as_deref() == user_id && same_binding
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorizations::STATE_MAX;
    use crate::config::{REDIRECT_URI_MAX, with_basic_scope};
    use crate::ids::USER_ID_MAX;
    use crate::sealing::Keyring;

    fn request() -> Request {
        Request {
            id: AuthorizationId::mint(OffsetDateTime::UNIX_EPOCH),
            create_time: OffsetDateTime::UNIX_EPOCH,
            expire_time: OffsetDateTime::UNIX_EPOCH + super::super::STATE_LIFETIME,
            user_id: Some("user-1".to_owned()),
            session_binding_hash: Some(binding_hash(b"0123456789abcdef")),
            account_id: None,
            transfer: false,
            redirect_uri: "https://id.example.com/api/auth/callback/threads".to_owned(),
            scopes: with_basic_scope(&[]),
            return_to: None,
        }
    }

    fn keyring() -> LiveKeyring {
        LiveKeyring::new(Keyring::generate(""))
    }

    #[test]
    fn a_state_opens_for_its_app_alone() {
        let keyring = keyring();
        let request = request();
        let sealed = request.seal(&keyring, "default");
        let opened = Request::open(&keyring, "default", &sealed).unwrap();
        assert_eq!(opened.id, request.id);
        assert_eq!(opened.user_id.as_deref(), Some("user-1"));
        for (keyring, app_id) in [(&keyring, "other"), (&self::keyring(), "default")] {
            assert_eq!(Request::open(keyring, app_id, &sealed).err(), Some(OpenError::Invalid));
        }
        assert!(sealed.len() <= 280, "{}", sealed.len());
    }

    #[test]
    fn the_largest_request_that_matters_fits() {
        let known = [
            "content_publish",
            "read_replies",
            "manage_replies",
            "manage_insights",
            "manage_mentions",
            "keyword_search",
            "delete",
            "location_tagging",
            "profile_discovery",
            "share_to_instagram",
        ];
        let large = Request {
            user_id: Some("u".repeat(USER_ID_MAX)),
            account_id: Some(AccountId(uuid::Uuid::max())),
            redirect_uri: "r".repeat(REDIRECT_URI_MAX),
            scopes: with_basic_scope(&known.map(|name| format!("threads_{name}"))),
            return_to: Some([7; 16]),
            ..request()
        };
        let length = large.seal(&keyring(), &"a".repeat(32)).len();
        assert!(length <= STATE_MAX, "{length}");
    }

    #[test]
    fn it_is_of_one_user_and_one_session() {
        let (user, session): (_, &[u8]) = (Some("user-1"), b"0123456789abcdef");
        let request = request();
        assert!(request.is_of(user, Some(session)));
        assert!(!request.is_of(user, None));
        assert!(!request.is_of(user, Some(b"0123456789abcdeX")));
        assert!(!request.is_of(Some("user-2"), Some(session)));
        assert!(!request.is_of(None, Some(session)));
        let unbound = Request { session_binding_hash: None, ..request };
        assert!(unbound.is_of(user, None));
        assert!(!unbound.is_of(user, Some(session)));
    }
}
