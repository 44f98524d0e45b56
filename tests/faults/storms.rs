//! How often it knocks at a database that does not let it in.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sqlx::{Connection as _, PgConnection};
use threads_identity::postgres::Options as ClusterOptions;

use crate::proxy::Proxy;
use crate::world::{Ground, World};

/// What connects each for itself: eight kinds of batch, reads of accounts twice,
/// the pool, and whoever follows the events.
const WHO_CONNECT: u32 = 11;
/// How long each of them waits between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// F10: callers press on, the database turns everybody away, and the attempts to
/// connect do not become more for it.
#[tokio::test(flavor = "multi_thread")]
async fn however_many_call_it_knocks_at_intervals() {
    let ground = Ground::new().await;
    let proxy = Proxy::start(&ground.postgres.url()).await;
    let world = World::on(ground, &proxy.url(), "").await;
    world.people(1);
    world.until_ready().await;
    let account = world.link("user-0", 0).await.unwrap();
    proxy.cut();
    // Whatever was open has broken, and has been noticed.
    let _ = join_all((0..50).map(|_| world.list("user-0"))).await;
    let (before, start) = (*proxy.accepted.borrow(), Instant::now());
    let mut calls = 0;
    while start.elapsed() < Duration::from_secs(4) {
        let lists = join_all((0..20).map(|_| world.list("user-0")));
        let reads = join_all((0..20).map(|_| world.account(&account.account_id)));
        let (lists, reads) = tokio::join!(lists, reads);
        assert!(lists.iter().all(Result::is_err) && reads.iter().all(Result::is_err));
        calls += lists.len() + reads.len();
    }
    let attempts = *proxy.accepted.borrow() - before;
    let allowed = WHO_CONNECT * u32::try_from(start.elapsed().as_millis() / PAUSE.as_millis() + 1).unwrap();
    eprintln!("{calls} calls, {attempts} attempts to connect in {:?}", start.elapsed());
    assert!(attempts <= u64::from(allowed), "{attempts} attempts to connect, {allowed} are allowed");
    proxy.heal();
    let took = world.until("it lists again", async || world.list("user-0").await.is_ok()).await;
    eprintln!("again after {took:?}");
    world.until("it reads again", async || world.account(&account.account_id).await.is_ok()).await;
    world.until_ready().await;
    world.end().await;
}

/// F10: others hold all of Postgres' connections. The process stays up, says so,
/// and goes on when there are some again.
#[tokio::test(flavor = "multi_thread")]
async fn too_few_connections_end_nothing() {
    let ground =
        Ground::with(|data| ClusterOptions { max_connections: 24, ..ClusterOptions::new(data) }).await;
    let url = ground.postgres.url();
    let mut held = Vec::new();
    // All, those for a superuser too.
    while let Ok(connection) = PgConnection::connect(&url).await {
        held.push(connection);
    }
    let world = World::on_url(ground, &url).await;
    world.people(1);
    let said = "not ready: no connection could be had in time";
    world.until("it says so", async || world.probe("/readyz").await.1.starts_with(said)).await;
    assert_eq!(world.probe("/livez").await.0, 200);
    assert!(world.link("user-0", 0).await.is_err());
    drop(held);
    world.until_ready().await;
    world.link_firmly("user-0", 0).await;
    world.end().await;
}
