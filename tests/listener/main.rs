//! The binary as strangers reach it: TLS, floods, exhaustion, and ends in order.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unchecked_time_subtraction,
    reason = "a test that cannot go on fails, its tasks end with it, its numbers are small, and it says how it went"
)]

mod certificates;
mod exhaustion;
mod floods;
mod frames;
mod peers;
mod restarts;
mod tls;
mod unreadable;
mod world;
