//! Keys come and go while the service runs, and nobody notices.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use threads_identity::proto::v1::CreateAuthorizationUrlRequest;
use threads_identity::proto::v1::create_authorization_url_request::Flow;
use threads_identity::refresher::Round;
use threads_identity::sealing::{Keyring, Place, Purpose, header_key_id};
use threads_identity::simulator::Endpoint;
use tonic::Code;
use uuid::Uuid;

use crate::harness::{Wishes, World, failed};
use crate::shorthand::{account, token, until};

/// A directory that is gone after the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("threads-identity-rotation-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Puts a keyring, or what is none, in the place of a file.
fn place(file: &Path, text: &str) {
    let fresh = file.with_extension("fresh");
    fs::write(&fresh, text).unwrap();
    fs::rename(&fresh, file).unwrap();
}

fn in_file(file: &Path) -> Wishes {
    Wishes { keyring_file: Some(file.to_owned()), ..Wishes::default() }
}

/// A keyring before a change of key, with the new key beside the old one, with
/// the new one active, and without the old one.
struct Stages {
    old: String,
    new: String,
    before: String,
    added: String,
    activated: String,
    retired: String,
}

impl Stages {
    fn new() -> Self {
        let mut keyring = Keyring::generate("2026-01-01T00:00:00Z");
        let (old, before) = (keyring.active_id(), keyring.to_toml().to_string());
        let new = keyring.add_key("2026-02-01T00:00:00Z");
        let added = keyring.to_toml().to_string();
        keyring.activate(&new).unwrap();
        let activated = keyring.to_toml().to_string();
        keyring.remove(&old).unwrap();
        Self { old, new, before, added, activated, retired: keyring.to_toml().to_string() }
    }
}

impl World {
    async fn readiness(&self) -> String {
        reqwest::get(format!("http://{}/readyz", self.ops)).await.unwrap().text().await.unwrap()
    }

    async fn until_ready(&self) {
        until("it is ready", async || self.readiness().await == "ready\n").await;
    }

    async fn until_not_ready(&self, why: &str) {
        until(why, async || self.readiness().await.contains(why)).await;
    }

    /// Which key an account's token is sealed under.
    async fn key_of(&self, account_id: &str) -> String {
        let key = "encode(substr(token, 2, 4), 'hex')";
        self.look_up(format!("select {key} from accounts where account_id = '{account_id}'")).await
    }

    async fn refused_reloads(&self) -> f64 {
        self.metric("threads_identity_keyring_reloads_total{result=\"refused\"}").await
    }
}

#[tokio::test]
async fn a_replica_that_lacks_a_key_says_so_and_harms_nothing() {
    let stages = Stages::new();
    let directory = Directory::new();
    let file = directory.path("keys.toml");
    place(&file, &stages.before);
    let keyring = |text: &String| Wishes { keyring: Some(text.clone()), ..Wishes::default() };
    let behind = World::with(in_file(&file)).await;
    let own = behind.linked("user-1", "full").await.account_id;
    let between = behind.replica_with(keyring(&stages.added)).await;
    let ahead = behind.replica_with(keyring(&stages.activated)).await;
    for world in [&behind, &between] {
        world.until_ready().await;
    }

    let id = ahead.linked("user-2", "home").await.account_id;
    assert_eq!(
        (behind.key_of(&own).await, behind.key_of(&id).await),
        (stages.old.clone(), stages.new.clone())
    );
    ahead.until_ready().await;
    failed(behind.token(token(&id, "user-2")).await, Code::Unavailable, "KEY_UNAVAILABLE");
    behind.until_not_ready("lacks a key that values are sealed under").await;
    for world in [&between, &ahead] {
        assert_eq!(world.readiness().await, "ready\n");
        for (id, user) in [(&own, "user-1"), (&id, "user-2")] {
            world.token(token(id, user)).await.unwrap();
        }
    }
    assert!(behind.token(token(&own, "user-1")).await.is_ok(), "what it can open, it does");
    assert!(behind.account(&id).await.is_ok(), "what is not sealed can be read");

    // Whoever comes back to the wrong replica is sent to another, and not away.
    let created = ahead.create("user-3").await;
    let callback_url = ahead.consent(&created, "work");
    failed(behind.complete(&callback_url, "user-3").await, Code::Unavailable, "KEY_UNAVAILABLE");

    place(&file, &stages.added);
    behind.until_ready().await;
    assert!(behind.token(token(&id, "user-2")).await.is_ok());
    assert!(behind.complete(&callback_url, "user-3").await.is_ok());
    let again = behind.linked("user-2", "home").await.account_id;
    assert_eq!((again.as_str(), behind.key_of(&id).await), (id.as_str(), stages.old.clone()));
    assert!(ahead.token(token(&id, "user-2")).await.is_ok());
}

#[tokio::test]
async fn a_replica_that_seals_under_a_retired_key_is_the_one_that_is_not_ready() {
    let stages = Stages::new();
    let directory = Directory::new();
    let file = directory.path("keys.toml");
    place(&file, &stages.activated);
    let world = World::with(in_file(&file)).await;
    world.until_ready().await;
    world
        .meddle(format!(
            "insert into sealing_keys (key_id, retire_time) values ('{}', '2026-03-01 12:00:00Z')",
            stages.old
        ))
        .await;
    let stale = Wishes { keyring: Some(stages.added.clone()), ..Wishes::default() };
    let stale = world.replica_with(stale).await;
    stale.until_not_ready("seals under a key that has been retired").await;
    // Nor does it seal anything: what it makes could soon be opened by nobody.
    let linked = world.linked("user-1", "full").await;
    let url = CreateAuthorizationUrlRequest {
        flow: Some(Flow::Link(crate::harness::link("user-2"))),
        ..CreateAuthorizationUrlRequest::default()
    };
    failed(stale.create_as("web", url).await, Code::Unavailable, "KEY_UNAVAILABLE");
    let created = world.create("user-2").await;
    let callback_url = world.consent(&created, "home");
    failed(stale.complete(&callback_url, "user-2").await, Code::Unavailable, "KEY_UNAVAILABLE");
    assert_eq!(world.controls.count(Endpoint::CodeExchange), 1, "its code is not spent");
    world.advance(Duration::from_hours(26));
    world.make_due(&linked.account_id).await;
    assert_eq!(stale.round().await, Round::default());
    assert_eq!(world.round().await.attempts, 1);
    place(&file, &stages.retired);
    until("it is taken", async || !world.service.keyring.current().has(&stages.old)).await;
    let other = world.replica_with(in_file(&file)).await;
    other.until_ready().await;
    assert_eq!(world.readiness().await, "ready\n");
}

#[tokio::test]
async fn a_keyring_file_is_taken_anew_however_it_is_replaced() {
    let stages = Stages::new();
    let directory = Directory::new();
    // As a secret is mounted: the file is a link through a link to the version.
    let (one, two) = (directory.path("..1"), directory.path("..2"));
    for (version, text) in [(&one, &stages.before), (&two, &stages.added)] {
        fs::create_dir(version).unwrap();
        fs::write(version.join("keys.toml"), text).unwrap();
    }
    let (data, file) = (directory.path("..data"), directory.path("keys.toml"));
    std::os::unix::fs::symlink(&one, &data).unwrap();
    std::os::unix::fs::symlink("..data/keys.toml", &file).unwrap();
    let world = World::with(in_file(&file)).await;
    let id = world.linked("user-1", "full").await.account_id;
    assert_eq!(world.key_of(&id).await, stages.old);

    std::os::unix::fs::symlink(&two, directory.path("..fresh")).unwrap();
    fs::rename(directory.path("..fresh"), &data).unwrap();
    until("it has the added key", async || world.service.keyring.current().has(&stages.new)).await;
    assert_eq!(world.service.keyring.current().active_id(), stages.old);

    place(&file, &stages.activated);
    until("it has switched", async || world.service.keyring.current().active_id() == stages.new).await;
    assert!(world.token(token(&id, "user-1")).await.is_ok(), "the older key still opens");
    assert_eq!(world.linked("user-1", "full").await.account_id, id);
    assert_eq!(world.key_of(&id).await, stages.new);
    world.until("select count(*) = 2 from sealing_keys where last_active_time is not null").await;

    place(&file, &stages.retired);
    until("the old key is gone", async || !world.service.keyring.current().has(&stages.old)).await;
    assert!(world.token(token(&id, "user-1")).await.is_ok());
    assert!(world.metric("threads_identity_keyring_reloads_total{result=\"taken\"}").await >= 3.0);
    assert!(world.refused_reloads().await.abs() < 0.5);
}

#[tokio::test]
async fn a_keyring_file_that_cannot_be_used_changes_nothing_but_a_metric() {
    let stages = Stages::new();
    let directory = Directory::new();
    let file = directory.path("keys.toml");
    place(&file, &stages.before);
    let world = World::with(in_file(&file)).await;
    world.until_ready().await;
    let id = world.linked("user-1", "full").await.account_id;
    let stranger = Keyring::generate("2026-01-01T00:00:00Z").to_toml().to_string();
    let line = |text: &str| text.lines().find(|line| line.starts_with("key = ")).unwrap().to_owned();
    let other_key = stages.before.replace(&line(&stages.before), &line(&stranger));
    for unusable in ["", "nonsense", &stranger, &other_key, "gone"] {
        let before = world.refused_reloads().await;
        if unusable == "gone" {
            fs::remove_file(&file).unwrap();
        } else {
            place(&file, unusable);
        }
        // Twice: once could be the file before.
        until("it is refused", async || world.refused_reloads().await > before + 1.5).await;
        assert!(world.token(token(&id, "user-1")).await.is_ok());
        assert_eq!(world.service.keyring.current().active_id(), stages.old);
        assert_eq!(world.readiness().await, "ready\n");
    }
    place(&file, &stages.added);
    until("it is taken", async || world.service.keyring.current().has(&stages.new)).await;
    let refused = world.refused_reloads().await;
    assert!(world.token(token(&id, "user-1")).await.is_ok());
    assert!((world.refused_reloads().await - refused).abs() < 0.5, "it is well again");
}

/// A database full of accounts, two replicas, and an operator's keyring.
struct Fleet {
    directory: Directory,
    world: World,
    other: World,
    ids: Vec<Uuid>,
}

/// The user and the token of the nth account.
fn contents(n: usize) -> (String, String) {
    (format!("user-{n}"), format!("token-{n}"))
}

impl Fleet {
    async fn new(accounts: usize) -> Self {
        let directory = Directory::new();
        let operators = directory.path("keys.toml");
        let keyring = Keyring::generate("2026-01-01T00:00:00Z");
        for file in [&operators, &directory.path("a.toml"), &directory.path("b.toml")] {
            place(file, &keyring.to_toml());
        }
        let world = World::with(in_file(&directory.path("a.toml"))).await;
        let other = world.replica_with(in_file(&directory.path("b.toml"))).await;
        let ids: Vec<Uuid> = (0..accounts).map(|n| Uuid::from_u128(0x8000_u128 << 64 | n as u128)).collect();
        let fleet = Self { directory, world, other, ids };
        fleet.seed(&keyring).await;
        fleet
    }

    /// Puts accounts with sealed tokens straight into the table.
    async fn seed(&self, keyring: &Keyring) {
        let mut sql = self.world.sql().await;
        for chunk in self.ids.iter().enumerate().collect::<Vec<_>>().chunks(5_000) {
            let ids: Vec<Uuid> = chunk.iter().map(|(_, id)| **id).collect();
            let (mut users, mut tokens) = (Vec::new(), Vec::new());
            for (n, id) in chunk {
                let place =
                    Place { purpose: Purpose::Token, app_id: "default", row: id.as_bytes().as_slice() };
                let (user, text) = contents(*n);
                users.push(user);
                tokens.push(keyring.seal(place, text.as_bytes()));
            }
            sqlx::query(
                "insert into accounts (account_id, app_id, threads_user_id, user_id, state, scopes, token,
                                       token_expire_time, token_refresh_time, create_time, update_time,
                                       authorize_time, next_refresh_time,
                                       previous_token, previous_token_expire_time, previous_token_refresh_time)
                 select id, 'default', (4e15::bigint + n)::text, user_id, 'ACTIVE', 'threads_basic', token,
                        t + interval '60 days', t, t, t, t, t + interval '30 days',
                        -- Some have just been refreshed, and not proven yet.
                        case when n % 10 = 0 then token end, case when n % 10 = 0 then t + interval '50 days' end,
                        case when n % 10 = 0 then t end
                 from unnest($1::uuid[], $2::text[], $3::bytea[]) with ordinality as w(id, user_id, token, n),
                      (select '2026-03-01 12:00:00Z'::timestamptz as t) t",
            )
            .bind(&ids)
            .bind(&users)
            .bind(&tokens)
            .execute(&mut sql)
            .await
            .unwrap();
        }
    }

    /// Runs a command of the operator, who has a keyring file of their own.
    async fn keys(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_threads-identity"));
        command.arg("keys").args(arguments).arg("--file").arg(self.directory.path("keys.toml"));
        command.env_clear().env("DATABASE_URL", self.world.database_url());
        let ended = command.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(ended.status.success(), "{arguments:?}: {}{}", text(&ended.stdout), text(&ended.stderr));
        text(&ended.stdout)
    }

    fn operators(&self) -> String {
        fs::read_to_string(self.directory.path("keys.toml")).unwrap()
    }

    /// Gives the operator's keyring to one replica after the other.
    async fn distribute(&self) {
        let text = self.operators();
        let wanted = Keyring::parse(&text).unwrap().describe();
        for (name, replica) in [("a.toml", &self.world), ("b.toml", &self.other)] {
            place(&self.directory.path(name), &text);
            until("it is taken", async || replica.service.keyring.current().describe() == wanted).await;
        }
    }

    /// Reads accounts and tokens at a replica until told to stop.
    async fn read(&self, replica: &World, seed: usize, load: &Load) {
        let (mut tokens, mut accounts) = (replica.tokens("web"), replica.accounts("web"));
        let mut n = seed;
        while !load.stop.load(Ordering::Relaxed) {
            n = (n * 7_919 + 104_729) % self.ids.len();
            let (id, (user, text)) = (self.ids[n].to_string(), contents(n));
            let fetched = tokens.fetch_access_token(token(&id, &user)).await;
            let read = accounts.get_account(account(&id, Some(&user))).await;
            if fetched.is_ok_and(|fetched| fetched.into_inner().access_token == text) && read.is_ok() {
                load.reads.fetch_add(2, Ordering::Relaxed);
            } else {
                load.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Links people, now at one replica and now at the other, until told to stop.
    async fn link(&self, load: &Load) {
        for n in 0.. {
            if load.stop.load(Ordering::Relaxed) {
                break;
            }
            let (replica, reader) =
                if n % 2 == 0 { (&self.world, &self.other) } else { (&self.other, &self.world) };
            let linked = replica.linked("linker", "full").await;
            if reader.token(token(&linked.account_id, "linker")).await.is_ok() {
                load.links.fetch_add(1, Ordering::Relaxed);
            } else {
                load.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// What was done while the key was changed.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    reads: AtomicU64,
    links: AtomicU64,
    failures: AtomicU64,
}

impl Load {
    async fn some_more(&self) {
        let (reads, links) = (self.reads.load(Ordering::Relaxed), self.links.load(Ordering::Relaxed));
        let more = async || {
            self.failures.load(Ordering::Relaxed) > 0
                || self.reads.load(Ordering::Relaxed) > reads + 200
                    && self.links.load(Ordering::Relaxed) > links + 2
        };
        until("there is more load", more).await;
    }
}

#[expect(clippy::print_stderr, reason = "the figures of the long form")]
async fn rotate_under_load(accounts: usize) {
    let fleet = Fleet::new(accounts).await;
    let old = Keyring::parse(&fleet.operators()).unwrap().active_id();
    let load = Load::default();
    let rotation = async {
        let start = Instant::now();
        load.some_more().await;
        fleet.keys(&["generate"]).await;
        fleet.distribute().await;
        let keyring = Keyring::parse(&fleet.operators()).unwrap();
        let new = keyring.describe().into_iter().find(|key| !key.active).unwrap().id;
        load.some_more().await;
        fleet.keys(&["activate", &new]).await;
        fleet.distribute().await;
        load.some_more().await;
        let resealing = Instant::now();
        let said = fleet.keys(&["reseal"]).await;
        let resealed = resealing.elapsed();
        load.some_more().await;
        fleet.keys(&["retire", &old, "--now"]).await;
        fleet.distribute().await;
        load.some_more().await;
        load.stop.store(true, Ordering::Relaxed);
        eprintln!("{}: {resealed:?} of {:?}", said.trim(), start.elapsed());
        new
    };
    let readers = (0..8).map(|n| {
        let replica = if n % 2 == 0 { &fleet.world } else { &fleet.other };
        fleet.read(replica, n * 1_000, &load)
    });
    let (new, _, ()) = tokio::join!(rotation, join_all(readers), fleet.link(&load));
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    eprintln!(
        "{accounts} accounts: {} reads, {} links, {} failures",
        count(&load.reads),
        count(&load.links),
        count(&load.failures)
    );
    assert_eq!(count(&load.failures), 0);

    let listed = fleet.keys(&["list", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    // Each account's token, the one before it of every tenth, and the linker's.
    let values = accounts + accounts / 10 + 1;
    assert_eq!((&listed[0]["id"], &listed[0]["values"]), (&new.into(), &values.into()), "{listed}");
    fleet.everything_opens().await;
}

impl Fleet {
    /// Every account still holds its own token, and no key but the one that is
    /// left opens it.
    async fn everything_opens(&self) {
        let keyring = Arc::new(Keyring::parse(&self.operators()).unwrap());
        let query =
            "select account_id, user_id, coalesce(previous_token, token) from accounts where user_id <> 'linker'
             order by account_id";
        let rows: Vec<(Uuid, String, Vec<u8>)> =
            sqlx::query_as(query).fetch_all(&mut self.world.sql().await).await.unwrap();
        assert_eq!(rows.len(), self.ids.len());
        for (n, (id, user, sealed)) in rows.into_iter().enumerate() {
            let place = Place { purpose: Purpose::Token, app_id: "default", row: id.as_bytes() };
            assert_eq!(header_key_id(&sealed), Some(keyring.active_id()));
            let opened = keyring.open(place, &sealed).unwrap();
            assert_eq!((user, String::from_utf8(opened.to_vec()).unwrap()), contents(n));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_changed_under_load_and_no_call_fails() {
    rotate_under_load(5_000).await;
}

/// `cargo test --test it a_key_is_changed_over_100_000_rows -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the same over more rows"]
async fn a_key_is_changed_over_100_000_rows_under_load_and_no_call_fails() {
    rotate_under_load(100_000).await;
}
