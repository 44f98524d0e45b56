//! `audit`.

use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::run::{Ended, command, database, empty_database, end, run};

const ACCOUNT: &str = "5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90";
const OTHER: &str = "5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a91";
const AUTHORIZATION: &str = "0195513e-6400-7000-8000-000000000001";

/// A link, a token fetch, a takeover by another user, a refused attempt.
const HISTORY: &str = r#"
insert into authorizations (authorization_id, app_id, sign_in, user_id, account_id, scopes, transfer, answer_hash,
                            state, step, failure_reason, outcome, claim_id, claim_expire_time, create_time,
                            attempt_time, end_time)
select id::uuid, 'default', false, u, a::uuid, '', false, '', s, 'EXCHANGED', f, o, gen_random_uuid(), t, t, t, e
from (values
    ('0195513e-6400-7000-8000-000000000001', 'user-1', '5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90', 'SUCCEEDED', null,
     'LINKED', '2026-03-01 12:00:01Z'::timestamptz, '2026-03-01 12:00:01.5Z'::timestamptz),
    ('0195513e-6400-7000-8000-000000000002', 'user-1', null, 'DENIED', 'AUTHORIZATION_DENIED', null,
     '2026-03-03 12:00:00Z', '2026-03-03 12:00:00Z'),
    ('0195513e-6400-7000-8000-000000000003', 'user-1', '5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90', 'IN_PROGRESS', null,
     null, '2026-03-04 12:00:00Z', null)) h (id, u, a, s, f, o, t, e);
insert into events (app_id, account_id, user_id, previous_user_id, kind, event_time) values
    ('default', '5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90', 'user-1', null, 'LINKED', '2026-03-01 12:00:01.5Z'),
    ('default', '5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90', 'user-2', 'user-1', 'TRANSFERRED', '2026-03-02 12:00:00Z'),
    ('default', '5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a91', 'user-9', null, 'LINKED', '2026-03-02 12:00:00Z');
insert into audit (app_id, account_id, authorization_id, user_id, caller, action, purpose, audit_time) values
    ('default', '5b1c6a34-8f0e-8d52-9c1a-3f0d2b7e6a90', null, 'user-1', 'web', 'FETCH_ACCESS_TOKEN',
     E'to "post"\x1b[2J', '2026-03-01 13:00:00.25Z'),
    ('second', null, '0195513e-6400-7000-8000-000000000001', 'user-1', 'other', 'SESSION_MISMATCH', null,
     '2026-03-01 11:00:00Z');
"#;

fn audit(url: &str, arguments: &[&str]) -> Ended {
    let mut audit = command([&["audit"], arguments].concat());
    audit.env("DATABASE_URL", url);
    end(audit)
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn it_shows_what_happened_to_an_account_or_a_user_in_order() {
    let database = database().await;
    let mut sql = sqlx::PgConnection::connect(database.url()).await.unwrap();
    sqlx::raw_sql(HISTORY).execute(&mut sql).await.unwrap();

    let of_account = lines(&audit(database.url(), &["--account", ACCOUNT, "--json"]).good());
    let told: Vec<_> = of_account.iter().map(|line| (&line["source"], &line["what"])).collect();
    let expected = [
        ("authorization", "SUCCEEDED"),
        ("event", "LINKED"),
        ("audit", "FETCH_ACCESS_TOKEN"),
        ("event", "TRANSFERRED"),
        ("authorization", "IN_PROGRESS"),
    ];
    let expected = expected.map(|(source, what)| (json!(source), json!(what)));
    assert_eq!(told, expected.iter().map(|(source, what)| (source, what)).collect::<Vec<_>>());
    assert_eq!(
        of_account[0],
        json!({"time": "2026-03-01T12:00:01.5Z", "source": "authorization", "what": "SUCCEEDED", "app_id": "default",
               "account_id": ACCOUNT, "authorization_id": AUTHORIZATION, "user_id": "user-1", "detail": "LINKED"})
    );
    assert_eq!(
        of_account[2],
        json!({"time": "2026-03-01T13:00:00.25Z", "source": "audit", "what": "FETCH_ACCESS_TOKEN",
               "app_id": "default", "account_id": ACCOUNT, "user_id": "user-1", "caller": "web",
               "purpose": "to \"post\"\u{1b}[2J"})
    );
    assert_eq!(of_account[3]["previous_user_id"], "user-1");
    assert_eq!(lines(&audit(database.url(), &["--account", OTHER, "--json"]).good()).len(), 1);

    let of_user = |more: &[&str]| {
        let arguments = [&["--user", "user-1", "--json"], more].concat();
        let all = lines(&audit(database.url(), &arguments).good());
        all.iter().map(|line| line["what"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    // With the account's going to somebody else, but not with what they do with it.
    let own = "SUCCEEDED LINKED FETCH_ACCESS_TOKEN TRANSFERRED DENIED IN_PROGRESS";
    assert_eq!(of_user(&[]), format!("SESSION_MISMATCH {own}"));
    assert_eq!(of_user(&["--app", "default"]), own);
    assert_eq!(of_user(&["--app", "second"]), "SESSION_MISMATCH");

    let table = audit(database.url(), &["--account", ACCOUNT]).good();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 6);
    assert!(rows[0].starts_with("TIME ") && rows[0].ends_with("DETAILS"));
    assert_eq!(
        rows[3],
        format!(
            "2026-03-01T13:00:00.25Z   audit          FETCH_ACCESS_TOKEN            app=default account={ACCOUNT} \
             user=user-1 caller=web purpose=\"to \\\"post\\\"\\u{{1b}}[2J\""
        )
    );
    assert!(!table.contains('\u{1b}'), "a terminal obeys it");
}

#[tokio::test]
async fn what_it_cannot_do_is_said() {
    let database = database().await;
    for id in ["", "7", &ACCOUNT.to_uppercase(), &ACCOUNT.replace('-', "")] {
        let error = audit(database.url(), &["--account", id]).bad();
        assert!(error.contains("is not an account id"), "{error}");
    }
    for id in ["", &"x".repeat(129)] {
        assert!(audit(database.url(), &["--user", id]).bad().contains("--user: must be 1 to 128 bytes"));
    }
    for (arguments, told) in [
        (vec!["--account", ACCOUNT], "account 5b1c6a34"),
        (vec!["--user", "nobody"], "user \"nobody\":"),
        (vec!["--user", "nobody", "--app", "default", "--json"], "user \"nobody\" in app \"default\""),
    ] {
        let ended = audit(database.url(), &arguments);
        assert!(ended.out.is_empty());
        let error = ended.bad();
        assert!(error.contains("nothing is known of") && error.contains(told), "{error}");
    }
    for wrong in [
        vec!["audit"],
        vec!["audit", "--account", ACCOUNT, "--user", "x"],
        vec!["audit", "--account", ACCOUNT, "--app", "default"],
    ] {
        assert_eq!(run(&wrong).code, Some(2), "{wrong:?}");
    }
    let error = run(&["audit", "--user", "x"]).bad();
    assert!(error.contains("database.url: is required"), "{error}");
    let error = audit("postgres://canary:canary@127.0.0.1:1/canary", &["--user", "x"]).bad();
    assert!(error.contains("unavailable") && !error.contains("canary"), "{error}");
    let empty = empty_database().await;
    let error = audit(empty.url(), &["--user", "x"]).bad();
    assert!(error.contains("threads-identity migrate"), "{error}");
}
