//! What the platform signs with an app's secret: the `signed_request` of its two callbacks, and the body
//! of a webhook event. Right, or wrong in each way that a receiver must refuse.
//!
//! Meta: "Data Deletion Request Callback", "Webhooks, Getting Started".

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::{Object, quoted};
use super::random;

/// How a callback spells `user_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserIdForm {
    /// A string of digits, as documented.
    #[default]
    String,
    /// A JSON number beyond 2^53.
    Number,
}

/// How a `signed_request` is signed. All but two must be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// As documented.
    #[default]
    Good,
    /// Rightly, with the padding that an old report has; to be accepted.
    Padded,
    /// One bit of the signature is another.
    Flipped,
    /// Without the signature's last byte.
    Short,
    /// With a byte behind the signature.
    Long,
    /// Nothing before the dot.
    Empty,
    /// In base64's other alphabet, with `+` and `/`.
    StandardAlphabet,
    /// Over the JSON instead of its encoding.
    OverJson,
    /// Rightly, and then the payload was written anew with a space in it.
    Rewritten,
    /// Rightly, without the dot.
    NoDot,
    /// Rightly, with a third part behind a second dot.
    TwoDots,
}

/// One `signed_request`, or several of the same: the default is what the platform sends. Every JSON value
/// given here stands in the payload as it is.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Callback {
    /// Whose, by key.
    pub persona: Option<String>,
    /// This instead of the persona's Threads id.
    pub user_id: Option<Value>,
    /// How the persona's Threads id is spelled.
    pub user_id_form: UserIdForm,
    /// This instead of the simulator's time.
    pub issued_at: Option<Value>,
    /// Left out unless given, as newer reports have it.
    pub expires: Option<Value>,
    /// This instead of `HMAC-SHA256`. What is signed with stays the same.
    pub algorithm: Option<Value>,
    /// Leaves these keys out.
    pub without: Vec<String>,
    /// More keys. One that stands there already then stands there twice.
    pub extra: Map<String, Value>,
    /// This instead of the app's secret.
    pub secret: Option<String>,
    /// How it is signed.
    pub signature: Signature,
    /// How often the very same one is sent; once unless given, at most a hundred times.
    pub times: Option<u8>,
    /// Sends them all at once instead of one after the other.
    pub at_once: bool,
}

impl Callback {
    /// What the platform would send about this person.
    pub fn about(persona: impl Into<String>) -> Callback {
        Callback { persona: Some(persona.into()), ..Callback::default() }
    }

    /// Signs it, given the person's Threads id, the time and the app's secret.
    pub(super) fn sign(&self, id: Option<&str>, now: i64, secret: &str) -> String {
        let secret = self.secret.as_deref().unwrap_or(secret);
        let json = self.payload(id, now);
        if self.signature != Signature::StandardAlphabet {
            return signed(&json, secret, self.signature);
        }
        // Three signatures in four tell the alphabets apart; another key in the payload, another try.
        let mut tries = (0_u8..=u8::MAX).map(|nonce| {
            let body = json.strip_suffix('}').unwrap_or(&json);
            signed(&format!("{body},\"nonce\":{nonce}}}"), secret, self.signature)
        });
        let telling = |text: &String| text.contains(['+', '/']);
        tries.find(telling).unwrap_or_default()
    }

    /// The payload in the order of Meta's own samples, without spaces.
    fn payload(&self, id: Option<&str>, now: i64) -> String {
        let given = |value: &Option<Value>| value.as_ref().map(Value::to_string);
        let id = id.map(|id| match self.user_id_form {
            UserIdForm::String => quoted(id),
            UserIdForm::Number => id.to_owned(),
        });
        let fields = [
            ("algorithm", given(&self.algorithm).or_else(|| Some(quoted("HMAC-SHA256")))),
            ("expires", given(&self.expires)),
            ("issued_at", given(&self.issued_at).or_else(|| Some(now.to_string()))),
            ("user_id", given(&self.user_id).or(id)),
        ];
        let mut object = Object::new();
        for (name, value) in fields {
            if let Some(value) = value.filter(|_| !self.without.iter().any(|left_out| left_out == name)) {
                object = object.raw(name, value);
            }
        }
        for (name, value) in &self.extra {
            object = object.raw(name, value);
        }
        object.end()
    }
}

fn signed(json: &str, secret: &str, signature: Signature) -> String {
    let payload = URL_SAFE_NO_PAD.encode(json);
    let over = if signature == Signature::OverJson { json } else { &payload };
    let mut tag = hmac_sha256(secret, over.as_bytes());
    match signature {
        Signature::Flipped => tag[31] ^= 1,
        Signature::Short => tag.truncate(31),
        Signature::Long => tag.push(0),
        Signature::Empty => tag.clear(),
        _ => {}
    }
    let tag = match signature {
        Signature::Padded => URL_SAFE.encode(&tag),
        Signature::StandardAlphabet => STANDARD_NO_PAD.encode(&tag),
        _ => URL_SAFE_NO_PAD.encode(&tag),
    };
    match signature {
        Signature::Rewritten => {
            let rewritten = json.replacen(':', ": ", 1);
            format!("{tag}.{}", URL_SAFE_NO_PAD.encode(rewritten))
        }
        Signature::NoDot => format!("{tag}{payload}"),
        Signature::TwoDots => format!("{tag}.{payload}.{payload}"),
        _ => format!("{tag}.{payload}"),
    }
}

/// How a webhook event is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventSignature {
    /// As documented.
    #[default]
    Good,
    /// One bit of the signature is another.
    Flipped,
    /// Without the header.
    Absent,
}

/// The `X-Hub-Signature-256` of a body.
pub(super) fn hub_signature(body: &str, secret: &str, signature: EventSignature) -> Option<String> {
    let mut tag = hmac_sha256(secret, body.as_bytes());
    match signature {
        EventSignature::Good => {}
        EventSignature::Flipped => tag[31] ^= 1,
        EventSignature::Absent => return None,
    }
    Some(format!("sha256={}", random::hex(&tag)))
}

fn hmac_sha256(secret: &str, message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::sign(&key, message).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sim-threads-app-secret-0001";
    const ID: &str = "28753684917596556";
    const NOW: i64 = 1_754_000_000;

    #[test]
    fn the_known_requests_come_out_byte_for_byte() {
        assert_eq!(
            Callback::about("x").sign(Some(ID), NOW, SECRET),
            "GicbUZqn4FNQblhZvZHTHWdmd3Ef769r5UktRIZyz3U.eyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImlzc3VlZF9hdCI6MTc1NDAwMDAwMCwidXNlcl9pZCI6IjI4NzUzNjg0OTE3NTk2NTU2In0"
        );
        let number = Callback { user_id_form: UserIdForm::Number, ..Callback::about("x") };
        assert_eq!(
            number.sign(Some(ID), NOW, SECRET),
            "ZJqxbUOS5GZJ4fINq7CQL8uHq5Z2cKMkuSTw5cCdIP0.eyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImlzc3VlZF9hdCI6MTc1NDAwMDAwMCwidXNlcl9pZCI6Mjg3NTM2ODQ5MTc1OTY1NTZ9"
        );
    }

    #[test]
    fn every_wrong_signature_is_wrong_in_its_own_way() {
        let sign = |signature| {
            let callback = Callback { signature, ..Callback::about("x") };
            callback.sign(Some(ID), NOW, SECRET)
        };
        let good = sign(Signature::Good);
        let (tag, payload) = good.split_once('.').unwrap();
        assert_eq!(sign(Signature::Padded), format!("{tag}=.{payload}"));
        assert_eq!(sign(Signature::NoDot), format!("{tag}{payload}"));
        assert_eq!(sign(Signature::Empty), format!(".{payload}"));
        assert_eq!(sign(Signature::TwoDots), format!("{good}.{payload}"));
        let length = |signature| {
            let request = sign(signature);
            URL_SAFE_NO_PAD.decode(request.split_once('.').unwrap().0).unwrap().len()
        };
        let lengths = [Signature::Good, Signature::Flipped, Signature::Short, Signature::Long].map(length);
        assert_eq!(lengths, [32, 32, 31, 33]);
        assert!(sign(Signature::StandardAlphabet).contains(['+', '/']));
        let rewritten = sign(Signature::Rewritten);
        assert!(rewritten.starts_with(tag) && rewritten != good);
        for signature in [Signature::Flipped, Signature::OverJson] {
            let (other, same) =
                sign(signature).split_once('.').map(|(a, b)| (a == tag, b == payload)).unwrap();
            assert_eq!((other, same), (false, true), "{signature:?}");
        }
    }

    #[test]
    fn a_payload_can_hold_anything() {
        let text = r#"{"user_id": 1.5, "issued_at": "1754000000", "expires": 1754003600, "algorithm": "none",
            "extra": {"user": {"age": {"min": 21}}, "user_id": "2"}}"#;
        let callback: Callback = serde_json::from_str(text).unwrap();
        assert_eq!(
            callback.payload(Some(ID), NOW),
            r#"{"algorithm":"none","expires":1754003600,"issued_at":"1754000000","user_id":1.5,"user":{"age":{"min":21}},"user_id":"2"}"#
        );
        let without = ["algorithm", "issued_at"].map(str::to_owned).to_vec();
        let number = Some(Value::from(9_007_199_254_740_993_u64));
        let callback = Callback { without, user_id: number, ..Callback::default() };
        assert_eq!(callback.payload(None, NOW), r#"{"user_id":9007199254740993}"#);
    }

    #[test]
    fn the_known_event_has_the_known_signature() {
        let body = r#"{"app_id":"990602627938098","topic":"interaction","target_id":"28753684917596556","time":1754000000,"subscription_id":"234567","has_uid_field":false,"values":{"value":{"id":"8901234","username":"simuser"},"field":"publish"}}"#;
        assert_eq!(
            hub_signature(body, SECRET, EventSignature::Good).unwrap(),
            "sha256=ba34370ac59d0bcaed59393307e4ef0fc1ed112db59b9a6f972604228c1a2174"
        );
    }
}
