//! The keyring: one active key, any number of older ones for reading, and the
//! key from which account ids are derived.
//!
//! Written as TOML, or as one line for an environment variable.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::constant_time;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{KEY_ID_LEN, KEY_LEN};
use crate::ids::IdKey;
use crate::secret;

const INLINE_PREFIX: &str = "tik1.";
const HEADER: &str = "# A keyring of threads-identity. Whoever has it can open every stored token:
# keep it out of the database's backups and readable by the service alone.
# Losing it means that every linked person must consent again.
# `id_key` never changes.

";

type KeyId = [u8; KEY_ID_LEN];
type Key = Zeroizing<[u8; KEY_LEN]>;

/// The keys of a deployment.
pub struct Keyring {
    id_key_bytes: Key,
    id_key: IdKey,
    active: KeyId,
    keys: HashMap<KeyId, (Key, String)>,
}

/// What may be told of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyDescription {
    /// Its id, eight hexadecimal digits.
    pub id: String,
    /// Whether new values are sealed under it.
    pub active: bool,
    /// When it was made.
    pub create_time: String,
}

/// Why a keyring cannot be used. Never holds a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// It is not TOML of the form that `keys generate` writes.
    #[error("is not a keyring as `threads-identity keys generate` writes it (line {line})")]
    Malformed {
        /// Where, counted from 1; 0 when unknown.
        line: usize,
    },
    /// A value is no key.
    #[error("`{0}` must be 32 bytes in base64url without padding")]
    NotAKey(String),
    /// A key id is not eight hexadecimal digits.
    #[error("key id `{0}` must be eight lower-case hexadecimal digits")]
    NotAnId(String),
    /// Two keys have one id.
    #[error("key id `{0}` stands twice")]
    Repeated(String),
    /// The active key is not among the keys.
    #[error("`active` names the key `{0}`, which is not in the keyring")]
    ActiveMissing(String),
    /// A key consists of one repeated byte: somebody typed it.
    #[error("`{0}` is too weak: make keys with `threads-identity keys generate`")]
    Weak(String),
}

/// Why a keyring is not changed in this way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such key.
    #[error("there is no key `{0}` in it")]
    Unknown(String),
    /// The key is the active one.
    #[error("`{0}` is the active key")]
    Active(String),
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct File {
    id_key: String,
    active: String,
    keys: Vec<FileKey>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct FileKey {
    id: String,
    key: String,
    #[serde(default)]
    create_time: String,
}

impl Keyring {
    /// Makes a new keyring with one key, which is active.
    #[must_use]
    pub fn generate(create_time: &str) -> Self {
        let id_key_bytes = Key::new(secret::random());
        let id_key = IdKey::new(&id_key_bytes);
        let mut keyring = Self { id_key_bytes, id_key, active: [0; KEY_ID_LEN], keys: HashMap::new() };
        keyring.active = keyring.insert_new(create_time);
        keyring
    }

    /// Adds a key that can be read with but is not active yet, and answers its
    /// id.
    pub fn add_key(&mut self, create_time: &str) -> String {
        hex(self.insert_new(create_time))
    }

    /// Seals under another key of the keyring from now on.
    ///
    /// # Errors
    /// [`ChangeError`]: no such key, or it is active already.
    pub fn activate(&mut self, id: &str) -> Result<(), ChangeError> {
        self.active = self.inactive(id)?;
        Ok(())
    }

    /// Takes a key out. Whatever is sealed under it can never be opened again.
    ///
    /// # Errors
    /// [`ChangeError`]: no such key, or it is active.
    pub fn remove(&mut self, id: &str) -> Result<(), ChangeError> {
        let id = self.inactive(id)?;
        self.keys.remove(&id);
        Ok(())
    }

    fn inactive(&self, text: &str) -> Result<KeyId, ChangeError> {
        let known = read_id(text).filter(|id| self.keys.contains_key(id));
        let id = known.ok_or_else(|| ChangeError::Unknown(text.to_owned()))?;
        if id == self.active { Err(ChangeError::Active(text.to_owned())) } else { Ok(id) }
    }

    fn insert_new(&mut self, create_time: &str) -> KeyId {
        let mut id: KeyId = secret::random();
        while self.keys.contains_key(&id) {
            id = secret::random();
        }
        self.keys.insert(id, (Key::new(secret::random()), create_time.to_owned()));
        id
    }

    /// Reads the TOML form, or the one-line form that
    /// [`to_inline`](Self::to_inline) writes.
    ///
    /// # Errors
    /// [`KeyringError`], which names the place but no key.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let Some(inline) = text.trim().strip_prefix(INLINE_PREFIX) else { return Self::parse_toml(text) };
        let bytes = URL_SAFE_NO_PAD
            .decode(inline)
            .map(Zeroizing::new)
            .map_err(|_| KeyringError::Malformed { line: 0 })?;
        Self::parse_toml(std::str::from_utf8(&bytes).map_err(|_| KeyringError::Malformed { line: 0 })?)
    }

    fn parse_toml(text: &str) -> Result<Self, KeyringError> {
        let file: File = toml::from_str(text).map_err(|error| KeyringError::Malformed {
            // The error's own text quotes the line, which may hold a key.
            line: error.span().map_or(0, |span| text[..span.start].lines().count().max(1)),
        })?;
        let id_key_bytes = read_key("id_key", &file.id_key)?;
        let mut keys = HashMap::with_capacity(file.keys.len());
        for entry in &file.keys {
            let id = read_id(&entry.id).ok_or_else(|| KeyringError::NotAnId(entry.id.clone()))?;
            let key = read_key(&format!("keys.{}", entry.id), &entry.key)?;
            if keys.insert(id, (key, entry.create_time.clone())).is_some() {
                return Err(KeyringError::Repeated(entry.id.clone()));
            }
        }
        let active = read_id(&file.active).filter(|id| keys.contains_key(id));
        let active = active.ok_or_else(|| KeyringError::ActiveMissing(file.active.clone()))?;
        let id_key = IdKey::new(&id_key_bytes);
        Ok(Self { id_key_bytes, id_key, active, keys })
    }

    /// The TOML form: all the keys, in the clear.
    #[must_use]
    pub fn to_toml(&self) -> Zeroizing<String> {
        let mut keys: Vec<FileKey> = self
            .keys
            .iter()
            .map(|(id, (key, create_time))| FileKey {
                id: hex(*id),
                key: URL_SAFE_NO_PAD.encode(key.as_slice()),
                create_time: create_time.clone(),
            })
            .collect();
        keys.sort_by(|a, b| (&a.create_time, &a.id).cmp(&(&b.create_time, &b.id)));
        let file = File {
            id_key: URL_SAFE_NO_PAD.encode(self.id_key_bytes.as_slice()),
            active: hex(self.active),
            keys,
        };
        // Strings and lists of strings always serialise.
        Zeroizing::new(HEADER.to_owned() + &toml::to_string(&file).unwrap_or_default())
    }

    /// The one-line form, for `THREADS_IDENTITY_KEY`.
    #[must_use]
    pub fn to_inline(&self) -> Zeroizing<String> {
        Zeroizing::new(INLINE_PREFIX.to_owned() + &URL_SAFE_NO_PAD.encode(self.to_toml().as_bytes()))
    }

    /// What may be told of the keys, oldest first.
    #[must_use]
    pub fn describe(&self) -> Vec<KeyDescription> {
        let mut keys: Vec<KeyDescription> = self
            .keys
            .iter()
            .map(|(id, (_, create_time))| KeyDescription {
                id: hex(*id),
                active: *id == self.active,
                create_time: create_time.clone(),
            })
            .collect();
        keys.sort_by(|a, b| (&a.create_time, &a.id).cmp(&(&b.create_time, &b.id)));
        keys
    }

    /// The key from which account ids are derived.
    #[must_use]
    pub fn id_key(&self) -> &IdKey {
        &self.id_key
    }

    /// The id of the key that new values are sealed under.
    #[must_use]
    pub fn active_id(&self) -> String {
        hex(self.active)
    }

    /// Whether it has a key of this id.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        read_id(id).is_some_and(|id| self.keys.contains_key(&id))
    }

    /// The id of a key that both have and that is not the same in both.
    pub(super) fn differing_key(&self, other: &Self) -> Option<String> {
        let differs = |(id, (key, _)): &(&KeyId, &(Key, String))| {
            other
                .key(*id)
                .is_some_and(|theirs| constant_time::verify_slices_are_equal(key.as_slice(), theirs).is_err())
        };
        self.keys.iter().find(differs).map(|(id, _)| hex(*id))
    }

    pub(super) fn active(&self) -> (KeyId, &[u8; KEY_LEN]) {
        (self.active, &self.keys[&self.active].0)
    }

    pub(super) fn key(&self, id: &[u8]) -> Option<&[u8; KEY_LEN]> {
        let id: KeyId = id.try_into().ok()?;
        self.keys.get(&id).map(|(key, _)| &**key)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.describe()).finish_non_exhaustive()
    }
}

fn read_key(name: &str, text: &str) -> Result<Key, KeyringError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| KeyringError::NotAKey(name.to_owned()))?;
    let key: [u8; KEY_LEN] =
        bytes.as_slice().try_into().map_err(|_| KeyringError::NotAKey(name.to_owned()))?;
    if key.iter().all(|byte| *byte == key[0]) {
        return Err(KeyringError::Weak(name.to_owned()));
    }
    Ok(Key::new(key))
}

fn read_id(text: &str) -> Option<KeyId> {
    let digits = text.len() == 2 * KEY_ID_LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u32::from_str_radix(text, 16).ok().map(u32::to_be_bytes)).flatten()
}

fn hex(id: KeyId) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_written_forms_read_back() {
        let keyring = Keyring::generate("2026-01-01T00:00:00Z");
        for text in [keyring.to_toml(), keyring.to_inline()] {
            let reread = Keyring::parse(&text).unwrap();
            assert_eq!(reread.describe(), keyring.describe());
            assert_eq!(reread.id_key().fingerprint(), keyring.id_key().fingerprint());
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_no_key_is_shown() {
        let good = Keyring::generate("2026-01-01T00:00:00Z").to_toml().to_string();
        let id = Keyring::parse(&good).unwrap().describe()[0].id.clone();
        let zero = URL_SAFE_NO_PAD.encode([0; 32]);
        let key_line = good.lines().find(|line| line.starts_with("key = ")).unwrap().to_owned();
        let secret_text = key_line.trim_start_matches("key = ").trim_matches('"').to_owned();
        for (text, expected) in [
            (String::new(), "is not a keyring"),
            ("id_key = 3".to_owned(), "is not a keyring"),
            ("tik1.%%".to_owned(), "is not a keyring"),
            (good.replace(&format!("active = \"{id}\""), "active = \"00000000\""), "`active` names the key"),
            (good.replace(&key_line, "key = \"AAAA\""), "must be 32 bytes"),
            (good.replace(&key_line, &format!("key = \"{zero}\"")), "too weak"),
            (good.replace(&format!("id = \"{id}\""), "id = \"XY\""), "must be eight"),
            (good.clone() + &good[good.find("[[keys]]").unwrap()..], "stands twice"),
            (good.clone() + "oops = \"" + &secret_text + "\"\n", "is not a keyring"),
        ] {
            let message = Keyring::parse(&text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains(&secret_text), "{message}");
        }
    }
}
