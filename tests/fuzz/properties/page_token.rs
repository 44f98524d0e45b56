//! Page tokens: where a list goes on.

use threads_identity::grpc::fuzzing::Pages;
use threads_identity::ids::AccountId;
use threads_identity::sealing::{Keyring, LiveKeyring, Place, Purpose};

const LAST: &str = "5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90";

/// The lists: name, caller, app and user.
const LISTS: [(&str, &str, &str, Option<&str>); 6] = [
    ("ListAccounts", "web", "default", Some("user-1")),
    ("ListAccounts", "web", "default", None),
    ("ListAccounts", "web", "second", Some("user-1")),
    ("ListAccounts", "other", "default", Some("user-1")),
    ("ListProfiles", "web", "default", Some("user-1")),
    ("ListAccounts", "web", "default", Some("user-2")),
];

/// The number of a list, and a token.
pub const EXAMPLES: [&str; 9] =
    ["0:T0", "1:T1", "2:T2", "3:T3", "4:T4", "5:T5", "0:T4", "0:SEALED", "1:AAAA"];

/// What matters to the format.
pub const PIECES: [&str; 16] =
    [":", "0", "1", "2", "T0", "T1", "T2", "T3", "T4", "T5", "SEALED", "A", "=", "-", "_", "\u{0}"];

/// The property: whether the input led somewhere, which only a list's own tokens do.
pub fn property() -> impl Fn(&[u8]) -> bool {
    let keyring = LiveKeyring::new(Keyring::generate("2026-01-01T00:00:00Z"));
    let last = AccountId::parse(LAST).unwrap();
    let lists: Vec<Pages> =
        LISTS.iter().map(|(name, caller, app, user)| Pages::new(name, caller, app, *user)).collect();
    let tokens: Vec<String> = lists.iter().map(|list| list.seal(&keyring, last)).collect();
    // Sealed as a page token is, but it holds something else.
    let place = Place { purpose: Purpose::PageToken, app_id: "default", row: b"" };
    let sealed = keyring.seal_text(place, b"\x0a\x10not an account i");
    move |input| {
        let text = String::from_utf8_lossy(input);
        let Some((number, token)) = text.split_once(':') else { return false };
        let Some(at) = number.parse::<usize>().ok().filter(|at| *at < LISTS.len()) else { return false };
        let mut token = token.replace("SEALED", &sealed);
        for (i, own) in tokens.iter().enumerate() {
            token = token.replace(&format!("T{i}"), own);
        }
        let opened: Option<AccountId> = lists[at].open(&keyring, &token).expect("no key is missing");
        assert_eq!(opened.is_some(), token == tokens[at], "{text:?}");
        assert!(opened.is_none_or(|opened| opened == last));
        opened.is_some()
    }
}
