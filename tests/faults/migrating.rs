//! The schema is brought up to date by several at once, is interrupted, and waits.

use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use threads_identity::postgres::Options as ClusterOptions;
use threads_identity::secret::DatabaseUrl;
use threads_identity::store::{MIGRATOR, MigrateError, migrate, migrate_within};
use tokio::time::sleep;

use crate::home::Home;
use crate::server::Postgres;
use crate::world::between;

async fn empty() -> (Home, Postgres) {
    let home = Home::new();
    let options = ClusterOptions { max_connections: 50, ..ClusterOptions::new(home.path.join("server")) };
    let postgres = Postgres::start(options).await;
    (home, postgres)
}

fn migrator(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_threads-identity"));
    command.arg("migrate").env_clear().env("DATABASE_URL", url);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

async fn applied(url: &str) -> Vec<i64> {
    let mut sql = PgConnection::connect(url).await.unwrap();
    let query = "select version from _sqlx_migrations where success order by version";
    sqlx::query_scalar(query).fetch_all(&mut sql).await.unwrap()
}

/// F38: killed at any moment it can be run again, also by two at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_killed_is_run_again() {
    let (_home, mut postgres) = empty().await;
    let versions: Vec<i64> = MIGRATOR.iter().map(|migration| migration.version).collect();
    for round in 0..12 {
        let mut sql = PgConnection::connect(&postgres.url()).await.unwrap();
        sqlx::raw_sql("drop schema public cascade; create schema public").execute(&mut sql).await.unwrap();
        drop(sql);
        let mut killed = migrator(&postgres.url()).spawn().unwrap();
        sleep(between(0, 120)).await;
        let _ = killed.kill();
        let _ = killed.wait();
        let pair = [migrator(&postgres.url()), migrator(&postgres.url())].map(|mut command| command.spawn());
        for migrating in pair {
            let status = tokio::task::spawn_blocking(move || migrating.unwrap().wait()).await.unwrap();
            assert!(status.unwrap().success(), "round {round}");
        }
        assert_eq!(applied(&postgres.url()).await, versions, "round {round}");
    }
    postgres.stop().await;
}

/// F38: whoever waits for a lock gives up, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_waits_too_long_says_what_for() {
    let (_home, mut postgres) = empty().await;
    let url = DatabaseUrl::new(postgres.url());
    let mut sql = PgConnection::connect(&postgres.url()).await.unwrap();
    // Another migration: sqlx locks by the database, and waits.
    migrate(&url).await.unwrap();
    sqlx::raw_sql("delete from _sqlx_migrations where version = 10; drop table room_trials")
        .execute(&mut sql)
        .await
        .unwrap();
    sqlx::raw_sql("begin; lock table _sqlx_migrations in access exclusive mode")
        .execute(&mut sql)
        .await
        .unwrap();
    let waited = migrate_within(&url, Duration::from_millis(300)).await;
    assert!(matches!(waited, Err(MigrateError::Locked)), "{waited:?}");
    sqlx::raw_sql("rollback").execute(&mut sql).await.unwrap();
    migrate(&url).await.unwrap();
    postgres.stop().await;
}
