//! Randomness and fingerprints: the only place that asks for either.

use std::fmt::Write as _;

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The first half of a SHA-256: enough to tell secrets apart without keeping or printing them.
pub(super) type Print = [u8; 16];

/// Random URL-safe text of exactly this many characters, six bits each.
#[expect(clippy::expect_used, reason = "without randomness nothing may go on")]
pub(super) fn text(length: usize) -> String {
    let mut bytes = vec![0; (length * 3).div_ceil(4)];
    rand::fill(&mut bytes).expect("the system's random source does not fail once it has been seeded");
    let mut text = URL_SAFE_NO_PAD.encode(bytes);
    text.truncate(length);
    text
}

/// A random number.
#[expect(clippy::expect_used, reason = "without randomness nothing may go on")]
pub(super) fn number() -> u32 {
    let mut bytes = [0; 4];
    rand::fill(&mut bytes).expect("the system's random source does not fail once it has been seeded");
    u32::from_ne_bytes(bytes)
}

pub(super) fn print(text: &str) -> Print {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let mut print = Print::default();
    print.copy_from_slice(&digest.as_ref()[..16]);
    print
}

/// Eight hexadecimal digits by which a person can tell two secrets apart.
pub(super) fn short_print(text: &str) -> String {
    hex(&print(text)[..4])
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
