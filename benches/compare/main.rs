//! The service beside the least that could do the same: a bare service that answers
//! from memory, one that runs one prepared query per call, and the bare sequences of
//! linking and of fetching a token. Everything in one run, in turns, so that the
//! ratios mean something on a machine that others use too.
//!
//! `just bench`, or `cargo bench --bench compare -- --help`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on fails, and prints its result"
)]

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

mod calls;
mod ground;
mod load;
mod machine;
mod measuring;
mod plot;
mod process;
mod random;
mod report;
mod rivals;
mod seed;
mod watching;
mod world;

/// The same as the service's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(clap::Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    plan: measuring::Plan,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What this program is when it starts itself.
#[derive(clap::Subcommand)]
enum Part {
    #[command(hide = true)]
    Rival { kind: rivals::Kind, database_url: String, provider: String },
    #[command(hide = true)]
    Simulator { people: u64 },
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::Rival { kind, database_url, provider }) => {
            rivals::run(kind, &database_url, &provider).await;
        }
        Some(Part::Simulator { people }) => world::simulate(people).await,
        None => {
            // Whoever stops it stops what it has started.
            let mut terminate = signal(SignalKind::terminate()).unwrap();
            tokio::select! {
                () = measuring::run(&arguments.plan) => {}
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
    }
}
