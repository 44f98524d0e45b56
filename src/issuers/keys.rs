//! The keys of an issuer: a JSON Web Key Set (RFC 7517), as far as it can check
//! signatures.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Refusal;
use crate::secret::sha256;

/// The most keys of one issuer: more is no set of keys that somebody keeps.
const KEYS_MAX: usize = 100;

/// The usable keys of a set.
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// What it was read from, to tell whether another one says the same.
    pub(super) digest: [u8; 32],
}

struct Key {
    id: Option<String>,
    /// What it may be used with: by its own `alg`, or else by its type.
    algorithms: Vec<Algorithm>,
    public: DecodingKey,
}

#[derive(Deserialize)]
struct Document<'a> {
    // Each is read by itself, so that one of an unknown kind hides no other.
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl KeySet {
    /// Reads a set. Keys of other kinds, for other uses, or for algorithms that the
    /// issuer is not configured for are left out.
    pub(super) fn parse(text: &[u8], allowed: &[Algorithm]) -> Result<Self, &'static str> {
        let document: Document<'_> = serde_json::from_slice(text).map_err(|_| "is not a JSON Web Key Set")?;
        if document.keys.len() > KEYS_MAX {
            return Err("has more than 100 keys");
        }
        let keys = document.keys.iter().filter_map(|key| {
            let jwk: Jwk = serde_json::from_str(key.get()).ok()?;
            let algorithms = algorithms(&jwk, allowed);
            let public = DecodingKey::from_jwk(&jwk).ok()?;
            (!algorithms.is_empty()).then_some(Key { id: jwk.common.key_id, algorithms, public })
        });
        let keys: Vec<Key> = keys.collect();
        if keys.is_empty() {
            return Err("has no key for signatures by the issuer's algorithms");
        }
        Ok(Self { keys, digest: sha256(&[text]) })
    }

    /// The ids of the keys, for the log.
    pub(super) fn ids(&self) -> Vec<&str> {
        self.keys.iter().map(|key| key.id.as_deref().unwrap_or("(no id)")).collect()
    }

    /// The key that a token names, for the algorithm that it names. Without a name,
    /// the only key that the algorithm fits.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&DecodingKey, Refusal> {
        let fits = |key: &&Key| key.algorithms.contains(&algorithm);
        let Some(id) = id else {
            let mut fitting = self.keys.iter().filter(fits);
            return match (fitting.next(), fitting.next()) {
                (Some(only), None) => Ok(&only.public),
                _ => Err(Refusal::TokenAlgorithm),
            };
        };
        let mut named = self.keys.iter().filter(|key| key.id.as_deref() == Some(id)).peekable();
        if named.peek().is_none() {
            return Err(Refusal::TokenKeyUnknown);
        }
        named.find(fits).map(|key| &key.public).ok_or(Refusal::TokenAlgorithm)
    }
}

/// What a key may be used with. A symmetric key, and a public one that says it is
/// for something else, with nothing.
fn algorithms(jwk: &Jwk, allowed: &[Algorithm]) -> Vec<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let by_type: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[ES384],
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[EdDSA],
        _ => &[],
    };
    let common = &jwk.common;
    let is_for_signatures =
        common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|ops| ops.contains(&KeyOperations::Verify));
    let own = |algorithm: &&Algorithm| {
        common.key_algorithm.is_none_or(|own| own == jsonwebtoken::jwk::KeyAlgorithm::from(**algorithm))
    };
    let usable = by_type.iter().filter(|algorithm| is_for_signatures && allowed.contains(algorithm));
    usable.filter(own).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn set(keys: &str) -> Result<KeySet, &'static str> {
        KeySet::parse(format!("{{\"keys\":[{keys}]}}").as_bytes(), &[Algorithm::ES256, Algorithm::EdDSA])
    }

    fn ec(more: &str) -> String {
        format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{X}\",\"y\":\"{Y}\"{more}}}")
    }

    #[test]
    fn only_keys_for_signatures_by_allowed_algorithms_count() {
        let ed = format!("{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"{X}\",\"kid\":\"ed\"}}");
        for good in [
            ec(""),
            ec(",\"use\":\"sig\""),
            ec(",\"alg\":\"ES256\""),
            ec(",\"key_ops\":[\"verify\"]"),
            ed.clone(),
            format!("7,null,{{}},{{\"kty\":\"new\"}},{ed}"),
        ] {
            assert!(set(&good).is_ok(), "{good}");
        }
        for bad in [
            String::new(),
            ec(",\"use\":\"enc\""),
            ec(",\"alg\":\"ES384\""),
            ec(",\"alg\":\"HS256\""),
            ec(",\"key_ops\":[\"sign\"]"),
            ec("").replace("P-256", "P-384"),
            ec("").replace("P-256", "Ed25519"),
            ec("").replace("\"EC\"", "\"oct\""),
            "{\"kty\":\"oct\",\"k\":\"AAAA\",\"alg\":\"HS256\"}".to_owned(),
            "{\"kty\":\"oct\",\"k\":\"AAAA\",\"alg\":\"ES256\"}".to_owned(),
            "{\"kty\":\"RSA\",\"n\":\"AAAA\",\"e\":\"AQAB\"}".to_owned(),
        ] {
            assert!(set(&bad).is_err(), "{bad}");
        }
        for text in ["", "[]", "{}", "{\"keys\":{}}", "<html>"] {
            assert!(KeySet::parse(text.as_bytes(), &[Algorithm::ES256]).is_err(), "{text}");
        }
        assert!(set(&vec![ec(""); 101].join(",")).is_err());
    }

    #[test]
    fn a_key_is_found_by_its_name_or_by_being_the_only_one_that_fits() {
        let keys = set(&[ec(",\"kid\":\"a\""), ec(",\"kid\":\"b\"")].join(",")).unwrap();
        assert!(keys.find(Some("a"), Algorithm::ES256).is_ok());
        assert_eq!(keys.find(Some("a"), Algorithm::EdDSA).err(), Some(Refusal::TokenAlgorithm));
        assert_eq!(keys.find(Some("c"), Algorithm::ES256).err(), Some(Refusal::TokenKeyUnknown));
        assert_eq!(keys.find(None, Algorithm::ES256).err(), Some(Refusal::TokenAlgorithm));
        let one = set(&ec("")).unwrap();
        assert!(one.find(None, Algorithm::ES256).is_ok());
        assert_eq!(one.find(None, Algorithm::EdDSA).err(), Some(Refusal::TokenAlgorithm));
        assert_eq!(one.find(Some(""), Algorithm::ES256).err(), Some(Refusal::TokenKeyUnknown));
    }
}
