//! The forms in which a value may stand somewhere: as it is, in hexadecimal, in
//! base64 and its alphabet for URLs, and as a part of a URL.

use std::fmt::Write as _;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// What is shorter may stand somewhere by chance.
const SHORTEST: usize = 6;

/// All forms of a value.
pub fn of(value: &[u8]) -> Vec<Vec<u8>> {
    assert!(value.len() >= SHORTEST, "too short to be looked for: {value:?}");
    let hex = value.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    let mut forms = vec![value.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    let list = format!("{value:?}");
    // Of bytes that `Debug` has printed, wherever they stand in a longer list.
    forms.push(list.as_bytes()[1..list.len() - 1].to_vec());
    for start in 0..3 {
        // Cut so that the encoding is the same whatever stands before and after.
        let middle = &value[start..start + (value.len() - start) / 3 * 3];
        if middle.len() >= SHORTEST {
            forms.extend([STANDARD.encode(middle), URL_SAFE_NO_PAD.encode(middle)].map(String::into_bytes));
        }
    }
    forms.push(STANDARD_NO_PAD.encode(value).into_bytes());
    // As in a path (RFC 3986, 2.3) and as in a form (WHATWG URL, 5.2).
    for (kept, space) in [(b"-._~", "%20"), (b"-._*", "+")] {
        for upper in [true, false] {
            let encoded = value.iter().map(|byte| match byte {
                b' ' => space.to_owned(),
                byte if byte.is_ascii_alphanumeric() || kept.contains(byte) => char::from(*byte).to_string(),
                byte if upper => format!("%{byte:02X}"),
                byte => format!("%{byte:02x}"),
            });
            forms.push(encoded.collect::<String>().into_bytes());
        }
    }
    forms.sort();
    forms.dedup();
    forms
}

/// The form in which a value stands in a text, if in any.
pub fn found_in(text: &[u8], value: &[u8]) -> Option<String> {
    Search::new([value]).first(text).map(|(_, form)| form)
}

/// A search for many values at once, in all their forms.
pub struct Search {
    forms: AhoCorasick,
    /// Of each form, which value it is one of.
    values: Vec<usize>,
}

impl Search {
    pub fn new<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let each = values.into_iter().enumerate();
        let all = each.flat_map(|(i, value)| of(value).into_iter().map(move |form| (i, form)));
        let (values, forms): (Vec<usize>, Vec<Vec<u8>>) = all.unzip();
        Self { forms: AhoCorasick::new(forms).unwrap(), values }
    }

    /// The number of a value that stands in a text, and with it what stands there.
    pub fn first(&self, text: &[u8]) -> Option<(usize, String)> {
        let found = self.forms.find(text)?;
        let around = &text[found.start().saturating_sub(80)..text.len().min(found.end() + 80)];
        Some((self.values[found.pattern().as_usize()], String::from_utf8_lossy(around).into_owned()))
    }
}

#[test]
fn every_form_is_found_wherever_it_stands() {
    let secret = b"a secret/of+bytes\xff\xfe%";
    for before in ["", "x", "xy"] {
        let mut around = before.as_bytes().to_vec();
        around.extend(secret);
        around.extend(b"and more");
        let plain = |bytes: &[u8]| bytes.to_vec();
        let hex = |bytes: &[u8]| threads_identity::secret::hex(bytes).into_bytes();
        let base64 = |bytes: &[u8]| STANDARD.encode(bytes).into_bytes();
        let base64url = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes).into_bytes();
        let url = |bytes: &[u8]| url::form_urlencoded::byte_serialize(bytes).collect::<String>().into_bytes();
        let listed = |bytes: &[u8]| format!("{bytes:?}").into_bytes();
        let ways: [&dyn Fn(&[u8]) -> Vec<u8>; 5] = [&plain, &hex, &base64, &base64url, &listed];
        for (i, way) in ways.iter().enumerate() {
            assert!(found_in(&way(&around), secret).is_some(), "{i} {before:?}");
            assert!(found_in(&way(b"another secret of the same length"), secret).is_none(), "{i}");
        }
        assert!(found_in(&url(b"=a secret~/of+bytes*&x"), b"a secret~/of+bytes*").is_some());
        assert!(found_in(b"/a%20secret~%2fof%2bbytes%2a", b"a secret~/of+bytes*").is_some());
    }
}
