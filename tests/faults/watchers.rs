//! Watchers that take nothing, and changes that nobody has watched for weeks.

use std::time::{Duration, Instant};

use threads_identity::proto::v1::account_service_client::AccountServiceClient;
use threads_identity::proto::v1::{
    Account, ListAccountChangesRequest, WatchAccountsRequest, WatchAccountsResponse,
};
use threads_identity::simulator::Persona;
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tonic_types::StatusExt as _;

use crate::world::{Ground, PATIENCE, World, asked_for, reason};

/// How many watchers take nothing.
const SILENT: usize = 100;
/// How many changes they miss; more than their connections hold.
const CHANGES: i64 = 2000;
/// How many bytes a watcher's connection holds that has not read on.
const WINDOW: u32 = 65_535;
const LAGGED: &str = "threads_identity_watches_ended_total{reason=\"WATCH_LAGGED\"}";
/// How many links go on beside.
const LINKS: u64 = 20;

/// A watch on a connection of its own, as those of different machines are, which holds
/// as little of what is not read as HTTP/2 lets it.
async fn watch(world: &World, cursor: &str) -> Result<Streaming<WatchAccountsResponse>, Status> {
    let channel = world.endpoint().initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let cursor = Some(cursor.to_owned()).filter(|cursor| !cursor.is_empty());
    let request = WatchAccountsRequest { cursor, ..Default::default() };
    let watching = AccountServiceClient::new(channel.connect_lazy()).watch_accounts(request).await?;
    Ok(watching.into_inner())
}

/// How many changes come until the stream ends or nothing comes any more, and how it
/// ended.
async fn taken(mut watching: Streaming<WatchAccountsResponse>, enough: i64) -> (i64, Option<Status>) {
    let (mut seen, deadline) = (0, Instant::now() + 3 * PATIENCE);
    while seen < enough {
        // A heartbeat is no reason to wait on.
        assert!(Instant::now() < deadline, "{seen} of {enough} have come");
        match timeout(PATIENCE, watching.message()).await.unwrap() {
            Ok(message) => seen += i64::from(message.unwrap().change.is_some()),
            Err(status) => return (seen, Some(status)),
        }
    }
    (seen, None)
}

/// Writes so many changes of an account, the first so many days ago and the last later
/// by so many.
async fn change(world: &World, account: &Account, many: i64, ago: f64, during: f64) {
    let statement = "insert into events (app_id, account_id, user_id, kind, event_time)
         select app_id, account_id, user_id, 'TOKEN_REFRESHED',
                now() - interval '1 day' * ($3 - $4 * n / $2)
         from accounts cross join generate_series(1, $2) n where user_id = $1";
    let statement = sqlx::query(statement).bind(&account.user_id).bind(many).bind(ago).bind(during);
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
            change(&world, &account, 100, 0.0, 0.0).await;
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
    // Whoever reads on before is not behind.
    let cut = format!("{LAGGED} {SILENT}\n");
    world.until("all have been cut off", async || world.probe("/metrics").await.1.contains(&cut)).await;
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
    const DAYS: u32 = 8;
    let ground = Ground::new().await;
    let url = ground.postgres.url();
    let world = World::on(ground, &url, "[retention]\ninterval = \"1s\"\n").await;
    world.people(1);
    world.until_ready().await;
    let account = world.link_firmly("user-0", 0).await;
    time_of_links(&world, 1).await;
    let before = time_of_links(&world, 1 + LINKS).await;
    let start = position(&world).await;
    let earlier = "update events set event_time = event_time - interval '9 days'";
    sqlx::query(earlier).execute(&mut world.sql().await).await.unwrap();
    // Through days of which the last seven are kept.
    let writing = Instant::now();
    for day in 0..DAYS {
        change(&world, &account, many / i64::from(DAYS), f64::from(DAYS - day), 1.0).await;
    }
    eprintln!("{many} changes written in {:.1?}", writing.elapsed());
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
