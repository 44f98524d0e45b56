//! The service from the outside: the real server on a free port, a real
//! Postgres, the simulator behind, a generated client in front, time by hand.

mod completing;
mod completing_fields;
mod conflicts;
mod creating;
mod harness;
mod linking;
mod pitfalls;
mod provider_answers;
mod provider_faults;
mod racing;
mod resuming;
mod simulator;
