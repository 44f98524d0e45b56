//! An issuer of tokens: its keys, a server that publishes them, and what it signs.
//! Signatures are made with the crypto library itself, not with what checks them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub const AUDIENCE: &str = "https://identity.example.com";

/// A key that an issuer signs with.
pub struct Key {
    pub id: &'static str,
    kind: Kind,
}

enum Kind {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Key {
    pub fn rsa(id: &'static str) -> Self {
        Self { id, kind: Kind::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())) }
    }

    pub fn ec(id: &'static str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        Self { id, kind: Kind::Ec(EcdsaKeyPair::generate(algorithm).unwrap()) }
    }

    pub fn ed(id: &'static str) -> Self {
        Self { id, kind: Kind::Ed(Ed25519KeyPair::generate().unwrap()) }
    }

    /// The algorithm it is used with unless a test says otherwise.
    pub fn algorithm(&self) -> &'static str {
        match self.kind {
            Kind::Rsa(_) => "RS256",
            Kind::Ec(_) => "ES256",
            Kind::Ed(_) => "EdDSA",
        }
    }

    /// The public key, as it is published.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.kind {
            Kind::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({ "kty": "RSA", "n": encode(public.n), "e": encode(public.e) })
            }
            Kind::Ec(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })
            }
            Kind::Ed(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key()) }),
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm());
        jwk
    }

    /// What of the public key an attacker could use as a secret.
    pub fn public_bytes(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Rsa(key) => key.public_key().as_ref().to_vec(),
            Kind::Ec(key) => key.public_key().as_ref().to_vec(),
            Kind::Ed(key) => key.public_key().as_ref().to_vec(),
        }
    }

    pub fn header(&self) -> Value {
        json!({ "alg": self.algorithm(), "typ": "at+jwt", "kid": self.id })
    }

    /// A token with the usual header.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    /// A token with any header.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A token of any two texts.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let (random, bytes) = (SystemRandom::new(), message.as_bytes());
        let is_pss = header.contains("PS256");
        let signature = match &self.kind {
            Kind::Rsa(key) => {
                let padding: &'static dyn RsaEncoding =
                    if is_pss { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, bytes, &mut signature).unwrap();
                signature
            }
            Kind::Ec(key) => key.sign(&random, bytes).unwrap().as_ref().to_vec(),
            Kind::Ed(key) => key.sign(bytes).as_ref().to_vec(),
        };
        format!("{message}.{}", encode(signature))
    }
}

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// How the server answers.
#[derive(Clone)]
enum Answer {
    Keys(String),
    Broken(StatusCode),
    Elsewhere(String),
    Huge,
}

struct Shared {
    answer: Mutex<Answer>,
    reads: AtomicUsize,
}

/// An issuer whose keys are behind an address.
pub struct Issuer {
    pub url: String,
    /// When its tokens are issued.
    now: i64,
    shared: Arc<Shared>,
}

impl Issuer {
    pub async fn start(now: i64, keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { answer: Mutex::new(published(keys)), reads: AtomicUsize::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, now, shared }
    }

    /// How often its keys were asked for.
    pub fn reads(&self) -> usize {
        self.shared.reads.load(Ordering::SeqCst)
    }

    pub fn publish(&self, keys: &[&Key]) {
        self.answer_with(published(keys));
    }

    pub fn publish_text(&self, text: &str) {
        self.answer_with(Answer::Keys(text.to_owned()));
    }

    pub fn break_down(&self) {
        self.answer_with(Answer::Broken(StatusCode::SERVICE_UNAVAILABLE));
    }

    pub fn redirect(&self, to: &str) {
        self.answer_with(Answer::Elsewhere(to.to_owned()));
    }

    pub fn answer_hugely(&self) {
        self.answer_with(Answer::Huge);
    }

    fn answer_with(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// The lines of the configuration that trust it, with more lines.
    pub fn lines(&self, more: &str) -> String {
        let url = &self.url;
        format!(
            "[[issuers]]\nissuer = \"{url}\"\naudience = \"{AUDIENCE}\"\njwks_url = \"{url}/jwks\"\n{more}\n"
        )
    }

    /// A caller with every role that is the subject `web` here.
    pub fn caller(&self, name: &str) -> String {
        format!(
            "[[callers]]\nname = \"{name}\"\napp = \"default\"\nroles = [\"link\", \"read\", \"sync\", \"token\"]\n\
             tokens = [{{ issuer = \"{}\", subject = \"web\" }}]\n",
            self.url
        )
    }

    /// The claims of an honest token of `web`.
    pub fn claims(&self) -> Value {
        let now = self.now;
        json!({
            "iss": self.url, "sub": "web", "aud": AUDIENCE, "exp": now + 300, "iat": now, "nbf": now,
        })
    }

    /// The claims with some of them replaced; null takes one away.
    pub fn claims_but(&self, other: &Value) -> Value {
        let mut claims = self.claims();
        for (name, value) in other.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }
}

fn published(keys: &[&Key]) -> Answer {
    Answer::Keys(json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string())
}

async fn answer(State(shared): State<Arc<Shared>>) -> Response {
    shared.reads.fetch_add(1, Ordering::SeqCst);
    let answer = shared.answer.lock().unwrap().clone();
    match answer {
        Answer::Keys(text) => ([("content-type", "application/jwk-set+json")], text).into_response(),
        Answer::Broken(status) => status.into_response(),
        Answer::Elsewhere(to) => (StatusCode::FOUND, [("location", to)]).into_response(),
        Answer::Huge => vec![b' '; 1 << 20].into_response(),
    }
}
