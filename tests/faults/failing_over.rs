//! Another server becomes the primary.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use threads_identity::postgres::Options as ClusterOptions;
use threads_identity::simulator::Decision;
use url::Url;

use crate::proxy::{Proxy, target};
use crate::server::Postgres;
use crate::world::{Ground, World, reason};

/// Generous for a machine that has much else to do; five seconds are promised.
const SOON: Duration = Duration::from_secs(15);

/// A standby of this server, in the same home. `None`, and said loudly, where
/// this Postgres brings no `pg_basebackup`.
async fn standby(primary: &Postgres, data: &Path) -> Option<Postgres> {
    let program = primary.installation.bin.join("pg_basebackup");
    if !program.exists() {
        eprintln!("SKIPPED: {} is not there", program.display());
        return None;
    }
    let socket = primary.cluster.as_ref().unwrap().socket_dir().to_owned();
    let mut command = Command::new(program);
    command.arg("-D").arg(data).arg("-h").arg(socket);
    command.args(["-U", "postgres", "-R", "-X", "stream", "--checkpoint=fast"]);
    let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // The primary's socket lies in its data directory, and a lock beside it.
    let _ = std::fs::remove_file(data.join(".s.PGSQL.5432.lock"));
    Some(Postgres::start(ClusterOptions { max_connections: 200, ..ClusterOptions::new(data) }).await)
}

async fn promote(url: &str) {
    let mut sql = PgConnection::connect(url).await.unwrap();
    let promoted: bool = sqlx::query_scalar("select pg_promote(true, 30)").fetch_one(&mut sql).await.unwrap();
    assert!(promoted);
}

/// F3.
#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_after_a_failover() {
    let ground = Ground::new().await;
    let data = ground.home.path.join("standby");
    let Some(mut other) = standby(&ground.postgres, &data).await else { return };
    let proxy = Proxy::start(&ground.postgres.url()).await;
    let world = World::on(ground, &proxy.url(), "").await;
    world.people(40);
    world.until_ready().await;
    for person in 0..10 {
        world.link(&format!("user-{person}"), person).await.unwrap();
        world.list(&format!("user-{person}")).await.unwrap();
    }
    // What is under way when it happens.
    let callback_url = world.answered("user-10", 10, Decision::Allow).await.unwrap();
    let behind = "select count(*) from accounts";
    let mut there = PgConnection::connect(&other.url()).await.unwrap();
    while sqlx::query_scalar::<_, i64>(behind).fetch_one(&mut there).await.unwrap() < 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    world.postgres.lock().await.crash().await;
    let refused = world.complete(&callback_url, "user-10").await.unwrap_err();
    assert_eq!(reason(&refused), "STORAGE_UNAVAILABLE");
    promote(&other.url()).await;
    proxy.way.send_modify(|way| way.target = target(&Url::parse(&other.url()).unwrap()));
    let promoted = Instant::now();
    world.complete_firmly(&callback_url, "user-10").await.unwrap();
    let took = promoted.elapsed();
    eprintln!("a link went through {took:?} after the promotion");
    assert!(took < SOON, "{took:?}");
    world.until("it lists", async || world.list("user-3").await.is_ok_and(|list| list.len() == 1)).await;
    world.until_ready().await;
    for person in 11..40 {
        world.link(&format!("user-{person}"), person).await.unwrap();
    }
    let linked: i64 =
        sqlx::query_scalar("select count(*) from accounts").fetch_one(&mut there).await.unwrap();
    assert_eq!(linked, 40);
    drop(there);
    world.end().await;
    other.stop().await;
}

/// F4: the address stays, and what answers there reads but does not write.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_on_a_primary_that_was_demoted() {
    let ground = Ground::new().await;
    let data = ground.home.path.join("standby");
    let Some(mut other) = standby(&ground.postgres, &data).await else { return };
    let proxy = Proxy::start(&ground.postgres.url()).await;
    let world = World::on(ground, &proxy.url(), "").await;
    world.people(3);
    world.until_ready().await;
    let account = world.link("user-0", 0).await.unwrap();
    // Read-only under open connections, as a primary is that hands over.
    let read_only = "alter system set default_transaction_read_only = on";
    let reload = "select pg_reload_conf()";
    let mut sql = world.sql().await;
    for statement in [read_only, reload] {
        sqlx::raw_sql(statement).execute(&mut sql).await.unwrap();
    }
    world
        .until("writes are refused", async || {
            world.unlink(&account).await.is_err_and(|status| reason(&status) == "STORAGE_UNAVAILABLE")
        })
        .await;
    for statement in ["alter system reset default_transaction_read_only", reload] {
        sqlx::raw_sql(statement).execute(&mut sql).await.unwrap();
    }
    drop(sql);
    world.until("it writes again", async || world.link("user-1", 1).await.is_ok()).await;

    // A standby in its place: what connects there is not used.
    proxy.way.send_modify(|way| {
        way.target = target(&Url::parse(&other.url()).unwrap());
        way.cut = true;
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.way.send_modify(|way| way.cut = false);
    let refused = world.link("user-2", 2).await.unwrap_err();
    assert_eq!(reason(&refused), "STORAGE_UNAVAILABLE");
    world.until("it says so", async || world.probe("/readyz").await.0 == 503).await;
    let ours = "select count(*) from pg_stat_activity
                where application_name = 'threads-identity' and state = 'idle'";
    let mut there = PgConnection::connect(&other.url()).await.unwrap();
    world
        .until("no connection stays there", async || {
            let mut look = PgConnection::connect(&other.url()).await.unwrap();
            sqlx::query_scalar::<_, i64>(ours).fetch_one(&mut look).await.unwrap() == 0
        })
        .await;
    assert!(sqlx::query_scalar::<_, bool>("select pg_is_in_recovery()").fetch_one(&mut there).await.unwrap());
    drop(there);
    promote(&other.url()).await;
    world.until_ready().await;
    world.link_firmly("user-2", 2).await;
    world.end().await;
    other.stop().await;
}
