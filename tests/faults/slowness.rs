//! A database that is slow, or behind a network that swallows everything.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::proxy::Proxy;
use crate::world::{Ground, World, is_passing};

/// The longest deadline of a call, and what a busy machine adds.
const CALL_MAX: Duration = Duration::from_secs(30);

/// F6: half a second for each question and its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database_holds_no_call_beyond_its_deadline() {
    let ground = Ground::new().await;
    let proxy = Proxy::start(&ground.postgres.url()).await;
    let world = World::on(ground, &proxy.url(), "").await;
    world.people(1);
    world.until_ready().await;
    let account = world.link("user-0", 0).await.unwrap();
    world.list("user-0").await.unwrap();
    proxy.delay(Duration::from_millis(250));
    let calls = (0..100).map(async |number| {
        let start = Instant::now();
        let answer = match number % 3 {
            0 => world.account(&account.account_id).await.map(drop),
            1 => world.list("user-0").await.map(drop),
            _ => world.token(&account).await.map(drop),
        };
        if let Err(status) = &answer {
            assert!(is_passing(status), "{status:?}");
        }
        (start.elapsed(), answer.is_ok())
    });
    let answers = join_all(calls).await;
    let longest = answers.iter().map(|(took, _)| *took).max().unwrap();
    let good = answers.iter().filter(|(_, good)| *good).count();
    eprintln!("{good} of 100 calls answered, the longest after {longest:?}");
    assert!(longest < CALL_MAX, "{longest:?}");
    assert!(good >= 50, "reads and fetches share their statements: {good}");
    proxy.delay(Duration::ZERO);
    world.until("it is quick again", async || world.list("user-0").await.is_ok()).await;
    world.until_ready().await;
    world.end().await;
}

/// F7: no connection breaks, and nothing is ever answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_is_left_by_itself() {
    let ground = Ground::new().await;
    let proxy = Proxy::start(&ground.postgres.url()).await;
    let world = World::on(ground, &proxy.url(), "").await;
    world.people(1);
    world.until_ready().await;
    let account = world.link("user-0", 0).await.unwrap();
    proxy.freeze();
    let start = Instant::now();
    let (read, listed, fetched) =
        tokio::join!(world.account(&account.account_id), world.list("user-0"), world.token(&account));
    for status in [read.unwrap_err(), listed.unwrap_err(), fetched.unwrap_err()] {
        assert!(is_passing(&status), "{status:?}");
    }
    assert!(start.elapsed() < CALL_MAX, "{:?}", start.elapsed());
    // As after a failover of an address: the old connections stay dead.
    proxy.forget_connections();
    let took = world.until("it reads", async || world.account(&account.account_id).await.is_ok()).await;
    eprintln!("left the black hole {took:?} after the way was free");
    world.until("it lists", async || world.list("user-0").await.is_ok()).await;
    world.until("it fetches", async || world.token(&account).await.is_ok()).await;
    proxy.cut();
    proxy.heal();
    world.until_ready().await;
    world.end().await;
}
