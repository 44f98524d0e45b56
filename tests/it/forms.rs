//! The forms in which a value may stand somewhere: as it is, in hexadecimal, in
//! base64 and its alphabet for URLs, and as a part of a URL.

use std::fmt::Write as _;

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
    forms.push(list[1..list.len() - 1].as_bytes().to_vec());
    for start in 0..3 {
        // Cut so that the encoding is the same whatever stands before and after.
        let middle = &value[start..start + (value.len() - start) / 3 * 3];
        if middle.len() >= SHORTEST {
            forms.extend([STANDARD.encode(middle), URL_SAFE_NO_PAD.encode(middle)].map(String::into_bytes));
        }
    }
    forms.push(STANDARD_NO_PAD.encode(value).into_bytes());
    for digits in ["0123456789ABCDEF", "0123456789abcdef"] {
        let digit = |nibble: u8| char::from(digits.as_bytes()[usize::from(nibble)]);
        let mut encoded = String::new();
        for byte in value {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                encoded.push(char::from(*byte));
            } else {
                encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        forms.push(encoded.into_bytes());
    }
    forms.sort();
    forms.dedup();
    forms
}

/// The form in which a value stands in a text, if in any.
pub fn found_in(text: &[u8], value: &[u8]) -> Option<String> {
    let stands = |form: &Vec<u8>| memchr::memmem::find(text, form).is_some();
    of(value).into_iter().find(stands).map(|form| String::from_utf8_lossy(&form).into_owned())
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
        // A form writes a space as a plus, which a path does not.
        assert!(found_in(&url(b"=a-secret~/of+bytes&x"), b"a-secret~/of+bytes").is_some());
    }
}
