//! The keyring of a service that runs: it can be exchanged between two calls, and
//! knows which keys exist elsewhere that it lacks.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::{Keyring, OpenError, Place, header_key_id};
use crate::error::{Error, Reason};
use crate::ids::IdKey;

/// Why a keyring does not take the place of another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// Every account would be a stranger.
    #[error("its id_key is another one, and that never changes")]
    OtherIdKey,
    /// What was sealed under that id would not open any more.
    #[error("the key `{0}` is not the one that had this id before")]
    OtherKey(String),
}

/// A keyring that can be exchanged while it is used.
pub struct LiveKeyring {
    current: ArcSwap<Keyring>,
    /// It never changes, so it can be lent out.
    id_key: IdKey,
    /// The ids of keys that others seal under and this keyring lacks.
    lacking: ArcSwap<Vec<String>>,
    /// The ids of keys that have been retired everywhere.
    retired: ArcSwap<Vec<String>>,
    concern: Notify,
}

impl LiveKeyring {
    /// Puts a keyring to use.
    #[must_use]
    pub fn new(keyring: Keyring) -> Self {
        let id_key = keyring.id_key().clone();
        Self {
            current: ArcSwap::from_pointee(keyring),
            id_key,
            lacking: ArcSwap::default(),
            retired: ArcSwap::default(),
            concern: Notify::new(),
        }
    }

    /// The keyring as it is now.
    #[must_use]
    pub fn current(&self) -> Arc<Keyring> {
        self.current.load_full()
    }

    /// Exchanges the keyring, for calls that begin from now on, and answers
    /// whether it says anything else than the one before.
    ///
    /// # Errors
    /// [`ReplaceError`]; then everything is as it was.
    pub fn replace(&self, keyring: Keyring) -> Result<bool, ReplaceError> {
        let current = self.current.load();
        if keyring.id_key().fingerprint() != self.id_key.fingerprint() {
            return Err(ReplaceError::OtherIdKey);
        }
        if let Some(id) = current.differing_key(&keyring) {
            return Err(ReplaceError::OtherKey(id));
        }
        let differs = current.describe() != keyring.describe();
        if differs {
            self.current.store(Arc::new(keyring));
            // Whoever keeps the register of keys is to hear of it.
            self.concern.notify_one();
        }
        Ok(differs)
    }

    /// Notes which keys others seal under that this keyring lacks.
    pub fn set_lacking(&self, ids: Vec<String>) {
        self.lacking.store(Arc::new(ids));
    }

    /// Notes which keys have been retired.
    pub fn set_retired(&self, ids: Vec<String>) {
        self.retired.store(Arc::new(ids));
    }

    /// Fails while the active key is one that has been retired: nobody else would
    /// open what is sealed now, and soon nobody at all.
    ///
    /// # Errors
    /// `KEY_UNAVAILABLE`.
    pub fn require_current(&self) -> Result<(), Error> {
        let is_retired = self.retired.load().contains(&self.current.load().active_id());
        if is_retired { Err(Error::new(Reason::KeyUnavailable)) } else { Ok(()) }
    }

    /// Waits until the keyring has been exchanged, or something did not open for
    /// want of a key: a reason to look which keys there are. One waits at a time.
    pub async fn concern(&self) {
        self.concern.notified().await;
    }

    /// Seals a value for a place, under the active key.
    #[must_use]
    pub fn seal(&self, place: Place<'_>, plaintext: &[u8]) -> Vec<u8> {
        self.current.load().seal(place, plaintext)
    }

    /// Opens what [`seal`](Self::seal) sealed for the same place.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.current.load().open(place, sealed).map_err(|error| self.explain(error, place, sealed))
    }

    /// Seals a value as text that can stand in a URL.
    #[must_use]
    pub fn seal_text(&self, place: Place<'_>, plaintext: &[u8]) -> String {
        self.current.load().seal_text(place, plaintext)
    }

    /// Opens what [`seal_text`](Self::seal_text) sealed for the same place.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_text(&self, place: Place<'_>, sealed: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.open(place, &super::text_bytes(sealed)?)
    }

    /// The key from which account ids are derived.
    #[must_use]
    pub fn id_key(&self) -> &IdKey {
        &self.id_key
    }

    /// What strangers bring may name any key: it counts as one of ours only if
    /// others are known to seal under it. What is stored, we sealed.
    fn explain(&self, error: OpenError, place: Place<'_>, sealed: &[u8]) -> OpenError {
        if error != OpenError::KeyUnknown {
            return error;
        }
        self.concern.notify_one();
        let is_ours = place.purpose.is_kept()
            || header_key_id(sealed).is_some_and(|id| self.lacking.load().contains(&id));
        if is_ours { OpenError::KeyUnknown } else { OpenError::Invalid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealing::Purpose;

    const TOKEN: Place<'static> = Place { purpose: Purpose::Token, app_id: "default", row: b"row-1" };
    const STATE: Place<'static> = Place { purpose: Purpose::State, app_id: "default", row: b"" };

    fn reread(keyring: &Keyring) -> Keyring {
        Keyring::parse(&keyring.to_toml()).unwrap()
    }

    #[test]
    fn an_exchanged_keyring_opens_what_the_one_before_sealed() {
        let mut keyring = Keyring::generate("2026-01-01T00:00:00Z");
        let live = LiveKeyring::new(reread(&keyring));
        assert_eq!(live.replace(reread(&keyring)), Ok(false));
        let sealed = live.seal(TOKEN, b"token");
        let added = keyring.add_key("2026-02-01T00:00:00Z");
        assert_eq!(live.replace(reread(&keyring)), Ok(true));
        keyring.activate(&added).unwrap();
        assert_eq!(live.replace(reread(&keyring)), Ok(true));
        assert_eq!(live.current().active_id(), added);
        assert_eq!(live.open(TOKEN, &sealed).unwrap().as_slice(), b"token");
        assert_eq!(header_key_id(&live.seal(TOKEN, b"token")), Some(added));
    }

    #[test]
    fn a_keyring_that_would_make_strangers_or_hide_values_is_refused() {
        let keyring = Keyring::generate("2026-01-01T00:00:00Z");
        let live = LiveKeyring::new(reread(&keyring));
        let sealed = live.seal(TOKEN, b"token");
        let other = Keyring::generate("2026-01-01T00:00:00Z");
        assert_eq!(live.replace(reread(&other)), Err(ReplaceError::OtherIdKey));

        let line_of =
            |text: &str, key: &str| text.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        let (ours, theirs) = (keyring.to_toml(), other.to_toml());
        let forged = ours.replace(&line_of(&ours, "key = "), &line_of(&theirs, "key = "));
        let refused = live.replace(Keyring::parse(&forged).unwrap());
        assert_eq!(refused, Err(ReplaceError::OtherKey(keyring.active_id())));
        assert_eq!(live.open(TOKEN, &sealed).unwrap().as_slice(), b"token");
    }

    #[test]
    fn a_strangers_value_is_invalid_until_its_key_is_known_to_exist() {
        let live = LiveKeyring::new(Keyring::generate(""));
        let other = Keyring::generate("");
        let (token, state) = (other.seal(TOKEN, b"token"), other.seal_text(STATE, b"state"));
        assert_eq!(live.open(TOKEN, &token).unwrap_err(), OpenError::KeyUnknown);
        assert_eq!(live.open_text(STATE, &state).unwrap_err(), OpenError::Invalid);
        live.set_lacking(vec![other.active_id()]);
        assert_eq!(live.open_text(STATE, &state).unwrap_err(), OpenError::KeyUnknown);
    }
}
