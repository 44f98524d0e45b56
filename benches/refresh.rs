//! How many tokens a second one replica refreshes, against the simulator in the
//! same process, beside the bare SQL of it: one update that claims a row and one
//! that finishes it with its event, each a statement and a commit of its own, by as
//! many connections as the replica makes refreshes at once.
//!
//! `cargo bench --bench refresh`. Both run in turns, so that the ratio means
//! something on a machine that others use too.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "a measurement that cannot go on fails, and prints its result"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use threads_identity::clock::{Clock as _, ManualClock};
use threads_identity::config::Config;
use threads_identity::postgres::scratch::Databases;
use threads_identity::refresher;
use threads_identity::sealing::Keyring;
use threads_identity::secret::DatabaseUrl;
use threads_identity::service::Service;
use threads_identity::simulator::{Options, Simulator};
use threads_identity::store;
use time::macros::datetime;
use uuid::Uuid;

#[path = "../tests/it/seeding.rs"]
mod seeding;

/// How many accounts, and how often each way is measured.
const ACCOUNTS: u64 = 2000;
const TURNS: usize = 5;
/// Refreshes at once, and connections of the bare SQL.
const AT_ONCE: u32 = 16;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    let environment = |name: &str| std::env::var(name).ok();
    let migrate = async |url: String| Ok(store::migrate(&DatabaseUrl::new(url)).await?);
    let databases = Databases::start(&environment, migrate).await.unwrap();
    let database = databases.create().await.unwrap();
    let start = datetime!(2026-03-01 12:00:00 UTC);
    let options = Options {
        redirect_uris: vec!["https://a.example/".to_owned()],
        start_time: Some(start.unix_timestamp()),
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let controls = simulator.controls();
    let keyring = Keyring::generate("").to_inline();
    let clock = Arc::new(ManualClock::new(start));
    let service = service(database.url(), &keyring, &simulator.base_url(), &clock);
    seeding::seed(database.url(), &keyring, &controls, ACCOUNTS, 0).await;
    let pool =
        sqlx::postgres::PgPoolOptions::new().max_connections(AT_ONCE).connect(database.url()).await.unwrap();

    println!("{ACCOUNTS} accounts, {AT_ONCE} at once, {TURNS} turns each");
    println!("{:>6}  {:>12}  {:>16}  {:>5}", "turn", "refreshes/s", "bare SQL rows/s", "ratio");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for turn in 1..=TURNS {
        clock.advance(Duration::from_hours(26));
        controls.set_time(clock.now().unix_timestamp());
        sqlx::query("update accounts set next_refresh_time = $1")
            .bind(clock.now())
            .execute(&pool)
            .await
            .unwrap();
        let begin = Instant::now();
        let round = refresher::round(&service).await.unwrap();
        assert_eq!(round.attempts as u64, ACCOUNTS);
        ours.push(ACCOUNTS as f64 / begin.elapsed().as_secs_f64());
        bare.push(bare_sql(&pool).await);
        let (ours, bare) = (ours[turn - 1], bare[turn - 1]);
        println!("{turn:>6}  {ours:>12.0}  {bare:>16.0}  {:>5.2}", ours / bare);
    }
    let count = "select count(*) from events where kind = 'TOKEN_REFRESHED'";
    let refreshed: i64 = sqlx::query_scalar(count).fetch_one(&pool).await.unwrap();
    assert_eq!(refreshed, i64::try_from(ACCOUNTS).unwrap() * TURNS as i64 * 2);
    println!(
        "{:>6}  {:>12.0}  {:>16.0}  {:>5.2}",
        "median",
        median(&ours),
        median(&bare),
        median(&ours) / median(&bare)
    );
}

fn service(database_url: &str, keyring: &str, base: &str, clock: &Arc<ManualClock>) -> Arc<Service> {
    let defaults = Options::default();
    let toml = format!(
        "[refresh]\nconcurrency = {AT_ONCE}\n[[apps]]\nid = \"default\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\n\
         redirect_uris = [\"https://a.example/\"]\ngraph_url = \"{base}\"\n",
        defaults.client_id, defaults.client_secret
    );
    let environment = [("DATABASE__URL", database_url), ("KEYS__VALUE", keyring)]
        .map(|(name, value)| (format!("THREADS_IDENTITY__{name}"), value.to_owned()));
    let config = Config::parse(&toml, Path::new(""), environment).unwrap();
    Arc::new(Service::new(&config, Arc::clone(clock) as _).unwrap())
}

/// Claims and finishes every row, and nothing else.
async fn bare_sql(pool: &PgPool) -> f64 {
    let ids: Vec<Uuid> = sqlx::query_scalar("select account_id from accounts").fetch_all(pool).await.unwrap();
    let begin = Instant::now();
    let share = ids.len().div_ceil(AT_ONCE as usize);
    let workers = ids.chunks(share).map(|ids| {
        let (pool, ids) = (pool.clone(), ids.to_vec());
        tokio::spawn(async move {
            for id in ids {
                let (attempt, token): (i64, Vec<u8>) = sqlx::query_as(
                    "update accounts set refresh_attempt = refresh_attempt + 1, refresh_lease_time = now() + interval '60 s'
                     where account_id = $1 and state = 'ACTIVE' and (refresh_lease_time is null or refresh_lease_time <= now())
                     returning refresh_attempt, token",
                )
                .bind(id)
                .fetch_one(&pool)
                .await
                .unwrap();
                sqlx::query(
                    "with done as (
                         update accounts set token = $3, token_refresh_time = token_refresh_time, refresh_lease_time = null
                         where account_id = $1 and refresh_attempt = $2
                         returning app_id, account_id, user_id)
                     insert into events (app_id, account_id, user_id, kind, event_time)
                     select app_id, account_id, user_id, 'TOKEN_REFRESHED', now() from done",
                )
                .bind(id)
                .bind(attempt)
                .bind(token)
                .execute(&pool)
                .await
                .unwrap();
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    ids.len() as f64 / begin.elapsed().as_secs_f64()
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
