use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use tokio::time::Duration;

use super::*;
use crate::clock::SystemClock;
use crate::sealing::Keyring;

/// The callers of a configuration, with nothing behind them.
fn callers(text: &str) -> Callers {
    let app = "[[apps]]\nid = \"default\"\nclient_id = \"1\"\nclient_secret = \"s\"\n\
               redirect_uris = [\"https://a.example/cb\"]\n";
    let keyring = Keyring::generate("2026-01-01T00:00:00Z").to_inline().to_string();
    let environment = [("DATABASE_URL", "postgres://127.0.0.1:1/x"), ("THREADS_IDENTITY_KEY", &keyring)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse(&format!("{app}{text}"), Path::new(""), environment).unwrap();
    let service = Arc::new(Service::new(&config, Arc::new(SystemClock)).unwrap());
    Callers::new(&config, &service).unwrap()
}

fn caller(name: &str, credentials: &str) -> String {
    format!("[[callers]]\nname = \"{name}\"\nroles = [\"read\"]\n{credentials}\n")
}

async fn identify(
    callers: &Callers,
    names: &[&str],
    headers: &[&str],
) -> std::result::Result<String, Refusal> {
    let names: Arc<[String]> = names.iter().map(|name| (*name).to_owned()).collect();
    let peer = Peer { address: ([127, 0, 0, 1], 1).into(), names };
    let mut map = HeaderMap::new();
    for header in headers {
        map.append(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let found = callers.identify(&map, Some(&peer), deadline).await;
    found.map(|caller| caller.name.clone()).map_err(|refused| refused.why)
}

#[tokio::test]
async fn a_certificate_is_known_by_its_whole_names() {
    let callers = callers(
        &(caller("web", "certificate_names = [\"web.internal\", \"spiffe://example/Web\"]")
            + &caller("jobs", "certificate_names = [\"jobs.internal\"]")),
    );
    let web = Ok("web".to_owned());
    for names in [
        &["web.internal"][..],
        &["WEB.Internal"],
        &["unknown.internal", "web.internal"],
        &["spiffe://example/Web"],
        &["spiffe://example/Web", "web.internal"],
    ] {
        assert_eq!(identify(&callers, names, &[]).await, web, "{names:?}");
    }
    for names in [
        &["web.internal.evil.example"][..],
        &["a.web.internal"],
        &["*.internal"],
        &["*"],
        &[""],
        &["web.internal."],
        &["spiffe://example/web"],
        &["SPIFFE://example/Web"],
        &["spiffe://example/Web/more"],
    ] {
        assert_eq!(identify(&callers, names, &[]).await, Err(Refusal::CertificateUnknown), "{names:?}");
    }
    let both = identify(&callers, &["web.internal", "jobs.internal"], &[]).await;
    assert_eq!(both, Err(Refusal::CertificateAmbiguous));
    assert_eq!(identify(&callers, &[], &[]).await, Err(Refusal::NoCredential));
}

#[tokio::test]
async fn a_header_decides_and_a_bad_one_never_falls_back_to_the_certificate() {
    let (key, hash) = new_caller_key();
    let callers = callers(
        &(caller("web", "certificate_names = [\"web.internal\"]")
            + &caller("by-key", &format!("key_sha256 = [\"{hash}\"]"))),
    );
    let certificate = &["web.internal"][..];
    let good = format!("Bearer {key}");
    assert_eq!(identify(&callers, certificate, &[&good]).await, Ok("by-key".to_owned()));
    let (stranger, _) = new_caller_key();
    let cases = [
        (format!("Bearer {stranger}"), Refusal::KeyUnknown),
        (format!("Bearer {}", &key[..key.len() - 1]), Refusal::KeyMistyped),
        ("Bearer a.b.c".to_owned(), Refusal::Token(issuers::Refusal::TokenMalformed)),
        ("Bearer something".to_owned(), Refusal::CredentialUnknown),
        ("Bearer ".to_owned(), Refusal::CredentialUnknown),
        ("Bearer".to_owned(), Refusal::HeaderMalformed),
        (String::new(), Refusal::HeaderMalformed),
        (format!("Basic {key}"), Refusal::HeaderMalformed),
        (format!("Bearer  {key}"), Refusal::CredentialUnknown),
    ];
    for (header, why) in &cases {
        assert_eq!(identify(&callers, certificate, &[header]).await, Err(*why), "{header}");
    }
    let twice = identify(&callers, certificate, &[&good, &good]).await;
    assert_eq!(twice, Err(Refusal::HeaderRepeated));
    let odd = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_bytes(b"Bearer \xff").unwrap())]);
    let refused = callers.identify(&odd, None, Instant::now()).await.err().map(|refused| refused.why);
    assert_eq!(refused, Some(Refusal::HeaderMalformed));
}

/// A file of keys that is gone after the test.
struct KeyFile(std::path::PathBuf);

impl KeyFile {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("threads-identity-remembered-{}.json", std::process::id())))
    }

    fn publish(&self, key: &EcdsaKeyPair, more: &str) {
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwk = serde_json::json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k" });
        std::fs::write(&self.0, format!("{{\"keys\":[{jwk}]{more}}}")).unwrap();
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_token_is_checked_once_for_each_set_of_keys() {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let file = KeyFile::new();
    file.publish(&key, "");
    let callers = callers(&format!(
        "[[issuers]]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"{}\"\nrefresh_interval = \"5ms\"\n{}",
        file.0.display(),
        caller("web", "tokens = [{ issuer = \"i\", subject = \"web\" }]")
    ));
    let expires = callers.0.service.clock.now().unix_timestamp() + 3600;
    let claims = serde_json::json!({ "iss": "i", "aud": "a", "sub": "web", "exp": expires });
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", encode("{\"alg\":\"ES256\",\"kid\":\"k\"}"), encode(&claims.to_string()));
    let signature = key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    let bearer = format!("Bearer {message}.{}", URL_SAFE_NO_PAD.encode(signature));
    let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&bearer).unwrap())]);
    let identify = async || {
        let deadline = Instant::now() + Duration::from_secs(60);
        let found = callers.identify(&headers, None, deadline).await;
        found.map_err(|refused| refused.why).unwrap()
    };

    // Checked anew, it would be another value.
    let first = identify().await;
    for _ in 0..10 {
        assert!(Arc::ptr_eq(&first, &identify().await));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    file.publish(&key, ",\"more\":1");
    while Arc::ptr_eq(&first, &identify().await) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
