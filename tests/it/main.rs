//! One binary for all tests.

mod simulator;
