//! Secrets as types: no `Display`, no `Serialize`, a `Debug` that tells only
//! the name, wiped when dropped. The one way in is spelled `expose`, so that
//! every place which reads a secret can be found by searching for it.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest;
use secrecy::{ExposeSecret, SecretString};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(SecretString);

        impl $name {
            /// Takes the secret in.
            #[must_use]
            pub fn new(value: String) -> Self {
                Self(SecretString::from(value))
            }

            /// The secret itself.
            #[must_use]
            pub fn expose(&self) -> &str {
                self.0.expose_secret()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    };
}

secret!(
    /// A token of Threads, short-lived or long-lived.
    AccessToken
);
secret!(
    /// The one-time code that a browser brings back.
    AuthorizationCode
);
secret!(
    /// The secret of a Threads app.
    ClientSecret
);
secret!(
    /// A database URL: it holds a password.
    DatabaseUrl
);

/// SHA-256. What is stored of a value that must be recognised but not kept.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Random bytes from the system, for ids, salts and keys.
///
/// # Panics
/// If the system has no randomness to give; nothing can be sealed safely then.
#[must_use]
#[expect(clippy::expect_used, reason = "without randomness nothing may go on")]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}
