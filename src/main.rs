//! The binary: parse, dispatch, exit.

use std::process::ExitCode;

use clap::Parser as _;
use threads_identity::cli::Cli;

/// Measured: 5-10 % more reads per second than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run(std::env::vars_os())
}
