//! Ten thousand changes by sixteen writers at once, while watchers come and go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sqlx::PgConnection;
use threads_identity::proto::v1::AccountChange;
use threads_identity::proto::v1::account_change::Kind;
use tokio::task::JoinSet;

use crate::harness::World;
use crate::watching::Watching;

const WRITERS: u64 = 16;
const EVENTS: usize = 10_000;
const ACCOUNTS: i64 = 40;
/// Links and unlinks through the service, one event each.
const LINKS: usize = 40;

/// Numbers that look random, and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// One change of an account, in the order of the service: the row first, which
/// waits for whoever holds it, then the event. The account counts its changes,
/// and the count is the event's time: so each event is one of a kind, and the
/// true order of an account's events is known.
async fn change(sql: &mut PgConnection, id: &str) {
    let statement = "with changed as (
             update accounts set username = (username::int + 1)::text where account_id = $1::uuid returning *
         )
         insert into events (app_id, account_id, user_id, kind, event_time)
         select app_id, account_id, user_id, 'TOKEN_REFRESHED',
                '2026-03-01 12:00:00Z'::timestamptz + username::int * interval '1 microsecond'
         from changed";
    sqlx::query(statement).bind(id).execute(sql).await.unwrap();
}

/// Writes its share, by transactions of one to four changes, of which some are
/// given up, wholly or in part.
async fn write(mut sql: PgConnection, ids: Arc<Vec<String>>, seed: u64) {
    let mut dice = Dice(seed);
    let mut left = EVENTS / usize::try_from(WRITERS).unwrap();
    while left > 0 {
        let count = usize::try_from(1 + dice.below(4)).unwrap().min(left);
        let mut chosen: Vec<&String> = Vec::new();
        while chosen.len() < count {
            let id = &ids[usize::try_from(dice.below(ids.len() as u64)).unwrap()];
            if !chosen.contains(&id) {
                chosen.push(id);
            }
        }
        // In one order, so that no two wait for each other in a circle.
        chosen.sort();
        sqlx::raw_sql("begin").execute(&mut sql).await.unwrap();
        let is_given_up = dice.below(8) == 0;
        for id in chosen {
            if dice.below(10) == 0 {
                sqlx::raw_sql("savepoint s").execute(&mut sql).await.unwrap();
                change(&mut sql, id).await;
                sqlx::raw_sql("rollback to s").execute(&mut sql).await.unwrap();
            }
            change(&mut sql, id).await;
            if dice.below(50) == 0 {
                sqlx::raw_sql("select pg_sleep(0.02)").execute(&mut sql).await.unwrap();
            }
        }
        sqlx::raw_sql(if is_given_up { "rollback" } else { "commit" }).execute(&mut sql).await.unwrap();
        left -= if is_given_up { 0 } else { count };
    }
}

/// What one watcher has heard, each once.
#[derive(Default)]
struct Heard {
    seen: HashSet<(String, i64, i32, i32)>,
    order: Vec<(String, i64, i32)>,
}

impl Heard {
    /// Takes a change in; what was heard before must be heard again in the same
    /// order, from where it was gone back to.
    fn take(&mut self, change: &AccountChange, links: &mut usize) {
        let time = change.change_time.unwrap();
        let mut turn = 0;
        if change.kind() != Kind::TokenRefreshed {
            // All at one time: told apart by their number.
            *links += 1;
            turn = i32::try_from(*links).unwrap();
        }
        if self.seen.insert((change.account_id.clone(), time.seconds, time.nanos, turn)) {
            self.order.push((change.account_id.clone(), i64::from(time.nanos), change.kind().into()));
        }
    }
}

/// Comes, hears, goes, and comes back: behind the last cursor, or sometimes
/// behind an earlier one.
async fn watch(world: Arc<World>, start: String, seed: u64) -> Vec<(String, i64, i32)> {
    let mut dice = Dice(seed);
    let mut heard = Heard::default();
    // Each cursor with how many links had been heard of by then.
    let mut cursors = vec![(start, 0)];
    while heard.order.len() < EVENTS + LINKS {
        let back = if dice.below(4) == 0 { dice.below(40) } else { 0 };
        let keep = cursors.len().saturating_sub(usize::try_from(back).unwrap()).max(1);
        cursors.truncate(keep);
        let (cursor, mut links) = cursors.last().cloned().unwrap();
        if dice.below(4) == 0 {
            let page =
                world.changes_as("web", None, Some(&cursor), 1 + dice.below(200) as i32).await.unwrap();
            page.changes.iter().for_each(|change| heard.take(change, &mut links));
            cursors.push((page.cursor, links));
            continue;
        }
        let mut watching: Watching = world.watch_from(&cursor).await;
        for _ in 0..dice.below(1500) {
            if heard.order.len() == EVENTS + LINKS {
                break;
            }
            let (cursor, change) = watching.change().await;
            heard.take(&change, &mut links);
            cursors.push((cursor, links));
        }
    }
    heard.order
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_watcher_hears_of_every_change_once_and_in_order() {
    let world = Arc::new(World::start().await);
    let ids = Arc::new(world.fill("default", "many", ACCOUNTS).await);
    world.meddle("update accounts set username = '0'").await;
    let replica = Arc::new(world.replica().await);
    let start = world.position().await;

    let mut watchers = JoinSet::new();
    for seed in 0..6 {
        let world = Arc::clone(if seed % 2 == 0 { &world } else { &replica });
        watchers.spawn(watch(world, start.clone(), seed));
    }
    let mut writers = JoinSet::new();
    for seed in 0..WRITERS {
        writers.spawn(write(world.sql().await, Arc::clone(&ids), 100 + seed));
    }
    for _ in 0..LINKS / 2 {
        let account = world.linked("user-1", "full").await;
        replica.unlink(&account).await;
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    let expected: Vec<(String, i64, String)> = sqlx::query_as(
        "select account_id::text, (extract(microseconds from event_time)::bigint % 1000000) * 1000, kind
         from events order by event_id",
    )
    .fetch_all(&mut world.sql().await)
    .await
    .unwrap();
    assert_eq!(expected.len(), EVENTS + LINKS);
    let name =
        |kind: i32| Kind::try_from(kind).unwrap().as_str_name().strip_prefix("KIND_").unwrap().to_owned();
    while let Some(heard) = watchers.join_next().await {
        let heard: Vec<_> =
            heard.unwrap().into_iter().map(|(id, time, kind)| (id, time, name(kind))).collect();
        assert!(heard == expected, "a watcher heard otherwise than it was");
    }
    // And the order is that in which each account truly changed.
    let mut counts: HashMap<&str, i64> = HashMap::new();
    for (id, time, _) in expected.iter().filter(|(_, _, kind)| kind == "TOKEN_REFRESHED") {
        let count = counts.entry(id).or_default();
        *count += 1;
        assert_eq!(*time, *count * 1000, "the changes of {id} are out of order");
    }
    assert!(counts.len() > 30);
}
