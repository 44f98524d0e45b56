//! `export`: accounts, their tokens, and what is stored of one user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use threads_identity::simulator::Endpoint;

use crate::import::{Target, tally};
use crate::makers::Makers;
use crate::run::{Ended, end};

const PEOPLE: [&str; 3] = ["full", "bare", "emoji"];

/// A deployment with three accounts that work and one that does not.
async fn filled(name: &str) -> Target {
    let target = Target::new(name).await;
    let mut text = "user_id,threads_user_id,access_token,expires_at,authorized_at\n".to_owned();
    for (i, persona) in PEOPLE.into_iter().enumerate() {
        let token = target.token(persona, 20 * 86400).await;
        let end = target.controls().now() + 40 * 86400;
        text.push_str(&format!(
            "\"user, {i}\",{},{token},{end},2026-01-02T03:04:05Z\n",
            target.person(persona)
        ));
    }
    text.push_str("gone,17841400000000001,,,\n");
    let file = target.file("in.csv", text);
    assert_eq!(tally(&target.import(None, &["csv", &file])), (3, 1, 0, 0));
    target
}

fn export(target: &Target, arguments: &[&str]) -> Ended {
    end(target.setting.beside_it(&[&["export"], arguments].concat()))
}

/// How many rows there are: a biography may have several lines.
fn rows(text: &str) -> usize {
    csv::Reader::from_reader(text.as_bytes()).records().map(Result::unwrap).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_taken_out_without_tokens_unless_it_is_said() {
    let mut target = filled("export-accounts").await;
    let said = export(&target, &[]).good();
    assert_eq!(rows(&said), 4, "{said}");
    assert!(said.starts_with("account_id,user_id,threads_user_id,state,") && !said.contains("access_token"));
    assert!(said.contains("maya.sim") && said.contains("\"user, 0\""), "{said}");
    assert!(!said.contains("SIMSECRET"));
    assert_eq!(export(&target, &["--app", "default"]).good(), said, "in one order");

    let out = target.setting.directory.path("accounts.jsonl").display().to_string();
    let ended = export(&target, &["--format", "json-lines", "--out", &out]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{}", ended.err);
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let lines: Vec<Value> =
        fs::read_to_string(&out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    let gone = lines.iter().find(|line| line["user_id"] == "gone").unwrap();
    assert_eq!(gone["state"], "REAUTHORIZATION_REQUIRED");
    assert!(
        gone.get("username").is_none() && gone.get("authorized_at").is_none(),
        "absent, not empty: {gone}"
    );
    let maya = lines.iter().find(|line| line["username"] == "maya.sim").unwrap();
    assert_eq!(maya["authorized_at"], "2026-01-02T03:04:05Z");
    assert_eq!(target.count("select count(*) from audit where action = 'ACCOUNTS_EXPORTED'").await, 3);
    assert_eq!(target.count("select count(*) from audit where action = 'TOKEN_EXPORTED'").await, 0);

    let there = target.file("there.toml", "the only copy");
    let said = export(&target, &["--out", &there]).bad();
    assert!(
        said.contains("is there already") && fs::read_to_string(&there).unwrap() == "the only copy",
        "{said}"
    );
    let said = export(&target, &["--out", "/nowhere/at-all"]).bad();
    assert!(said.contains("--out: /nowhere/at-all"), "{said}");
    let left = fs::read_dir(&target.setting.directory.0).unwrap();
    assert!(left.into_iter().all(|entry| !entry.unwrap().file_name().to_string_lossy().contains(".new")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_leave_sealed_for_a_key_and_open_into_another_deployment() {
    let Some(makers) = Makers::get().await else { return };
    let mut target = filled("export-tokens").await;
    let ((secret, recipient), (stranger, _)) = (makers.age_key(), makers.age_key());
    let out = target.setting.directory.path("accounts.age");
    let out = out.to_str().unwrap();
    for (text, told) in [
        (secret.as_str(), "line 1 is the secret half of a key"),
        ("# nobody\n", "it names no recipient"),
        ("age1tooshort\n", "line 1 is no recipient of age"),
    ] {
        let file = target.file("recipients", text);
        let said = export(&target, &["--tokens-sealed-to", &file, "--out", out]).bad();
        assert!(said.contains(told) && !said.contains(&secret), "{said}");
    }
    // More than is sealed together.
    sqlx::raw_sql(
        "insert into accounts (account_id, app_id, threads_user_id, user_id, state, state_reason, scopes, biography,
                               profile_fetch_time, create_time, update_time, authorize_time)
         select gen_random_uuid(), 'default', (1000 + n)::text, 'user-' || n, 'REAUTHORIZATION_REQUIRED',
                'TOKEN_EXPIRED', '', repeat('x', 8000), now(), now(), now(), now()
         from generate_series(1, 40) n",
    )
    .execute(&mut target.sql)
    .await
    .unwrap();
    let recipients = target.file("recipients", format!("# ours\n{recipient}\n"));
    assert_eq!(export(&target, &["--tokens-sealed-to", &recipients]).code, Some(2), "never to a terminal");
    let ended = export(&target, &["--tokens-sealed-to", &recipients, "--out", out]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("Wrote 44 accounts, 3 of them with their tokens"), "{}", ended.err);
    assert_eq!(fs::metadata(out).unwrap().permissions().mode() & 0o777, 0o600);
    let sealed = fs::read(out).unwrap();
    assert!(sealed.len() > 4 * 64 * 1024);
    let holds = |text: &str| sealed.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(!holds("SIMSECRET") && !holds("maya.sim") && holds("-> X25519 "));
    assert_eq!(
        target
            .count("select count(*) from audit where action = 'TOKEN_EXPORTED' and account_id is not null")
            .await,
        3
    );

    assert_eq!(makers.open_age(&stranger, out.as_ref()), None);
    let mut damaged = sealed.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = target.file("damaged.age", damaged);
    assert_eq!(makers.open_age(&secret, damaged.as_ref()), None);
    let opened = makers.open_age(&secret, out.as_ref()).unwrap();
    assert!(opened.contains("SIMSECRET"), "it opens");
    assert_eq!(rows(&opened), 44);

    // Into a deployment of its own, with other keys, by the same Threads.
    let mut second = Target::new("export-second").await;
    let other = target.setting.simulator.base_url();
    let config = second.setting.directory.path("config.toml");
    let file = second.file("in.csv", &opened);
    let mut import = second.setting.beside_it(&["import", "csv", &file, "--json"]);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(&second.setting.simulator.base_url(), &other)).unwrap();
    import.env("THREADS_IDENTITY_KEY", &second.setting.keyring);
    let done = end(import);
    assert_eq!((tally(&done), done.code), ((3, 41, 0, 0), Some(0)), "{}", done.err);
    for persona in PEOPLE {
        let person = target.person(persona);
        let (here, there) = (target.stored(&person).await.unwrap(), second.stored(&person).await.unwrap());
        assert_eq!(
            (here.user_id, here.expires, here.username),
            (there.user_id, there.expires, there.username)
        );
    }
    assert_eq!(target.controls().count(Endpoint::Me), 6);

    // A token that does not open is left out, and that is said.
    sqlx::raw_sql("update accounts set token = overlay(token placing '\\x00' from octet_length(token)) where user_id = 'user, 1'")
        .execute(&mut target.sql)
        .await
        .unwrap();
    fs::remove_file(out).unwrap();
    let ended = export(&target, &["--tokens-sealed-to", &recipients, "--out", out]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("1 tokens do not open and were left out"), "{}", ended.err);
    assert!(makers.open_age(&secret, out.as_ref()).is_some_and(|opened| rows(&opened) == 44));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_told_everything_that_is_stored_and_nothing_of_others() {
    let mut target = filled("export-user").await;
    sqlx::raw_sql(
        "insert into events (app_id, account_id, user_id, previous_user_id, kind, event_time)
         select app_id, account_id, user_id, 'somebody-else', 'TRANSFERRED', now() from accounts where user_id = 'user, 0';
         insert into events (app_id, account_id, user_id, previous_user_id, kind, event_time)
         select app_id, account_id, 'another-one', 'user, 0', 'TRANSFERRED', now() from accounts where user_id = 'gone';
         update accounts set link_previous_user_id = 'somebody-else' where user_id = 'user, 0';
         insert into erasures select account_id, app_id, '2020-01-01', 'CALLER' from accounts where user_id = 'user, 0';
         insert into authorizations (authorization_id, app_id, sign_in, user_id, scopes, transfer, answer_hash, state, step,
                                     claim_id, claim_expire_time, create_time, attempt_time, short_lived_token)
         values (gen_random_uuid(), 'default', false, 'user, 0', 'threads_basic', false, '\\x01', 'IN_PROGRESS', 'EXCHANGED',
                 gen_random_uuid(), now(), now(), now(), '\\x02')",
    )
    .execute(&mut target.sql)
    .await
    .unwrap();
    let said = export(&target, &["--user", "user, 0"]).good();
    let document: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&document["user_id"], &document["app_id"]), (&"user, 0".into(), &"default".into()));
    let lengths = ["accounts", "authorizations", "events", "audit", "erasures"]
        .map(|place| document[place].as_array().unwrap().len());
    assert_eq!(lengths, [1, 1, 3, 1, 1], "{said}");
    let account = &document["accounts"][0];
    assert_eq!((account["username"].as_str(), account["state"].as_str()), (Some("maya.sim"), Some("ACTIVE")));
    assert!(
        !said.contains("somebody-else") && !said.contains("another-one") && !said.contains("user, 1"),
        "{said}"
    );
    // Neither a sealed value nor a hash: in JSON they would be \x….
    assert!(!said.contains("\\\\x"), "{said}");
    let second: Value = serde_json::from_str(&export(&target, &["--user", "user, 0"]).good()).unwrap();
    assert_eq!(second["audit"][1]["action"], "USER_EXPORTED");

    let out = target.setting.directory.path("user.json");
    let ended = export(&target, &["--user", "gone", "--out", out.to_str().unwrap()]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{}", ended.err);
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let said = export(&target, &["--user", "nobody"]).bad();
    assert!(said.contains("nothing is stored of user \"nobody\" in app \"default\""), "{said}");
    let said = export(&target, &["--user", ""]).bad();
    assert!(said.contains("--user: must be 1 to 128 bytes"), "{said}");
    assert_eq!(export(&target, &["--user", "x", "--tokens-sealed-to", "y", "--out", "z"]).code, Some(2));
}
