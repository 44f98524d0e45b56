use std::path::Path;

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
