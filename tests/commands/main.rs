//! The binary, as a user runs it: a clean environment, its exit code, what it
//! prints.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audit;
mod browser;
mod callers;
mod dev;
mod doctor;
mod erase;
mod help;
mod keys;
mod migrate;
mod rotation;
mod run;
mod serve;
mod simulate;
mod tour;
mod watch;
