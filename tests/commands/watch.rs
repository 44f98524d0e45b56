//! `watch`.

use std::fs;
use std::process::Command;

use serde_json::Value;
use sqlx::Connection as _;
use threads_identity::grpc::new_caller_key;
use threads_identity::simulator::Decision;

use crate::run::{Running, command, database, end, run, until};
use crate::serve::{Service, Setting};

/// A free port, for a service that comes back where it was.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// `watch` of the service at an address, with the caller's key.
fn watch(address: &str, key: &str, arguments: &[&str]) -> Command {
    let server = format!("http://{address}");
    let mut watch = command([&["watch", "--server", &server], arguments].concat());
    watch.env("THREADS_IDENTITY_CALLER_KEY", key);
    watch
}

async fn serve(setting: &Setting, address: &str) -> Service {
    let mut serve = setting.serve();
    serve.env("THREADS_IDENTITY__SERVER__GRPC_LISTEN", address);
    Service::start(serve, &setting.key).await
}

async fn link(setting: &Setting, service: &Service, user_id: &str, persona: &str) -> String {
    let created = service.create(user_id).await;
    let consented =
        setting.simulator.controls().consent(&created.authorization_url, persona, Decision::Allow);
    service.complete(&consented.unwrap(), user_id).await.account.unwrap().account_id
}

/// Writes an event about each account, as the service does.
async fn emit(database_url: &str, kind: &str) {
    let mut sql = sqlx::PgConnection::connect(database_url).await.unwrap();
    let statement = "with changed as (update accounts set update_time = update_time returning *)
                     insert into events (app_id, account_id, user_id, kind, event_time)
                     select app_id, account_id, user_id, $1, update_time from changed";
    sqlx::query(statement).bind(kind).execute(&mut sql).await.unwrap();
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The cursor that it leaves behind.
fn last_cursor(err: &str) -> String {
    let line = err.lines().find_map(|line| line.strip_prefix("Go on from here with --cursor "));
    line.unwrap_or_else(|| panic!("no cursor in {err}")).to_owned()
}

#[tokio::test]
async fn it_prints_what_happens_and_goes_on_where_it_was_interrupted() {
    let database = database().await;
    let setting = Setting::new("watch", database.url()).await;
    let address = free_address();
    let service = serve(&setting, &address).await;

    let scripted = Running::start(&mut watch(&address, &setting.key, &["--json"]));
    let position = scripted.json();
    assert!(position["cursor"].is_string() && position.get("change").is_none(), "{position}");
    let mine = Running::start(&mut watch(&address, &setting.key, &["--user", "user-1", "--json"]));
    mine.json();
    let told = Running::start(&mut watch(
        &address,
        &setting.key,
        &["--cursor", position["cursor"].as_str().unwrap()],
    ));
    let id = link(&setting, &service, "user-1", "full").await;
    let other = link(&setting, &service, "user-2", "home").await;

    let lines = scripted.printed(&other);
    let change = json(lines.lines().nth(1).unwrap());
    assert_eq!(change["change"]["kind"], "LINKED");
    assert_eq!(change["change"]["account_id"], id.as_str());
    assert_eq!(change["change"]["account"]["state"], "ACTIVE");
    assert_eq!(change["change"]["account"]["scopes"][0], "threads_basic");
    assert!(change["change"]["change_time"].as_str().unwrap().ends_with('Z'));
    let lines = told.printed(&other);
    assert!(
        lines.lines().next().unwrap().contains("LINKED") && lines.contains("of user-1  now ACTIVE"),
        "{lines}"
    );
    assert!(!mine.printed(&id).contains(&other));

    scripted.signal("-INT");
    let ended = scripted.end();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    emit(database.url(), "TOKEN_REFRESHED").await;
    let cursor = last_cursor(&ended.err);
    let again = Running::start(&mut watch(&address, &setting.key, &["--json", "--cursor", &cursor]));
    let lines = again.printed("TOKEN_REFRESHED");
    assert!(!lines.contains("LINKED"), "what was printed before is not printed again: {lines}");
    again.signal("-TERM");
    assert_eq!(again.end().code, Some(0));
}

#[tokio::test]
async fn it_outlives_a_service_that_stops_and_comes_back() {
    let database = database().await;
    let setting = Setting::new("watch-again", database.url()).await;
    let address = free_address();
    let watching = Running::start(&mut watch(&address, &setting.key, &["--json"]));
    until("it says that nobody is there", || {
        watching
            .errors()
            .iter()
            .any(|line| line.contains("cannot be reached") && line.contains("Trying again"))
    });
    let mut service = serve(&setting, &address).await;
    watching.json();
    let id = link(&setting, &service, "user-1", "full").await;
    watching.printed(&id);
    service.running.signal("-TERM");
    // Not waited for on this thread, which the client of this test needs to let go.
    let status = tokio::task::spawn_blocking(move || service.running.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    until("it says what happened", || watching.errors().join("\n").contains("SHUTTING_DOWN"));
    emit(database.url(), "TOKEN_REFRESHED").await;
    let service = serve(&setting, &address).await;
    let lines = watching.printed("TOKEN_REFRESHED");
    let changes = lines.lines().filter(|line| json(line).get("change").is_some()).count();
    assert_eq!(changes, 2, "each once: {lines}");
    drop(service);
}

#[tokio::test]
async fn what_does_not_pass_ends_it_with_a_reason() {
    let database = database().await;
    let setting = Setting::new("watch-refused", database.url()).await;
    let address = free_address();
    let _service = serve(&setting, &address).await;
    let (stranger, _) = new_caller_key();
    let file = setting.directory.path("caller.key");
    fs::write(&file, format!("{}\n", setting.key)).unwrap();
    let file = file.to_str().unwrap();

    let error = end(watch(&address, &stranger, &[])).bad();
    assert!(error.contains("CALLER_UNKNOWN") && !error.contains(&stranger), "{error}");
    for (arguments, expected) in [
        (["--cursor", "nonsense"], "cursor: is not a cursor of this app"),
        (["--user", ""], "user_id: is present but empty"),
    ] {
        let error = end(watch(&address, &stranger, &[&["--key-file", file], &arguments[..]].concat())).bad();
        assert!(error.contains(expected) && error.contains("FIELD_INVALID"), "{error}");
    }
    let error = end(watch(&address, "two\nlines", &[])).bad();
    assert!(error.contains("does not hold a key") && !error.contains("two"), "{error}");
    let error = run(&["watch", "--key-file", "/nowhere/at-all"]).bad();
    assert!(error.contains("/nowhere/at-all"), "{error}");
    for server in ["127.0.0.1:1", "ftp://127.0.0.1:1", "", "http://"] {
        let error = run(&["watch", "--server", server]).bad();
        assert!(error.contains("--server: must be"), "{server}: {error}");
    }
}
