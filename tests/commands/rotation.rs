//! `keys list`, `activate`, `reseal` and `retire`, beside a database.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use threads_identity::postgres::scratch::Database;
use threads_identity::sealing::{Keyring, Place, Purpose, header_key_id};
use uuid::Uuid;

use crate::run::{Directory, Ended, Running, command, database, end, run};

/// A keyring with an old key and a new, active one, and a database whose values
/// are sealed under the old one.
struct Setting {
    directory: Directory,
    database: Database,
    keyring: Keyring,
    old: String,
    new: String,
}

impl Setting {
    async fn new(name: &str) -> Self {
        let directory = Directory::new(name);
        let database = database().await;
        let mut keyring = Keyring::generate("2026-01-01T00:00:00Z");
        let old = keyring.active_id();
        let new = keyring.add_key("2026-02-01T00:00:00Z");
        let setting = Self { directory, database, keyring, old, new };
        setting.write();
        let fingerprint = setting.keyring.id_key().fingerprint();
        sqlx::query("insert into deployment (id_key_fingerprint, create_time) values ($1, '2026-01-01Z')")
            .bind(fingerprint.as_slice())
            .execute(&mut setting.sql().await)
            .await
            .unwrap();
        setting
    }

    fn file(&self) -> PathBuf {
        self.directory.path("keys.toml")
    }

    fn write(&self) {
        fs::write(self.file(), self.keyring.to_toml().as_bytes()).unwrap();
    }

    fn activate_new(&mut self) {
        self.keyring.activate(&self.new).unwrap();
        self.write();
    }

    async fn sql(&self) -> PgConnection {
        PgConnection::connect(self.database.url()).await.unwrap()
    }

    async fn meddle(&self, statement: String) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut self.sql().await).await.unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut keys = command(["keys"].iter().chain(arguments));
        keys.arg("--file").arg(self.file()).env("DATABASE_URL", self.database.url());
        keys
    }

    fn keys(&self, arguments: &[&str]) -> Ended {
        end(self.command(arguments))
    }

    fn listed(&self) -> Vec<Value> {
        serde_json::from_str(&self.keys(&["list", "--json"]).good()).unwrap()
    }

    /// How many values a key is said to hold.
    fn held_by(&self, id: &str) -> i64 {
        self.listed().iter().find(|key| key["id"] == id).map_or(0, |key| key["values"].as_i64().unwrap())
    }

    /// Accounts with tokens, sealed under the active key; their ids in order.
    async fn accounts(&self, count: usize) -> Vec<Uuid> {
        let ids: Vec<Uuid> = (1..=count).map(|n| Uuid::from_u128(n as u128)).collect();
        let seal = |id: &Uuid| self.keyring.seal(place(id), id.to_string().as_bytes());
        let tokens: Vec<Vec<u8>> = ids.iter().map(seal).collect();
        sqlx::query(
            "insert into accounts (account_id, app_id, threads_user_id, user_id, state, scopes, token,
                                   token_expire_time, token_refresh_time, create_time, update_time,
                                   authorize_time, next_refresh_time)
             select id, 'default', '1', 'user', 'ACTIVE', 'threads_basic', token, t, t, t, t, t, t
             from unnest($1::uuid[], $2::bytea[]) as w(id, token), (select '2026-03-01Z'::timestamptz as t) t",
        )
        .bind(&ids)
        .bind(&tokens)
        .execute(&mut self.sql().await)
        .await
        .unwrap();
        ids
    }

    /// The authorization of a completion that has come as far as the code exchange.
    async fn authorization(&self, id: Uuid) {
        let place = Place { purpose: Purpose::ShortLivedToken, app_id: "default", row: id.as_bytes() };
        sqlx::query(
            "insert into authorizations (authorization_id, app_id, sign_in, user_id, scopes, transfer, answer_hash,
                                         state, step, claim_id, claim_expire_time, short_lived_token,
                                         short_lived_expire_time, create_time, attempt_time)
             select $1, 'default', false, 'user', 'threads_basic', false, '\\x00', 'IN_PROGRESS', 'EXCHANGED', $1,
                    t, $2, t, t, t
             from (select '2026-03-01Z'::timestamptz as t) t",
        )
        .bind(id)
        .bind(self.keyring.seal(place, b"short"))
        .execute(&mut self.sql().await)
        .await
        .unwrap();
    }

    async fn tokens(&self) -> Vec<(Uuid, Vec<u8>)> {
        let query = "select account_id, token from accounts order by account_id";
        sqlx::query_as(query).fetch_all(&mut self.sql().await).await.unwrap()
    }

    /// Waits until `reseal` waits for a row that somebody else has locked.
    async fn until_it_waits(&self) {
        let waits = "select exists (select from pg_stat_activity where wait_event_type = 'Lock'
                                    and application_name = 'threads-identity' and datname = current_database())";
        let mut sql = self.sql().await;
        while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut sql).await.unwrap() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

fn place(account: &Uuid) -> Place<'_> {
    Place { purpose: Purpose::Token, app_id: "default", row: account.as_bytes() }
}

#[test]
fn activate_switches_and_says_why_it_does_not() {
    let directory = Directory::new("keys-activate");
    let file = directory.path("keys.toml");
    let mut keyring = Keyring::generate("2026-01-01T00:00:00Z");
    let old = keyring.active_id();
    let mut new = keyring.add_key("2026-02-01T00:00:00Z");
    // An id of digits alone is the same in capitals.
    while new == new.to_uppercase() {
        new = keyring.add_key("2026-02-01T00:00:00Z");
    }
    fs::write(&file, keyring.to_toml().as_bytes()).unwrap();
    let activate = |id: &str| run(&["keys", "activate", id, "--file", file.to_str().unwrap()]);
    let active = || Keyring::parse(&fs::read_to_string(&file).unwrap()).unwrap().active_id();

    for unknown in ["00000000", "", "XYZ", &new.to_uppercase()] {
        let error = activate(unknown).bad();
        assert!(error.contains("there is no key") && error.contains(&old) && error.contains(&new), "{error}");
    }
    assert!(activate(&old).good().contains("active key already"));
    assert_eq!(active(), old);
    assert!(activate(&new).good().contains("keys reseal"));
    assert_eq!(active(), new);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1, "nothing else is left there");
    assert_eq!(Keyring::parse(&fs::read_to_string(&file).unwrap()).unwrap().describe().len(), 2);
}

#[tokio::test]
async fn list_counts_what_each_key_holds_and_shows_what_nobody_can_open() {
    let mut setting = Setting::new("keys-count").await;
    setting.accounts(3).await;
    let beside = run(&["keys", "list", "--file", setting.file().to_str().unwrap()]);
    assert!(beside.err.contains("not counted"), "{}", beside.err);
    assert!(!beside.good().contains(" 3 "));

    setting.activate_new();
    setting.authorization(Uuid::from_u128(9)).await;
    assert_eq!((setting.held_by(&setting.old), setting.held_by(&setting.new)), (3, 1));
    let table = setting.keys(&["list"]);
    assert_eq!(table.err, "");
    assert_eq!(table.good().lines().count(), 3);

    setting.meddle("update accounts set token = overlay(token placing '\\xdeadbeef' from 2) where account_id = '00000000-0000-0000-0000-000000000001'".to_owned()).await;
    setting
        .meddle(
            "update accounts set token = '\\x00' where account_id = '00000000-0000-0000-0000-000000000002'"
                .to_owned(),
        )
        .await;
    let table = setting.keys(&["list"]);
    assert!(table.err.contains("WARNING: 1 stored values are sealed under deadbeef"), "{}", table.err);
    assert!(table.err.contains("WARNING: 1 stored values are no sealed values"), "{}", table.err);
    assert!(table.good().contains("deadbeef  no      NOT IN THE KEYRING"));
    let listed = setting.listed();
    let stray = listed.iter().find(|key| key["id"] == "deadbeef").unwrap();
    assert_eq!((&stray["in_keyring"], &stray["values"]), (&false.into(), &1.into()));

    // The keyring and the database can be named by the configuration as well.
    let config = setting.directory.path("config.toml");
    fs::write(
        &config,
        format!("[database]\nurl = \"{}\"\n[keys]\nfile = \"keys.toml\"\n", setting.database.url()),
    )
    .unwrap();
    let json = run(&["keys", "list", "--json", "--config", config.to_str().unwrap()]).good();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&json).unwrap(), listed);
    let mut inline = command(["keys", "list", "--json"]);
    inline.env("DATABASE_URL", setting.database.url());
    inline.env("THREADS_IDENTITY_KEY", setting.keyring.to_inline().as_str());
    assert_eq!(serde_json::from_str::<Vec<Value>>(&end(inline).good()).unwrap(), listed);
}

#[tokio::test]
async fn reseal_seals_all_that_opens_anew_and_names_what_does_not() {
    let mut setting = Setting::new("keys-reseal").await;
    let ids = setting.accounts(1_203).await;
    let authorization = Uuid::from_u128(9);
    setting.authorization(authorization).await;
    setting.meddle(format!("update accounts set token = set_byte(token, 30, get_byte(token, 30) # 1) where account_id = '{}'", ids[7])).await;
    setting
        .meddle(format!(
            "update accounts set token = overlay(token placing '\\xdeadbeef' from 2) where account_id = '{}'",
            ids[600]
        ))
        .await;
    setting.meddle(format!("update accounts set token = null, state = 'UNLINKED', state_reason = 'UNLINKED_BY_CALLER', token_expire_time = null, token_refresh_time = null, next_refresh_time = null where account_id = '{}'", ids[601])).await;
    let before = setting.tokens_where_some().await;
    setting.activate_new();

    let ended = setting.keys(&["reseal"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.out.contains("Sealed 1201 stored values anew"), "{}", ended.out);
    assert!(
        ended.err.contains(&format!("accounts.token of {}: the sealed value does not open", ids[7])),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains(&format!("accounts.token of {}: sealed under a key that", ids[600])),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("2 stored values do not open"), "{}", ended.err);
    let after = setting.tokens_where_some().await;
    for ((id, before), (_, after)) in before.iter().zip(&after) {
        if [ids[7], ids[600]].contains(id) {
            assert_eq!(before, after);
        } else {
            assert_eq!(header_key_id(after).unwrap(), setting.new);
            assert_eq!(setting.keyring.open(place(id), after).unwrap().as_slice(), id.to_string().as_bytes());
        }
    }
    let short: Vec<u8> = sqlx::query_scalar("select short_lived_token from authorizations")
        .fetch_one(&mut setting.sql().await)
        .await
        .unwrap();
    let place = Place { purpose: Purpose::ShortLivedToken, app_id: "default", row: authorization.as_bytes() };
    assert_eq!(setting.keyring.open(place, &short).unwrap().as_slice(), b"short");

    // Again: nothing is left to do, and nothing is done.
    assert!(setting.keys(&["reseal"]).out.contains("Sealed 0 stored values"));
    assert_eq!(setting.tokens_where_some().await, after);
}

impl Setting {
    async fn tokens_where_some(&self) -> Vec<(Uuid, Vec<u8>)> {
        let query = "select account_id, token from accounts where token is not null order by account_id";
        sqlx::query_as(query).fetch_all(&mut self.sql().await).await.unwrap()
    }
}

#[tokio::test]
async fn a_reseal_that_is_killed_goes_on_where_it_stopped() {
    let mut setting = Setting::new("keys-killed").await;
    let ids = setting.accounts(1_200).await;
    setting.activate_new();
    let mut sql = setting.sql().await;
    let mut transaction = sql.begin().await.unwrap();
    sqlx::query("select from accounts where account_id = $1 for update")
        .bind(ids[1_100])
        .execute(&mut *transaction)
        .await
        .unwrap();
    let mut running = Running::start(&mut setting.command(&["reseal"]));
    setting.until_it_waits().await;
    running.signal("-KILL");
    running.wait();
    transaction.rollback().await.unwrap();

    // Its last statement may end without it; what it did before, stays done.
    let idle = "select not exists (select from pg_stat_activity where application_name = 'threads-identity'
                                   and datname = current_database())";
    let mut sql = setting.sql().await;
    while !sqlx::query_scalar::<_, bool>(idle).fetch_one(&mut sql).await.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let half = setting.tokens().await;
    let done = |tokens: &[(Uuid, Vec<u8>)]| {
        tokens.iter().filter(|(_, token)| header_key_id(token).as_ref() == Some(&setting.new)).count()
    };
    assert!(done(&half) >= 1_000, "{}", done(&half));
    let left = 1_200 - done(&half);
    let said = setting.keys(&["reseal"]).good();
    assert!(said.contains(&format!("Sealed {left} stored values anew")), "{said}");
    let after = setting.tokens().await;
    assert_eq!(done(&after), 1_200);
    assert_eq!(after[..1_000], half[..1_000], "what was done is not done again");
}

#[tokio::test]
async fn what_is_written_meanwhile_wins_over_a_reseal() {
    let mut setting = Setting::new("keys-overtaken").await;
    let ids = setting.accounts(3).await;
    let fresh = setting.keyring.seal(place(&ids[1]), b"a newer token, under the old key");
    setting.activate_new();
    let mut sql = setting.sql().await;
    let mut transaction = sql.begin().await.unwrap();
    sqlx::query("update accounts set token = $2 where account_id = $1")
        .bind(ids[1])
        .bind(&fresh)
        .execute(&mut *transaction)
        .await
        .unwrap();
    sqlx::query("update accounts set username = 'meanwhile' where account_id = $1")
        .bind(ids[2])
        .execute(&mut *transaction)
        .await
        .unwrap();
    let running = Running::start(&mut setting.command(&["reseal"]));
    setting.until_it_waits().await;
    transaction.commit().await.unwrap();
    let said = running.end().good();
    assert!(said.contains("Sealed 3 stored values anew"), "{said}");
    let tokens = setting.tokens().await;
    let open = |n: usize| setting.keyring.open(place(&ids[n]), &tokens[n].1).unwrap().to_vec();
    assert_eq!(open(1), b"a newer token, under the old key");
    assert_eq!(open(2), ids[2].to_string().as_bytes());
    assert_eq!(setting.held_by(&setting.old), 0);
    let names = "select count(*) from accounts where username = 'meanwhile'";
    let names: i64 = sqlx::query_scalar(names).fetch_one(&mut setting.sql().await).await.unwrap();
    assert_eq!(names, 1, "and nothing else of the row is lost");
}

#[tokio::test]
async fn a_key_is_retired_only_when_nothing_needs_it() {
    let mut setting = Setting::new("keys-retire").await;
    setting.accounts(2).await;
    let (old, new) = (setting.old.clone(), setting.new.clone());
    let unchanged = |setting: &Setting| {
        assert_eq!(fs::read_to_string(setting.file()).unwrap(), *setting.keyring.to_toml());
    };
    assert!(setting.keys(&["retire", &old]).bad().contains("is the active key"));
    setting.activate_new();
    let beside = run(&["keys", "retire", &old, "--file", setting.file().to_str().unwrap()]).bad();
    assert!(beside.contains("the database must be known"), "{beside}");
    assert!(setting.keys(&["retire", "00000000"]).bad().contains("there is no key"));
    let error = setting.keys(&["retire", &old, "--now"]).bad();
    assert!(
        error.contains("2 stored values are still sealed under") && error.contains("keys reseal"),
        "{error}"
    );
    unchanged(&setting);

    setting.keys(&["reseal"]).good();
    let report = |ago: &str| {
        format!(
            "insert into sealing_keys (key_id, last_active_time) values ('{old}', now() - interval '{ago}')
             on conflict (key_id) do update set last_active_time = excluded.last_active_time"
        )
    };
    // Somebody still seals under it: that is not to be overridden.
    setting.meddle(report("0 minutes")).await;
    for arguments in [vec!["retire", &old], vec!["retire", &old, "--now"]] {
        let error = setting.keys(&arguments).bad();
        assert!(error.contains("a replica still seals under"), "{error}");
    }
    unchanged(&setting);
    setting.meddle(report("2 minutes")).await;
    let error = setting.keys(&["retire", &old]).bad();
    assert!(error.contains("wait ") && error.contains(" minutes") && error.contains("--now"), "{error}");
    unchanged(&setting);
    setting.meddle(report("0 minutes")).await;
    assert!(setting.keys(&["reseal"]).err.contains("less than a minute ago"));

    setting.meddle(report("21 minutes")).await;
    assert!(setting.keys(&["retire", &old]).good().contains("Retired"));
    let left = Keyring::parse(&fs::read_to_string(setting.file()).unwrap()).unwrap();
    assert!(!left.has(&old) && left.has(&new) && left.active_id() == new);
    assert_eq!(fs::metadata(setting.file()).unwrap().permissions().mode() & 0o777, 0o600);
    let retired = "select count(*) from sealing_keys where retire_time is not null";
    let retired: i64 = sqlx::query_scalar(retired).fetch_one(&mut setting.sql().await).await.unwrap();
    assert_eq!(retired, 1);

    // An old copy of the file does not bring the key back to use.
    setting.keyring.activate(&old).unwrap();
    setting.write();
    assert!(setting.keys(&["reseal"]).bad().contains("has been retired"));
}

#[tokio::test]
async fn a_key_that_only_the_database_remembers_can_be_retired() {
    let setting = Setting::new("keys-lost").await;
    setting
        .meddle("insert into sealing_keys values ('deadbeef', now() - interval '1 hour')".to_owned())
        .await;
    setting.keys(&["retire", "deadbeef"]).good();
    let retired = "select retire_time is not null from sealing_keys where key_id = 'deadbeef'";
    assert!(sqlx::query_scalar::<_, bool>(retired).fetch_one(&mut setting.sql().await).await.unwrap());
    assert_eq!(fs::read_to_string(setting.file()).unwrap(), *setting.keyring.to_toml());
}

#[tokio::test]
async fn a_keyring_is_not_held_against_a_database_that_it_does_not_belong_to() {
    let mut setting = Setting::new("keys-other").await;
    setting.accounts(1).await;
    setting.activate_new();
    let other = database().await;
    for arguments in [vec!["list"], vec!["reseal"], vec!["retire", &setting.old, "--now"]] {
        let mut keys = setting.command(&arguments);
        keys.env("DATABASE_URL", other.url());
        let error = end(keys).bad();
        assert!(error.contains("never been used by the service"), "{error}");
    }
    setting.meddle("update deployment set id_key_fingerprint = '\\x00'".to_owned()).await;
    for arguments in [vec!["list"], vec!["reseal"], vec!["retire", &setting.old, "--now"]] {
        let error = setting.keys(&arguments).bad();
        assert!(error.contains("its id_key is not the one"), "{error}");
    }
    let mut away = setting.command(&["list"]);
    away.env("DATABASE_URL", "postgres://canary:canary@127.0.0.1:1/canary");
    let error = end(away).bad();
    assert!(error.contains("the database is unavailable") && !error.contains("canary"), "{error}");
}

#[tokio::test]
async fn statements_of_keys_may_take_their_time() {
    let setting = Setting::new("keys-slow").await;
    setting.accounts(1).await;
    let mut sql = setting.sql().await;
    let mut transaction = sql.begin().await.unwrap();
    sqlx::query("lock table accounts in access exclusive mode").execute(&mut *transaction).await.unwrap();
    let running = Running::start(&mut setting.command(&["list"]));
    setting.until_it_waits().await;
    // Longer than a statement of the service may take.
    let held = "select now() - query_start > interval '2500 milliseconds' from pg_stat_activity
                where wait_event_type = 'Lock' and application_name = 'threads-identity'
                and datname = current_database()";
    let mut watcher = setting.sql().await;
    while sqlx::query_scalar::<_, bool>(held).fetch_optional(&mut watcher).await.unwrap() == Some(false) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    transaction.commit().await.unwrap();
    assert!(running.end().good().contains(&setting.old));
}
