//! `import` from databases that Auth.js and better-auth have made.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};
use threads_identity::postgres::scratch::Database;
use threads_identity::simulator::{Controls, Endpoint};

use crate::makers::{CALLBACK, Makers, ORIGIN};
use crate::run::{Ended, database, empty_database, end};
use crate::serve::{CLIENT_SECRET, Setting};

const CLIENT_ID: &str = "990602627938098";
const DAY: u64 = 24 * 3600;

/// A deployment that others move to, and Threads.
pub struct Target {
    pub setting: Setting,
    _database: Database,
    pub sql: PgConnection,
}

/// What stands of an account.
#[derive(Debug, PartialEq)]
pub struct Stored {
    pub user_id: String,
    pub state: String,
    pub reason: Option<String>,
    pub username: Option<String>,
    /// In days from now, rounded down.
    pub expires: Option<i64>,
    /// In hours from now, rounded up.
    pub due: Option<i64>,
    pub kinds: String,
    pub notes: String,
}

impl Target {
    pub async fn new(name: &str) -> Self {
        let database = database().await;
        let setting = Setting::beside(name, database.url(), &[CALLBACK]).await;
        let sql = PgConnection::connect(database.url()).await.unwrap();
        Self { setting, _database: database, sql }
    }

    pub fn controls(&self) -> Controls {
        self.setting.simulator.controls()
    }

    /// A long-lived token of somebody, so many seconds old.
    pub async fn token(&self, persona: &str, age: u64) -> String {
        let url = format!("{}/_simulator/personas/{persona}/token", self.setting.simulator.base_url());
        let order = json!({"client_id": CLIENT_ID, "scopes": "threads_basic", "age_seconds": age});
        let post = reqwest::Client::builder().build().unwrap().post(url);
        let post = post.header("content-type", "application/json").body(order.to_string());
        let answer = post.send().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    pub fn person(&self, persona: &str) -> String {
        self.controls().persona(persona).unwrap().id
    }

    /// What a maker is told: where, and who signs in through it.
    fn order(&self, source: &Database, flow: &[&str], rows: &Value) -> Value {
        json!({
            "database_url": source.url(),
            "threads": self.setting.simulator.base_url(),
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "origin": ORIGIN,
            "flow": flow,
            "rows": rows,
        })
    }

    /// Runs an import; `--json` and `--rate` come with it.
    pub fn import(&self, source: Option<&Database>, arguments: &[&str]) -> Ended {
        let mut import =
            self.setting.beside_it(&[&["import"], arguments, &["--json", "--rate", "100"]].concat());
        if let Some(source) = source {
            import.env("THREADS_IDENTITY_IMPORT_URL", source.url());
        }
        end(import)
    }

    pub async fn stored(&mut self, threads_user_id: &str) -> Option<Stored> {
        let row = sqlx::query(
            "select user_id, state, state_reason, username,
                    floor(extract(epoch from token_expire_time - now()) / 86400)::int8,
                    ceil(extract(epoch from next_refresh_time - now()) / 3600)::int8,
                    (select coalesce(string_agg(kind, ' ' order by event_id), '') from events e
                     where e.account_id = a.account_id),
                    (select coalesce(string_agg(detail, ', ' order by audit_id), '') from audit t
                     where t.account_id = a.account_id and action = 'IMPORTED' and t.user_id = a.user_id)
             from accounts a where threads_user_id = $1",
        )
        .bind(threads_user_id)
        .fetch_optional(&mut self.sql)
        .await
        .unwrap()?;
        Some(Stored {
            user_id: row.get(0),
            state: row.get(1),
            reason: row.get(2),
            username: row.get(3),
            expires: row.get(4),
            due: row.get(5),
            kinds: row.get(6),
            notes: row.get(7),
        })
    }

    pub async fn count(&mut self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut self.sql).await.unwrap()
    }
}

/// What an import says that it did: ACTIVE, to be consented to, unchanged, refused.
#[track_caller]
pub fn tally(ended: &Ended) -> (u64, u64, u64, u64) {
    let said: Value =
        serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{}\n{}", ended.out, ended.err));
    let number = |name: &str| said[name].as_u64().unwrap();
    (number("active"), number("reauthorization_required"), number("unchanged"), number("refused"))
}

/// The rows of a report by Threads id: outcome and reason.
pub fn reasons(report: &str) -> BTreeMap<String, (String, String)> {
    let text = fs::read_to_string(report).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    rows.map(|row| (row[2].clone(), (row[3].clone(), row[4].clone()))).collect()
}

/// The last block of a page in a language.
fn shown(page: &str, language: &str) -> String {
    let text = fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let (_, block) = text.rsplit_once(&format!("```{language}\n")).unwrap();
    block.split("```").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_who_signed_in_with_auth_js_are_brought_over() {
    let Some(makers) = Makers::get().await else { return };
    let mut target = Target::new("import-authjs").await;
    let source = empty_database().await;
    // One signs in now and has the short-lived token that Auth.js keeps. The others have what an application
    // has made of it: long-lived tokens, of which Auth.js knows the end or does not.
    let (home, work, old) = (target.person("home"), target.person("work"), target.person("private"));
    let seconds = i64::try_from(DAY).unwrap() * 30 + target.controls().now();
    let rows = json!([
        {"providerAccountId": home, "access_token": target.token("home", 30 * DAY).await, "expires_at": seconds},
        {"providerAccountId": work, "access_token": target.token("work", DAY).await, "scope": "threads_basic,threads_manage_replies"},
        {"providerAccountId": old, "access_token": "THAAgone-for-long"},
        {"providerAccountId": "17841400000000001"},
        {"providerAccountId": target.person("emoji"), "access_token": target.token("bare", DAY).await},
        {"providerAccountId": "not-a-number", "access_token": "THx"},
    ]);
    let users = makers.make("make-authjs.mjs", &target.order(&source, &["full"], &rows));
    assert_eq!(users.len(), 7, "{users:?}");
    let full = target.person("full");
    let kept = dump(source.url()).await;

    let tried = target.import(Some(&source), &["authjs", "--dry-run"]);
    assert_eq!((tally(&tried), tried.code), ((3, 2, 0, 2), Some(1)), "{}", tried.err);
    assert_eq!(target.count("select count(*) from accounts").await, 0);

    let report = target.file(
        "report.csv",
        "row,user_id,threads_user_id,outcome,reason,what_to_do\nof,a,run,before,this,one\n",
    );
    fs::set_permissions(&report, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let report = report.as_str();
    let done = target.import(Some(&source), &["authjs", "--report", report]);
    assert_eq!((tally(&done), done.code), ((3, 2, 0, 2), Some(1)), "{}", done.err);
    assert!(done.err.contains("2 rows were refused: see "), "{}", done.err);
    assert_eq!(
        reasons(report),
        [
            (old.clone(), ("REAUTHORIZATION_REQUIRED".to_owned(), "SESSION_INVALIDATED".to_owned())),
            (
                "17841400000000001".to_owned(),
                ("REAUTHORIZATION_REQUIRED".to_owned(), "TOKEN_MISSING".to_owned())
            ),
            (target.person("emoji"), ("REFUSED".to_owned(), "IDENTITY_MISMATCH".to_owned())),
            ("not-a-number".to_owned(), ("REFUSED".to_owned(), "THREADS_USER_ID_INVALID".to_owned())),
        ]
        .into()
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(report).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    // The short-lived one was exchanged: it lives two months from now.
    let stored = target.stored(&full).await.unwrap();
    assert_eq!((stored.user_id.as_str(), stored.state.as_str()), (users[&full].as_str(), "ACTIVE"));
    assert_eq!((stored.expires, stored.kinds.as_str()), (Some(59), "LINKED"));
    assert_eq!(stored.notes, "authjs ACTIVE");
    assert_eq!(stored.username.as_deref(), Some("maya.sim"));
    // Its end was known, and is believed.
    let stored = target.stored(&home).await.unwrap();
    assert_eq!((stored.state.as_str(), stored.expires), ("ACTIVE", Some(29)));
    // Its end is not known: it is refreshed once it is certainly old enough.
    let stored = target.stored(&work).await.unwrap();
    assert_eq!((stored.state.as_str(), stored.due), ("ACTIVE", Some(25)));
    let scopes = "select count(*) from accounts where scopes = 'threads_basic threads_manage_replies'";
    assert_eq!(target.count(scopes).await, 1);
    // The dead one keeps its user, and whoever watches hears of it.
    let stored = target.stored(&old).await.unwrap();
    assert_eq!(
        (stored.user_id.as_str(), stored.state.as_str()),
        (users[&old].as_str(), "REAUTHORIZATION_REQUIRED")
    );
    assert_eq!(stored.kinds, "LINKED REAUTHORIZATION_REQUIRED");
    assert_eq!(target.stored(&target.person("emoji")).await, None);

    // What is in is not asked about again.
    target.controls().clear_ledger();
    let again = target.import(Some(&source), &["authjs"]);
    assert_eq!(tally(&again), (0, 2, 3, 2), "{}", again.err);
    assert_eq!(target.controls().count(Endpoint::Me), 2, "the dead one and the other person's");
    assert_eq!(target.count("select count(*) from events").await, 7);
    assert_eq!(dump(source.url()).await, kept, "nothing is written at the source");
    assert!(!fs::read_to_string(report).unwrap().contains("SIMSECRET"));

    // And back, as the page says.
    let (secret, recipient) = makers.age_key();
    let (keys, out) = (target.file("recipients", recipient), target.setting.directory.path("out.age"));
    let arguments = ["export", "--tokens-sealed-to", &keys, "--out", out.to_str().unwrap()];
    end(target.setting.beside_it(&arguments)).good();
    let opened = makers.open_age(&secret, &out).unwrap();
    let back = shown("docs/moving-from-authjs.md", "sql");
    let (create, update) = back.split_once("\\copy moved from accounts.csv csv header\n").unwrap();
    let mut sql = PgConnection::connect(source.url()).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut sql).await.unwrap();
    let mut copy = sql.copy_in_raw("copy moved from stdin csv header").await.unwrap();
    copy.send(opened.as_bytes()).await.unwrap();
    copy.finish().await.unwrap();
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(update)).execute(&mut sql).await.unwrap();
    assert_eq!(done.rows_affected(), 3);
    let known =
        "select count(*) from accounts where provider = 'threads' and expires_at > extract(epoch from now())";
    let known: i64 = sqlx::query_scalar(known).fetch_one(&mut sql).await.unwrap();
    assert_eq!(known, 3, "the end of each that works is known now");
}

/// All rows of the source's accounts.
async fn dump(url: &str) -> String {
    let mut sql = PgConnection::connect(url).await.unwrap();
    let found = "select table_name::text from information_schema.tables
                 where table_schema = 'public' and table_name in ('account', 'accounts')";
    let table: String = sqlx::query_scalar(found).fetch_one(&mut sql).await.unwrap();
    let rows = format!("select string_agg(a::text, E'\\n' order by a::text) from {table} a");
    sqlx::query_scalar(sqlx::AssertSqlSafe(rows)).fetch_one(&mut sql).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_who_signed_in_with_better_auth_are_brought_over() {
    let Some(makers) = Makers::get().await else { return };
    let mut target = Target::new("import-better-auth").await;
    let source = empty_database().await;
    let (home, work) = (target.person("home"), target.person("work"));
    let milliseconds = |days: i64| (target.controls().now() + days * 86400) * 1000;
    let rows = json!([
        {"accountId": home, "accessToken": target.token("home", 10 * DAY).await, "accessTokenExpiresAt": milliseconds(50)},
        // Somebody has refreshed it and left the old end there.
        {"accountId": work, "accessToken": target.token("work", DAY).await, "accessTokenExpiresAt": milliseconds(-3)},
    ]);
    let users = makers.make("make-better-auth.mjs", &target.order(&source, &["full", "bare"], &rows));
    assert_eq!(users.len(), 4, "{users:?}");

    let done = target.import(Some(&source), &["better-auth"]);
    assert_eq!((tally(&done), done.code), ((4, 0, 0, 0), Some(0)), "{}", done.err);
    for persona in ["full", "bare", "home", "work"] {
        let person = target.person(persona);
        let stored = target.stored(&person).await.unwrap();
        assert_eq!((stored.user_id.as_str(), stored.state.as_str()), (users[&person].as_str(), "ACTIVE"));
        assert_eq!(stored.notes, "better-auth ACTIVE");
    }
    // The short-lived ones were exchanged. Of the others one is believed, one is not.
    assert_eq!(target.stored(&target.person("full")).await.unwrap().expires, Some(59));
    assert_eq!(target.stored(&home).await.unwrap().expires, Some(49));
    assert!(target.stored(&work).await.unwrap().due <= Some(60 * 24));

    // Side by side: somebody signs in there once more, and another is new.
    let mut sql = PgConnection::connect(source.url()).await.unwrap();
    let newer = target.token("home", 2 * DAY).await;
    sqlx::query(
        "update account set \"accessToken\" = $1, \"accessTokenExpiresAt\" = now() + '58 days',
                            \"updatedAt\" = now() + '1 second'
         where \"accountId\" = $2",
    )
    .bind(&newer)
    .bind(&home)
    .execute(&mut sql)
    .await
    .unwrap();
    target.controls().clear_ledger();
    let again = target.import(Some(&source), &["better-auth"]);
    assert_eq!(tally(&again), (1, 0, 3, 0), "{}", again.err);
    assert_eq!(target.controls().count(Endpoint::Me), 1);
    let stored = target.stored(&home).await.unwrap();
    assert_eq!((stored.expires, stored.kinds.as_str()), (Some(57), "LINKED REAUTHORIZED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_better_auth_has_encrypted_are_told_apart() {
    let Some(makers) = Makers::get().await else { return };
    let mut target = Target::new("import-encrypted").await;
    let source = empty_database().await;
    let mut order = target.order(&source, &["full"], &json!([]));
    order["encrypt"] = json!(true);
    makers.make("make-better-auth.mjs", &order);
    let report = target.setting.directory.path("report.csv");
    let report = report.to_str().unwrap();
    let done = target.import(Some(&source), &["better-auth", "--report", report]);
    assert_eq!((tally(&done), done.code), ((0, 0, 0, 1), Some(1)), "{}", done.err);
    assert_eq!(reasons(report)[&target.person("full")].1, "ACCESS_TOKEN_ENCRYPTED");
    assert!(fs::read_to_string(report).unwrap().contains("encryptOAuthTokens"));
    assert_eq!(target.count("select count(*) from accounts").await, 0);

    // As the page says.
    let program = shown("docs/moving-from-better-auth.md", "js");
    let before = "import { betterAuth } from 'better-auth'
import { configure } from './better-auth.mjs'
import { order } from './browser.mjs'
const { options, pool } = configure(await order())
const auth = betterAuth(options)";
    makers.run_shown(before, &(program + "await pool.end()\n"), &order, &target.setting.directory.0);
    let file = target.setting.directory.path("accounts.csv");
    let done = target.import(None, &["csv", file.to_str().unwrap()]);
    assert_eq!((tally(&done), done.code), ((1, 0, 0, 0), Some(0)), "{}", done.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_cannot_be_read_is_told_from_one_that_is_empty() {
    let Some(makers) = Makers::get().await else { return };
    let target = Target::new("import-sources").await;
    let source = empty_database().await;
    makers.make("make-authjs.mjs", &target.order(&source, &[], &json!([])));

    let none = target.import(Some(&source), &["authjs"]);
    assert_eq!((tally(&none), none.code), ((0, 0, 0, 0), Some(0)), "{}", none.err);
    let said = target.import(Some(&source), &["better-auth"]).bad();
    assert!(
        said.contains("no table of the source has the columns of better-auth's accounts (providerId, "),
        "{said}"
    );
    let said = target.import(Some(&source), &["authjs", "--table", "users"]).bad();
    assert!(said.contains("--table: public.users lacks a column of Auth.js's accounts: provider"), "{said}");
    for unknown in ["accounst", "x y", "\"", "a.b.c.d"] {
        let said = target.import(Some(&source), &["authjs", "--table", unknown]).bad();
        assert!(said.contains("--table: the source has no table"), "{said}");
    }
    let said = target.import(None, &["authjs"]).bad();
    assert!(said.contains("--url-file FILE, or the variable THREADS_IDENTITY_IMPORT_URL"), "{said}");
    for (url, told) in [
        ("mysql://canary@localhost/canary", "is not one of Postgres"),
        ("postgres://canary:canary@127.0.0.1:1/canary", "nothing listens where its URL points"),
    ] {
        let file = target.setting.directory.path("url");
        fs::write(&file, url).unwrap();
        let said = target.import(None, &["authjs", "--url-file", file.to_str().unwrap()]).bad();
        assert!(said.contains(told) && !said.contains("canary"), "{said}");
    }

    // Names as Prisma and Drizzle may have them, in schemas of their own.
    let mut sql = PgConnection::connect(source.url()).await.unwrap();
    let tables = "
        create schema prisma;
        create table prisma.\"Account\" (\"userId\" text, provider text, \"providerAccountId\" text, access_token text,
                                         expires_at integer, scope text, \"createdAt\" timestamp, \"updatedAt\" timestamp);
        create schema drizzle;
        create table drizzle.account (user_id uuid, provider text, provider_account_id text, access_token text,
                                      expires_at integer);
        insert into drizzle.account values (gen_random_uuid(), 'threads', 'none', 'TH', 1), (null, 'threads', null, null, null);";
    sqlx::raw_sql(tables).execute(&mut sql).await.unwrap();
    let said = target.import(Some(&source), &["authjs"]).bad();
    assert!(said.contains("--table: drizzle.account, prisma.\"Account\", public.accounts"), "{said}");
    assert!(target.import(Some(&source), &["authjs", "--table", "prisma.\"Account\""]).code == Some(0));
    let two = target.import(Some(&source), &["authjs", "--table", "drizzle.account"]);
    assert_eq!((tally(&two), two.code), ((0, 0, 0, 2), Some(1)), "{}", two.err);
    let other =
        target.import(Some(&source), &["authjs", "--table", "drizzle.account", "--provider", "threads2"]);
    assert_eq!(tally(&other), (0, 0, 0, 0));

    // More than a page, out of order; of two rows of one account and user only one counts.
    let many = "
        truncate drizzle.account;
        insert into drizzle.account
        select '00000000-0000-0000-0000-000000000001', 'threads', (10000 + n * 7919 % 4500)::text, null, null
        from generate_series(1, 4600) n";
    sqlx::raw_sql(many).execute(&mut sql).await.unwrap();
    let mut target = target;
    for _ in 0..2 {
        let all = target.import(Some(&source), &["authjs", "--table", "drizzle.account"]);
        assert_eq!((tally(&all), all.code), ((0, 4500, 0, 0), Some(0)), "{}", all.err);
        assert_eq!(target.count("select count(*) from accounts").await, 4500);
    }
}
