//! Files sealed for somebody outside: whoever leaves takes the tokens along in a
//! file that only the holder of a key of theirs opens, with the usual tool for it.
//!
//! The form is that of age, version 1, for X25519 recipients
//! (github.com/C2SP/C2SP/blob/main/age.md), written and never read here.

use std::fmt;
use std::io::{self, Write};

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::secret;

/// How a recipient begins.
const HUMAN_PART: &str = "age";
/// How the secret that belongs to one begins.
const SECRET_PART: &str = "AGE-SECRET-KEY-";
/// The most recipients of a file.
const RECIPIENTS_MAX: usize = 20;
/// What is sealed together.
const CHUNK: usize = 64 * 1024;

/// Whom a file is sealed for.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient([u8; 32]);

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipient")
    }
}

/// What is wrong with a list of recipients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipientsError {
    /// A line holds a secret.
    #[error(
        "line {0} is the secret half of a key: keep it to yourself, and put here what `age-keygen -y` prints of it"
    )]
    Secret(usize),
    /// A line is no recipient.
    #[error(
        "line {0} is no recipient of age, such as age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
    )]
    Invalid(usize),
    /// There is none.
    #[error("it names no recipient: a line that begins with age1, as `age-keygen -y` prints it")]
    Empty,
    /// There are too many.
    #[error("it names more than {RECIPIENTS_MAX} recipients")]
    TooMany,
}

/// Reads recipients, one a line; blank lines and those that begin with # do not
/// count.
///
/// # Errors
/// [`RecipientsError`]. It shows nothing of a line.
pub fn read_recipients(text: &str) -> Result<Vec<Recipient>, RecipientsError> {
    let mut recipients = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.get(..SECRET_PART.len()).is_some_and(|start| start.eq_ignore_ascii_case(SECRET_PART)) {
            return Err(RecipientsError::Secret(i + 1));
        }
        recipients.push(read_recipient(line).ok_or(RecipientsError::Invalid(i + 1))?);
    }
    match recipients.len() {
        0 => Err(RecipientsError::Empty),
        1..=RECIPIENTS_MAX => Ok(recipients),
        _ => Err(RecipientsError::TooMany),
    }
}

fn read_recipient(text: &str) -> Option<Recipient> {
    let checked = bech32::primitives::decode::CheckedHrpstring::new::<bech32::Bech32>(text).ok()?;
    if !checked.hrp().as_str().eq_ignore_ascii_case(HUMAN_PART) {
        return None;
    }
    let bytes: Vec<u8> = checked.byte_iter().collect();
    Some(Recipient(bytes.try_into().ok()?))
}

/// What is written into it comes out sealed. Only [`Sealer::finish`] makes it whole:
/// a file that was cut off does not open to its end.
pub struct Sealer<W: Write> {
    out: W,
    key: LessSafeKey,
    chunks: u64,
    buffer: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealer<W> {
    /// Begins a file for these recipients, each of whom can open it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn new(mut out: W, recipients: &[Recipient]) -> io::Result<Self> {
        let file_key = Zeroizing::new(secret::random::<16>());
        let mut header = String::from("age-encryption.org/v1\n");
        for recipient in recipients {
            let (share, wrapped) = wrap(&file_key, recipient).map_err(failed)?;
            let (share, wrapped) = (STANDARD_NO_PAD.encode(share), STANDARD_NO_PAD.encode(wrapped));
            header.extend(["-> X25519 ", &share, "\n", &wrapped, "\n"]);
        }
        header += "---";
        let mac_key = derive(&[], &*file_key, b"header").map_err(failed)?;
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*mac_key), header.as_bytes());
        header.extend([" ", &STANDARD_NO_PAD.encode(mac), "\n"]);
        let nonce = secret::random::<16>();
        out.write_all(header.as_bytes())?;
        out.write_all(&nonce)?;
        let key = derive(&nonce, &*file_key, b"payload").and_then(|key| cipher(&*key)).map_err(failed)?;
        Ok(Self { out, key, chunks: 0, buffer: Zeroizing::new(Vec::with_capacity(CHUNK + 16)) })
    }

    /// Writes what is left, and the end.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        // The number of the chunk, and whether it is the last.
        let mut nonce = [0; NONCE_LEN];
        nonce[3..11].copy_from_slice(&self.chunks.to_be_bytes());
        nonce[11] = u8::from(is_last);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut *self.buffer).map_err(failed)?;
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.chunks += 1;
        Ok(())
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // A full chunk waits for what follows: the last one is sealed otherwise.
        if self.buffer.len() == CHUNK && !data.is_empty() {
            self.seal(false)?;
        }
        let taken = data.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Seals the file's key for a recipient: our half of the agreement, and the key.
fn wrap(file_key: &[u8; 16], recipient: &Recipient) -> Result<(Vec<u8>, Vec<u8>), Unspecified> {
    let ours = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())?;
    let share = ours.compute_public_key()?.as_ref().to_vec();
    let salt = [share.as_slice(), &recipient.0].concat();
    let theirs = UnparsedPublicKey::new(&X25519, recipient.0);
    let key = agree_ephemeral(ours, theirs, Unspecified, |shared| {
        derive(&salt, shared, b"age-encryption.org/v1/X25519")
    })?;
    let mut wrapped = file_key.to_vec();
    // The key is used once.
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    cipher(&*key)?.seal_in_place_append_tag(nonce, Aad::empty(), &mut wrapped)?;
    Ok((share, wrapped))
}

fn cipher(key: &[u8]) -> Result<LessSafeKey, Unspecified> {
    Ok(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key)?))
}

fn derive(salt: &[u8], key: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; 32]>, Unspecified> {
    let mut derived = Zeroizing::new([0; 32]);
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key);
    extracted.expand(&[info], hkdf::HKDF_SHA256)?.fill(&mut *derived)?;
    Ok(derived)
}

fn failed(_: Unspecified) -> io::Error {
    io::Error::other("sealing failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn recipients_are_read_line_by_line_and_a_secret_is_sent_back() {
        let text = format!("# ours\n\n{RECIPIENT}\r\n  {}\n", RECIPIENT.to_uppercase());
        assert_eq!(read_recipients(&text).unwrap().len(), 2);
        assert_eq!(read_recipients("# nobody\n"), Err(RecipientsError::Empty));
        let mistyped = RECIPIENT.replace("ql3z", "ql3y");
        for (text, error) in [
            (format!("{RECIPIENT}\nAGE-SECRET-KEY-1QQQ\n"), RecipientsError::Secret(2)),
            (mistyped, RecipientsError::Invalid(1)),
            ("ssh-ed25519 AAAA".to_owned(), RecipientsError::Invalid(1)),
            ("\u{e4}ge".to_owned(), RecipientsError::Invalid(1)),
            (format!("{RECIPIENT}\n").repeat(21), RecipientsError::TooMany),
        ] {
            assert_eq!(read_recipients(&text), Err(error));
        }
    }

    #[test]
    fn chunks_are_of_64_kib_and_the_last_is_never_empty_unless_all_is() {
        let recipients = read_recipients(RECIPIENT).unwrap();
        let sealed = |bytes: usize| {
            let mut sealer = Sealer::new(Vec::new(), &recipients).unwrap();
            sealer.write_all(&vec![7; bytes]).unwrap();
            let file = sealer.finish().unwrap();
            let header = file.windows(5).position(|part| part == b"\n--- ").unwrap() + 5 + 43 + 1;
            file.len() - header - 16
        };
        for (bytes, chunks) in
            [(0, 1), (1, 1), (CHUNK, 1), (CHUNK + 1, 2), (2 * CHUNK, 2), (3 * CHUNK - 1, 3)]
        {
            assert_eq!(sealed(bytes), bytes + chunks * 16, "{bytes}");
        }
    }
}
