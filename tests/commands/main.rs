//! The binary, as a user runs it: a clean environment, its exit code, what it
//! prints.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::format_push_string,
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "a test that cannot go on fails, its tasks end with it, and it reads from top to bottom"
)]

mod attacks;
mod audit;
mod browser;
mod callers;
mod collector;
mod dev;
mod doctor;
mod erase;
mod everyday;
mod export;
#[path = "../it/forms.rs"]
mod forms;
mod guesses;
mod help;
mod intrusions;
#[expect(dead_code, reason = "tests/it uses more of it")]
#[path = "../it/issuer.rs"]
mod issuer;
mod import;
mod import_rows;
mod keys;
mod leaks;
mod makers;
mod migrate;
mod rotation;
mod outbound;
#[expect(dead_code, reason = "tests/it uses more of it")]
#[path = "../it/raw.rs"]
mod raw;
mod run;
mod serve;
mod siege;
mod simulate;
mod telemetry;
mod tour;
mod upgrade;
mod watch;
