//! The query of a callback.

use std::path::Path;
use std::sync::Arc;

use threads_identity::authorizations::brought::{Brought, CODE_MAX};
use threads_identity::authorizations::{Answer, Creation, Flow, STATE_MAX, create, hand_over};
use threads_identity::clock::SystemClock;
use threads_identity::config::Config;
use threads_identity::sealing::Keyring;
use threads_identity::service::Service;
use tokio::runtime::{Builder, Runtime};

/// Where a browser may be sent on to.
const RETURN_TO: &str = "https://app.example.com/linked?from=threads";

/// Stands for a state that is good.
const STATE: &str = "GOOD-STATE";

/// Queries that are read, and some that are not.
pub const EXAMPLES: [&str; 8] = [
    "code=AQabcdef&state=GOOD-STATE",
    "state=GOOD-STATE&code=AQabc%23_",
    "error=access_denied&error_reason=user_denied&error_description=The+user&state=GOOD-STATE",
    "code=AQabcdef&state=another-state&x=y",
    "code=AQ%2Babc&state=GOOD-STATE&scope=threads_basic",
    "error=access_denied",
    "code=AQx&error=y&state=GOOD-STATE",
    "",
];

/// What matters to the format.
pub const PIECES: [&str; 16] = [
    "&",
    "=",
    "%",
    "+",
    "#",
    "#_",
    "%23_",
    "&code=x",
    "&state=",
    "&error=",
    "&state=GOOD-STATE",
    "%00",
    "%0d%0a",
    "%ff",
    ";",
    "code",
];

/// The property: whether the input led to a ticket, after everything that must hold
/// has been looked at.
pub fn property() -> impl Fn(&[u8]) -> bool {
    let (service, runtime) = service();
    let app = Arc::clone(&service.apps["default"]);
    let flow =
        Flow::Link { user_id: "user-1".to_owned(), session_binding: None, account_id: None, transfer: false };
    let creation = Creation { flow, redirect_uri: None, scopes: Vec::new(), return_to: None };
    let state = create(&service, &app, creation).unwrap().state;
    move |input| {
        let _needed = &runtime;
        let query = String::from_utf8_lossy(input).replace(STATE, &state);
        let values = |name: &str| values(&query, name);
        let (states, codes, errors) = (values("state"), values("code"), values("error"));
        let brought = Brought::read(&query);
        match (&brought.state, states.as_slice()) {
            (Ok(state), [only]) => assert!(state == bare(only) && (1..=STATE_MAX).contains(&state.len())),
            (Ok(_), _) => panic!("a state out of {} of them", states.len()),
            (Err(_), [only]) => assert!(!(1..=STATE_MAX).contains(&bare(only).len())),
            (Err(_), _) => {}
        }
        match (&brought.answer, codes.as_slice(), errors.as_slice()) {
            (Ok(Answer::Code(code)), [only], []) => {
                assert_eq!(code.expose(), bare(only));
                assert!((1..=CODE_MAX).contains(&code.expose().len()));
                assert!(code.expose().bytes().all(|byte| byte.is_ascii_graphic()));
            }
            (Ok(Answer::Denied), [], [only]) => assert!(!only.is_empty()),
            (Ok(_), ..) => panic!("an answer out of {} codes and {} errors", codes.len(), errors.len()),
            (Err(_), ..) => {}
        }
        let is_readable = brought.answer.is_ok() && brought.state.is_ok_and(|found| found == state);
        let handed = hand_over(&service, &app, &query);
        assert_eq!(handed.is_ok(), is_readable);
        if let Ok(handover) = &handed {
            assert!(handover.location.as_str().starts_with(&format!("{RETURN_TO}&ticket=")));
            assert!(!handover.location.as_str().contains(&state));
        }
        handed.is_ok()
    }
}

/// Without what Threads puts behind an address.
fn bare(value: &str) -> &str {
    value.strip_suffix("#_").unwrap_or(value)
}

/// The values of a name in a form, by a reading of its own (WHATWG URL, 5.1).
fn values(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(found, _)| decoded(found) == name).map(|(_, value)| decoded(value)).collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                plain.push(u8::try_from(high * 16 + low).unwrap());
                at += 3;
                continue;
            }
            (b'+', ..) => plain.push(b' '),
            (byte, ..) => plain.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// A service that has connected to nothing, and need not.
fn service() -> (Arc<Service>, Runtime) {
    let toml = format!(
        "[[apps]]\nid = \"default\"\nclient_id = \"1\"\nclient_secret = \"s\"\n\
         redirect_uris = [\"https://id.example.com/callback\"]\nreturn_to = [\"{RETURN_TO}\"]\n"
    );
    let keyring = Keyring::generate("2026-01-01T00:00:00Z").to_inline().to_string();
    let environment = [
        ("THREADS_IDENTITY__DATABASE__URL", "postgres://nobody@127.0.0.1:1/none"),
        ("THREADS_IDENTITY__KEYS__VALUE", keyring.as_str()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse(&toml, Path::new(""), environment).unwrap();
    // The pool of the database wants to live in a runtime.
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let service = runtime.block_on(async { Service::new(&config, Arc::new(SystemClock)).unwrap() });
    (Arc::new(service), runtime)
}
