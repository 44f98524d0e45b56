//! What must hold for any input. Shared with the targets in `fuzz/`.

pub mod callback;
pub mod signed_request;
