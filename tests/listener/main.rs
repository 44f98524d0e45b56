//! The binary as strangers reach it: TLS, floods, exhaustion, and ends in order.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unchecked_time_subtraction,
    reason = "a test that cannot go on fails, its tasks end with it, and its numbers are small"
)]

mod certificates;
mod exhaustion;
mod floods;
mod frames;
mod peers;
mod restarts;
mod tls;
mod world;
