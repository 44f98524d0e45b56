//! Sealing: what leaves memory and must not be read or moved.
//!
//! A sealed value is
//!
//! ```text
//! version (1) | key id (4) | salt (16) | AES-256-GCM ciphertext and tag (16)
//! ```
//!
//! Each value has its own key and nonce, derived by HKDF-SHA-256 from a key of
//! the keyring and the random salt, so no nonce is ever chosen or repeated. The
//! associated data is the header and the value's [`Place`]: purpose, app and
//! row. So a value does not open in another row, app or role, even for somebody
//! who can write to the database. There is no plaintext mode.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::error::{Error, Reason};
use crate::secret;

mod keyring;
mod live;
pub mod recipients;

pub use keyring::{ChangeError, KeyDescription, Keyring, KeyringError};
pub use live::{LiveKeyring, ReplaceError};

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
const SALT_LEN: usize = 16;
const HEADER_LEN: usize = 1 + KEY_ID_LEN + SALT_LEN;
const TAG_LEN: usize = 16;
const KEY_LEN: usize = 32;

/// What a sealed value is for. None opens as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The `state` of an authorization URL.
    State,
    /// The ticket that a hosted callback hands on.
    Ticket,
    /// The long-lived token of an account.
    Token,
    /// The short-lived token of an authorization that is being completed.
    ShortLivedToken,
    /// Where a list goes on.
    PageToken,
    /// Where a watch goes on.
    Cursor,
}

impl Purpose {
    fn name(self) -> &'static [u8] {
        match self {
            Self::State => b"state",
            Self::Ticket => b"ticket",
            Self::Token => b"token",
            Self::ShortLivedToken => b"short_lived_token",
            Self::PageToken => b"page_token",
            Self::Cursor => b"cursor",
        }
    }

    /// Whether it is kept for long, in the database or by a caller, so that the key it
    /// names may have been changed meanwhile; rather than carried for minutes through
    /// the hands of others.
    fn is_kept(self) -> bool {
        match self {
            Self::Token | Self::ShortLivedToken | Self::Cursor => true,
            Self::State | Self::Ticket | Self::PageToken => false,
        }
    }
}

/// Where a sealed value belongs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// What it is for.
    pub purpose: Purpose,
    /// The app whose it is.
    pub app_id: &'a str,
    /// The row it stands in; empty for what is not stored.
    pub row: &'a [u8],
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It names a key that this keyring lacks.
    #[error("sealed under a key that this keyring lacks")]
    KeyUnknown,
    /// It was changed, cut, moved, or never sealed by us.
    #[error("the sealed value does not open in this place")]
    Invalid,
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        let reason = match error {
            OpenError::KeyUnknown => Reason::KeyUnavailable,
            OpenError::Invalid => Reason::SealedDataInvalid,
        };
        Self::new(reason).because(error)
    }
}

impl Keyring {
    /// Seals a value for a place, under the active key.
    ///
    /// # Panics
    /// If the cipher refuses its input, which takes a value of 64 GiB.
    #[must_use]
    pub fn seal(&self, place: Place<'_>, plaintext: &[u8]) -> Vec<u8> {
        let (key_id, key) = self.active();
        let mut sealed = Vec::with_capacity(HEADER_LEN + plaintext.len() + TAG_LEN);
        sealed.push(VERSION);
        sealed.extend_from_slice(&key_id);
        sealed.extend_from_slice(&secret::random::<SALT_LEN>());
        let (cipher, nonce) = derive(key, &sealed[1 + KEY_ID_LEN..]);
        let aad = associated_data(&sealed, place);

        let mut body = Zeroizing::new(plaintext.to_vec());
        #[expect(clippy::expect_used, reason = "only a value of 64 GiB is refused")]
        let tag = cipher
            .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut body)
            .expect("the value is short enough for the cipher");
        sealed.extend_from_slice(&body);
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what [`seal`](Self::seal) sealed for the same place.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if sealed.len() < HEADER_LEN + TAG_LEN || sealed[0] != VERSION {
            return Err(OpenError::Invalid);
        }
        let (header, body) = sealed.split_at(HEADER_LEN);
        let key = self.key(&header[1..=KEY_ID_LEN]).ok_or(OpenError::KeyUnknown)?;
        let (cipher, nonce) = derive(key, &header[1 + KEY_ID_LEN..]);
        let aad = associated_data(header, place);

        let mut body = Zeroizing::new(body.to_vec());
        let length =
            cipher.open_in_place(nonce, Aad::from(aad), &mut body).map_err(|_| OpenError::Invalid)?.len();
        body.truncate(length);
        Ok(body)
    }

    /// Seals a value as text that can stand in a URL.
    #[must_use]
    pub fn seal_text(&self, place: Place<'_>, plaintext: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.seal(place, plaintext))
    }

    /// Opens what [`seal_text`](Self::seal_text) sealed for the same place.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_text(&self, place: Place<'_>, sealed: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        self.open(place, &text_bytes(sealed)?)
    }
}

fn text_bytes(sealed: &str) -> Result<Vec<u8>, OpenError> {
    URL_SAFE_NO_PAD.decode(sealed).map_err(|_| OpenError::Invalid)
}

/// The id of the key that a sealed value names; `None` if it is no sealed value.
#[must_use]
pub fn header_key_id(sealed: &[u8]) -> Option<String> {
    let is_sealed = sealed.len() >= HEADER_LEN + TAG_LEN && sealed[0] == VERSION;
    is_sealed.then(|| secret::hex(&sealed[1..=KEY_ID_LEN]))
}

/// The length of the text that seals `plaintext` bytes.
#[must_use]
pub fn sealed_text_len(plaintext: usize) -> usize {
    (HEADER_LEN + plaintext + TAG_LEN).saturating_mul(4).div_ceil(3)
}

struct Material;

impl hkdf::KeyType for Material {
    fn len(&self) -> usize {
        KEY_LEN + NONCE_LEN
    }
}

/// The key and nonce of one value. The salt is fresh for each, so the pair is
/// used once.
#[expect(clippy::expect_used, reason = "the lengths are constants that the library accepts")]
fn derive(key: &[u8; KEY_LEN], salt: &[u8]) -> (LessSafeKey, Nonce) {
    let mut material = Zeroizing::new([0; KEY_LEN + NONCE_LEN]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(key)
        .expand(&[b"threads-identity sealing 1"], Material)
        .and_then(|okm| okm.fill(material.as_mut()))
        .expect("44 bytes are within HKDF's limit");
    let cipher = UnboundKey::new(&AES_256_GCM, &material[..KEY_LEN]).expect("the key has 32 bytes");
    let nonce = Nonce::try_assume_unique_for_key(&material[KEY_LEN..]).expect("the nonce has 12 bytes");
    (LessSafeKey::new(cipher), nonce)
}

/// The header and the place, each part with its length.
fn associated_data(header: &[u8], place: Place<'_>) -> Vec<u8> {
    let mut aad = Vec::with_capacity(header.len() + place.app_id.len() + place.row.len() + 40);
    for part in [header, place.purpose.name(), place.app_id.as_bytes(), place.row] {
        aad.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        aad.extend_from_slice(part);
    }
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> = Place { purpose: Purpose::Token, app_id: "default", row: b"row-1" };

    fn keyring() -> Keyring {
        Keyring::generate("2026-01-01T00:00:00Z")
    }

    #[test]
    fn a_value_opens_where_it_was_sealed() {
        let keyring = keyring();
        for plaintext in [&b""[..], b"x", &[0; 4096]] {
            let sealed = keyring.seal(PLACE, plaintext);
            assert_eq!(keyring.open(PLACE, &sealed).unwrap().as_slice(), plaintext);
        }
    }

    #[test]
    fn two_seals_of_one_value_differ() {
        let keyring = keyring();
        assert_ne!(keyring.seal(PLACE, b"same"), keyring.seal(PLACE, b"same"));
    }

    #[test]
    fn a_value_opens_nowhere_else() {
        let keyring = keyring();
        let sealed = keyring.seal(PLACE, b"token");
        for place in [
            Place { purpose: Purpose::State, ..PLACE },
            Place { purpose: Purpose::ShortLivedToken, ..PLACE },
            Place { purpose: Purpose::PageToken, ..PLACE },
            Place { purpose: Purpose::Cursor, ..PLACE },
            Place { app_id: "other", ..PLACE },
            Place { app_id: "", ..PLACE },
            Place { row: b"row-2", ..PLACE },
            Place { app_id: "defaultrow", row: b"-1", ..PLACE },
        ] {
            assert_eq!(keyring.open(place, &sealed).unwrap_err(), OpenError::Invalid);
        }
    }

    #[test]
    fn no_changed_byte_opens() {
        let keyring = keyring();
        let sealed = keyring.seal(PLACE, b"token");
        for i in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            let expected =
                if (1..=KEY_ID_LEN).contains(&i) { OpenError::KeyUnknown } else { OpenError::Invalid };
            assert_eq!(keyring.open(PLACE, &changed).unwrap_err(), expected, "byte {i}");
        }
        for length in 0..sealed.len() {
            assert!(keyring.open(PLACE, &sealed[..length]).is_err());
        }
    }

    #[test]
    fn an_added_key_leaves_older_values_readable() {
        let mut keyring = keyring();
        let sealed = keyring.seal(PLACE, b"token");
        let added = keyring.add_key("2026-02-01T00:00:00Z");
        let reread = Keyring::parse(&keyring.to_toml()).unwrap();
        assert_eq!(reread.open(PLACE, &sealed).unwrap().as_slice(), b"token");
        assert_eq!(reread.describe().len(), 2);
        assert!(reread.describe().iter().any(|key| key.id == added && !key.active));
        assert_eq!(self::keyring().open(PLACE, &sealed).unwrap_err(), OpenError::KeyUnknown);
    }

    #[test]
    fn text_has_the_length_that_is_promised() {
        let keyring = keyring();
        for length in 0..50 {
            assert_eq!(keyring.seal_text(PLACE, &vec![0; length]).len(), sealed_text_len(length));
        }
    }
}
