//! The generated messages, clients and servers of `proto/`.

/// The public API, package `threads.identity.v1`.
pub mod v1 {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("threads.identity.v1");
}

/// What we seal; private to this service.
pub mod internal {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    tonic::include_proto!("threads.identity.internal.v1");
}
