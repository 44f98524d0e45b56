//! Three replicas, their Postgres, and Threads.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sqlx::{Connection as _, PgConnection};
use threads_identity::ids::{AccountId, ThreadsUserId};
use threads_identity::postgres::Options as ClusterOptions;
use threads_identity::sealing::{Keyring, Place, Purpose};
use threads_identity::secret::DatabaseUrl;
use threads_identity::simulator::{Controls, Endpoint, Fault, Options, Persona, Simulator};
use threads_identity::store;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::home::Home;
use crate::replica::Replica;
use crate::server::Postgres;

/// How many processes there are.
pub const REPLICAS: usize = 3;
/// Some ten times shorter than usual.
pub const LEASE: Duration = Duration::from_secs(4);
/// With so long a call no attempt has time for a second one: a token that is
/// refreshed twice was held twice.
const SETTINGS: &str = "[refresh]\nminimum_age = \"1s\"\npoll_interval = \"250ms\"\nlease = \"4s\"\n\
                        attempt_timeout = \"2500ms\"\n\n\
                        [provider]\nconnect_timeout = \"1s\"\ncall_timeout = \"3s\"\n\n\
                        [server]\ngrpc_listen = \"127.0.0.1:0\"\nops_listen = \"127.0.0.1:0\"\n\
                        http_listen = \"127.0.0.1:0\"\n\n";

const APP: &str = "default";
const DAY: i64 = 86_400;
/// Makes due what has failed and waits.
const IMPATIENCE: &str = "update accounts set next_refresh_time = now()
                          where refresh_failing_time is not null and next_refresh_time > now()";
/// How many accounts are put in at once.
const CHUNK: usize = 1000;

/// Everything that takes part.
pub struct World {
    pub controls: Controls,
    pub replicas: Vec<Mutex<Replica>>,
    pub postgres: Mutex<Postgres>,
    pub accounts: u64,
    database_url: String,
    keyring: Keyring,
    start: OffsetDateTime,
    simulator: Simulator,
    _home: Home,
}

impl World {
    /// Puts accounts in whose tokens fall due within this time, and lets the
    /// replicas begin.
    pub async fn start(accounts: u64, due_within: Duration) -> Self {
        let home = Home::new();
        let data = ClusterOptions::new(home.path.join("server"));
        let postgres = Postgres::start(ClusterOptions { max_connections: 200, ..data }).await;
        let database_url = postgres.url();
        store::migrate(&DatabaseUrl::new(database_url.clone())).await.unwrap();

        let simulator = Simulator::start(Options::default()).await.unwrap();
        let controls = simulator.controls();
        controls.knobs(|knobs| knobs.refresh_minimum_age = 1);
        // Slow, so that a blow finds much under way: the token is refreshed at once, the answer comes later.
        for (endpoint, delay) in [(Endpoint::Refresh, 300), (Endpoint::Me, 100)] {
            let often = usize::try_from(accounts).unwrap() * 10;
            controls.fault_times(endpoint, often, Fault::Delay(Duration::from_millis(delay)));
        }
        let defaults = Options::default();
        let base = simulator.base_url();
        let config = home.path.join("config.toml");
        let text = format!(
            "{SETTINGS}[[apps]]\nid = \"{APP}\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\n\
             redirect_uris = [\"https://id.example.com/callback\"]\nauthorize_url = \"{base}/oauth/authorize\"\n\
             graph_url = \"{base}\"\n",
            defaults.client_id, defaults.client_secret
        );
        fs::write(&config, text).unwrap();

        let keyring = Keyring::generate("2026-01-01T00:00:00Z");
        let start = OffsetDateTime::now_utc();
        let mut world = Self {
            controls,
            replicas: Vec::new(),
            postgres: Mutex::new(postgres),
            accounts,
            database_url,
            keyring,
            start,
            simulator,
            _home: home,
        };
        world.fill(due_within).await;
        for number in 0..REPLICAS {
            let log = config.with_file_name(format!("replica-{number}.log"));
            let replica = Replica::start(&config, log, &world.database_url, &world.keyring.to_inline());
            world.replicas.push(Mutex::new(replica));
        }
        world
    }

    /// Accounts as a link would have left them two days ago.
    async fn fill(&self, due_within: Duration) {
        let client_id = Options::default().client_id;
        let people: Vec<Persona> = (0..self.accounts).map(Persona::numbered).collect();
        self.controls.add_personas(people.iter().cloned());
        let mut sql = self.sql().await.unwrap();
        let step = due_within / u32::try_from(self.accounts).unwrap();
        for (chunk, people) in people.chunks(CHUNK).enumerate() {
            let mut ids: Vec<Uuid> = Vec::new();
            let (mut persons, mut tokens, mut due): (Vec<&str>, Vec<Vec<u8>>, Vec<OffsetDateTime>) =
                Default::default();
            for (n, person) in people.iter().enumerate() {
                let token = self.controls.grant_token(&person.key, &client_id, "threads_basic", 2 * DAY);
                let id = self.account_id(person);
                ids.push(id.0);
                persons.push(&person.id);
                tokens.push(self.keyring.seal(place(&id), token.as_bytes()));
                due.push(self.start + step * u32::try_from(chunk * CHUNK + n).unwrap());
            }
            sqlx::query(
                "insert into accounts (account_id, app_id, threads_user_id, user_id, state, scopes, token,
                                       token_expire_time, token_refresh_time, next_refresh_time, create_time,
                                       update_time, authorize_time)
                 select id, $1, person, 'user-' || person, 'ACTIVE', 'threads_basic', token,
                        t + interval '60 days', t, due, t, t, t
                 from unnest($2::uuid[], $3::text[], $4::bytea[], $5::timestamptz[]) as a(id, person, token, due),
                      (select $6::timestamptz - interval '2 days' as t) t",
            )
            .bind(APP)
            .bind(&ids)
            .bind(&persons)
            .bind(&tokens)
            .bind(&due)
            .bind(self.start)
            .execute(&mut sql)
            .await
            .unwrap();
        }
    }

    fn account_id(&self, person: &Persona) -> AccountId {
        self.keyring.id_key().account_id(APP, &ThreadsUserId::parse(&person.id).unwrap())
    }

    /// The person whose account it is, and the token that is stored.
    pub async fn stored_tokens(&self) -> Vec<(Persona, Option<String>)> {
        let mut sql = self.sql().await.unwrap();
        let rows: Vec<(Uuid, Option<Vec<u8>>)> =
            sqlx::query_as("select account_id, token from accounts").fetch_all(&mut sql).await.unwrap();
        let mut tokens: std::collections::HashMap<Uuid, Option<Vec<u8>>> = rows.into_iter().collect();
        let people = (0..self.accounts).map(Persona::numbered);
        let opened = people.map(|person| {
            let id = self.account_id(&person);
            let sealed = tokens.remove(&id.0).flatten();
            let opened = sealed.and_then(|sealed| self.keyring.open(place(&id), &sealed).ok());
            (person, opened.map(|token| String::from_utf8(token.to_vec()).unwrap()))
        });
        opened.collect()
    }

    /// What a query that counts finds.
    pub async fn counted(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.sql().await.unwrap()).await.unwrap()
    }

    /// Waits until no token is as old as at the start, whatever befalls.
    pub async fn until_all_are_refreshed(&self, patience: Duration) {
        let query = "select count(*) from accounts where token_refresh_time < $1";
        self.until("every token has been refreshed", patience, query).await;
    }

    /// Lets the replicas bring what they have begun to an end, and stops them; one of
    /// them then does what is left.
    pub async fn settle(&self, patience: Duration) {
        let query = "select count(*) from accounts
                     where previous_token is not null or refresh_lease_time > clock_timestamp()
                        or next_refresh_time <= now()
                        or (refresh_failing_time is not null and $1 < now())";
        self.until("every attempt has ended", patience, query).await;
        for replica in &self.replicas {
            replica.lock().await.stop();
        }
        // Whoever was frozen may have found only now that somebody had taken over, and
        // had the token refreshed once more.
        self.replicas[0].lock().await.run();
        self.until("nothing is left to be done", patience, query).await;
        self.replicas[0].lock().await.stop();
    }

    /// Waits until this counts nothing. Postgres may be away meanwhile.
    async fn until(&self, what: &str, patience: Duration, query: &'static str) {
        let deadline = Instant::now() + patience;
        let mut last: Option<i64> = None;
        while last != Some(0) {
            assert!(
                Instant::now() < deadline,
                "waited too long until {what}; left: {last:?}\n{}",
                self.logs()
            );
            sleep(Duration::from_millis(100)).await;
            let asked = timeout(Duration::from_secs(5), async {
                let mut sql = self.sql().await?;
                // What would be tried again in a minute is not waited for.
                sqlx::query(IMPATIENCE).execute(&mut sql).await?;
                sqlx::query_scalar(query).bind(self.start).fetch_one(&mut sql).await
            });
            if let Ok(Ok(count)) = asked.await {
                last = Some(count);
            }
        }
    }

    async fn sql(&self) -> sqlx::Result<PgConnection> {
        PgConnection::connect(&self.database_url).await
    }

    /// What became of this person's tokens: as Threads saw it, and as the replicas
    /// logged it.
    pub fn history(&self, person: &Persona) -> String {
        let id = self.account_id(person).to_string();
        let refreshes =
            self.controls.refreshes().into_iter().filter(|refresh| *refresh.persona == person.key);
        let mut lines: Vec<String> = refreshes.map(|refresh| format!("{refresh:?}")).collect();
        for (number, replica) in self.replicas.iter().enumerate() {
            let log = replica.try_lock().map(|replica| fs::read_to_string(&replica.log).unwrap_or_default());
            let log = log.unwrap_or_default();
            let told = log.lines().filter(|line| line.contains(&id));
            lines.extend(told.map(|line| format!("replica {number}: {line}")));
        }
        lines.join("\n")
    }

    /// The end of what the replicas logged.
    pub fn logs(&self) -> String {
        let logs = self.replicas.iter().enumerate().map(|(number, replica)| {
            let log = replica.try_lock().map(|replica| fs::read_to_string(&replica.log).unwrap_or_default());
            let lines = log.map(|log| {
                let lines: Vec<&str> = log.lines().collect();
                lines[lines.len().saturating_sub(20)..].join("\n")
            });
            format!("replica {number}:\n{}\n", lines.unwrap_or_default())
        });
        logs.collect()
    }

    /// Ends everything in order.
    pub async fn end(self) {
        self.simulator.stop().await;
        drop(self.replicas);
        self.postgres.into_inner().stop().await;
    }
}

fn place(id: &AccountId) -> Place<'_> {
    Place { purpose: Purpose::Token, app_id: APP, row: id.0.as_bytes() }
}

/// Waits for all of them.
pub async fn all<T>(tasks: Vec<tokio::task::JoinHandle<T>>) -> Vec<T> {
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}
