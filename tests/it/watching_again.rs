//! Watches that end, and what becomes of their cursors: a stop, an outage, and
//! everything that makes a cursor worthless.

use std::time::{Duration, Instant};

use threads_identity::proto::v1::account_change::Kind;
use threads_identity::sealing::Keyring;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::harness::{Wishes, World, database, failed, metadata};
use crate::outages::behind_proxy;
use crate::shorthand::until;

const AMPLE: Duration = Duration::from_secs(60);

#[track_caller]
fn expired<T>(refused: Result<T, Status>) {
    let details = failed(refused.map(drop), Code::OutOfRange, "CURSOR_EXPIRED");
    assert!(metadata(&details).is_empty());
}

#[tokio::test]
async fn a_stop_ends_every_watch_at_once_with_a_cursor_that_goes_on() {
    let mut world = World::start().await;
    let (mut witness, _) = world.watch().await;
    let mut watches = Vec::new();
    for n in 0..100 {
        let user_id = format!("user-{}", n % 3);
        let user_id = (n % 4 > 0).then_some(user_id.as_str());
        watches.push(world.watch_as("web", user_id, None).await.unwrap());
    }
    world.linked("user-1", "full").await;
    witness.change().await;
    let replica = world.replica().await;
    let start = Instant::now();
    timeout(AMPLE, world.stop()).await.expect("it ends").unwrap();
    // Far sooner than the drain time of 20 s, after which they would be cut off.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    replica.linked("user-1", "home").await;
    for (n, watching) in watches.iter_mut().enumerate() {
        let (status, _) = watching.end().await;
        let details = failed::<()>(Err(status), Code::Unavailable, "SHUTTING_DOWN");
        if n % 20 == 0 {
            let mut again = replica.watch_from(&metadata(&details)["cursor"]).await;
            let (_, change) = again.change().await;
            // Where it had come to by then depends on when it was ended.
            assert_eq!(change.kind(), Kind::Linked);
        }
    }
}

#[tokio::test]
async fn a_watch_outlives_an_outage_of_the_database_and_misses_nothing() {
    let (world, proxy) = behind_proxy("[watch]\nheartbeat = \"100ms\"\n").await;
    let ids = world.fill("default", "many", 5).await;
    let (mut watching, cursor) = world.watch().await;
    for round in 0..3 {
        if round == 1 {
            proxy.freeze();
        } else {
            proxy.cut();
        }
        // Written beside the way that is cut.
        world.emit(&ids[..2], "TOKEN_REFRESHED").await;
        for _ in 0..3 {
            assert_eq!(watching.message().await.unwrap().change, None, "still alive");
        }
        let refused = world.watch_as("web", None, Some(&cursor)).await;
        failed(refused.map(drop), Code::Unavailable, "STORAGE_UNAVAILABLE");
        let refused = world.changes_as("web", None, None, 0).await;
        failed(refused, Code::Unavailable, "STORAGE_UNAVAILABLE");
        until("the lag is seen", async || world.metric(LAG).await > 0.1).await;
        if round == 1 {
            proxy.forget_connections();
        } else {
            proxy.heal();
        }
        world.emit(&ids[2..], "TOKEN_REFRESHED").await;
        let mut seen: Vec<String> =
            watching.changes(5).await.into_iter().map(|change| change.account_id).collect();
        seen.sort();
        assert_eq!(seen, ids);
        until("there is no lag", async || world.metric(LAG).await < 0.001).await;
    }
    until("it opens again", async || world.watch_as("web", None, Some(&cursor)).await.is_ok()).await;
    let mut again = world.watch_from(&cursor).await;
    assert_eq!(again.changes(15).await.len(), 15);
}

const LAG: &str = "threads_identity_event_tail_lag_seconds";

#[tokio::test]
async fn a_cursor_from_before_the_retention_is_refused_and_never_skips() {
    let world = World::start().await;
    let ids = world.fill("default", "many", 3).await;
    let start = world.position().await;
    let mut watching = world.watch_from(&start).await;
    world.emit(&ids, "TOKEN_REFRESHED").await;
    let mut cursors = Vec::new();
    for _ in 0..3 {
        cursors.push(watching.change().await.0);
    }
    // As the retention does it: rows and floor in one transaction.
    world
        .meddle(
            "begin; update deployment set events_floor = (select min(event_id) + 1 from events);
             delete from events where event_id <= (select events_floor from deployment); commit",
        )
        .await;
    for cursor in [&start, &cursors[0]] {
        expired(world.watch_as("web", None, Some(cursor)).await);
        expired(world.changes_as("web", None, Some(cursor), 0).await);
    }
    for (cursor, left) in [(&cursors[1], 1), (&cursors[2], 0)] {
        let page = world.changes_as("web", None, Some(cursor), 0).await.unwrap();
        assert_eq!(page.changes.len(), left);
    }
    // With everything gone the position is still one from which to go on.
    world
        .meddle("begin; update deployment set events_floor = (select max(event_id) from events); delete from events; commit")
        .await;
    let replica = world.replica().await;
    for world in [&world, &replica] {
        let position = world.position().await;
        assert!(world.changes_as("web", None, Some(&position), 0).await.is_ok());
        assert!(world.changes_as("web", None, Some(&cursors[2]), 0).await.is_ok());
    }
}

#[tokio::test]
async fn a_cursor_of_another_history_is_refused_and_an_open_watch_ends() {
    let world = World::start().await;
    let ids = world.fill("default", "many", 3).await;
    world.emit(&ids, "TOKEN_REFRESHED").await;
    let (mut watching, cursor) = world.watch().await;
    world.meddle("update deployment set event_epoch = event_epoch + 1").await;
    let (status, _) = watching.end().await;
    expired::<()>(Err(status));
    expired(world.watch_as("web", None, Some(&cursor)).await);
    expired(world.changes_as("web", None, Some(&cursor), 0).await);

    // Back to an earlier state by files, with nothing to show for it.
    let (mut watching, cursor) = world.watch().await;
    world.meddle("delete from events; alter sequence events_event_id_seq restart").await;
    let (status, _) = watching.end().await;
    expired::<()>(Err(status));
    expired(world.watch_as("web", None, Some(&cursor)).await);
    let (mut watching, _) = world.watch().await;
    world.emit(&ids[..1], "TOKEN_REFRESHED").await;
    assert_eq!(watching.change().await.1.account_id, ids[0]);
}

#[tokio::test]
async fn a_cursor_of_another_database_is_refused() {
    let world = World::start().await;
    let ids = world.fill("default", "many", 3).await;
    world.emit(&ids, "TOKEN_REFRESHED").await;
    let cursor = world.position().await;
    let keyring = Some(world.keyring.to_string());
    // On the same server, with the same keys, and as far along.
    let other = World::with(Wishes { keyring, database: Some(database().await), ..Wishes::default() }).await;
    let ids = other.fill("default", "many", 5).await;
    other.emit(&ids, "TOKEN_REFRESHED").await;
    expired(other.watch_as("web", None, Some(&cursor)).await);
    expired(other.changes_as("web", None, Some(&cursor), 0).await);
}

#[tokio::test]
async fn a_cursor_under_a_key_that_was_retired_is_refused_as_too_old() {
    let world = World::start().await;
    let cursor = world.position().await;
    let old = Keyring::parse(&world.keyring).unwrap().to_toml().to_string();
    let id_key = old.lines().find(|line| line.starts_with("id_key")).unwrap();
    let new = Keyring::generate("2026-02-01T00:00:00Z").to_toml().to_string();
    let other_id_key = new.lines().find(|line| line.starts_with("id_key")).unwrap();
    let keyring = Some(new.replace(other_id_key, id_key));
    let replica = world.replica_with(Wishes { keyring, ..Wishes::default() }).await;
    // Its key may be on the way to this replica.
    failed(replica.watch_as("web", None, Some(&cursor)).await, Code::Unavailable, "KEY_UNAVAILABLE");
    failed(replica.changes_as("web", None, Some(&cursor), 0).await, Code::Unavailable, "KEY_UNAVAILABLE");
    world.meddle("update sealing_keys set retire_time = now()").await;
    until("the replica knows that the key has been retired", async || {
        let listed = replica.changes_as("web", None, Some(&cursor), 0).await;
        listed.is_err_and(|status| status.code() == Code::OutOfRange)
    })
    .await;
    expired(replica.watch_as("web", None, Some(&cursor)).await);
    expired(replica.changes_as("web", None, Some(&cursor), 0).await);
    assert!(replica.watch_as("web", None, None).await.is_ok());
}

#[tokio::test]
async fn a_role_that_may_do_nothing_but_its_work_is_enough() {
    let world = World::start().await;
    let role = format!("plain_{}", world.look_up("select replace(gen_random_uuid()::text, '-', '')").await);
    world
        .meddle(format!(
            "create role {role} login;
             grant select, insert, update, delete on all tables in schema public to {role};
             grant select on all sequences in schema public to {role}"
        ))
        .await;
    let mut url = url::Url::parse(world.database_url()).unwrap();
    url.set_username(&role).unwrap();
    let database_url = Some(url.to_string());
    let mut replica = world.replica_with(Wishes { database_url, ..Wishes::default() }).await;
    let (mut watching, _) = replica.watch().await;
    let account = world.linked("user-1", "full").await;
    assert_eq!(watching.change().await.1.account, Some(account.clone()));

    // A gap is given up by looking at who else is writing.
    let mut sql = world.sql().await;
    sqlx::raw_sql(
        "begin; insert into events (app_id, account_id, user_id, kind, event_time)
                   select app_id, account_id, user_id, 'X', update_time from accounts; rollback",
    )
    .execute(&mut sql)
    .await
    .unwrap();
    replica.unlink(&account).await;
    assert_eq!(watching.change().await.1.kind(), Kind::Unlinked);
    replica.stop().await.unwrap();
    world.meddle(format!("drop owned by {role}; drop role {role}")).await;
}
