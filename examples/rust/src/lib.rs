//! A backend whose users link their Threads accounts.

pub mod accounts;
pub mod errors;
pub mod identity;
pub mod sessions;
pub mod trouble;
pub mod watcher;
pub mod web;

/// The API, generated from `proto/`.
#[allow(clippy::all)]
pub mod pb {
    tonic::include_proto!("threads.identity.v1");
}
