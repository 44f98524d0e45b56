//! The service from the outside: the real server on a free port, a real
//! Postgres, the simulator behind, a generated client in front, time by hand.

mod completing;
mod completing_fields;
mod conflicts;
mod creating;
mod harness;
mod linking;
mod provider_faults;
mod racing;
mod simulator;
