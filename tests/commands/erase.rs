//! `erase`: by user, by a file of Threads ids, and after a restore.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sqlx::Connection as _;
use threads_identity::ids::{AccountId, ThreadsUserId};
use threads_identity::sealing::Keyring;

use crate::run::{Directory, Ended, command, database, end, run};
use crate::serve::{Service, Setting};

const FILL: &str = "
insert into accounts (account_id, app_id, threads_user_id, user_id, state, state_reason, scopes,
                      create_time, update_time, authorize_time)
select ids.id, 'default', 1000 + n, case when n < 3 then 'user-1' else 'user-2' end, 'UNLINKED', 'UNLINKED_BY_CALLER',
       '', t, t, t
from unnest($1::uuid[]) with ordinality as ids(id, n), (select '2026-03-01 12:00:00Z'::timestamptz as t) t";

/// A database with accounts of the Threads ids 1001 to 1000 + `count`, and the
/// keyring that it belongs to.
struct Deployment {
    database: threads_identity::postgres::scratch::Database,
    keyring: String,
    directory: Directory,
    sql: sqlx::PgConnection,
}

impl Deployment {
    async fn new(name: &str, count: u64) -> Self {
        let database = database().await;
        let mut sql = sqlx::PgConnection::connect(database.url()).await.unwrap();
        let keyring = Keyring::generate("2026-01-01T00:00:00Z").to_inline().to_string();
        let parsed = Keyring::parse(&keyring).unwrap();
        let id =
            |n: u64| parsed.id_key().account_id("default", &ThreadsUserId::parse(&n.to_string()).unwrap());
        let ids: Vec<_> = (1..=count).map(|n| id(1000 + n).0).collect();
        sqlx::query("insert into deployment (id_key_fingerprint, create_time) values ($1, now())")
            .bind(parsed.id_key().fingerprint().as_slice())
            .execute(&mut sql)
            .await
            .unwrap();
        sqlx::query(FILL).bind(&ids).execute(&mut sql).await.unwrap();
        Self { database, keyring, directory: Directory::new(name), sql }
    }

    fn erase(&self, arguments: &[&str]) -> Ended {
        let mut erase = command([&["erase"], arguments].concat());
        erase.env("DATABASE_URL", self.database.url()).env("THREADS_IDENTITY_KEY", &self.keyring);
        end(erase)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let file = self.directory.path(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    async fn count(&mut self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.sql).await.unwrap()
    }
}

const ACCOUNTS: &str = "select count(*) from accounts";
const LEDGER: &str = "select count(*) from erasures";

fn answer(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_user_is_erased_and_a_dry_run_only_says_how_many() {
    let mut deployment = Deployment::new("erase-user", 6).await;
    let said = deployment.erase(&["--user", "user-1", "--dry-run"]).good();
    assert_eq!(said, "Would erase 2 accounts of the user, in app \"default\".");
    assert_eq!(deployment.count(ACCOUNTS).await, 6);
    let typo = deployment.erase(&["--user", "user-1", "--app", "defualt"]).bad();
    assert!(typo.contains("--app") && typo.contains("defualt"), "{typo}");
    // Another app's user of the same name is another person.
    let other = "insert into erasures values (gen_random_uuid(), 'second', now(), 'OPERATOR')";
    sqlx::query(other).execute(&mut deployment.sql).await.unwrap();
    let said = deployment.erase(&["--user", "user-1", "--app", "second", "--json"]).good();
    assert_eq!(answer(&said), json!({"named": 1, "erased": 0, "dry_run": false}));
    let said = deployment.erase(&["--user", "user-1"]).good();
    assert_eq!(said, "Erased 2 accounts of the user, in app \"default\".");
    let said = deployment.erase(&["--user", "user-1"]).good();
    assert_eq!(said, "Erased 0 accounts of the user, in app \"default\".");
    assert_eq!(deployment.count(ACCOUNTS).await, 4);
    let noted = "select count(*) from audit where action = 'ERASED_BY_OPERATOR' and caller = 'operator'
                 and erasure_id is not null and account_id is null and user_id is null";
    assert_eq!(deployment.count(noted).await, 2);
}

#[tokio::test]
async fn the_only_app_need_not_be_named() {
    let mut deployment = Deployment::new("erase-solo", 3).await;
    let app = |id: &str| {
        format!(
            "[[apps]]\nid = {id:?}\nclient_id = \"{0}\"\nclient_secret = \"not-a-secret-of-anybody\"\n\
             redirect_uris = [\"https://id.example.com/callback\"]\n",
            990_602_627_938_098 + id.len()
        )
    };
    let config = deployment.file("config.toml", &app("solo"));
    let said = deployment.erase(&["--user", "user-1", "--config", &config]).good();
    assert_eq!(said, "Erased 0 accounts of the user, in app \"solo\".");
    assert_eq!(deployment.count(ACCOUNTS).await, 3, "another app's are left");
    let error = deployment.erase(&["--user", "user-1", "--app", "third", "--config", &config]).bad();
    assert!(error.contains("--app") && error.contains("configured: solo"), "{error}");
    let config = deployment.file("config.toml", &(app("solo") + &app("another")));
    let said = deployment.erase(&["--user", "user-1", "--config", &config]).good();
    assert_eq!(said, "Erased 2 accounts of the user, in app \"default\".");
}

#[tokio::test]
async fn a_file_of_threads_ids_is_erased_if_all_of_it_is_good() {
    let mut deployment = Deployment::new("erase-ids", 600).await;
    let bad = deployment.file("bad", "1001\n\n# a list\n1002 # a comment\nx1003\n1004, 1005\n-1\n");
    let error = deployment.erase(&["--threads-ids", &bad]).bad();
    assert!(error.contains("line 5, 6, 7; nothing was done") && !error.contains("1003"), "{error}");
    assert_eq!(deployment.count(ACCOUNTS).await, 600);

    // All but the last hundred, one twice, and somebody who is not there.
    let ids: Vec<String> = (1001..=1500).map(|n| n.to_string()).collect();
    let lines = ids.join("\n") + "\n\n# once more, and a stranger\r\n1001\r\n  999  \n";
    let good = deployment.file("good", &lines);
    let said = deployment.erase(&["--threads-ids", &good, "--dry-run", "--json"]).good();
    assert_eq!(answer(&said), json!({"named": 501, "erased": 500, "dry_run": true}));
    assert_eq!((deployment.count(ACCOUNTS).await, deployment.count(LEDGER).await), (600, 0));
    let said = deployment.erase(&["--threads-ids", &good]).good();
    assert_eq!(said, "Erased 500 accounts of 501 Threads ids, in app \"default\".");
    // The stranger too: a consent of before is not to link the account later.
    assert_eq!((deployment.count(ACCOUNTS).await, deployment.count(LEDGER).await), (100, 501));
    let said = deployment.erase(&["--threads-ids", &good, "--json"]).good();
    assert_eq!(answer(&said)["erased"], 0);
    assert_eq!((deployment.count(ACCOUNTS).await, deployment.count(LEDGER).await), (100, 501));
    assert_eq!(deployment.count("select count(distinct erasure_id) from audit").await, 500);
}

#[tokio::test]
async fn what_it_cannot_do_is_said_and_nothing_is_done() {
    let mut deployment = Deployment::new("erase-refused", 3).await;
    let good = deployment.file("good", "1001\n");
    let mut stranger = command(["erase", "--threads-ids", &good]);
    stranger
        .env("DATABASE_URL", deployment.database.url())
        .env("THREADS_IDENTITY_KEY", Keyring::generate("2026-01-01T00:00:00Z").to_inline().as_str());
    let error = end(stranger).bad();
    assert!(error.contains("id_key is not the one"), "{error}");
    for (arguments, told) in [
        (vec!["--threads-ids", "/nowhere/at-all"], "/nowhere/at-all"),
        (vec!["--replay", "/nowhere/at-all"], "/nowhere/at-all"),
        (vec!["--user", ""], "--user: must be 1 to 128 bytes"),
    ] {
        let error = deployment.erase(&arguments).bad();
        assert!(error.contains(told), "{error}");
    }
    for wrong in [
        vec!["erase"],
        vec!["erase", "--user", "x", "--export"],
        vec!["erase", "--export", "--dry-run"],
        vec!["erase", "--replay", "x", "--app", "default"],
    ] {
        assert_eq!(run(&wrong).code, Some(2), "{wrong:?}");
    }
    assert!(run(&["erase", "--user", "x"]).bad().contains("database.url: is required"));
    let error = end({
        let mut erase = command(["erase", "--user", "x"]);
        erase.env("DATABASE_URL", "postgres://canary:canary@127.0.0.1:1/canary");
        erase
    })
    .bad();
    assert!(error.contains("unavailable") || error.contains("nothing listens"), "{error}");
    assert!(!error.contains("canary"), "{error}");
    assert_eq!(deployment.count(ACCOUNTS).await, 3);
}

#[tokio::test]
async fn an_exported_ledger_holds_no_name_and_is_applied_as_often_as_one_likes() {
    let mut deployment = Deployment::new("erase-ledger", 4).await;
    let rows = "create table kept as select * from accounts";
    sqlx::query(rows).execute(&mut deployment.sql).await.unwrap();
    deployment.erase(&["--user", "user-1"]).good();
    let exported = deployment.erase(&["--export"]).good();
    assert_eq!(exported.lines().count(), 2);
    for line in exported.lines().map(answer) {
        let keys: std::collections::BTreeSet<&str> =
            line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["account", "app", "time"].into());
        assert!(AccountId::parse(line["account"].as_str().unwrap()).is_some());
    }
    assert_eq!(deployment.erase(&["--export", "--app", "second"]).good(), "");

    // As a backup of before has it, except that one of the two has consented anew since.
    sqlx::raw_sql(
        "truncate erasures; insert into accounts select * from kept where user_id = 'user-1';
         update accounts set authorize_time = '3000-01-01' where threads_user_id = '1002'",
    )
    .execute(&mut deployment.sql)
    .await
    .unwrap();
    let bad = deployment.file("bad", &format!("{exported}\n{{}}\nx\n"));
    let error = deployment.erase(&["--replay", &bad]).bad();
    assert!(error.contains("line 3, 4; nothing was done"), "{error}");
    let ledger = deployment.file("ledger", &format!("{exported}\n{exported}\n"));
    let said = deployment.erase(&["--replay", &ledger, "--dry-run"]).good();
    assert_eq!(said, "Would erase 1 account of 2 in the ledger.");
    assert_eq!((deployment.count(ACCOUNTS).await, deployment.count(LEDGER).await), (4, 0));
    for erased in [1, 0] {
        let said = deployment.erase(&["--replay", &ledger, "--json"]).good();
        assert_eq!(answer(&said), json!({"named": 2, "erased": erased, "dry_run": false}));
    }
    assert_eq!((deployment.count(ACCOUNTS).await, deployment.count(LEDGER).await), (3, 2));
    assert_eq!(deployment.count("select count(*) from accounts where threads_user_id = '1002'").await, 1);
    // The ledger is as it was: the times are those of the erasures themselves.
    assert_eq!(deployment.erase(&["--export"]).good(), exported);
}

fn migrate(url: &str, arguments: &[&str]) -> Command {
    let mut migrate = command([&["migrate"], arguments].concat());
    migrate.env("DATABASE_URL", url);
    migrate
}

#[tokio::test]
async fn after_a_restore_nothing_is_served_until_the_ledger_has_been_applied() {
    let database = database().await;
    let url = database.url();
    let mut sql = sqlx::PgConnection::connect(url).await.unwrap();
    let error = end(migrate(url, &["--after-restore"])).bad();
    assert!(error.contains("never been used"), "{error}");
    let setting = Setting::new("erase-drill", url).await;
    let mut service = Service::start(setting.serve(), &setting.key).await;
    let created = service.create("user-1").await;
    let decision = threads_identity::simulator::Decision::Allow;
    let callback_url =
        setting.simulator.controls().consent(&created.authorization_url, "full", decision).unwrap();
    service.complete(&callback_url, "user-1").await;

    // A backup; then the person says "forget me"; the ledger is kept beside the backup.
    let backup = "create table kept as select * from accounts";
    sqlx::query(backup).execute(&mut sql).await.unwrap();
    let erase = |arguments: &[&str]| {
        let mut erase = command([&["erase"], arguments].concat());
        erase.env("DATABASE_URL", url);
        end(erase).good()
    };
    assert!(erase(&["--user", "user-1"]).starts_with("Erased 1 account "));
    let ledger = setting.directory.path("ledger.jsonl");
    fs::write(&ledger, erase(&["--export"])).unwrap();
    let ledger = Path::new(&ledger).to_str().unwrap();
    service.running.signal("-TERM");
    assert_eq!(service.running.wait().code(), Some(0));

    // The disaster, and the backup put back.
    let restore = "truncate erasures, events, audit; insert into accounts select * from kept";
    sqlx::raw_sql(restore).execute(&mut sql).await.unwrap();
    let epoch = "select event_epoch from deployment";
    let before: i32 = sqlx::query_scalar(epoch).fetch_one(&mut sql).await.unwrap();
    let said = end(migrate(url, &["--after-restore"])).good();
    assert!(said.contains("erase --replay"), "{said}");
    let after: i32 = sqlx::query_scalar(epoch).fetch_one(&mut sql).await.unwrap();
    assert_eq!(after, before + 1);
    for _ in 0..2 {
        let error = end(setting.serve()).bad();
        assert!(error.contains("erase --replay FILE"), "{error}");
        erase(&["--replay", ledger, "--dry-run"]);
        end(migrate(url, &[])).good();
    }
    assert!(erase(&["--replay", ledger]).contains("Erased 1 account of 1 in the ledger."));
    let left: i64 = sqlx::query_scalar(ACCOUNTS).fetch_one(&mut sql).await.unwrap();
    assert_eq!(left, 0);
    let service = Service::start(setting.serve(), &setting.key).await;
    // Nothing stands in the way of a new consent.
    let created = service.create("user-1").await;
    let callback_url =
        setting.simulator.controls().consent(&created.authorization_url, "full", decision).unwrap();
    assert_eq!(service.complete(&callback_url, "user-1").await.account.unwrap().user_id, "user-1");
}
