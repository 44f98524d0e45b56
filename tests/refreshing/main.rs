//! Several real processes keep the tokens of one database alive while they are
//! killed, frozen, and left without it. Nothing is mocked: the binary as it is
//! shipped, a Postgres of the test's own, real time, shortened lives.
//!
//! What must hold in the end, whatever happened on the way: every token was
//! refreshed; none is lost, and no account with it; what is stored is what Threads
//! gave last; and no token was refreshed twice unless whoever held it was struck
//! down, and then not before its lease was over.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, runs in real time, and says how it went"
)]

#[path = "../processes/home.rs"]
mod home;
mod nemesis;
#[path = "../processes/replica.rs"]
mod replica;
#[path = "../processes/server.rs"]
mod server;
mod verdict;
mod world;

use std::sync::Arc;
use std::time::Duration;

use crate::nemesis::Nemesis;
use crate::verdict::Verdict;
use crate::world::World;

/// How much is done, and over how long it falls due.
struct Scale {
    accounts: u64,
    due_within: Duration,
    patience: Duration,
}

async fn survive(scale: Scale) {
    let world = Arc::new(World::start(scale.accounts, scale.due_within).await);
    let nemesis = Nemesis::start(&world);
    world.until_all_are_refreshed(scale.patience).await;
    let blows = nemesis.stop().await;
    world.settle(scale.patience).await;
    let verdict = Verdict::of(&world, &blows).await;
    eprintln!("{verdict}");
    verdict.demand();
    Arc::into_inner(world).unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_refreshed_once_whatever_befalls_the_processes() {
    let scale =
        Scale { accounts: 500, due_within: Duration::from_secs(20), patience: Duration::from_mins(3) };
    survive(scale).await;
}

/// The same at length, some ten minutes:
/// `cargo test --test refreshing -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten minutes and both hands"]
async fn twenty_thousand_tokens_are_refreshed_once_whatever_befalls_the_processes() {
    let scale =
        Scale { accounts: 20_000, due_within: Duration::from_mins(8), patience: Duration::from_mins(30) };
    survive(scale).await;
}
