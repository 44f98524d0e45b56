//! The generated messages, clients and servers of `proto/`.
//!
//! Messages that hold secrets have a `Debug` that tells only their name, so
//! that no log line, panic or test failure can print one.

use std::fmt;

/// The public API, package `threads.identity.v1`.
pub mod v1 {
    #![allow(missing_docs, clippy::all, clippy::pedantic, clippy::allow_attributes, reason = "generated")]
    tonic::include_proto!("threads.identity.v1");
}

/// What this service seals; private to it.
pub mod internal {
    #![allow(missing_docs, clippy::all, clippy::pedantic, clippy::allow_attributes, reason = "generated")]
    tonic::include_proto!("threads.identity.internal.v1");
}

/// The descriptors of the public package with their comments, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! redacted {
    ($($message:ty),+ $(,)?) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), "(redacted)"))
            }
        }
    )+};
}

redacted!(
    v1::create_authorization_url_request::Link,
    v1::create_authorization_url_request::SignIn,
    v1::CreateAuthorizationUrlResponse,
    v1::CompleteAuthorizationRequest,
    v1::complete_authorization_request::Parameters,
    v1::complete_authorization_request::Answer,
    v1::complete_authorization_request::parameters::Result,
    v1::FetchAccessTokenResponse,
    internal::State,
    internal::ShortLivedToken,
    internal::PageToken,
);
