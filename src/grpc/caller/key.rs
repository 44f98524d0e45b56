//! Keys of callers: what they look like, and what is kept of them.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Refusal;
use crate::secret;

/// How every caller key begins, so that secret scanners know one.
pub const CALLER_KEY_PREFIX: &str = "tidkey_";

/// What a key's checksum takes at its end: four bytes in base64.
const CHECKSUM_LEN: usize = 6;

/// The SHA-256 of a key as it is sent: what the configuration holds of it.
pub(super) fn hash(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
    hash
}

/// What is wrong with a key that nobody has; `None` if it is no key at all.
pub(super) fn stranger(bearer: &str) -> Option<Refusal> {
    let rest = bearer.strip_prefix(CALLER_KEY_PREFIX)?;
    let parts = rest.split_at_checked(rest.len().saturating_sub(CHECKSUM_LEN));
    let is_whole = parts.is_some_and(|(secret, end)| end == checksum(secret));
    Some(if is_whole { Refusal::KeyUnknown } else { Refusal::KeyMistyped })
}

fn checksum(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(crc32fast::hash(secret.as_bytes()).to_be_bytes())
}

/// Makes a caller key: what the caller sends, and the hash that the
/// configuration holds. The last six characters are a checksum, so that a typo
/// is told from a stranger.
#[must_use]
pub fn new_caller_key() -> (String, String) {
    let secret = URL_SAFE_NO_PAD.encode(secret::random::<32>());
    let key = format!("{CALLER_KEY_PREFIX}{secret}{}", checksum(&secret));
    let hash = secret::hex(&hash(&key));
    (key, hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_long_recognisable_and_hashed_as_it_is_sent() {
        let (key, hash) = new_caller_key();
        assert!(key.starts_with(CALLER_KEY_PREFIX));
        assert_eq!(key.len(), CALLER_KEY_PREFIX.len() + 43 + 6);
        assert_eq!(hash.len(), 64);
        assert_ne!(key, new_caller_key().0);
    }

    #[test]
    fn a_mistyped_key_is_told_from_a_strangers_key() {
        let (key, _) = new_caller_key();
        assert_eq!(stranger(&key), Some(Refusal::KeyUnknown));
        let last = key.len() - 1;
        let swapped = if key.ends_with('A') { "B" } else { "A" };
        for mistyped in [
            key[..last].to_owned(),
            format!("{key}x"),
            key[..last].to_owned() + swapped,
            CALLER_KEY_PREFIX.to_owned(),
            format!("{CALLER_KEY_PREFIX}é"),
        ] {
            assert_eq!(stranger(&mistyped), Some(Refusal::KeyMistyped), "{mistyped}");
        }
        for other in ["", "a.b.c", "TIDKEY_abc"] {
            assert_eq!(stranger(other), None, "{other}");
        }
    }
}
