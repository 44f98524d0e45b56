//! The service from the outside: the real server on a free port, a real
//! Postgres, the simulator behind, a generated client in front, time by hand.

mod contract;
mod harness;
mod linking;
mod simulator;
