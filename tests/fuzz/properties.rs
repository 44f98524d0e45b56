//! What must hold for any input. Shared with the targets in `fuzz/`.

pub mod callback;
pub mod configuration;
pub mod page_token;
pub mod provider_json;
pub mod rpc;
pub mod sealed;
pub mod signed_request;
