//! The coalescer by itself, over a table of the test's own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use sqlx::{Connection as _, PgConnection};
use threads_identity::ids::AccountId;
use threads_identity::metrics::Metrics;
use threads_identity::postgres::scratch::Database;
use threads_identity::secret::DatabaseUrl;
use threads_identity::store::accounts::ReadAccounts;
use threads_identity::store::coalescer::{Batch, Coalescer};
use threads_identity::store::{StoreError, connect_options};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::harness::database;

/// The statements that were run, each with its rows' values.
type Log = Arc<Mutex<Vec<Vec<i32>>>>;

/// A row to write.
struct Row {
    id: Uuid,
    value: i32,
    /// The statement that holds it waits for this.
    gate: Option<Arc<Semaphore>>,
    log: Log,
}

/// Writes rows; a value below zero is refused by the table.
struct Rows;

impl Batch for Rows {
    type Request = Row;
    type Answer = i32;
    const NAME: &'static str = "rows";

    fn writes(row: &Row) -> Option<Uuid> {
        Some(row.id)
    }

    async fn run(connection: &mut PgConnection, rows: &[Row]) -> sqlx::Result<Vec<i32>> {
        rows[0].log.lock().unwrap().push(rows.iter().map(|row| row.value).collect());
        for gate in rows.iter().filter_map(|row| row.gate.as_ref()) {
            gate.acquire().await.unwrap().forget();
        }
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let values: Vec<i32> = rows.iter().map(|row| row.value).collect();
        sqlx::query_scalar(
            "insert into rows select * from unnest($1::uuid[], $2::int[])
             on conflict (id) do update set value = excluded.value
             returning value",
        )
        .bind(ids)
        .bind(values)
        .fetch_all(connection)
        .await
    }
}

struct Table {
    coalescer: Coalescer<Rows>,
    log: Log,
    metrics: Arc<Metrics>,
    database: Database,
}

impl Table {
    async fn new() -> Self {
        let database = database().await;
        let mut sql = PgConnection::connect(database.url()).await.unwrap();
        let create = "create table rows (id uuid primary key, value int not null check (value >= 0))";
        sqlx::raw_sql(create).execute(&mut sql).await.unwrap();
        let options = Arc::new(connect_options(&DatabaseUrl::new(database.url().to_owned())).unwrap());
        let metrics = Arc::new(Metrics::new());
        let coalescer = Coalescer::start(&options, &metrics, &TaskTracker::new());
        Self { coalescer, log: Log::default(), metrics, database }
    }

    async fn write(&self, id: u128, value: i32) -> Result<i32, StoreError> {
        let row = Row { id: Uuid::from_u128(id), value, gate: None, log: Arc::clone(&self.log) };
        self.coalescer.submit(row).await
    }

    /// Holds up a statement of its own until the gate is opened; runs `meanwhile`
    /// once that statement runs.
    async fn while_busy<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        let gate = Arc::new(Semaphore::new(0));
        let row =
            Row { id: Uuid::nil(), value: 0, gate: Some(Arc::clone(&gate)), log: Arc::clone(&self.log) };
        let busy = async { self.coalescer.submit(row).await.unwrap() };
        let work = async {
            crate::shorthand::until("the first statement runs", async || !self.log().is_empty()).await;
            let meanwhile = meanwhile;
            tokio::pin!(meanwhile);
            // Whatever it hands in, it hands in before the gate opens.
            if let Some(done) = meanwhile.as_mut().now_or_never() {
                gate.add_permits(1);
                return done;
            }
            gate.add_permits(1);
            meanwhile.await
        };
        tokio::join!(busy, work).1
    }

    fn log(&self) -> Vec<Vec<i32>> {
        self.log.lock().unwrap().clone()
    }

    fn replaced(&self) -> u64 {
        self.metrics.connections_replaced.get()
    }
}

#[tokio::test]
async fn what_waits_at_once_travels_in_one_statement() {
    let table = Table::new().await;
    let answers = table.while_busy(join_all((1..=100).map(|n| table.write(n, 2 * n as i32)))).await;
    let expected: Vec<i32> = (1..=100).map(|n| 2 * n).collect();
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected, "each its own answer");
    assert_eq!(table.log(), [vec![0], expected]);
}

#[tokio::test]
async fn no_statement_carries_more_than_it_may() {
    let table = Table::new().await;
    let answers = table.while_busy(join_all((1..=600).map(|n| table.write(n, n as i32)))).await;
    assert!(answers.iter().all(Result::is_ok));
    let lengths: Vec<usize> = table.log().iter().map(Vec::len).collect();
    assert_eq!(lengths, [1, 256, 256, 88]);
}

#[tokio::test]
async fn a_bad_row_fails_alone() {
    let table = Table::new().await;
    let writes = (1..=20).map(|n| table.write(n, if n == 7 { -1 } else { n as i32 }));
    let answers = table.while_busy(join_all(writes)).await;
    for (n, answer) in (1..=20).zip(answers) {
        match (n, answer) {
            (7, Err(StoreError::Refused(why))) => {
                assert!(why.contains("23514") && why.contains("rows_value_check"), "{why}");
            }
            (7, other) => panic!("{other:?}"),
            (n, answer) => assert_eq!(answer, Ok(n)),
        }
    }
    assert_eq!(table.replaced(), 0, "a refusal does not cost the connection");
    assert_eq!(table.write(7, 7).await, Ok(7));
}

#[tokio::test]
async fn writers_of_one_row_go_one_after_the_other() {
    let table = Table::new().await;
    let writes = [(1, 10), (2, 20), (1, 11), (3, 30), (1, 12), (2, 21)];
    let answers = table.while_busy(join_all(writes.map(|(id, value)| table.write(id, value)))).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), writes.map(|(_, value)| value));
    assert_eq!(table.log(), [vec![0], vec![10, 20, 30], vec![11, 21], vec![12]], "in the order they came");
}

#[tokio::test]
async fn who_leaves_before_the_statement_starts_costs_nothing() {
    let table = Table::new().await;
    table
        .while_busy(async {
            let mut leaving: Vec<_> = (1..=50).map(|n| Box::pin(table.write(n, n as i32))).collect();
            for write in &mut leaving {
                assert!(write.now_or_never().is_none());
            }
        })
        .await;
    assert_eq!(table.write(60, 60).await, Ok(60));
    assert_eq!(table.log(), [vec![0], vec![60]]);
    let mut sql = PgConnection::connect(table.database.url()).await.unwrap();
    let rows: i64 = sqlx::query_scalar("select count(*) from rows").fetch_one(&mut sql).await.unwrap();
    assert_eq!(rows, 2);
}

#[tokio::test]
async fn who_leaves_later_is_carried_along_and_nobody_else_notices() {
    let table = Table::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let row =
        Row { id: Uuid::from_u128(1), value: 1, gate: Some(Arc::clone(&gate)), log: Arc::clone(&table.log) };
    tokio::select! {
        _ = table.coalescer.submit(row) => panic!("the gate is shut"),
        () = crate::shorthand::until("it runs", async || !table.log().is_empty()) => {}
    }
    gate.add_permits(1);
    assert_eq!(table.write(2, 2).await, Ok(2));
    let mut sql = PgConnection::connect(table.database.url()).await.unwrap();
    let rows: i64 = sqlx::query_scalar("select count(*) from rows").fetch_one(&mut sql).await.unwrap();
    assert_eq!(rows, 2, "the first was carried out");
    assert_eq!(table.replaced(), 0);
}

#[tokio::test]
async fn one_more_than_the_queue_holds_is_turned_away() {
    let table = Table::new().await;
    let answers = table.while_busy(join_all((1..=4200).map(|n| table.write(n, 1)))).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((taken.len(), refused.len()), (4096, 104));
    assert!(refused.into_iter().all(|answer| answer == Err(StoreError::Overloaded)));
    assert_eq!(table.write(1, 1).await, Ok(1));
}

#[tokio::test]
async fn a_connection_that_dies_is_replaced_before_anybody_notices() {
    const TERMINATE: &str = "select pg_terminate_backend(pid) from pg_stat_activity
                             where datname = current_database() and pid <> pg_backend_pid()";
    let table = Table::new().await;
    let mut sql = PgConnection::connect(table.database.url()).await.unwrap();
    for n in 1..=5 {
        assert_eq!(table.write(n, 1).await, Ok(1));
        sqlx::query(TERMINATE).execute(&mut sql).await.unwrap();
    }
    assert_eq!(table.write(9, 9).await, Ok(9));
    assert_eq!(table.replaced(), 5);

    // In the middle of a statement that waits for a lock.
    sqlx::raw_sql("begin; lock table rows in access exclusive mode").execute(&mut sql).await.unwrap();
    let mut other = PgConnection::connect(table.database.url()).await.unwrap();
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    let killing = async {
        let mut waits = 0_i64;
        while waits == 0 {
            waits = sqlx::query_scalar(waiting).fetch_one(&mut other).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let terminate = "select pg_terminate_backend(pid) from pg_stat_activity
                         where datname = current_database() and wait_event_type = 'Lock'";
        sqlx::query(terminate).execute(&mut other).await.unwrap();
        sqlx::raw_sql("rollback").execute(&mut sql).await.unwrap();
    };
    let (written, ()) = tokio::join!(table.write(10, 10), killing);
    assert_eq!(written, Ok(10), "tried once more on a new connection");
    assert_eq!(table.replaced(), 6);
}

/// A thousand accounts, and what the planner wants to know of them.
const THOUSAND: &str = "
    insert into accounts (account_id, app_id, threads_user_id, user_id, state, state_reason, scopes,
                          create_time, update_time, authorize_time)
    select gen_random_uuid(), 'default', n::text, 'user', 'UNLINKED', 'UNLINKED_BY_CALLER', '', now(), now(), now()
    from generate_series(1, 1000) n;
    analyze accounts";

#[tokio::test]
async fn a_lone_read_is_planned_once() {
    let database = database().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    sqlx::raw_sql(THOUSAND).execute(&mut connection).await.unwrap();
    let id: Uuid =
        sqlx::query_scalar("select account_id from accounts").fetch_one(&mut connection).await.unwrap();
    let plain = "select app_id from accounts where account_id = any($1)";
    for _ in 0..20 {
        let found = ReadAccounts::run(&mut connection, &[Box::from([AccountId(id)])]).await.unwrap();
        assert!(found[0][0].is_some());
        sqlx::query(plain).bind([id].as_slice()).execute(&mut connection).await.unwrap();
    }
    let kept = "select generic_plans from pg_prepared_statements where statement ~ 'from accounts\\s+where'
                order by statement = $1";
    let kept: Vec<i64> = sqlx::query_scalar(kept).bind(plain).fetch_all(&mut connection).await.unwrap();
    assert_eq!(kept, [15, 0], "ours, and one that shows how many it asks for");
}
