//! Others stand in the way inside the database.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::world::{World, is_passing, reason};

/// The longest deadline of a call, and what a busy machine adds.
const CALL_MAX: Duration = Duration::from_secs(30);

/// F12: somebody changes a table and keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_piles_up_behind_a_lock_on_a_whole_table() {
    let world = World::start().await;
    world.people(30);
    world.until_ready().await;
    let account = world.link("user-0", 0).await.unwrap();
    let mut sql = world.sql().await;
    sqlx::raw_sql("begin; lock table accounts in access exclusive mode").execute(&mut sql).await.unwrap();
    let start = Instant::now();
    for round in 0..3 {
        let reads = join_all((0..40).map(|_| world.account(&account.account_id)));
        let lists = join_all((0..20).map(|_| world.list("user-0")));
        let (reads, lists) = tokio::join!(reads, lists);
        for status in
            reads.into_iter().map(Result::unwrap_err).chain(lists.into_iter().map(Result::unwrap_err))
        {
            assert!(is_passing(&status), "round {round}: {status:?}");
        }
    }
    assert!(start.elapsed() < 3 * CALL_MAX, "{:?}", start.elapsed());
    let waiting = "select count(*) from pg_stat_activity
                   where application_name = 'threads-identity' and wait_event_type = 'Lock'";
    let count: i64 = sqlx::query_scalar(waiting).fetch_one(&mut sql).await.unwrap();
    assert!(count <= 18, "no more wait than there are connections: {count}");
    assert_eq!(world.probe("/livez").await.0, 200);
    sqlx::raw_sql("rollback").execute(&mut sql).await.unwrap();
    world.until("it reads again", async || world.account(&account.account_id).await.is_ok()).await;
    world.until("it lists again", async || world.list("user-0").await.is_ok()).await;
    world.end().await;
}

/// F9: a transaction that loses is tried again, and not for ever. A trigger makes
/// the first so many fail, by a sequence, which no rollback takes back.
#[tokio::test(flavor = "multi_thread")]
async fn what_loses_against_another_transaction_is_tried_three_times() {
    for (code, person) in [("40001", 0), ("40P01", 1)] {
        for (failures, reason_expected) in [(2, None), (3, Some("STORAGE_UNAVAILABLE"))] {
            let world = World::start().await;
            world.people(2);
            world.until_ready().await;
            let trigger = format!(
                "create sequence losses;
                 create function lose() returns trigger language plpgsql as $$
                 begin
                     if nextval('losses') <= {failures} then
                         raise exception 'lost' using errcode = '{code}';
                     end if;
                     return new;
                 end $$;
                 create trigger lose before insert on accounts for each row execute function lose()"
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&mut world.sql().await).await.unwrap();
            let answer = world.link("user", person).await;
            let told = answer.as_ref().err().map(reason);
            assert_eq!(told.as_deref(), reason_expected, "{code}, {failures} times");
            if answer.is_err() {
                world.link_firmly("user", person).await;
            }
            assert_eq!(world.counted("select count(*) from accounts").await, 1);
            world.end().await;
        }
    }
}

/// F11: every connection of the pool is busy. Lists are refused soon; what has
/// connections of its own goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_used_up_refuses_soon_and_stops_nothing_else() {
    let world = World::start().await;
    world.people(1);
    world.until_ready().await;
    let account = world.link("user-0", 0).await.unwrap();
    // Unlinking locks the row; lists do not, so they get through as soon as one is free.
    let mut sql = world.sql().await;
    sqlx::raw_sql("begin; select from accounts for update").execute(&mut sql).await.unwrap();
    let unlinks = join_all((0..8).map(|_| world.unlink(&account)));
    let lists = async {
        let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        world.until("all places are taken", async || world.counted(waiting).await >= 8).await;
        let start = Instant::now();
        let listed = world.list("user-0").await;
        assert!(world.account(&account.account_id).await.is_ok(), "reads have connections of their own");
        (listed, start.elapsed())
    };
    let (unlinks, (listed, took)) = tokio::join!(unlinks, lists);
    for status in unlinks.into_iter().map(Result::unwrap_err) {
        assert!(is_passing(&status), "{status:?}");
    }
    if let Err(status) = listed {
        assert!(matches!(reason(&status).as_str(), "STORAGE_UNAVAILABLE" | "OVERLOADED"), "{status:?}");
    }
    assert!(took < CALL_MAX, "{took:?}");
    sqlx::raw_sql("rollback").execute(&mut sql).await.unwrap();
    world.until("it lists again", async || world.list("user-0").await.is_ok()).await;
    world.end().await;
}
