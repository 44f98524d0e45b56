//! `migrate`.

use sqlx::Connection as _;

use threads_identity::simulator::Decision;

use crate::run::{Running, command, database, empty_database, end, run};
use crate::serve::{Service, Setting};

async fn count(url: &str, query: &'static str) -> i64 {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(query).fetch_one(&mut connection).await.unwrap()
}

const APPLIED: &str = "select count(*) from _sqlx_migrations where success";

#[tokio::test]
async fn it_needs_the_database_alone_and_may_be_repeated() {
    let database = empty_database().await;
    for _ in 0..2 {
        let mut migrate = command(["migrate"]);
        migrate.env("DATABASE_URL", database.url());
        assert!(end(migrate).good().contains("up to date"));
    }
    let migrations = std::fs::read_dir("migrations").unwrap().flatten();
    let files =
        migrations.filter(|file| file.path().extension().is_some_and(|ending| ending == "sql")).count();
    assert_eq!(count(database.url(), APPLIED).await, i64::try_from(files).unwrap());
}

#[tokio::test]
async fn four_processes_at_once_migrate_one_database() {
    let database = empty_database().await;
    let start = || Running::start(command(["migrate"]).env("DATABASE_URL", database.url()));
    let running = [start(), start(), start(), start()];
    for migrate in running {
        migrate.end().good();
    }
    let versions = "select count(distinct version) from _sqlx_migrations";
    assert_eq!(count(database.url(), APPLIED).await, count(database.url(), versions).await);
}

#[tokio::test]
async fn what_keeps_it_from_migrating_is_said() {
    let error = run(&["migrate"]).bad();
    assert!(error.contains("database.url: is required"), "{error}");

    let mut migrate = command(["migrate"]);
    migrate.env("DATABASE_URL", "postgres://canary:canary@127.0.0.1:1/canary");
    let error = end(migrate).bad();
    assert!(error.contains("unavailable") && !error.contains("canary"), "{error}");

    // A later version has migrated it: nothing is undone, and it is said.
    let database = database().await;
    let mut connection = sqlx::PgConnection::connect(database.url()).await.unwrap();
    sqlx::query("update _sqlx_migrations set checksum = '\\x00' where version = 1")
        .execute(&mut connection)
        .await
        .unwrap();
    let mut migrate = command(["migrate"]);
    migrate.env("DATABASE_URL", database.url());
    let error = end(migrate).bad();
    assert!(error.contains("migration 1"), "{error}");
}

/// The other half of an upgrade with both versions running: the older one starts, and
/// works, on the schema of the newer one.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_goes_along_with_what_a_newer_one_has_added() {
    let database = database().await;
    let mut connection = sqlx::PgConnection::connect(database.url()).await.unwrap();
    sqlx::raw_sql(
        "alter table accounts add column later text;
         alter table authorizations add column later text not null default 'later';
         create table later (later_id uuid primary key);
         insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'later', true, '\\x00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let mut migrate = command(["migrate"]);
    migrate.env("DATABASE_URL", database.url());
    end(migrate).good();
    assert_eq!(count(database.url(), "select count(*) from _sqlx_migrations where version = 9999").await, 1);

    let setting = Setting::new("migrate-newer", database.url()).await;
    let service = Service::start(setting.serve(), &setting.key).await;
    let created = service.create("user-1").await;
    let controls = setting.simulator.controls();
    let callback = controls.consent(&created.authorization_url, "full", Decision::Allow).unwrap();
    let linked = service.complete(&callback, "user-1").await;
    assert_eq!(linked.account.unwrap().user_id, "user-1");
}
