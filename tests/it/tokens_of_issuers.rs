//! Tokens of issuers: which open, and which do not.

use aws_lc_rs::hmac;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::harness::{START, Wishes, World, failed, with_key};
use crate::issuer::{AUDIENCE, Issuer, Key, encode};
use crate::raw::{self, framed};
use crate::shorthand::{NOBODY, account, until};

const METHOD: &str = "/threads.identity.v1.AccountService/GetAccount";

impl World {
    /// What a bearer's call comes to.
    pub async fn bear(&self, bearer: &str) -> Result<(), Status> {
        let value = format!("Bearer {bearer}");
        raw::call(self.grpc, METHOD, &[("authorization", &value)], framed(b"")).await.result()
    }

    /// Whether a bearer is let in: the empty request is then found to be bad.
    pub async fn lets_in(&self, bearer: &str) -> bool {
        let result = self.bear(bearer).await;
        if result.as_ref().unwrap_err().code() == Code::Unauthenticated {
            failed(result, Code::Unauthenticated, "CALLER_UNKNOWN");
            return false;
        }
        failed(result, Code::InvalidArgument, "FIELD_INVALID");
        true
    }

    /// How often calls were refused for a reason.
    pub async fn refusals(&self, reason: &str) -> i64 {
        self.metric(&format!("threads_identity_refusals_total{{reason=\"{reason}\"}}")).await as i64
    }

    /// A bearer is refused, for this reason, and is not told which.
    pub async fn refuses(&self, bearer: &str, reason: &str, what: &str) {
        let before = self.refusals(reason).await;
        let Err(status) = self.bear(bearer).await else { panic!("{what}: let in") };
        failed::<()>(Err(status.clone()), Code::Unauthenticated, "CALLER_UNKNOWN");
        assert_eq!(self.refusals(reason).await, before + 1, "{what}: not refused as {reason}");
        assert!(!format!("{status:?}").contains(reason), "{what}: {status:?}");
    }
}

/// A world that trusts these issuers, once their keys have been read.
async fn trusting(issuers: &[&Issuer], config: String) -> World {
    let world = World::with(Wishes { config: config.leak(), ..Wishes::default() }).await;
    until("the keys have been read", async || issuers.iter().all(|issuer| issuer.reads() > 0)).await;
    world
}

fn hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", encode(tag))
}

fn with(mut value: Value, name: &str, member: Value) -> Value {
    value[name] = member;
    value
}

#[tokio::test]
async fn honest_tokens_open() {
    let (rsa, ec, ed, bare) = (Key::rsa("r"), Key::ec("e"), Key::ed("d"), Key::ec("bare"));
    let issuer = Issuer::start(START.unix_timestamp(), &[]).await;
    // A key without an `alg` may be used with what its type allows, and a set may hold
    // what is of no use here.
    let mut untied = bare.jwk();
    for member in ["alg", "use"] {
        untied.as_object_mut().unwrap().remove(member);
    }
    let strange = json!({ "kty": "XYZ", "kid": "x", "use": "sig" });
    let set = json!({ "keys": [strange, rsa.jwk(), ec.jwk(), ed.jwk(), untied, 7] });
    issuer.publish_text(&set.to_string());
    let world = trusting(&[&issuer], issuer.lines("") + &issuer.caller("by-token")).await;
    let claims = issuer.claims();
    for key in [&rsa, &ec, &ed, &bare] {
        assert!(world.lets_in(&key.token(&claims)).await, "{}", key.id);
    }
    let good = [
        ("no type", json!({ "alg": "ES256", "kid": "e" }), claims.clone()),
        ("an older type", json!({ "alg": "ES256", "kid": "e", "typ": "JWT" }), claims.clone()),
        ("a long type", json!({ "alg": "ES256", "kid": "e", "typ": "Application/AT+JWT" }), claims.clone()),
        ("a thumbprint", json!({ "alg": "ES256", "kid": "e", "x5t": "abc" }), claims.clone()),
        ("one audience in a list", ec.header(), issuer.claims_but(&json!({ "aud": [AUDIENCE] }))),
        ("two audiences", ec.header(), issuer.claims_but(&json!({ "aud": ["https://other", AUDIENCE] }))),
        ("neither iat nor nbf", ec.header(), issuer.claims_but(&json!({ "iat": null, "nbf": null }))),
        (
            "a fraction",
            ec.header(),
            issuer.claims_but(&json!({ "exp": START.unix_timestamp() as f64 + 9.5 })),
        ),
        ("just expired", ec.header(), issuer.claims_but(&json!({ "exp": START.unix_timestamp() - 59 }))),
        ("not quite yet", ec.header(), issuer.claims_but(&json!({ "nbf": START.unix_timestamp() + 60 }))),
        ("more claims", ec.header(), issuer.claims_but(&json!({ "scope": "x", "deep": { "a": [1] } }))),
    ];
    for (what, header, claims) in good {
        assert!(world.lets_in(&ec.sign(&header, &claims)).await, "{what}");
    }
    // Without a name, the only key that fits is meant.
    assert!(world.lets_in(&ed.sign(&json!({ "alg": "EdDSA" }), &claims)).await);
    let uses = format!(
        "threads_identity_credential_uses_total{{caller=\"by-token\",credential=\"token:web@{}\"}}",
        issuer.url
    );
    assert_eq!(world.metric(&uses).await as i64, 4 + 11 + 1);
}

#[tokio::test]
async fn every_trick_with_a_token_is_refused_and_counted() {
    let (rsa, ec, other, foreign) = (Key::rsa("rsa"), Key::ec("ec"), Key::ec("ec"), Key::ec("foreign"));
    let for_encryption = Key::ec("enc");
    let issuer = Issuer::start(START.unix_timestamp(), &[]).await;
    let enc = with(for_encryption.jwk(), "use", json!("enc"));
    let oct = json!({ "kty": "oct", "kid": "oct", "k": encode("a secret that everybody may read") });
    issuer.publish_text(&json!({ "keys": [rsa.jwk(), ec.jwk(), enc, oct] }).to_string());
    let second = Issuer::start(START.unix_timestamp(), &[&foreign]).await;
    let config = issuer.lines("") + &second.lines("") + &issuer.caller("by-token") + &second.caller("other");
    let world = trusting(&[&issuer, &second], config).await;
    let claims = issuer.claims();
    let now = START.unix_timestamp();
    let good = ec.token(&claims);
    assert!(world.lets_in(&good).await);

    let (header, rsa_header) = (ec.header(), rsa.header());
    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("three parts") };
    let but = |other: Value| ec.token(&issuer.claims_but(&other));
    let headed = |name: &str, member: Value| ec.sign(&with(header.clone(), name, member), &claims);
    let evil = with(claims.clone(), "sub", json!("admin"));
    let hs = with(header.clone(), "alg", json!("HS256"));
    let none = with(header.clone(), "alg", json!("none"));
    let unsigned = |header: &Value| format!("{}.{}.", encode(header.to_string()), encode(claims.to_string()));
    let padded = format!("{good}{}", "=".repeat(2));
    let text = |header: &str, claims: &str| ec.sign_text(header, claims);
    let (header_text, claims_text) = (header.to_string(), claims.to_string());

    let cases: Vec<(&str, String, &str)> = vec![
        // Algorithms.
        ("alg none without a signature", unsigned(&none), "token_algorithm"),
        ("alg None", unsigned(&with(header.clone(), "alg", json!("None"))), "token_algorithm"),
        ("alg none with a signature", ec.sign(&none, &claims), "token_algorithm"),
        ("no signature under a real alg", unsigned(&header), "token_signature"),
        (
            "HS256 with the RSA key as the secret",
            hs256(&with(rsa_header.clone(), "alg", json!("HS256")), &claims, &rsa.public_bytes()),
            "token_algorithm",
        ),
        ("HS256 with the EC key as the secret", hs256(&hs, &claims, &ec.public_bytes()), "token_algorithm"),
        (
            "HS256 with a published secret",
            hs256(&json!({ "alg": "HS256", "kid": "oct" }), &claims, b"a secret that everybody may read"),
            "token_algorithm",
        ),
        ("the kid of a secret", headed("kid", json!("oct")), "token_key_unknown"),
        (
            "an alg that the issuer may not use",
            rsa.sign(&with(rsa_header.clone(), "alg", json!("PS256")), &claims),
            "token_algorithm",
        ),
        (
            "an alg of another key",
            ec.sign(&with(header.clone(), "alg", json!("RS256")), &claims),
            "token_algorithm",
        ),
        ("an alg that does not exist", headed("alg", json!("ES257")), "token_algorithm"),
        ("no alg", text("{\"kid\":\"ec\"}", &claims_text), "token_malformed"),
        (
            "two algs",
            text("{\"alg\":\"none\",\"kid\":\"ec\",\"alg\":\"ES256\"}", &claims_text),
            "token_malformed",
        ),
        // Keys.
        ("an unknown kid", headed("kid", json!("nobody")), "token_key_unknown"),
        ("an empty kid", headed("kid", json!("")), "token_key_unknown"),
        ("a kid that is a path", headed("kid", json!("../../dev/null")), "token_key_unknown"),
        (
            "no kid, though another key has the name of the one that signed",
            other.token(&claims),
            "token_signature",
        ),
        ("a key of another issuer", foreign.token(&claims), "token_key_unknown"),
        (
            "the name of another issuer's key",
            ec.sign(&with(header.clone(), "kid", json!("foreign")), &claims),
            "token_key_unknown",
        ),
        ("a key for encryption", for_encryption.token(&claims), "token_key_unknown"),
        ("jku", headed("jku", json!("https://evil.example/jwks")), "token_header"),
        ("x5u", headed("x5u", json!("https://evil.example/cert")), "token_header"),
        ("jwk", other.sign(&with(header.clone(), "jwk", other.jwk()), &claims), "token_header"),
        ("x5c", headed("x5c", json!(["MIIB"])), "token_header"),
        ("crit", headed("crit", json!(["exp"])), "token_header"),
        ("an empty crit", headed("crit", json!([])), "token_header"),
        ("crit null", headed("crit", Value::Null), "token_header"),
        ("b64", headed("b64", json!(false)), "token_header"),
        ("encrypted", headed("enc", json!("A256GCM")), "token_header"),
        // Types.
        ("an identity token", headed("typ", json!("id+jwt")), "token_type"),
        ("a logout token", headed("typ", json!("logout+jwt")), "token_type"),
        ("an empty type", headed("typ", json!("")), "token_type"),
        ("a type that is no text", headed("typ", json!(1)), "token_malformed"),
        // Claims.
        ("no iss", but(json!({ "iss": null })), "token_claim_missing"),
        ("no sub", but(json!({ "sub": null })), "token_claim_missing"),
        ("no aud", but(json!({ "aud": null })), "token_claim_missing"),
        ("no exp", but(json!({ "exp": null })), "token_claim_missing"),
        ("an empty sub", but(json!({ "sub": "" })), "token_malformed"),
        ("a sub that is no text", but(json!({ "sub": ["web"] })), "token_malformed"),
        ("an iss in a list", but(json!({ "iss": [issuer.url] })), "token_malformed"),
        ("another iss", but(json!({ "iss": "https://evil.example" })), "token_issuer"),
        ("an iss with a slash more", but(json!({ "iss": format!("{}/", issuer.url) })), "token_issuer"),
        ("the other issuer's name", but(json!({ "iss": second.url })), "token_key_unknown"),
        ("another aud", but(json!({ "aud": "https://other.example" })), "token_audience"),
        ("an aud with a slash more", but(json!({ "aud": format!("{AUDIENCE}/") })), "token_audience"),
        ("other auds", but(json!({ "aud": ["a", "b"] })), "token_audience"),
        ("an empty list of auds", but(json!({ "aud": [] })), "token_audience"),
        ("an aud that is no text", but(json!({ "aud": [AUDIENCE, 7] })), "token_malformed"),
        ("an aud in an object", but(json!({ "aud": { AUDIENCE: true } })), "token_malformed"),
        ("expired", but(json!({ "exp": now - 60 })), "token_expired"),
        ("expired long ago", but(json!({ "exp": 0 })), "token_expired"),
        ("an exp as text", but(json!({ "exp": (now + 300).to_string() })), "token_malformed"),
        ("a negative exp", but(json!({ "exp": -1 })), "token_malformed"),
        ("an endless exp", but(json!({ "exp": 1e300 })), "token_malformed"),
        ("an exp in the year 9999", but(json!({ "exp": 253_402_300_799_i64 })), "token_lifetime"),
        ("an exp two days off", but(json!({ "exp": now + 2 * 86_400 })), "token_lifetime"),
        ("nbf to come", but(json!({ "nbf": now + 61 })), "token_not_yet_valid"),
        ("iat to come", but(json!({ "iat": now + 61 })), "token_not_yet_valid"),
        ("an unknown subject", but(json!({ "sub": "somebody" })), "token_subject"),
        ("a subject in other letters", but(json!({ "sub": "Web" })), "token_subject"),
        // Forms.
        (
            "a payload that was not signed",
            format!("{head}.{}.{signature}", encode(evil.to_string())),
            "token_signature",
        ),
        (
            "a header that was not signed",
            format!("{}.{body}.{signature}", encode(with(header.clone(), "x", json!(1)).to_string())),
            "token_signature",
        ),
        (
            "another token's signature",
            format!("{head}.{body}.{}", but(json!({ "exp": now + 1 })).rsplit('.').next().unwrap()),
            "token_signature",
        ),
        (
            "half a signature",
            format!("{head}.{body}.{}", &signature[..signature.len() / 2]),
            "token_signature",
        ),
        ("no parts", "..".to_owned(), "token_malformed"),
        ("padding", padded, "token_signature"),
        ("the other alphabet", format!("{head}+/.{body}.{signature}"), "token_malformed"),
        (
            "a header that is no JSON",
            format!("{}.{body}.{signature}", encode("alg=ES256")),
            "token_malformed",
        ),
        ("a header that is a list", format!("{}.{body}.{signature}", encode("[]")), "token_malformed"),
        ("claims that are a list", text(&header_text, "[]"), "token_malformed"),
        (
            "claims with more behind them",
            text(&header_text, &(claims_text.clone() + "{}")),
            "token_malformed",
        ),
        ("a trailing dot", format!("{good}."), "credential_unknown"),
        ("a leading dot", format!(".{good}"), "credential_unknown"),
        ("one part less", format!("{head}.{body}"), "credential_unknown"),
        ("too large", but(json!({ "padding": "x".repeat(8 * 1024) })), "token_too_large"),
        (
            "deep",
            text(&header_text, &format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000))),
            "token_malformed",
        ),
    ];
    assert!(cases.len() >= 25);
    for (what, token, reason) in &cases {
        world.refuses(token, reason, what).await;
    }
    // None of them has spoilt anything.
    assert!(world.lets_in(&good).await);
    assert!(issuer.reads() <= 1 + 2, "{} reads", issuer.reads());
}

#[tokio::test]
async fn a_token_twice_or_beside_a_key_is_refused() {
    let key = Key::ec("k");
    let issuer = Issuer::start(START.unix_timestamp(), &[&key]).await;
    let world = trusting(&[&issuer], issuer.lines("") + &issuer.caller("by-token")).await;
    let token = format!("Bearer {}", key.token(&issuer.claims()));
    let caller_key = format!("Bearer {}", world.key("web"));
    for headers in [[&token, &token], [&token, &caller_key], [&caller_key, &token]] {
        let headers = headers.map(|value| ("authorization", value.as_str()));
        let answer = raw::call(world.grpc, METHOD, &headers, framed(b"")).await;
        failed(answer.result(), Code::Unauthenticated, "CALLER_UNKNOWN");
    }
    assert_eq!(world.refusals("header_repeated").await, 3);
    let scheme = token.replace("Bearer", "DPoP");
    let answer = raw::call(world.grpc, METHOD, &[("authorization", &scheme)], framed(b"")).await;
    failed(answer.result(), Code::Unauthenticated, "CALLER_UNKNOWN");
}

#[tokio::test]
async fn a_token_opens_what_its_claims_and_its_caller_both_allow() {
    let key = Key::ec("k");
    let (plain, named, deep) = (
        Issuer::start(START.unix_timestamp(), &[&key]).await,
        Issuer::start(START.unix_timestamp(), &[&key]).await,
        Issuer::start(START.unix_timestamp(), &[&key]).await,
    );
    let config = plain.lines("roles_claim = \"scope\"")
        + &named.lines("roles_claim = \"https://claims.example.com/roles\"\nrole_names = { \"reader\" = \"read\", \"boss\" = \"erase\" }")
        + &deep.lines("roles_claim = \"/realm~1access/roles\"")
        + &plain.caller("plain")
        + &named.caller("named")
        + &deep.caller("deep");
    let world = trusting(&[&plain, &named, &deep], config).await;
    let role = async |token: &str| match world.bear(token).await.unwrap_err().code() {
        Code::InvalidArgument => true,
        Code::PermissionDenied => false,
        other => panic!("{other:?}"),
    };
    let name = "https://claims.example.com/roles";
    let cases = [
        (&plain, json!({ "scope": "openid read" }), true),
        (&plain, json!({ "scope": ["token", "read"] }), true),
        (&plain, json!({ "scope": "openid reader" }), false),
        (&plain, json!({ "scope": "read,token" }), false),
        (&plain, json!({ "scope": "" }), false),
        (&plain, json!({ "scope": { "read": true } }), false),
        (&plain, json!({}), false),
        (&named, json!({ name: ["reader"] }), true),
        (&named, json!({ name: ["boss"] }), false),
        (&named, json!({ name: ["read"] }), false),
        (&deep, json!({ "realm/access": { "roles": ["read"] } }), true),
        (&deep, json!({ "realm/access": ["read"] }), false),
        (&deep, json!({ "roles": ["read"] }), false),
    ];
    for (issuer, claims, allowed) in cases {
        let token = key.token(&issuer.claims_but(&claims));
        // The second time it comes out of memory.
        for _ in 0..2 {
            assert_eq!(role(&token).await, allowed, "{claims}");
        }
    }
    assert_eq!(world.refusals("role").await, 2 * 9);
}

#[tokio::test]
async fn a_token_sees_its_callers_app_alone() {
    let key = Key::ec("k");
    let issuer = Issuer::start(START.unix_timestamp(), &[&key]).await;
    let second =
        issuer.caller("of-second").replace("\"default\"", "\"second\"").replace("\"web\"", "\"other\"");
    let world = trusting(&[&issuer], issuer.lines("") + &issuer.caller("by-token") + &second).await;
    let id = world.fill("default", "user-1", 1).await.remove(0);
    let read = async |subject: &str, id: &str| {
        let token = key.token(&issuer.claims_but(&json!({ "sub": subject })));
        let channel = with_key(world.connect().await, &token);
        let mut client =
            threads_identity::proto::v1::account_service_client::AccountServiceClient::new(channel);
        client.get_account(account(id, None)).await
    };
    assert!(read("web", &id).await.is_ok());
    failed(read("other", &id).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
    failed(read("web", NOBODY).await, Code::NotFound, "ACCOUNT_NOT_FOUND");
}

#[tokio::test]
async fn a_token_ends_when_it_says_so_also_in_memory_and_for_a_watch() {
    let key = Key::ec("k");
    let issuer = Issuer::start(START.unix_timestamp(), &[&key]).await;
    let world = trusting(&[&issuer], issuer.lines("leeway = \"1s\"") + &issuer.caller("by-token")).await;
    let token = key.token(&issuer.claims_but(&json!({ "exp": START.unix_timestamp() + 2 })));
    assert!(world.lets_in(&token).await);
    let channel = with_key(world.connect().await, &token);
    let mut client = threads_identity::proto::v1::account_service_client::AccountServiceClient::new(channel);
    let begun = std::time::Instant::now();
    let mut watch = client
        .watch_accounts(threads_identity::proto::v1::WatchAccountsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let ended = loop {
        match watch.message().await {
            Ok(message) => assert!(message.is_some()),
            Err(status) => break status,
        }
    };
    assert!(begun.elapsed().as_millis() >= 2900, "ended after {:?}", begun.elapsed());
    failed::<()>(Err(ended), Code::Unauthenticated, "CALLER_UNKNOWN");
    world.advance(std::time::Duration::from_millis(2999));
    assert!(world.lets_in(&token).await);
    world.advance(std::time::Duration::from_millis(1));
    world.refuses(&token, "token_expired", "out of memory").await;
}
