//! The service from the outside: the real server on a free port, a real
//! Postgres, the simulator behind, a generated client in front, time by hand.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::type_complexity,
    clippy::format_push_string,
    reason = "a test that cannot go on fails, and its tasks end with it"
)]

mod completing;
mod completing_fields;
mod conflicts;
mod contract;
mod creating;
mod harness;
mod linking;
mod pitfalls;
mod provider_answers;
mod provider_faults;
mod racing;
mod resuming;
mod simulator;
