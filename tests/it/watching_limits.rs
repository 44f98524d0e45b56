//! Watchers that take nothing, too many of them, and transactions that do not
//! end.

use std::time::Duration;

use threads_identity::proto::v1::account_change::Kind;
use tonic::Code;

use crate::harness::{Wishes, World, failed, metadata};
use crate::shorthand::until;

const LAG: &str = "threads_identity_event_tail_lag_seconds";
const BEHIND: &str = "threads_identity_events_behind";
const STREAMS: &str = "threads_identity_watch_streams";
const LAGGED: &str = "threads_identity_watches_ended_total{reason=\"WATCH_LAGGED\"}";

#[tokio::test]
async fn a_watcher_that_takes_nothing_is_cut_off_and_the_others_hear_everything() {
    let config = "[watch]\nsend_timeout = \"300ms\"\n";
    let world = World::with(Wishes { config, ..Wishes::default() }).await;
    let ids = world.fill("default", "many", 50).await;
    let (mut reading, _) = world.watch().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(world.watch_apart().await);
    }
    let total = 6000;
    let reader = async {
        let mut seen = 0;
        while seen < total {
            reading.change().await;
            seen += 1;
        }
    };
    let writer = async {
        for _ in 0..total / 50 {
            world.emit(&ids, "TOKEN_REFRESHED").await;
        }
    };
    tokio::join!(reader, writer);
    until("all who are silent have been cut off", async || world.metric(LAGGED).await > 19.5).await;
    // And take no place from others, though none of them has read on.
    until("their places are free", async || world.metric(STREAMS).await < 1.5).await;
    for mut lagging in silent {
        let mut seen = 0;
        let status = loop {
            match lagging.message().await {
                Ok(message) => seen += usize::from(message.change.is_some()),
                Err(status) => break status,
            }
        };
        assert!(seen < total, "what was not taken was not kept");
        let details = failed::<()>(Err(status), Code::Aborted, "WATCH_LAGGED");
        let mut again = world.watch_from(&metadata(&details)["cursor"]).await;
        assert_eq!(again.changes(total - seen).await.len(), total - seen, "nothing is lost, nor sent twice");
        let page = world.position().await;
        assert!(world.changes_as("web", None, Some(&page), 0).await.unwrap().changes.is_empty());
    }
}

#[tokio::test]
async fn there_are_only_so_many_watches_at_once() {
    let world = World::with(Wishes { config: "[watch]\nstreams_max = 2\n", ..Wishes::default() }).await;
    let (first, _) = world.watch().await;
    let (mut second, _) = world.watch().await;
    for _ in 0..3 {
        failed(world.watch_as("web", None, None).await.map(drop), Code::Unavailable, "OVERLOADED");
    }
    drop(first);
    until("the place is free", async || world.metric(STREAMS).await < 1.5).await;
    let (mut third, _) = world.watch().await;
    world.linked("user-1", "full").await;
    assert_eq!(second.change().await.1, third.change().await.1);
    // A watch that is refused takes no place.
    drop(third);
    for _ in 0..5 {
        world.watch_as("web", None, Some("x")).await.err().unwrap();
    }
    until("the place is free", async || world.metric(STREAMS).await < 1.5).await;
    assert!(world.watch_as("web", None, None).await.is_ok());
}

/// Inserts an event by a transaction that stays open.
async fn hold(world: &World, id: &str) -> sqlx::PgConnection {
    let mut sql = world.sql().await;
    let statement = format!(
        "begin; update accounts set update_time = update_time where account_id = '{id}';
         insert into events (app_id, account_id, user_id, kind, event_time)
         select app_id, account_id, user_id, 'RECOVERED', update_time from accounts where account_id = '{id}'"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut sql).await.unwrap();
    sql
}

#[tokio::test]
async fn what_is_not_committed_yet_holds_back_what_comes_later_and_is_not_skipped() {
    let world = World::start().await;
    let ids = world.fill("default", "many", 4).await;
    let (mut watching, start) = world.watch().await;
    let mut held = hold(&world, &ids[0]).await;
    world.emit(&ids[1..2], "TOKEN_REFRESHED").await;
    world.emit(&ids[2..3], "TOKEN_REFRESHED").await;
    until("the lag is seen", async || world.metric(LAG).await > 0.2).await;
    assert!((world.metric(BEHIND).await - 3.0).abs() < 0.1);
    assert!(world.changes_as("web", None, Some(&start), 0).await.unwrap().changes.is_empty());
    let (mut later, position) = world.watch().await;
    // Those who write meanwhile and are done do not count.
    let mut other = hold(&world, &ids[3]).await;
    sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();

    sqlx::raw_sql("commit").execute(&mut held).await.unwrap();
    for watching in [&mut watching, &mut later] {
        let changes = watching.changes(3).await;
        let seen: Vec<&String> = changes.iter().map(|change| &change.account_id).collect();
        assert_eq!(seen, [&ids[0], &ids[1], &ids[2]]);
        assert_eq!(changes[0].kind(), Kind::Recovered);
    }
    assert_eq!(world.changes_as("web", None, Some(&position), 0).await.unwrap().changes.len(), 3);
    until("there is no lag", async || world.metric(LAG).await < 0.001).await;
    assert!(world.metric(BEHIND).await < 0.5);
}

#[tokio::test]
async fn what_was_given_up_holds_nothing_back() {
    let world = World::start().await;
    let ids = world.fill("default", "many", 3).await;
    let (mut watching, _) = world.watch().await;
    let mut given_up = hold(&world, &ids[0]).await;
    world.emit(&ids[1..2], "TOKEN_REFRESHED").await;
    until("the lag is seen", async || world.metric(LAG).await > 0.1).await;
    sqlx::raw_sql("rollback").execute(&mut given_up).await.unwrap();
    assert_eq!(watching.change().await.1.account_id, ids[1]);
    // The last ids drawn were given up: there is no lag for ever.
    let mut given_up = hold(&world, &ids[0]).await;
    sqlx::raw_sql("rollback").execute(&mut given_up).await.unwrap();
    until("there is no lag", async || world.metric(LAG).await < 0.001).await;
    world.emit(&ids[2..], "TOKEN_REFRESHED").await;
    assert_eq!(watching.change().await.1.account_id, ids[2]);
}

#[tokio::test]
async fn a_transaction_that_writes_no_events_holds_nobody_back() {
    let world = World::start().await;
    let ids = world.fill("default", "many", 2).await;
    let (mut watching, _) = world.watch().await;
    let mut foreign = world.sql().await;
    let writes = "begin; create table foreign_table as select * from accounts";
    sqlx::raw_sql(writes).execute(&mut foreign).await.unwrap();
    // A gap is what makes it matter who else is writing.
    let mut given_up = hold(&world, &ids[0]).await;
    sqlx::raw_sql("rollback").execute(&mut given_up).await.unwrap();
    world.emit(&ids[1..], "TOKEN_REFRESHED").await;
    assert_eq!(watching.change().await.1.account_id, ids[1]);
    let replica = world.replica().await;
    assert_eq!(replica.changes_as("web", None, None, 0).await.unwrap().changes.len(), 0);
    sqlx::raw_sql("rollback").execute(&mut foreign).await.unwrap();
}

#[tokio::test]
async fn a_replica_that_starts_beside_an_unfinished_change_does_not_skip_it() {
    let world = World::start().await;
    let ids = world.fill("default", "many", 2).await;
    let start = world.position().await;
    let mut held = hold(&world, &ids[0]).await;
    world.emit(&ids[1..], "TOKEN_REFRESHED").await;
    let replica = world.replica().await;
    // Where it stands is not known yet: what is in the making may come before it.
    failed(replica.changes_as("web", None, None, 0).await, Code::Unavailable, "STORAGE_UNAVAILABLE");
    sqlx::raw_sql("commit").execute(&mut held).await.unwrap();
    until("it is known", async || replica.changes_as("web", None, None, 0).await.is_ok()).await;
    let mut watching = replica.watch_from(&start).await;
    let seen: Vec<String> = watching.changes(2).await.into_iter().map(|change| change.account_id).collect();
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn a_thousand_watchers_cost_the_database_what_one_costs() {
    let world = World::start().await;
    let ids = world.fill("default", "many", 1).await;
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(crate::harness::with_key(world.connect().await, world.key("web")));
    }
    let mut watches = Vec::new();
    for n in 0..400 {
        let mut client = threads_identity::proto::v1::account_service_client::AccountServiceClient::new(
            channels[n % 4].clone(),
        );
        let request = threads_identity::proto::v1::WatchAccountsRequest::default();
        let mut stream = client.watch_accounts(request).await.unwrap().into_inner();
        stream.message().await.unwrap();
        watches.push(stream);
    }
    const ROWS: &str = "threads_identity_batch_rows_total{batch=\"read_accounts\"}";
    let before = world.metric(ROWS).await;
    world.emit(&ids, "TOKEN_REFRESHED").await;
    for watching in &mut watches {
        let message = tokio::time::timeout(Duration::from_secs(60), watching.message()).await.unwrap();
        assert!(message.unwrap().unwrap().change.is_some());
    }
    assert!((world.metric(ROWS).await - before - 1.0).abs() < 0.1, "one reading for all");
}
