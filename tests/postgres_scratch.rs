//! Test databases, by the dozen and on a server that is not ours.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use sqlx::{Connection as _, PgConnection, Row as _};
use threads_identity::postgres::scratch::Databases;
use threads_identity::postgres::{Cluster, Error, Options, Places};

#[expect(clippy::disallowed_methods, reason = "where the tests learn which server to use")]
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn ask(url: &str, statement: &'static str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let row = sqlx::raw_sql(statement).fetch_optional(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    row.map_or_else(String::new, |row| row.try_get(0).unwrap())
}

async fn databases() -> &'static Databases {
    static DATABASES: tokio::sync::OnceCell<Databases> = tokio::sync::OnceCell::const_new();
    let prepared = DATABASES.get_or_try_init(async || {
        Databases::start(&env, async |url| {
            let mut connection = PgConnection::connect(&url).await?;
            sqlx::raw_sql("create table of_the_template (id int)").execute(&mut connection).await?;
            // Left open on purpose: closing is not left to the caller's care.
            std::mem::forget(connection);
            Ok(())
        })
        .await
    });
    prepared.await.unwrap()
}

#[test]
fn twenty_tests_at_once_have_a_database_each() {
    let begun = Instant::now();
    let test = move |number: usize| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let databases = databases().await;
            let started = begun.elapsed();
            let database = databases.create().await.unwrap();
            let created = begun.elapsed();
            ask(database.url(), "insert into of_the_template values (1)").await;
            assert_eq!(ask(database.url(), "select count(*)::text from of_the_template").await, "1");
            let url = database.url().to_owned();
            let open = PgConnection::connect(&url).await.unwrap();
            let dropping = Instant::now();
            drop(database);
            println!("{number}: {started:?}, created at {created:?}, drop {:?}", dropping.elapsed());
            assert!(PgConnection::connect(&url).await.is_err(), "dropped in spite of a session");
            drop(open);
        });
    };
    let threads: Vec<_> = (0..20).map(|number| std::thread::spawn(move || test(number))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn on_a_given_server_only_what_dead_runs_left_is_dropped() {
    let directory = PathBuf::from(format!("/tmp/pg-given-{}", std::process::id()));
    let installation = Places::from_env(&env).locate().await.unwrap();
    let cluster = Cluster::start(&installation, Options::new(directory.join("data"))).await.unwrap();
    let admin = cluster.url("postgres");
    let given = |name: &str| (name == "THREADS_IDENTITY_DEV_DATABASE_URL").then(|| admin.clone());
    ask(&admin, "create database threads_identity_test_0000abcd_1").await;

    let first = Databases::start(&given, async |_| Ok(())).await.unwrap();
    let database = first.create().await.unwrap();
    let second = Databases::start(&given, async |_| Ok(())).await.unwrap();
    assert_eq!(ask(database.url(), "select 'well'").await, "well");
    let count = "select count(*)::text from pg_database where datname like 'threads_identity_test_%'";
    assert_eq!(ask(&admin, count).await, "3", "two templates, one database");
    drop((database, first, second));
    assert_eq!(ask(&admin, count).await, "0");

    let failed = Databases::start(&given, async |_| Err("no such table".into())).await;
    assert!(matches!(failed, Err(Error::Prepare(_))));
    assert_eq!(ask(&admin, count).await, "0");

    cluster.stop().await;
    fs::remove_dir_all(directory).unwrap();
}
