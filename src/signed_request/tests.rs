use aws_lc_rs::hmac;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use time::macros::datetime;

use super::*;

const SECRET: &str = "sim-threads-app-secret-0001";
const V1: &str = "GicbUZqn4FNQblhZvZHTHWdmd3Ef769r5UktRIZyz3U.eyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImlzc3VlZF9hdCI6MTc1NDAwMDAwMCwidXNlcl9pZCI6IjI4NzUzNjg0OTE3NTk2NTU2In0";
const V2: &str = "ZJqxbUOS5GZJ4fINq7CQL8uHq5Z2cKMkuSTw5cCdIP0.eyJhbGdvcml0aG0iOiJITUFDLVNIQTI1NiIsImlzc3VlZF9hdCI6MTc1NDAwMDAwMCwidXNlcl9pZCI6Mjg3NTM2ODQ5MTc1OTY1NTZ9";
const PERSON: &str = "28753684917596556";

fn secret(text: &str) -> ClientSecret {
    ClientSecret::new(text.to_owned())
}

fn checked(text: &str) -> Result<SignedRequest, Refusal> {
    verify(text, &secret(SECRET), None)
}

fn signature(key: &str, message: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
}

/// What Meta would send.
fn signed_with(key: &str, json: &str) -> String {
    let payload = URL_SAFE_NO_PAD.encode(json);
    format!("{}.{payload}", URL_SAFE_NO_PAD.encode(signature(key, &payload)))
}

fn signed(json: &str) -> String {
    signed_with(SECRET, json)
}

fn id(json: &str) -> Result<String, Refusal> {
    checked(&signed(json)).map(|request| request.threads_user_id.as_str().to_owned())
}

#[test]
fn the_published_vectors_are_read() {
    for vector in [V1, V2] {
        let request = checked(vector).unwrap();
        assert_eq!(request.threads_user_id.as_str(), PERSON);
        assert_eq!(request.issue_time, Some(datetime!(2025-07-31 22:13:20 UTC)));
        assert_eq!(request.signed_with, SignedWith::Current);
    }
    let json = r#"{"algorithm":"HMAC-SHA256","issued_at":1754000000,"user_id":"28753684917596556"}"#;
    assert_eq!(signed(json), V1);
}

#[test]
fn every_changed_bit_is_noticed() {
    for vector in [V1, V2] {
        for place in 0..vector.len() {
            for bit in 0..8 {
                let mut bytes = vector.as_bytes().to_vec();
                bytes[place] ^= 1 << bit;
                let text = String::from_utf8_lossy(&bytes);
                let refusal = checked(&text).unwrap_err();
                assert!(matches!(refusal, Refusal::Form | Refusal::Signature), "{place} {bit}: {refusal:?}");
            }
        }
    }
}

#[test]
fn whatever_is_not_two_parts_in_base64url_is_no_signed_request() {
    let (signature, payload) = V1.split_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let with = |bytes: &[u8]| format!("{}.{payload}", URL_SAFE_NO_PAD.encode(bytes));
    let mut longer = raw.clone();
    longer.push(0);
    let long = format!("{signature}.{}", "a".repeat(SIGNED_REQUEST_MAX));
    for (text, what) in [
        ("", "nothing"),
        (".", "a dot"),
        (signature, "no dot"),
        (&V1.replace('.', ""), "the dot left out"),
        (&format!("{V1}."), "a dot behind"),
        (&format!(".{V1}"), "a dot in front"),
        (&V1.replace('.', ".."), "two dots"),
        (&format!("{V1}.{payload}"), "three parts"),
        (&with(&raw[..31]), "a byte too few"),
        (&with(&longer), "a byte too many"),
        (&format!(".{payload}"), "no signature"),
        (&format!("{signature}===.{payload}"), "too much padding"),
        (&format!("={signature}.{payload}"), "padding in front"),
        (&format!(" {V1}"), "a blank in front"),
        (&format!("{signature} .{payload}"), "a blank within"),
        (&V1.replace('G', "é"), "a letter of elsewhere"),
        (&V1.replace('G', "\0"), "a NUL"),
        (&long, "too much"),
    ] {
        assert_eq!(checked(text), Err(Refusal::Form), "{what}");
    }
    for padded in [format!("{signature}=.{payload}"), format!("{signature}==.{payload}")] {
        assert!(checked(&padded).is_ok(), "an old sender pads");
    }
}

#[test]
fn standard_base64_is_another_alphabet() {
    // Until the signature has letters in which the two differ.
    let texts = (0..100).map(|n| format!("{{\"algorithm\":\"HMAC-SHA256\",\"user_id\":\"{n}\"}}"));
    let differs = |text: &String| STANDARD_NO_PAD.encode(signature(SECRET, text)).contains(['+', '/']);
    let payload = texts.map(|json| URL_SAFE_NO_PAD.encode(json)).find(differs).unwrap();
    let own = signature(SECRET, &payload);
    assert!(checked(&format!("{}.{payload}", URL_SAFE_NO_PAD.encode(&own))).is_ok());
    let other = format!("{}.{payload}", STANDARD_NO_PAD.encode(&own));
    assert_eq!(checked(&other), Err(Refusal::Form));
}

#[test]
fn only_the_payload_as_it_stands_is_signed() {
    let json = r#"{"algorithm":"HMAC-SHA256","user_id":"1"}"#;
    let payload = URL_SAFE_NO_PAD.encode(json);
    // A signature over the decoded payload, and one over the same JSON written otherwise.
    let of_decoded = URL_SAFE_NO_PAD.encode(signature(SECRET, json));
    assert_eq!(checked(&format!("{of_decoded}.{payload}")), Err(Refusal::Signature));
    let spaced = URL_SAFE_NO_PAD.encode(json.replace(':', ": "));
    let of_other = URL_SAFE_NO_PAD.encode(signature(SECRET, &payload));
    assert_eq!(checked(&format!("{of_other}.{spaced}")), Err(Refusal::Signature));
    assert_eq!(checked(&format!("{of_other}.")), Err(Refusal::Signature));
    // What is signed and no base64url, and what is signed and empty.
    for payload in ["", "****", "e30*", "é"] {
        let own = URL_SAFE_NO_PAD.encode(signature(SECRET, payload));
        let refusal = checked(&format!("{own}.{payload}"));
        assert!(matches!(refusal, Err(Refusal::Payload | Refusal::Form)), "{payload}");
    }
}

#[test]
fn it_is_known_which_secret_signed_and_no_other_is_tried() {
    let json = r#"{"algorithm":"HMAC-SHA256","user_id":"1"}"#;
    let (old, new) = (secret("the-old-one"), secret("the-new-one"));
    let which = |signer: &str, previous| {
        verify(&signed_with(signer, json), &new, previous).map(|request| request.signed_with)
    };
    assert_eq!(which("the-new-one", None), Ok(SignedWith::Current));
    assert_eq!(which("the-new-one", Some(&old)), Ok(SignedWith::Current));
    assert_eq!(which("the-old-one", Some(&old)), Ok(SignedWith::Previous));
    assert_eq!(which("the-old-one", None), Err(Refusal::Signature));
    assert_eq!(which("another-one", Some(&old)), Err(Refusal::Signature));
    assert_eq!(which("", Some(&old)), Err(Refusal::Signature));
}

#[test]
fn the_algorithm_is_ours_whatever_the_payload_names() {
    let named = |name: &str| id(&format!(r#"{{"algorithm":{name},"user_id":"1"}}"#));
    for name in [r#""HMAC-SHA256""#, r#""hmac-sha256""#, r#""Hmac-Sha256""#] {
        assert_eq!(named(name), Ok("1".to_owned()), "{name}");
    }
    for name in
        [r#""none""#, r#""HMAC-SHA1""#, r#""HMAC-SHA256 ""#, r#""""#, "null", "256", "[]", "{}", "true"]
    {
        assert_eq!(named(name), Err(Refusal::Algorithm), "{name}");
    }
    assert_eq!(id(r#"{"user_id":"1"}"#), Err(Refusal::Payload));
    // One that it names and that it is signed with.
    let payload = URL_SAFE_NO_PAD.encode(r#"{"algorithm":"HMAC-SHA1","user_id":"1"}"#);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes());
    let sha1 = URL_SAFE_NO_PAD.encode(hmac::sign(&key, payload.as_bytes()));
    assert_eq!(checked(&format!("{sha1}.{payload}")), Err(Refusal::Form));
}

#[test]
fn an_id_is_taken_digit_for_digit_or_not_at_all() {
    let of = |user_id: &str| id(&format!(r#"{{"algorithm":"HMAC-SHA256","user_id":{user_id}}}"#));
    let most = "9".repeat(32);
    for digits in ["1", "0", "9007199254740993", "28753684917596557", "18446744073709551616", &most] {
        assert_eq!(of(digits).as_deref(), Ok(digits), "as a number");
        assert_eq!(of(&format!("\"{digits}\"")).as_deref(), Ok(digits), "as text");
    }
    // Text is compared, and nobody's id begins so.
    assert_eq!(of("\"007\"").as_deref(), Ok("007"));
    assert_eq!(of(r#""\u0031\u0032""#).as_deref(), Ok("12"));
    let long = "9".repeat(33);
    let long_text = format!("\"{long}\"");
    for bad in [
        "1.5",
        "1.0",
        "1e3",
        "1E3",
        "-1",
        "-0",
        "007",
        &long,
        &long_text,
        r#""""#,
        r#"" 1""#,
        r#""1 ""#,
        r#""1.5""#,
        r#""-1""#,
        r#""1e3""#,
        r#""0x1""#,
        r#""١٢""#,
        r#""a""#,
        "null",
        "true",
        "[1]",
        r#"["1"]"#,
        "{}",
        "",
        "9007199254740993.0",
        "NaN",
        "Infinity",
    ] {
        assert_eq!(of(bad), Err(Refusal::Payload), "{bad}");
    }
    assert_eq!(id(r#"{"algorithm":"HMAC-SHA256"}"#), Err(Refusal::Payload));
}

#[test]
fn a_time_is_whole_seconds_or_absent() {
    let of = |issued_at: &str| {
        let json = format!(r#"{{"algorithm":"HMAC-SHA256","user_id":"1","issued_at":{issued_at}}}"#);
        checked(&signed(&json)).map(|request| request.issue_time.unwrap().unix_timestamp())
    };
    for (text, seconds) in [("1754000000", 1_754_000_000), (r#""1754000000""#, 1_754_000_000), ("0", 0)] {
        assert_eq!(of(text), Ok(seconds), "{text}");
    }
    for bad in [
        "1754000000.5",
        "1.754e9",
        "-1",
        "null",
        "true",
        r#""""#,
        r#""now""#,
        "[]",
        "99999999999999999999",
        "9223372036854775807",
        r#""2025-07-31T22:13:20Z""#,
    ] {
        assert_eq!(of(bad), Err(Refusal::Payload), "{bad}");
    }
    let without = checked(&signed(r#"{"algorithm":"HMAC-SHA256","user_id":"1"}"#)).unwrap();
    assert_eq!(without.issue_time, None);
}

#[test]
fn the_payload_is_one_object_in_which_no_name_stands_twice() {
    for json in [
        "",
        "null",
        "1",
        "[]",
        r#"["user_id"]"#,
        "{",
        "{}",
        "\u{feff}{}",
        r#"{"algorithm":"HMAC-SHA256","user_id":"1"}x"#,
        r#"{"algorithm":"HMAC-SHA256","user_id":"1"}{}"#,
        r#"{"algorithm":"HMAC-SHA256","user_id":"1",}"#,
        r#"{"algorithm":"HMAC-SHA256","user_id":"1","user_id":"1"}"#,
        r#"{"algorithm":"HMAC-SHA256","user_id":"1","user\u005fid":"2"}"#,
        r#"{"algorithm":"none","algorithm":"HMAC-SHA256","user_id":"1"}"#,
        r#"{"algorithm":"HMAC-SHA256","user_id":"1","issued_at":1,"issued_at":2}"#,
        r#"{"algorithm":"HMAC-SHA256","user_id":"1","other":1,"other":2}"#,
        "{\"algorithm\":\"HMAC-SHA256\",\"user_id\":\"\u{1}\"}",
    ] {
        assert_eq!(id(json), Err(Refusal::Payload), "{json}");
    }
    let payload = URL_SAFE_NO_PAD.encode(b"{\"algorithm\":\"HMAC-SHA256\",\"user_id\":\"1\",\"\xff\":1}");
    let own = URL_SAFE_NO_PAD.encode(signature(SECRET, &payload));
    assert_eq!(checked(&format!("{own}.{payload}")), Err(Refusal::Payload), "not UTF-8");
    // Whatever else Meta may say is none of our business.
    let more = r#" {"expires":0,"oauth_token":"THAAx","user":{"country":"de","country":"at"},"algorithm":"HMAC-SHA256",
                   "page":[[[]]],"user_id":"1"} "#;
    assert_eq!(id(more).as_deref(), Ok("1"));
    let deep = format!(
        r#"{{"x":{}{},"algorithm":"HMAC-SHA256","user_id":"1"}}"#,
        "[".repeat(2500),
        "]".repeat(2500)
    );
    let _ = id(&deep);
}

#[test]
fn nothing_of_it_is_shown() {
    let shown = format!("{:?}", checked(V1));
    assert!(shown.contains("Current") && !shown.contains(PERSON), "{shown}");
    for refusal in [Refusal::Form, Refusal::Signature, Refusal::Payload, Refusal::Algorithm] {
        assert!(!format!("{refusal:?} {refusal} {}", refusal.as_str()).contains(SECRET));
    }
}
