//! Watchers that take nothing, and changes that nobody has watched for weeks.

use std::time::{Duration, Instant};

use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::{
    Account, ListAccountChangesRequest, WatchAccountsRequest, WatchAccountsResponse,
};
use threads_identity::simulator::Persona;
use tokio::time::timeout;
use tonic::{Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::world::{Ground, PATIENCE, World, asked_for, reason};

/// How many watchers take nothing.
const SILENT: usize = 100;
/// How many changes they miss; more than their connections hold.
const CHANGES: i64 = 6000;
/// How many links go on beside.
const LINKS: u64 = 20;

async fn watch(world: &World, cursor: &str) -> Result<Streaming<WatchAccountsResponse>, Status> {
    let request = WatchAccountsRequest {
        cursor: Some(cursor.to_owned()).filter(|cursor| !cursor.is_empty()),
        ..Default::default()
    };
    // Each on a connection of its own, as watchers of different machines are.
    let watching = AccountServiceClient::new(world.connect()).watch_accounts(Request::new(request)).await?;
    Ok(watching.into_inner())
}

/// How many changes come until the stream ends or nothing comes any more, and how it
/// ended.
async fn taken(mut watching: Streaming<WatchAccountsResponse>, enough: i64) -> (i64, Option<Status>) {
    let mut seen = 0;
    while seen < enough {
        match timeout(PATIENCE, watching.message()).await.unwrap() {
            Ok(message) => seen += i64::from(message.unwrap().change.is_some()),
            Err(status) => return (seen, Some(status)),
        }
    }
    (seen, None)
}

/// Writes so many changes of an account, spread over so many days until now.
async fn change(world: &World, account: &Account, many: i64, days: i32) {
    let statement = "insert into events (app_id, account_id, user_id, kind, event_time)
         select app_id, account_id, user_id, 'TOKEN_REFRESHED',
                now() - make_interval(days => $3) * (1 - n::float8 / $2)
         from accounts cross join generate_series(1, $2) n where user_id = $1";
    let statement = sqlx::query(statement).bind(&account.user_id).bind(many).bind(days);
    statement.execute(&mut world.sql().await).await.unwrap();
}

/// F44: a hundred take nothing. They are cut off and told where to go on; who reads
/// hears everything meanwhile, and links are not held up.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_who_take_nothing_hold_nobody_up() {
    let ground = Ground::new().await;
    let url = ground.postgres.url();
    let world = World::on(ground, &url, "[watch]\nsend_timeout = \"1s\"\n").await;
    world.people(1 + LINKS);
    world.until_ready().await;
    let account = world.link_firmly("user-0", 0).await;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(watch(&world, "").await.unwrap());
    }
    let reading = watch(&world, "").await.unwrap();
    let writing = async {
        for _ in 0..CHANGES / 100 {
            change(&world, &account, 100, 0).await;
        }
    };
    let linking = async {
        for person in 1..=LINKS {
            world.link(&format!("user-{person}"), person).await.unwrap();
        }
    };
    let all = CHANGES + i64::try_from(LINKS).unwrap();
    let ((), (), (seen, end)) = tokio::join!(writing, linking, taken(reading, all));
    assert_eq!((seen, end.map(|status| status.code())), (all, None), "who reads hears everything");
    for lagging in silent {
        let (seen, end) = taken(lagging, all + 1).await;
        let end = end.unwrap();
        assert_eq!(reason(&end), "WATCH_LAGGED", "{end:?}");
        let cursor = &end.get_details_error_info().unwrap().metadata["cursor"];
        let (rest, end) = taken(watch(&world, cursor).await.unwrap(), all - seen).await;
        assert_eq!((seen + rest, end.map(|status| status.code())), (all, None), "nothing is lost");
    }
    world.end().await;
}

/// F45, in short.
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_nobody_read_for_weeks_cost_nobody_anything() {
    pile_up(100_000).await;
}

/// `just pile-up`: the same with ten million.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as it is asked to"]
async fn changes_that_nobody_read_for_weeks_at_length() {
    pile_up(i64::try_from(asked_for("THREADS_IDENTITY_TIMES", 10_000_000)).unwrap()).await;
}

/// How long so many links take, one after the other.
async fn time_of_links(world: &World, from: u64) -> Duration {
    let start = Instant::now();
    for person in from..from + LINKS {
        world.controls.add_persona(Persona::numbered(person));
        world.link(&format!("user-{person}"), person).await.unwrap();
    }
    start.elapsed()
}

async fn pile_up(many: i64) {
    let ground = Ground::new().await;
    let url = ground.postgres.url();
    let world = World::on(ground, &url, "[retention]\ninterval = \"1s\"\n").await;
    world.people(1);
    world.until_ready().await;
    let account = world.link_firmly("user-0", 0).await;
    time_of_links(&world, 1).await;
    let before = time_of_links(&world, 1 + LINKS).await;
    let start = position(&world).await;
    // A tenth of them is older than what is kept: 7 days.
    let writing = Instant::now();
    let (mut left, mut batch) = (many, 0);
    while left > 0 {
        batch = left.min(500_000);
        change(&world, &account, batch, 8).await;
        left -= batch;
    }
    eprintln!("{many} changes written in {:.1?}, the last {batch} at once", writing.elapsed());
    let after = time_of_links(&world, 1 + 2 * LINKS).await;
    let removing = Instant::now();
    let old = "select count(*) from events where event_time < now() - interval '7 days 1 minute'";
    while world.counted(old).await > 0 {
        assert!(removing.elapsed() < 40 * PATIENCE, "what is old stays\n{}", world.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    eprintln!(
        "{LINKS} links took {before:.0?} before and {after:.0?} after; what was old was gone after {:.0?}",
        removing.elapsed()
    );
    // Who comes from before it is told to list anew, at once; who begins now goes on.
    let asking = Instant::now();
    let told = watch(&world, &start).await;
    let told = match told {
        Err(status) => status,
        Ok(watching) => taken(watching, 1).await.1.unwrap(),
    };
    assert_eq!(reason(&told), "CURSOR_EXPIRED", "{told:?}");
    let now = watch(&world, "").await.unwrap();
    let (_, (seen, end)) = tokio::join!(time_of_links(&world, 1 + 3 * LINKS), taken(now, 5));
    assert_eq!((seen, end.map(|status| status.code())), (5, None));
    assert!(asking.elapsed() < PATIENCE);
    world.end().await;
}

/// Where the changes stand now.
async fn position(world: &World) -> String {
    let request = ListAccountChangesRequest::default();
    world.accounts().list_account_changes(request).await.unwrap().into_inner().cursor
}
