//! Sealed values: states, tickets, tokens, page tokens, cursors.

use threads_identity::sealing::{Keyring, Place, Purpose};

/// Every kind, by the name that stands for it here.
const KINDS: [(&str, Purpose); 6] = [
    ("state", Purpose::State),
    ("ticket", Purpose::Ticket),
    ("token", Purpose::Token),
    ("short", Purpose::ShortLivedToken),
    ("page", Purpose::PageToken),
    ("cursor", Purpose::Cursor),
];
/// What was sealed, with its place.
const SEALED: [(&str, &str, &str, &[u8]); 7] = [
    ("state", "default", "", b"a state"),
    ("state", "second", "", b"a state"),
    ("ticket", "default", "", b"a ticket"),
    ("token", "default", "row-1", b"THtoken"),
    ("short", "default", "row-1", b"THshort"),
    ("page", "default", "", b""),
    ("cursor", "default", "", &[0; 24]),
];

/// Kind, app, row, and the number of something sealed.
pub const EXAMPLES: [&str; 9] = [
    "state:default::S0",
    "state:second::S1",
    "ticket:default::S2",
    "token:default:row-1:S3",
    "short:default:row-1:S4",
    "page:default::S5",
    "cursor:default::S6",
    "token:default:row-2:S3",
    "state:default::AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
];

/// What matters to the format.
pub const PIECES: [&str; 22] = [
    ":", "S0", "S1", "S2", "S3", "S4", "S5", "S6", "state", "ticket", "token", "short", "page", "cursor",
    "default", "second", "row-1", "A", "=", "-", "_", "\u{0}",
];

/// The property: whether the input opened, which only what was sealed does, in its
/// own place.
pub fn property() -> impl Fn(&[u8]) -> bool {
    let keyring = Keyring::generate("2026-01-01T00:00:00Z");
    let other = Keyring::generate("2026-01-01T00:00:00Z");
    let place = |kind: &str, app_id: &'static str, row: &'static str| Place {
        purpose: KINDS.iter().find(|(name, _)| *name == kind).unwrap().1,
        app_id,
        row: row.as_bytes(),
    };
    let sealed: Vec<String> = SEALED
        .iter()
        .map(|(kind, app, row, plain)| keyring.seal_text(place(kind, app, row), plain))
        .collect();
    move |input| {
        let text = String::from_utf8_lossy(input);
        let mut parts = text.splitn(4, ':');
        let (Some(kind), Some(app_id), Some(row), Some(value)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            // Bytes without a form of ours: they open nowhere.
            for (_, purpose) in KINDS {
                let place = Place { purpose, app_id: "default", row: b"" };
                assert!(keyring.open(place, input).is_err());
            }
            return false;
        };
        let Some((_, purpose)) = KINDS.iter().find(|(name, _)| *name == kind) else { return false };
        let mut value = value.to_owned();
        for (i, sealed) in sealed.iter().enumerate() {
            value = value.replace(&format!("S{i}"), sealed);
        }
        let place = Place { purpose: *purpose, app_id, row: row.as_bytes() };
        let opened = keyring.open_text(place, &value);
        let known = sealed.iter().position(|sealed| *sealed == value);
        let fits =
            known.map(|i| SEALED[i]).filter(|known| (known.0, known.1, known.2) == (kind, app_id, row));
        match (&opened, fits) {
            (Ok(plain), Some(known)) => assert_eq!(plain.as_slice(), known.3),
            (Err(_), None) => {}
            (Ok(_), None) => panic!("{text:?} opened"),
            (Err(_), Some(_)) => panic!("{text:?} did not open"),
        }
        assert!(other.open_text(place, &value).is_err(), "another keyring opened it");
        if fits.is_some() {
            flip_each_bit_of_one_byte(&keyring, place, &value, input);
        }
        opened.is_ok()
    }
}

/// No bit of a sealed value may be another.
fn flip_each_bit_of_one_byte(keyring: &Keyring, place: Place<'_>, value: &str, input: &[u8]) {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut bytes = URL_SAFE_NO_PAD.decode(value).unwrap();
    let at = turn(input) % bytes.len();
    for bit in 0..8 {
        bytes[at] ^= 1 << bit;
        assert!(keyring.open(place, &bytes).is_err(), "bit {bit} of byte {at}");
        bytes[at] ^= 1 << bit;
    }
    assert!(keyring.open(place, &bytes).is_ok());
    assert!(keyring.open(place, &bytes[..at]).is_err(), "cut at {at}");
    bytes.push(0);
    assert!(keyring.open(place, &bytes).is_err(), "longer by a byte");
}

/// A place that differs from run to run: the values are new in every process.
fn turn(input: &[u8]) -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static TURN: AtomicUsize = AtomicUsize::new(0);
    input.len() + TURN.fetch_add(1, Ordering::Relaxed)
}
