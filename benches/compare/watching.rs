//! How soon a change reaches those who watch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use threads_identity::proto::v1::WatchAccountsRequest;
use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use uuid::Uuid;

use crate::random::Random;
use crate::seed;

/// Changes in one round.
const CHANGES: u64 = 20;
/// The least and the most time between two of them, in milliseconds: they come at any
/// point of the time between two looks at the table.
const PAUSE: (u64, u64) = (150, 250);
/// Far longer than a change is under way.
const PATIENCE: Duration = Duration::from_secs(10);

/// From each commit to each of so many watchers, shortest first.
pub async fn latencies(
    channels: &[Channel],
    authorization: &MetadataValue<Ascii>,
    database: &PgPool,
    watchers: usize,
) -> Vec<Duration> {
    let (told, mut arrivals) = mpsc::unbounded_channel();
    let mut watching = JoinSet::new();
    let open = Arc::new(tokio::sync::Barrier::new(watchers + 1));
    for watcher in 0..watchers {
        let mut request = Request::new(WatchAccountsRequest::default());
        request.metadata_mut().insert("authorization", authorization.clone());
        let channel = channels[watcher % channels.len()].clone();
        let (told, open) = (told.clone(), Arc::clone(&open));
        watching.spawn(async move {
            let mut client = AccountServiceClient::new(channel);
            let mut changes = client.watch_accounts(request).await.unwrap().into_inner();
            // The first message is a cursor: from there on nothing is missed.
            changes.message().await.unwrap().unwrap();
            open.wait().await;
            while let Some(told_now) = changes.message().await.unwrap() {
                if let Some(change) = told_now.change {
                    told.send((change.account_id, Instant::now())).unwrap();
                }
            }
        });
    }
    open.wait().await;
    let (mut random, mut taken) = (Random::new(), Vec::new());
    for _ in 0..CHANGES {
        let pause = PAUSE.0 + random.next() % (PAUSE.1 - PAUSE.0);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let number = random.next() % seed::OPENING;
        let account_id = change(database, number).await;
        let committed = Instant::now();
        let name = account_id.to_string();
        for _ in 0..watchers {
            let arrival = tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
            assert_eq!(arrival.0, name, "each change arrives once, in order");
            taken.push(arrival.1.saturating_duration_since(committed));
        }
    }
    watching.shutdown().await;
    taken.sort();
    taken
}

/// One event in a transaction of its own, as every writer leaves one.
async fn change(database: &PgPool, number: u64) -> Uuid {
    let account_id = seed::account_id(number);
    sqlx::query(
        "insert into events (app_id, account_id, user_id, kind, event_time)
         values ('default', $1, $2, 'PROFILE_CHANGED', now())",
    )
    .bind(account_id)
    .bind(seed::user_id(number))
    .execute(database)
    .await
    .unwrap();
    account_id
}
